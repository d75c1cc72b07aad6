#include "config.h"

#include "netns-helper/ports.h"
#include "netns-helper/kept.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd-keep.h"
#include "common/fd-util.h"

#define NO_ENGINE 255

struct Ports {
	const Helper *helper;
	SharedState *shared;
	InboundEngine engines[PORTS_ENGINES_MAX];
	size_t n_engines;
	uint8_t served_by[FORWARDS_MAX]; /* index of the engine + 1; 0 or NO_ENGINE: nobody */
};

Ports *ports_new(const Helper *helper)
{
	Ports *ports = calloc(1, sizeof(*ports));

	if (!ports)
		abort();
	ports->helper = helper;
	ports->shared = helper->shared;
	return ports;
}

void ports_add_engine(Ports *ports, const InboundEngine *engine)
{
	if (ports->n_engines < PORTS_ENGINES_MAX)
		ports->engines[ports->n_engines++] = *engine;
}

/* --- sockets --- */

static int bind_socket(int fd, int family, const struct in6_addr *ip, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = *ip};
	int r;

	memcpy(&in.sin_addr, ip, sizeof(in.sin_addr));
	if (family == AF_INET)
		r = bind(fd, (struct sockaddr *)&in, sizeof(in));
	else
		r = bind(fd, (struct sockaddr *)&in6, sizeof(in6));
	return r < 0 ? -errno : 0;
}

static int prepare_socket(int fd, int family, bool is_udp)
{
	const int on = 1;

	/* An IPv4 client of a dual-stack socket would have no route in the guest (N-279). */
	if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0)
		return -errno;
	if (is_udp)
		return 0; /* SO_REUSEADDR would let a second rule have the same port */
	/* Urgent data in line is what the stack expects of accepted sockets; they inherit it (N-111). */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)) < 0 ||
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return -errno;
	return 0;
}

static int read_port(int fd, uint16_t *ret_port)
{
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} addr;
	socklen_t len = sizeof(addr);

	if (getsockname(fd, &addr.sa, &len) < 0)
		return -errno;
	*ret_port = ntohs(addr.sa.sa_family == AF_INET ? addr.in.sin_port : addr.in6.sin6_port);
	return 0;
}

static int open_listener(const Forward *forward, int *ret_fd, uint16_t *ret_port)
{
	int type = forward->is_udp ? SOCK_DGRAM : SOCK_STREAM;
	cleanup_close int fd = socket(forward->family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (fd < 0)
		return -errno;
	r = prepare_socket(fd, forward->family, forward->is_udp);
	if (r == 0)
		r = bind_socket(fd, forward->family, &forward->host_addr, forward->host_port);
	if (r == 0 && !forward->is_udp && listen(fd, PORTS_BACKLOG) < 0)
		r = -errno;
	if (r == 0)
		r = read_port(fd, ret_port);
	if (r < 0)
		return r;
	*ret_fd = fd_steal(&fd);
	return 0;
}

/* --- engines --- */

static int serve(Ports *ports, Forward *forward)
{
	size_t at = (size_t)(forward - ports->shared->forwards);
	int r = -EOPNOTSUPP;

	for (size_t i = 0; i < ports->n_engines; i++) {
		r = ports->engines[i].add(ports->engines[i].engine, forward);
		if (r == 0) {
			ports->served_by[at] = (uint8_t)(i + 1);
			return 0;
		}
		if (r != -EOPNOTSUPP)
			break;
	}
	ports->served_by[at] = NO_ENGINE;
	return r;
}

static int unserve(Ports *ports, Forward *forward)
{
	uint8_t *by = &ports->served_by[forward - ports->shared->forwards];
	InboundEngine *engine;

	if (*by == 0 || *by == NO_ENGINE)
		return -ENOENT;
	engine = &ports->engines[*by - 1];
	*by = 0;
	return engine->remove(engine->engine, forward);
}

const char *ports_engine_name(const Ports *ports, const Forward *forward)
{
	uint8_t by = ports->served_by[forward - ports->shared->forwards];

	return by == 0 || by == NO_ENGINE ? "none" : ports->engines[by - 1].name;
}

int ports_restore(Ports *ports)
{
	Forward *forward;
	int served = 0, failed = 0;

	for (size_t i = 0; (forward = shared_state_next_forward(ports->shared, &i));) {
		int r = serve(ports, forward);

		if (r == 0)
			served++;
		else if (failed == 0)
			failed = r;
	}
	return failed < 0 ? failed : served;
}

/* --- the table --- */

static Forward *find_free(Ports *ports)
{
	uint32_t n = atomic_load(&ports->shared->n_forwards);

	for (uint32_t i = 0; i < n; i++)
		if (!atomic_load(&ports->shared->forwards[i].in_use))
			return &ports->shared->forwards[i];
	if (n == FORWARDS_MAX)
		return NULL;
	atomic_store(&ports->shared->n_forwards, n + 1);
	return &ports->shared->forwards[n];
}

static void withdraw(Ports *ports, Forward *forward)
{
	int fd = forward->fd;

	atomic_store(&forward->in_use, 0);
	fd_keep_remove(ports->helper->store, KEPT_FORWARD, fd);
	(void)fd_close(fd);
}

/* One socket of a request. @p wanted has everything but fd and, perhaps, the port. */
static int add_one(Ports *ports, const Forward *wanted, uint16_t *ret_port)
{
	Forward *slot = find_free(ports);
	Forward forward = *wanted;
	int r;

	if (!slot)
		return -ENOBUFS;
	r = open_listener(&forward, &forward.fd, &forward.host_port);
	if (r < 0)
		return r;
	forward.serial = atomic_fetch_add(&ports->shared->next_serial, 1);
	forward.in_use = 0;
	memcpy(slot, &forward, sizeof(forward));
	r = serve(ports, slot);
	if (r < 0) {
		(void)fd_close(forward.fd);
		return r;
	}
	atomic_store(&slot->in_use, 1);
	(void)fd_keep_add(ports->helper->store, KEPT_FORWARD,
		forward.fd); /* without it only a killed unit would lose the port */
	*ret_port = forward.host_port;
	return 0;
}

static void remove_all(Ports *ports, uint32_t id, int *ret_result)
{
	Forward *forward;
	int result = -ENOENT;

	for (size_t i = 0; (forward = shared_state_next_forward(ports->shared, &i));) {
		if (forward->id != id)
			continue;
		if (result == -ENOENT)
			result = 0;
		if (unserve(ports, forward) < 0)
			result = -EIO;
		withdraw(ports, forward);
	}
	*ret_result = result;
}

static int add_port(Ports *ports, const PortRequest *request, uint32_t id, unsigned offset, uint16_t *port)
{
	Forward forward = {
		.id = id,
		.client_fd = request->client_fd,
		.is_udp = request->is_udp,
		.host_port = *port,
		.guest_port = (uint16_t)(request->guest_port + offset),
	};
	int r = 0;

	if (request->v4) {
		forward.family = AF_INET;
		memcpy(&forward.host_addr, &request->host4, sizeof(request->host4));
		memcpy(&forward.guest_addr, &request->guest4, sizeof(request->guest4));
		r = add_one(ports, &forward, port);
	}
	if (r == 0 && request->v6) {
		forward.family = AF_INET6;
		forward.host_port = *port;
		forward.host_addr = request->host6;
		forward.guest_addr = request->guest6;
		r = add_one(ports, &forward, port);
	}
	return r;
}

static int add_all(Ports *ports, const PortRequest *request, uint32_t id, uint16_t *ret_host_port)
{
	for (unsigned i = 0; i < request->count; i++) {
		uint16_t port = request->host_port ? (uint16_t)(request->host_port + i) : 0;
		int r = add_port(ports, request, id, i, &port);

		if (r < 0)
			return r;
		if (i == 0)
			*ret_host_port = port;
	}
	return 0;
}

/* Asked before the first socket of a long range is made, and not after thousands. */
static bool has_room(const Ports *ports, const PortRequest *request)
{
	size_t wanted = (size_t)request->count * ((request->v4 ? 1 : 0) + (request->v6 ? 1 : 0)), used = 0;

	for (size_t i = 0; shared_state_next_forward(ports->shared, &i);)
		used++;
	return wanted <= FORWARDS_MAX - used;
}

int ports_add(Ports *ports, const PortRequest *request, uint32_t *ret_id, uint16_t *ret_host_port)
{
	uint32_t id = atomic_load(&ports->shared->next_id) + 1;
	int tries = request->host_port == 0 && request->v4 && request->v6 ? PORTS_CHOICE_TRIES : 1;
	int r = -EINVAL, ignored;

	if (request->v6 && !ports->helper->options->enable_ipv6)
		return -EAFNOSUPPORT;
	if (!has_room(ports, request))
		return -ENOBUFS;
	while (tries-- > 0) {
		r = add_all(ports, request, id, ret_host_port);
		if (r == 0) {
			atomic_store(&ports->shared->next_id, id);
			*ret_id = id;
			return 0;
		}
		remove_all(ports, id, &ignored);
		if (r != -EADDRINUSE)
			break;
	}
	return r;
}

int ports_remove(Ports *ports, uint32_t id)
{
	int r;

	remove_all(ports, id, &r);
	return r;
}

uint32_t ports_unanswered(Ports *ports, int client_fd, uint16_t *ret_host_port)
{
	Forward *forward;

	for (size_t i = 0; (forward = shared_state_next_forward(ports->shared, &i));) {
		/* An id beyond the last one given out belongs to a request that was cut short. */
		if (forward->client_fd == client_fd && forward->id <= atomic_load(&ports->shared->next_id)) {
			*ret_host_port = forward->host_port;
			return forward->id;
		}
	}
	return 0;
}

void ports_answered(Ports *ports, int client_fd)
{
	Forward *forward;

	for (size_t i = 0; (forward = shared_state_next_forward(ports->shared, &i));)
		if (forward->client_fd == client_fd)
			forward->client_fd = -1;
}
