/*
 * Published ports through the stack, with listening sockets that outlive it.
 *
 * Theory of operation. libslirp makes its listening sockets itself, and they would be lost with it. So it is made to listen on a throw-away
 * address, and the number that it has got for that is then given, by dup3(2), to the socket that we keep: libslirp accepts from ours
 * ever after, with everything that it does for its own (the client's real address, N-179). The next worker does
 * the same with the same socket, whose queue of waiting connections never closed.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netns-helper/slirp-private.h"

#define NUMBER_TRIES                                                                                         \
	16 /* the keeper may take a number of the shared table between our look and libslirp's socket() */

typedef union {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_storage storage;
} Address;

static socklen_t make_address(Address *addr, int family, const struct in6_addr *ip, uint16_t port)
{
	memset(addr, 0, sizeof(*addr));
	addr->sa.sa_family = (sa_family_t)family;
	if (family == AF_INET) {
		memcpy(&addr->in.sin_addr, ip, sizeof(addr->in.sin_addr));
		addr->in.sin_port = htons(port);
		return sizeof(addr->in);
	}
	addr->in6.sin6_addr = *ip;
	addr->in6.sin6_port = htons(port);
	return sizeof(addr->in6);
}

static int flags_of(const Forward *forward)
{
	return (forward->is_udp ? SLIRP_HOSTFWD_UDP : 0) |
	       (forward->family == AF_INET6 ? SLIRP_HOSTFWD_V6ONLY : 0);
}

/* The number that the next socket() will get. */
static int lowest_free(void)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);

	if (fd < 0) {
		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0); /* no stderr */
		if (fd < 0)
			return -errno;
	}
	close(fd);
	return fd;
}

static bool is_registered(const SlirpEngine *engine, int fd)
{
	if (slirp_engine_is_listener(engine, fd) || fd_store_has_fd(engine->helper->store, fd))
		return true;
	return shared_state_is_forward_fd(engine->shared, fd);
}

/* Whether @p fd is the throw-away socket: bound to the address given, on whatever port, of the right kind, and not ours. */
static bool is_throw_away(const SlirpEngine *engine, int fd, const Forward *forward, const Address *bound)
{
	int type = 0, listening = 0;
	socklen_t len = sizeof(int);
	Address addr;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
		type != (forward->is_udp ? SOCK_DGRAM : SOCK_STREAM) ||
		getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 ||
		(listening != 0) == (forward->is_udp != 0))
		return false;
	len = sizeof(addr);
	if (getsockname(fd, &addr.sa, &len) < 0 || addr.sa.sa_family != bound->sa.sa_family)
		return false;
	if (forward->family == AF_INET
			? addr.in.sin_addr.s_addr != bound->in.sin_addr.s_addr
			: memcmp(&addr.in6.sin6_addr, &bound->in6.sin6_addr, sizeof(struct in6_addr)) != 0)
		return false;
	return !is_registered(engine, fd);
}

/* Make the stack listen somewhere of no matter. @return its descriptor or -errno */
static int add_throw_away(SlirpEngine *engine, const Forward *forward, const struct in6_addr *on)
{
	Address host, guest;
	socklen_t host_len = make_address(&host, forward->family, on, 0);
	socklen_t guest_len =
		make_address(&guest, forward->family, &forward->guest_addr, forward->guest_port);
	int number = lowest_free();

	if (number < 0)
		return number;
	errno = EIO;
	if (slirp_add_hostxfwd(engine->slirp, &host.sa, host_len, &guest.sa, guest_len, flags_of(forward)) <
		0)
		return -errno;
	for (int i = 0; i < NUMBER_TRIES; i++)
		if (is_throw_away(engine, number + i, forward, &host))
			return number + i;
	return -EIO;
}

static size_t index_of(const SlirpEngine *engine, const Forward *forward)
{
	return (size_t)(forward - engine->shared->forwards);
}

static int forward_add(void *data, const Forward *forward)
{
	SlirpEngine *engine = data;
	struct in6_addr loopback = IN6ADDR_LOOPBACK_INIT, any = IN6ADDR_ANY_INIT;
	int fd;

	if (forward->family == AF_INET)
		memcpy(&loopback, &(struct in_addr){htonl(INADDR_LOOPBACK)}, sizeof(struct in_addr));
	fd = add_throw_away(engine, forward, &loopback);
	if (fd == -EADDRNOTAVAIL) /* the host's loopback is down */
		fd = add_throw_away(engine, forward, &any);
	if (fd < 0)
		return fd;
	if (dup3(forward->fd, fd, O_CLOEXEC) < 0)
		return -errno;
	slirp_engine_note_fd(engine, fd);
	engine->forward_numbers[index_of(engine, forward)] = fd + 1;
	if (fd < engine->fd_limit && !forward->is_udp)
		engine->is_listener[fd / 8] |= (unsigned char)(1 << fd % 8);
	return 0;
}

static int forward_remove(void *data, const Forward *forward)
{
	SlirpEngine *engine = data;
	int *number = &engine->forward_numbers[index_of(engine, forward)], fd = *number - 1;
	Address host;
	socklen_t len = make_address(&host, forward->family, &forward->host_addr, forward->host_port);

	if (fd < 0)
		return -ENOENT;
	if (fd < engine->fd_limit)
		engine->is_listener[fd / 8] &= (unsigned char)~(1 << fd % 8);
	*number = 0;
	return slirp_remove_hostxfwd(engine->slirp, &host.sa, len, flags_of(forward)) < 0 ? -ENOENT : 0;
}

InboundEngine slirp_engine_inbound(SlirpEngine *engine)
{
	return (InboundEngine){
		.name = "slirp", .add = forward_add, .remove = forward_remove, .engine = engine};
}
