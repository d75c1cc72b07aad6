#include "config.h"

#include "netns-helper/splice-nursery.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "common/fd-util.h"
#include "netns-helper/gateway.h"
#include "netns-helper/keep-alive.h"

#define HANDSHAKE_MS 200 /* over loopback it is done when connect() returns, unless softirqs are put off */

struct SpliceNursery {
	SpliceTable *table;
	int listener[2], seed[2]; /* [0] IPv4, [1] IPv6; -1: none */
};

SpliceNursery *splice_nursery_new(SpliceTable *table, FdStore *store)
{
	SpliceNursery *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->table = table;
	n->listener[0] = fd_store_get(store, GATEWAY_NURSERY);
	n->listener[1] = fd_store_get(store, GATEWAY_NURSERY6);
	n->seed[0] = fd_store_get(store, GATEWAY_SEED);
	n->seed[1] = fd_store_get(store, GATEWAY_SEED6);
	for (int v6 = 0; v6 < 2; v6++)
		if (n->listener[v6] >= 0)
			keep_alive_set(n->listener[v6], KEEP_ALIVE_GUEST); /* what is bred inherits it */
	if (n->listener[0] >= 0 && n->seed[0] >= 0)
		return n;
	free(n);
	errno = ENOENT;
	return NULL;
}

void splice_nursery_free(SpliceNursery *nursery)
{
	free(nursery);
}

static int disconnect(int fd)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};

	return connect(fd, &none, sizeof(none)) < 0 ? -errno : 0;
}

static int wait_for(int fd, short events)
{
	struct pollfd pfd = {.fd = fd, .events = events};

	return poll(&pfd, 1, HANDSHAKE_MS) == 1 ? 0 : -ETIMEDOUT;
}

static int accept_one(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0 && errno == EAGAIN && wait_for(listener, POLLIN) == 0)
		fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int breed(SpliceNursery *n, int v6)
{
	struct sockaddr_storage addr;
	socklen_t size = sizeof(addr);
	int fd, r;

	if (n->listener[v6] < 0 || n->seed[v6] < 0)
		return -EAFNOSUPPORT;
	(void)disconnect(n->seed[v6]); /* a predecessor may have been killed half-way */
	if (getsockname(n->listener[v6], (struct sockaddr *)&addr, &size) < 0)
		return -errno;
	if (connect(n->seed[v6], (struct sockaddr *)&addr, size) < 0 && errno != EINPROGRESS)
		return -errno;
	fd = accept_one(n->listener[v6]);
	r = disconnect(n->seed[v6]);
	if (fd < 0)
		return fd;
	if (r == 0)
		r = disconnect(fd);
	if (r == 0) {
		splice_table_saw_fd(n->table, fd);
		return fd;
	}
	fd_close(fd);
	return r;
}

int splice_nursery_take(SpliceNursery *nursery, int family)
{
	int v6 = family == AF_INET6;

	for (int i = 0; i < SPLICE_NURSERY_MAX; i++) {
		int fd = nursery->table->nursery[v6][i] - 1;

		if (fd < 0)
			continue;
		nursery->table->nursery[v6][i] = 0;
		return fd;
	}
	return breed(nursery, v6);
}

bool splice_nursery_fill(SpliceNursery *nursery, unsigned max)
{
	for (int v6 = 0; v6 < 2; v6++) {
		for (int i = 0; i < SPLICE_NURSERY_MAX && nursery->seed[v6] >= 0; i++) {
			int fd;

			if (nursery->table->nursery[v6][i])
				continue;
			if (max-- == 0)
				return false;
			fd = breed(nursery, v6);
			if (fd < 0)
				return true; /* another time; those who need one will hear why */
			nursery->table->nursery[v6][i] = fd + 1;
		}
	}
	return true;
}
