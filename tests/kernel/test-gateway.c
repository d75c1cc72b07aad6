/*
 * What the splice engine relies on in the kernel, each fact by itself: an unprivileged user namespace with a guest's network namespace and
 * a gateway, and no worker. If a test fails on some kernel, the engine would fail there in a way that is harder to read.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/virtio_net.h>
#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "netns-helper/gate-frame.h"
#include "netns-helper/gateway.h"
#include "netns-helper/keep-alive.h"
#include "netns-helper/guest-link.h"

#define WAIT_MS 2000
#define DEST "192.0.2.7" /* nobody has it */
#define PORT 4711

static Options options = {.tap_name = "tap0",
	.mtu = 1500,
	.configure = true,
	.cidr = "10.0.2.0/24",
	.exit_fd = -1,
	.ready_fd = -1};
static AddressPlan plan;
static GuestLinkParts parts;

static int part(const char *name)
{
	for (size_t i = 0; i < parts.n_fds; i++)
		if (strcmp(parts.names[i], name) == 0)
			return parts.fds[i];
	g_assert_not_reached();
}

static struct sockaddr_in address(const char *ip, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

	g_assert_cmpint(inet_pton(AF_INET, ip, &in.sin_addr), ==, 1);
	return in;
}

static bool is_readable(int fd, int timeout_ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, timeout_ms) == 1;
}

/* The guest begins a connection to DEST. */
static int guest_connects(void)
{
	struct sockaddr_in dest = address(DEST, PORT);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(connect(fd, (struct sockaddr *)&dest, sizeof(dest)), ==, -1);
	g_assert_cmpint(errno, ==, EINPROGRESS);
	return fd;
}

/* The next first segment that the packet socket shows. */
static size_t next_syn(struct virtio_net_hdr *vnet, uint8_t *frame, size_t size, GateTcp *tcp)
{
	struct iovec iov[2] = {{vnet, sizeof(*vnet)}, {frame, size}};

	for (;;) {
		ssize_t n;

		g_assert_true(is_readable(part(GATEWAY_PACKET), WAIT_MS));
		n = readv(part(GATEWAY_PACKET), iov, 2);
		g_assert_cmpint(n, >, sizeof(*vnet));
		if (gate_frame_is_tcp(frame, (size_t)n - sizeof(*vnet), tcp) && tcp->flags == GATE_TCP_SYN)
			return (size_t)n - sizeof(*vnet);
	}
}

static void inject(struct virtio_net_hdr vnet, const uint8_t *frame, size_t size)
{
	struct iovec iov[2] = {{&vnet, sizeof(vnet)}, {(void *)(frame + ETH_HLEN), size - ETH_HLEN}};

	vnet.csum_start = (uint16_t)(vnet.csum_start - ETH_HLEN);
	g_assert_cmpint(writev(part(GATEWAY_TUN), iov, 2), ==, sizeof(vnet) + size - ETH_HLEN);
}

static void test_gate(void)
{
	struct sockaddr_in peer, local;
	socklen_t size = sizeof(peer);
	struct virtio_net_hdr vnet;
	uint8_t frame[2048];
	GateTcp tcp;
	int guest = guest_connects(), accepted;
	size_t n = next_syn(&vnet, frame, sizeof(frame), &tcp);
	char byte;

	g_test_message("the packet socket sees what netfilter drops, with a partial checksum");
	g_assert_cmpint(vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, !=, 0);
	g_assert_cmpint(tcp.dst.port, ==, PORT);
	g_assert_false(is_readable(part(GATEWAY_LISTEN), 100));

	g_test_message("injected, it opens a connection with the addresses that it carries");
	inject(vnet, frame, n);
	g_assert_true(is_readable(part(GATEWAY_LISTEN), WAIT_MS));
	accepted = accept4(part(GATEWAY_LISTEN), (struct sockaddr *)&peer, &size, SOCK_CLOEXEC);
	g_assert_cmpint(accepted, >=, 0);
	g_assert_cmpint(ntohs(peer.sin_port), ==, tcp.src.port);
	size = sizeof(local);
	g_assert_cmpint(getsockname(accepted, (struct sockaddr *)&local, &size), ==, 0);
	g_assert_cmpint(ntohs(local.sin_port), ==, PORT);
	g_assert_cmpint(local.sin_addr.s_addr, ==, address(DEST, 0).sin_addr.s_addr);
	g_assert_cmpint(write(accepted, "x", 1), ==, 1);
	g_assert_true(is_readable(guest, WAIT_MS));
	g_assert_cmpint(read(guest, &byte, 1), ==, 1);
	close(accepted);
	close(guest);
}

/* Our parts of "breeding": see splice-nursery.h. */
static int breed(void)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};
	struct sockaddr_in to = address("127.0.0.1", GATEWAY_NURSERY_PORT);
	int fd;

	(void)connect(part(GATEWAY_SEED), (struct sockaddr *)&to, sizeof(to));
	g_assert_true(is_readable(part(GATEWAY_NURSERY), WAIT_MS));
	fd = accept4(part(GATEWAY_NURSERY), NULL, NULL, SOCK_CLOEXEC);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(connect(part(GATEWAY_SEED), &none, sizeof(none)), ==, 0);
	g_assert_cmpint(connect(fd, &none, sizeof(none)), ==, 0);
	return fd;
}

static void test_breed(void)
{
	struct sockaddr_in client = address("203.0.113.9", 1234), service = address("0.0.0.0", 8080),
			   guest = address("10.0.2.100", 8080);
	struct sockaddr_in seen;
	socklen_t size = sizeof(seen);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), accepted;

	g_assert_cmpint(bind(listener, (struct sockaddr *)&service, sizeof(service)), ==, 0);
	g_assert_cmpint(listen(listener, 5), ==, 0);
	for (int i = 0; i < 3; i++) {
		int fd = breed();

		g_test_message(
			"a disconnected child of a listener is a fresh transparent socket of its namespace");
		client.sin_port =
			htons((uint16_t)(i == 2 ? 80 : 1234 + i)); /* 80: a client with a privileged port */
		g_assert_cmpint(bind(fd, (struct sockaddr *)&client, sizeof(client)), ==, 0);
		g_assert_cmpint(connect(fd, (struct sockaddr *)&guest, sizeof(guest)), ==, 0);
		accepted = accept4(listener, (struct sockaddr *)&seen, &size, SOCK_CLOEXEC);
		g_assert_cmpint(accepted, >=, 0);
		g_assert_cmpint(seen.sin_addr.s_addr, ==, client.sin_addr.s_addr);
		g_assert_cmpint(seen.sin_port, ==, client.sin_port);
		close(fd);
		close(accepted);
	}
	close(listener);
}

/* What keep-alive.h relies on: no system call of ours puts it on these. */
static void test_keep_alive_is_inherited(void)
{
	int fd, value = 0;
	socklen_t size = sizeof(value);

	keep_alive_set(part(GATEWAY_NURSERY), KEEP_ALIVE_GUEST);
	fd = breed();
	g_test_message("a listener's keep-alive is its connections', also after they were disconnected");
	g_assert_cmpint(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &value, &size), ==, 0);
	g_assert_cmpint(value, ==, 1);
	g_assert_cmpint(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, &size), ==, 0);
	g_assert_cmpint(value, ==, 300);
	close(fd);
}

static void test_listener_off_and_on(void)
{
	struct virtio_net_hdr vnet;
	uint8_t frame[2048];
	GateTcp tcp;
	int guest = guest_connects();
	size_t n = next_syn(&vnet, frame, sizeof(frame), &tcp);

	g_test_message("without a listener a first segment is dropped, not refused; listen() brings it back");
	g_assert_cmpint(shutdown(part(GATEWAY_LISTEN), SHUT_RDWR), ==, 0);
	inject(vnet, frame, n);
	g_assert_false(is_readable(guest, 100));
	g_assert_cmpint(listen(part(GATEWAY_LISTEN), GATEWAY_BACKLOG), ==, 0);
	inject(vnet, frame, n);
	g_assert_true(is_readable(part(GATEWAY_LISTEN), WAIT_MS));
	close(accept4(part(GATEWAY_LISTEN), NULL, NULL, SOCK_CLOEXEC));
	close(guest);
}

static void test_splice_ends_in_the_pipe(void)
{
	int pair[2], p[2], n;

	g_test_message("what splice() has taken from a socket is counted by FIONREAD of the pipe, and by "
		       "nobody else");
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
	g_assert_cmpint(pipe2(p, O_CLOEXEC | O_NONBLOCK), ==, 0);
	g_assert_cmpint(write(pair[0], "12345", 5), ==, 5);
	g_assert_cmpint(splice(pair[1], NULL, p[1], NULL, 4096, SPLICE_F_NONBLOCK), ==, 5);
	g_assert_cmpint(ioctl(p[0], FIONREAD, &n), ==, 0);
	g_assert_cmpint(n, ==, 5);
	g_assert_cmpint(ioctl(pair[1], FIONREAD, &n), ==, 0);
	g_assert_cmpint(n, ==, 0);
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(p[i]);
	}
}

static void test_second_connect(void)
{
	struct sockaddr_in any = address("127.0.0.1", 0);
	socklen_t size = sizeof(any);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
	    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	g_test_message("a second connect() tells of the success of the first");
	g_assert_cmpint(bind(listener, (struct sockaddr *)&any, sizeof(any)), ==, 0);
	g_assert_cmpint(listen(listener, 1), ==, 0);
	g_assert_cmpint(getsockname(listener, (struct sockaddr *)&any, &size), ==, 0);
	if (connect(fd, (struct sockaddr *)&any, sizeof(any)) < 0) {
		struct pollfd pfd = {.fd = fd, .events = POLLOUT};

		g_assert_cmpint(errno, ==, EINPROGRESS);
		g_assert_cmpint(poll(&pfd, 1, WAIT_MS), ==, 1);
		g_assert_cmpint(connect(fd, (struct sockaddr *)&any, sizeof(any)), ==, 0);
	}
	close(fd);
	close(listener);
}

static void test_janitor(void)
{
	g_test_message("the janitor deletes the link while everything is still open");
	g_assert_cmpint(gateway_janitor_stop(part(GATEWAY_JANITOR), WAIT_MS), ==, 0);
	g_assert_cmpint(if_nametoindex("tap0"), ==, 0);
}

/* There is no worker that answers ARP for the gateway. */
static void know_gateway(void)
{
	struct arpreq req = {.arp_flags = ATF_COM | ATF_PERM, .arp_dev = "tap0"};
	struct sockaddr_in gateway = address("10.0.2.2", 0);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(&req.arp_pa, &gateway, sizeof(gateway));
	req.arp_ha.sa_family = ARPHRD_ETHER;
	memcpy(req.arp_ha.sa_data, &plan.gateway_mac, ETH_ALEN);
	g_assert_cmpint(ioctl(fd, SIOCSARP, &req), ==, 0);
	close(fd);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	fd_close(fd);
	return good;
}

/* A user namespace like that of a rootless container: no capability anywhere else. */
static bool enter_guest(void)
{
	char map[64];

	snprintf(map, sizeof(map), "0 %u 1", geteuid());
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return false;
	(void)write_file("/proc/self/setgroups", "deny");
	return write_file("/proc/self/uid_map", map);
}

int main(int argc, char **argv)
{
	const char *why = "";
	int r;

	g_test_init(&argc, &argv, NULL);
	if (!enter_guest()) {
		printf("1..0 # SKIP no user and network namespaces: %s\n", strerror(errno));
		return 0;
	}
	g_assert_cmpint(address_plan_make(&options, &plan), ==, 0);
	r = guest_link_veth.create(&options, &plan, &parts, &why);
	if (r < 0) {
		printf("1..0 # SKIP no gateway: %s: %s\n", why, strerror(-r));
		return 0;
	}
	r = guest_configure(&options, &plan, true, &why);
	if (r < 0)
		g_error("%s: %s", why, strerror(-r));
	know_gateway();
	g_test_add_func("/kernel/gateway/first-segment-through-the-gate", test_gate);
	g_test_add_func("/kernel/gateway/sockets-are-bred", test_breed);
	g_test_add_func("/kernel/gateway/keep-alive-is-inherited", test_keep_alive_is_inherited);
	g_test_add_func("/kernel/gateway/listener-off-and-on", test_listener_off_and_on);
	g_test_add_func("/kernel/splice/pipe-knows-what-is-under-way", test_splice_ends_in_the_pipe);
	g_test_add_func("/kernel/connect/second-one-tells", test_second_connect);
	g_test_add_func("/kernel/gateway/janitor-deletes-the-link", test_janitor);
	return g_test_run();
}
