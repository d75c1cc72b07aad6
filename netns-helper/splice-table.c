#include "config.h"

#include "netns-helper/splice-table.h"

#include <arpa/inet.h>
#include <string.h>

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

static bool flows_have_fd(const SpliceTable *table, int fd)
{
	for (uint32_t i = 0; i < table->flows_top; i++) {
		const SpliceFlow *f = &table->flows[i];

		if (f->phase != SPLICE_FREE && (f->fd[SPLICE_GUEST] == fd || f->fd[SPLICE_HOST] == fd))
			return true;
	}
	return false;
}

bool splice_table_has_fd(const SpliceTable *table, int fd)
{
	for (uint32_t i = 0; i < table->pipes_top; i++) {
		if (table->pipes[i].read_fd == fd + 1 || table->pipes[i].write_fd == fd + 1)
			return true;
	}
	for (int v6 = 0; v6 < 2; v6++) {
		for (int i = 0; i < SPLICE_NURSERY_MAX; i++) {
			if (table->nursery[v6][i] == fd + 1)
				return true;
		}
	}
	return flows_have_fd(table, fd);
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
	SpliceAddr a = { .ip.s6_addr = { [10] = 0xff, [11] = 0xff }, .port = port };

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

		*ret = (SpliceAddr){ .ip = in6->sin6_addr, .port = ntohs(in6->sin6_port) };
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
