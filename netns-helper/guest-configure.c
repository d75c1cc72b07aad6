#include "config.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <time.h>

#include <libmnl/libmnl.h>

#include "common/fd-util.h"
#include "netns-helper/guest-link.h"
#include "netns-helper/splice-pacing.h"

/* rtnetlink(7); one request, one acknowledgement. */
typedef struct {
	struct mnl_socket *socket;
	unsigned seq;
	char buf[4096]; /* larger than any request here and than any acknowledgement of one */
} Netlink;

static int netlink_open(Netlink *nl)
{
	nl->seq = (unsigned)time(NULL);
	nl->socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!nl->socket)
		return -errno;
	if (mnl_socket_bind(nl->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
		int r = -errno;

		mnl_socket_close(nl->socket);
		return r;
	}
	return 0;
}

static struct nlmsghdr *netlink_begin(Netlink *nl, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *header = mnl_nlmsg_put_header(nl->buf);

	header->nlmsg_type = type;
	header->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	header->nlmsg_seq = ++nl->seq;
	return header;
}

/* @return 0 or the kernel's -errno */
static int netlink_do(Netlink *nl, struct nlmsghdr *header)
{
	ssize_t n;

	if (mnl_socket_sendto(nl->socket, header, header->nlmsg_len) < 0)
		return -errno;
	n = mnl_socket_recvfrom(nl->socket, nl->buf, sizeof(nl->buf));
	if (n < 0)
		return -errno;
	if (mnl_cb_run(nl->buf, (size_t)n, nl->seq, mnl_socket_get_portid(nl->socket), NULL, NULL) < 0)
		return -errno;
	return 0;
}

/* Up, keeping every other flag (N-75); with @p mtu and @p mac as far as given. */
static int set_link(Netlink *nl, unsigned index, bool up, unsigned mtu, const struct ether_addr *mac)
{
	struct nlmsghdr *header = netlink_begin(nl, RTM_NEWLINK, 0);
	struct ifinfomsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));

	info->ifi_family = AF_UNSPEC;
	info->ifi_index = (int)index;
	if (up) {
		info->ifi_flags = IFF_UP;
		info->ifi_change = IFF_UP;
	}
	if (mtu)
		mnl_attr_put_u32(header, IFLA_MTU, mtu);
	if (mac)
		mnl_attr_put(header, IFLA_ADDRESS, ETH_ALEN, mac);
	return netlink_do(nl, header);
}

static int add_address(Netlink *nl, unsigned index, const AddressPlan *plan)
{
	struct nlmsghdr *header = netlink_begin(nl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
	struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));

	info->ifa_family = AF_INET;
	info->ifa_prefixlen = (uint8_t)plan->prefix;
	info->ifa_flags = IFA_F_PERMANENT;
	info->ifa_scope = RT_SCOPE_UNIVERSE;
	info->ifa_index = index;
	mnl_attr_put_u32(header, IFA_LOCAL, plan->guest.s_addr);
	mnl_attr_put_u32(header, IFA_ADDRESS, plan->guest.s_addr);
	mnl_attr_put_u32(header, IFA_BROADCAST, plan->broadcast.s_addr);
	return netlink_do(nl, header);
}

/* What the guest's sockets begin with, if it is one that paces. */
static bool paces(void)
{
	char name[32];

	return fd_read_file("/proc/sys/net/ipv4/tcp_congestion_control", name, sizeof(name)) > 0 &&
	       splice_pacing_is_pacing(name);
}

static void put_congestion_control(struct nlmsghdr *header, const char *name)
{
	struct nlattr *metrics = mnl_attr_nest_start(header, RTA_METRICS);

	mnl_attr_put_strz(header, RTAX_CC_ALGO, name);
	mnl_attr_nest_end(header, metrics);
}

/* Before any default route that is there already (N-73); an identical one is as good as ours. */
static int add_default_route(Netlink *nl, unsigned index, const AddressPlan *plan, bool is_spliced)
{
	struct nlmsghdr *header = netlink_begin(nl, RTM_NEWROUTE, NLM_F_CREATE);
	struct rtmsg *info = mnl_nlmsg_put_extra_header(header, sizeof(*info));
	int r;

	info->rtm_family = AF_INET;
	info->rtm_table = RT_TABLE_MAIN;
	info->rtm_protocol = RTPROT_BOOT;
	info->rtm_scope = RT_SCOPE_UNIVERSE;
	info->rtm_type = RTN_UNICAST;
	mnl_attr_put_u32(header, RTA_GATEWAY, plan->gateway.s_addr);
	mnl_attr_put_u32(header, RTA_OIF, index);
	if (is_spliced && paces())
		put_congestion_control(header, "reno");
	r = netlink_do(nl, header);
	return r == -EEXIST ? 0 : r;
}

static int configure_steps(
	Netlink *nl, const Options *options, const AddressPlan *plan, bool is_spliced, const char **why)
{
	unsigned lo = if_nametoindex("lo"), tap = if_nametoindex(options->tap_name);
	int r;

	*why = "interface not found";
	if (lo == 0 || tap == 0)
		return -ENODEV;
	*why = "setting lo up";
	r = set_link(nl, lo, true, 0, NULL);
	if (r < 0)
		return r;
	/* The MAC before the link comes up: the link-local address is made from it then (N-76). */
	*why = "setting MTU and MAC address";
	r = set_link(nl, tap, false, options->mtu, plan->has_mac ? &plan->mac : NULL);
	if (r < 0)
		return r;
	*why = "setting the link up";
	r = set_link(nl, tap, true, 0, NULL);
	if (r < 0)
		return r;
	*why = "adding the address";
	r = add_address(nl, tap, plan);
	if (r < 0)
		return r;
	*why = "adding the default route";
	return add_default_route(nl, tap, plan, is_spliced);
}

int guest_configure(const Options *options, const AddressPlan *plan, bool is_spliced, const char **why)
{
	Netlink nl;
	int r;

	*why = "opening rtnetlink";
	r = netlink_open(&nl);
	if (r < 0)
		return r;
	r = configure_steps(&nl, options, plan, is_spliced, why);
	mnl_socket_close(nl.socket);
	return r;
}
