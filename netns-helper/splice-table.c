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

static void close_flow(SpliceFlow *flow)
{
	const struct linger now = {.l_onoff = 1};

	for (int side = 0; side < 2; side++) {
		/* Refused by what is no socket: then the number belongs to somebody else by now. */
		if (flow->fd[side] >= 0 &&
			setsockopt(flow->fd[side], SOL_SOCKET, SO_LINGER, &now, sizeof(now)) == 0)
			fd_close(flow->fd[side]);
	}
}

void splice_table_clear(SpliceTable *table)
{
	for (uint32_t i = 0; i < table->flows_top; i++) {
		if (table->flows[i].phase != SPLICE_FREE)
			close_flow(&table->flows[i]);
		table->flows[i].phase = SPLICE_FREE;
	}
	for (uint32_t i = 0; i < SPLICE_PIPES_MAX && i <= table->pipes_top; i++) {
		fd_close(table->pipes[i].read_fd - 1);
		fd_close(table->pipes[i].write_fd - 1);
		table->pipes[i].read_fd = table->pipes[i].write_fd = 0;
	}
	for (int i = 0; i < 2 * SPLICE_NURSERY_MAX; i++) {
		_Atomic int32_t *spare = &table->nursery[i & 1][i / 2];

		fd_close(*spare - 1);
		*spare = 0;
	}
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
