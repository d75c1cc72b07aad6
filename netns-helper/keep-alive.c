#include "config.h"

#include "netns-helper/keep-alive.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

typedef struct {
	int idle_s; /* of silence before the first probe */
	int interval_s; /* between probes */
	int probes; /* unanswered, then it is over */
} KeepAlive;

static const KeepAlive kinds[] = {
	[KEEP_ALIVE_HOST] = {.idle_s = 600, .interval_s = 60, .probes = 15},
	[KEEP_ALIVE_GUEST] = {.idle_s = 300, .interval_s = 60, .probes = 5},
	[KEEP_ALIVE_GUEST_HALF_CLOSED] = {.idle_s = 60, .interval_s = 15, .probes = 4},
};

void keep_alive_set(int fd, KeepAliveKind kind)
{
	const KeepAlive *k = &kinds[kind];
	const int on = 1;

	/* The intervals first: they count from the moment that it is switched on. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &k->idle_s, sizeof(k->idle_s)) < 0)
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &k->interval_s, sizeof(k->interval_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &k->probes, sizeof(k->probes));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}
