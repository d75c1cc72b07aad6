#include "config.h"

#include "netns-helper/gateway.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "netns-helper/gateway-janitor.h"
#include "netns-helper/gateway-nft.h"
#include "netns-helper/gateway-rtnl.h"
#include "netns-helper/guest-link.h"

#define GW_NAME "gw0"
#define TUN_NAME "syn0"
#define GW_MTU                                                                                               \
	65535 /* bytes, the largest of a veth: takes whatever the guest's end is set to; the route limits what we send */
#define MARK 1
#define LOCAL_TABLE 100
#define PACKET_BUFFER (4 << 20) /* bytes of frames that wait while the worker is busy or being replaced */
#define NAME_RETRY_MS 1000 /* N-69: the link of a predecessor may be on its way out */
#define NAME_RETRY_STEP_MS 5

static int attach_filter(int fd, const struct sock_filter *code, size_t n)
{
	struct sock_fprog prog = {.len = (unsigned short)n, .filter = (struct sock_filter *)code};

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0 ? -errno : 0;
}

#define LOAD(size, offset) BPF_STMT(BPF_LD | (size) | BPF_ABS, (offset))
#define JUMP(how, value, if_true, if_false) BPF_JUMP(BPF_JMP | (how) | BPF_K, (value), (if_true), (if_false))
#define TAKE BPF_STMT(BPF_RET | BPF_K, UINT32_MAX)
#define LEAVE BPF_STMT(BPF_RET | BPF_K, 0)

int gateway_filter_gate(int packet_fd)
{
	enum { SYN = 0x02, RST = 0x04, ACK = 0x10 };
	static const struct sock_filter code[] = {
		/*  0 */ LOAD(BPF_H, 12),
		/*  1 */ JUMP(BPF_JEQ, ETH_P_ARP, 19, 0),
		/*  2 */ JUMP(BPF_JEQ, ETH_P_IP, 8, 0),
		/*  3 */ JUMP(BPF_JEQ, ETH_P_IPV6, 0, 17),
		/*  4 */ LOAD(BPF_B, ETH_HLEN + 6), /* next header */
		/*  5 */ JUMP(BPF_JEQ, IPPROTO_TCP, 0, 15),
		/*  6 */ LOAD(BPF_H, ETH_HLEN + 8), /* source fe80::/10: all of its TCP is libslirp's */
		/*  7 */ BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xffc0),
		/*  8 */ JUMP(BPF_JEQ, 0xfe80, 12, 0),
		/*  9 */ LOAD(BPF_B, ETH_HLEN + 40 + 13), /* TCP flags */
		/* 10 */ BPF_STMT(BPF_JMP | BPF_JA, 6),
		/* 11 */ LOAD(BPF_B, ETH_HLEN + 9), /* protocol */
		/* 12 */ JUMP(BPF_JEQ, IPPROTO_TCP, 0, 8),
		/* 13 */ LOAD(BPF_H, ETH_HLEN + 6), /* a fragment of TCP is the kernel's */
		/* 14 */ JUMP(BPF_JSET, 0x3fff, 5, 0),
		/* 15 */ BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, ETH_HLEN),
		/* 16 */ BPF_STMT(BPF_LD | BPF_B | BPF_IND, ETH_HLEN + 13),
		/* 17 */ BPF_STMT(BPF_ALU | BPF_AND | BPF_K, SYN | RST | ACK),
		/* 18 */ JUMP(BPF_JEQ, SYN, 2, 0),
		/* 19 */ JUMP(BPF_JSET, RST, 1, 0),
		/* 20 */ LEAVE,
		/* 21 */ TAKE,
	};

	return attach_filter(packet_fd, code, sizeof(code) / sizeof(code[0]));
}

int gateway_filter_all(int packet_fd)
{
	static const struct sock_filter code[] = {TAKE};

	return attach_filter(packet_fd, code, 1);
}

typedef struct {
	const Options *options;
	const AddressPlan *plan;
	GuestLinkParts *parts;
	GatewayRtnl *rtnl;
	int guest_ns;
	unsigned lo, gw, tun;
	const char *why;
} Making;

static void put_part(Making *m, const char *name, int fd)
{
	m->parts->names[m->parts->n_fds] = name;
	m->parts->fds[m->parts->n_fds++] = fd;
}

/* Whether the interface of that name in this namespace is a veth: possibly one whose other end is just being destroyed. */
static bool name_is_veth(const char *name)
{
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq ifr = {.ifr_data = (void *)&info};
	cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return fd >= 0 && ioctl(fd, SIOCETHTOOL, &ifr) == 0 && strcmp(info.driver, "veth") == 0;
}

static int wait_for_name(Making *m)
{
	const struct timespec step = {.tv_nsec = NAME_RETRY_STEP_MS * 1000000L};

	m->why = "an interface of that name is there already";
	for (int waited_ms = 0;; waited_ms += NAME_RETRY_STEP_MS) {
		if (if_nametoindex(m->options->tap_name) == 0)
			return 0;
		if (waited_ms >= NAME_RETRY_MS || !name_is_veth(m->options->tap_name))
			return -EEXIST;
		nanosleep(&step, NULL);
	}
}

static int rp_filter_off(void)
{
	static const char *const paths[] = {
		"/proc/sys/net/ipv4/conf/all/rp_filter",
		"/proc/sys/net/ipv4/conf/default/rp_filter",
	};

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		char value[4];
		cleanup_close int fd = -1;

		if (fd_read_file(paths[i], value, sizeof(value)) > 0 && value[0] == '0')
			continue;
		fd = open(paths[i], O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "0", 1) != 1)
			return -errno;
	}
	return 0;
}

/* A client of a published port may have a privileged port; without this it appears with another one. */
static void allow_every_port(void)
{
	cleanup_close int fd = open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, "0", 1);
}

/*
 * What the host's default is good for is the way through the world, and the sockets on the host have it. Between here and the guest there
 * is one function call: no loss to be told from congestion, and nothing to pace (BBR's timers cost a third of the throughput).
 */
static void choose_congestion_control(void)
{
	cleanup_close int fd = open("/proc/sys/net/ipv4/tcp_congestion_control", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, "reno", 4); /* the one that every kernel has; the other ones work too */
}

static int make_namespace(Making *m)
{
	int r;

	m->why = "no network namespace for the gateway";
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	m->why = "reverse path filter of the gateway";
	r = rp_filter_off();
	if (r < 0)
		return r;
	allow_every_port();
	choose_congestion_control();
	m->why = "no rtnetlink in the gateway";
	m->rtnl = gateway_rtnl_new();
	if (!m->rtnl)
		return -errno;
	m->lo = if_nametoindex("lo");
	return gateway_rtnl_set_up(m->rtnl, m->lo);
}

/* Where a router's address should be made by the usual rule from its MAC: RFC 4291 appendix A. */
static struct in6_addr link_local(const struct ether_addr *mac)
{
	struct in6_addr a = {.s6_addr = {0xfe, 0x80, [11] = 0xff, [12] = 0xfe}};

	memcpy(&a.s6_addr[8], &mac->ether_addr_octet[0], 3);
	memcpy(&a.s6_addr[13], &mac->ether_addr_octet[3], 3);
	a.s6_addr[8] ^= 2;
	return a;
}

static int make_veth(Making *m)
{
	const struct ether_addr *mac = &m->plan->gateway_mac;
	int r;

	m->why = "no veth";
	r = gateway_rtnl_add_veth(m->rtnl, GW_NAME, mac, GW_MTU, m->options->tap_name, m->guest_ns);
	if (r < 0)
		return r;
	m->gw = if_nametoindex(GW_NAME);
	m->why = "settings of the gateway's veth";
	r = gateway_rtnl_set_no_rp_filter(m->rtnl, m->gw);
	if (r < 0)
		return r;
	/* The kernel makes no address of its own, which it would announce to the guest (N-88). */
	r = gateway_rtnl_set_addr_gen_none(m->rtnl, m->gw);
	if (!m->options->enable_ipv6)
		return 0; /* it fails where the kernel has no IPv6 */
	/* IPv6 neighbours are asked from a link-local address; this one answers nobody (gateway-nft.h). */
	if (r == 0) {
		struct in6_addr addr = link_local(mac);

		r = gateway_rtnl_add_addr6(m->rtnl, m->gw, &addr, 64);
	}
	return r;
}

static int make_tun(Making *m)
{
	struct ifreq ifr = {.ifr_name = TUN_NAME, .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
	int fd, r;

	m->why = "no tun device in the gateway";
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	put_part(m, GATEWAY_TUN, fd);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	m->tun = if_nametoindex(TUN_NAME);
	r = gateway_rtnl_set_no_rp_filter(m->rtnl, m->tun);
	if (r == 0 && m->options->enable_ipv6)
		r = gateway_rtnl_set_addr_gen_none(m->rtnl, m->tun);
	if (r == 0)
		r = gateway_rtnl_set_up(m->rtnl, m->tun);
	return r;
}

static int make_routes(Making *m, int family)
{
	int r;

	m->why = "policy routing in the gateway";
	r = gateway_rtnl_add_default(m->rtnl, family, m->gw, m->options->mtu);
	if (r == 0)
		r = gateway_rtnl_add_local_default(m->rtnl, family, m->lo, LOCAL_TABLE);
	if (r == 0)
		r = gateway_rtnl_add_mark_rule(m->rtnl, family, MARK, LOCAL_TABLE);
	return r;
}

static int load_rules(Making *m)
{
	GatewayNft conf = {
		.gw_name = GW_NAME,
		.lo = m->lo,
		.gw = m->gw,
		.tun = m->tun,
		.port = htons(GATEWAY_LISTEN_PORT),
		.mark = MARK,
		.ipv6 = m->options->enable_ipv6,
	};

	m->why = "no nftables TPROXY";
	return gateway_nft_load(&conf);
}

/*
 * Bound while the guest's end is still down: its first frame must not be missed (N-87). Our end is up, or the socket would begin with
 * ENETDOWN, which later means that the link was deleted.
 */
static int make_packet_socket(Making *m)
{
	struct sockaddr_ll addr = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)m->gw,
	};
	const int on = 1, size = PACKET_BUFFER;
	int fd, r;

	m->why = "no packet socket in the gateway";
	fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	put_part(m, GATEWAY_PACKET, fd);
	if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof(on)) < 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)); /* as much as is allowed */
	r = gateway_filter_gate(fd);
	if (r < 0)
		return r;
	return bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
}

static int make_socket(Making *m, const char *name, int family)
{
	const int on = 1;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	put_part(m, name, fd);
	if (family == AF_INET6 &&
		(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0 ||
			setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &on, sizeof(on)) < 0))
		return -errno;
	if (family == AF_INET && setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, sizeof(on)) < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return -errno;
	return fd;
}

static int make_listener(Making *m, const char *name, int family, uint16_t port)
{
	struct sockaddr_in in = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct sockaddr_in6 in6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
	int fd = make_socket(m, name, family);

	if (fd < 0)
		return fd;
	if (bind(fd, family == AF_INET ? (void *)&in : (void *)&in6,
		    family == AF_INET ? sizeof(in) : sizeof(in6)) < 0 ||
		listen(fd, GATEWAY_BACKLOG) < 0)
		return -errno;
	return 0;
}

static int make_sockets(Making *m)
{
	int r;

	m->why = "no transparent socket";
	r = make_listener(m, GATEWAY_LISTEN, AF_INET, GATEWAY_LISTEN_PORT);
	if (r == 0)
		r = make_listener(m, GATEWAY_NURSERY, AF_INET, GATEWAY_NURSERY_PORT);
	if (r == 0)
		r = make_socket(m, GATEWAY_SEED, AF_INET);
	if (r < 0 || !m->options->enable_ipv6)
		return r < 0 ? r : 0;
	r = make_listener(m, GATEWAY_LISTEN6, AF_INET6, GATEWAY_LISTEN_PORT);
	if (r == 0)
		r = make_listener(m, GATEWAY_NURSERY6, AF_INET6, GATEWAY_NURSERY_PORT);
	if (r == 0)
		r = make_socket(m, GATEWAY_SEED6, AF_INET6);
	return r < 0 ? r : 0;
}

static int make_janitor(Making *m)
{
	int fd, r;

	m->why = "no janitor process for the gateway";
	r = gateway_janitor_start(m->gw, &fd);
	if (r == 0)
		put_part(m, GATEWAY_JANITOR, fd);
	return r;
}

static int make_gateway(Making *m)
{
	int r;

	r = make_namespace(m);
	if (r == 0)
		r = make_veth(m);
	if (r == 0)
		r = make_tun(m);
	if (r == 0)
		r = load_rules(m);
	if (r == 0)
		r = make_sockets(m);
	if (r < 0)
		return r;
	m->why = "link of the gateway cannot be set up";
	r = gateway_rtnl_set_up(m->rtnl, m->gw);
	if (r == 0)
		r = make_packet_socket(m);
	if (r == 0)
		r = make_routes(m, AF_INET);
	if (r == 0 && m->options->enable_ipv6)
		r = make_routes(m, AF_INET6);
	if (r == 0)
		r = make_janitor(m);
	return r;
}

static void undo(Making *m)
{
	if (m->gw)
		(void)gateway_rtnl_del_link(m->rtnl, m->gw); /* at once; the namespace itself goes later */
	while (m->parts->n_fds > 0)
		fd_close(m->parts->fds[--m->parts->n_fds]);
}

static int create(
	const Options *options, const AddressPlan *plan, GuestLinkParts *ret_parts, const char **why)
{
	Making m = {.options = options, .plan = plan, .parts = ret_parts};
	cleanup_close int guest_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	ret_parts->n_fds = 0;
	*why = "the guest's network namespace";
	if (guest_ns < 0)
		return -errno;
	m.guest_ns = guest_ns;
	r = wait_for_name(&m);
	if (r == 0)
		r = make_gateway(&m);
	*why = m.why;
	if (r < 0)
		undo(&m);
	gateway_rtnl_free(m.rtnl);
	if (setns(guest_ns, CLONE_NEWNET) < 0 && r == 0) {
		*why = "no way back from the gateway's namespace";
		r = -errno;
	}
	return r;
}

const GuestLinkKind guest_link_veth = {.name = "veth", .create = create};
