#include "config.h"

#include "netns-helper/splice-table.h"

#include <arpa/inet.h>
#include <string.h>

#include "common/fd-util.h"
#include "common/shared-memory.h"

SpliceTable *splice_table_new(void)
{
	return shared_memory_new(sizeof(SpliceTable));
}

void splice_table_saw_fd(SpliceTable *table, int fd)
{
	if (fd > table->fd_high)
		table->fd_high = fd;
}

typedef struct {
	bool *known;
	size_t limit;
} Marks;

static void mark_fd(const Marks *marks, int fd)
{
	if (fd >= 0 && (size_t)fd < marks->limit)
		marks->known[fd] = true;
}

void splice_table_mark_fds(const SpliceTable *table, bool *known, size_t limit)
{
	const Marks marks = {known, limit};

	for (uint32_t i = 0; i < table->pipes_top; i++) {
		mark_fd(&marks, table->pipes[i].read_fd - 1);
		mark_fd(&marks, table->pipes[i].write_fd - 1);
	}
	for (int i = 0; i < SPLICE_NURSERY_MAX; i++) {
		mark_fd(&marks, table->nursery[0][i] - 1);
		mark_fd(&marks, table->nursery[1][i] - 1);
	}
	for (uint32_t i = 0; i < table->flows_top; i++) {
		for (int side = 0; side < 2 && table->flows[i].phase != SPLICE_FREE; side++)
			mark_fd(&marks, table->flows[i].fd[side]);
	}
}

bool splice_is_tcp(int fd)
{
	int protocol = 0;
	socklen_t size = sizeof(protocol);

	return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP;
}

static void close_flow(SpliceFlow *flow)
{
	const struct linger now = {.l_onoff = 1};

	for (int side = 0; side < 2; side++) {
		int fd = flow->fd[side];

		if (fd >= 0 && splice_is_tcp(fd)) { /* otherwise the number belongs to somebody else by now */
			(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
			fd_close(fd);
		}
	}
}

static void close_number(_Atomic int32_t *entry)
{
	int fd = *entry - 1;

	*entry = 0;
	fd_close(fd);
}

void splice_table_clear(SpliceTable *table)
{
	for (uint32_t i = 0; i < table->flows_top; i++) {
		if (table->flows[i].phase != SPLICE_FREE)
			close_flow(&table->flows[i]);
		table->flows[i].phase = SPLICE_FREE;
	}
	for (uint32_t i = 0; i < SPLICE_PIPES_MAX && i <= table->pipes_top; i++) {
		close_number(&table->pipes[i].write_fd);
		close_number(&table->pipes[i].read_fd);
	}
	for (int i = 0; i < 2 * SPLICE_NURSERY_MAX; i++)
		close_number(&table->nursery[i & 1][i / 2]);
	table->flows_top = table->pipes_top = 0;
}

bool splice_addr_equal(const SpliceAddr *a, const SpliceAddr *b)
{
	return a->port == b->port && memcmp(&a->ip, &b->ip, sizeof(a->ip)) == 0;
}

bool splice_addr_is_v4(const SpliceAddr *a)
{
	return IN6_IS_ADDR_V4MAPPED(&a->ip);
}

struct in_addr splice_addr_v4(const SpliceAddr *a)
{
	struct in_addr ip;

	memcpy(&ip, &a->ip.s6_addr[12], sizeof(ip));
	return ip;
}

SpliceAddr splice_addr_from_v4(struct in_addr ip, uint16_t port)
{
	SpliceAddr a = {.ip.s6_addr = {[10] = 0xff, [11] = 0xff}, .port = port};

	memcpy(&a.ip.s6_addr[12], &ip, sizeof(ip));
	return a;
}

bool splice_addr_from_sockaddr(const struct sockaddr *sa, SpliceAddr *ret)
{
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)sa;

		*ret = splice_addr_from_v4(in->sin_addr, ntohs(in->sin_port));
		return true;
	}
	if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)sa;

		*ret = (SpliceAddr){.ip = in6->sin6_addr, .port = ntohs(in6->sin6_port)};
		return true;
	}
	return false;
}

socklen_t splice_addr_to_sockaddr(const SpliceAddr *a, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (splice_addr_is_v4(a)) {
		struct sockaddr_in *in = (void *)ret;

		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		in->sin_addr = splice_addr_v4(a);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (void *)ret;

	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	in6->sin6_addr = a->ip;
	return sizeof(*in6);
}
