#include "config.h"

#include "netns-helper/gateway-rtnl.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/ip.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define OWN_INDEX                                                                                            \
	0x7464 /* interface number of our end of a veth: one that no guest's namespace counts up to */
#define REQUEST_MAX 1024 /* bytes; the largest request (veth) needs about 200 */
#define REPLY_MAX 8192 /* bytes; an acknowledgement quotes the request at most */

struct GatewayRtnl {
	struct mnl_socket *nl;
	uint32_t seq;
	union {
		struct nlmsghdr header;
		char bytes[REQUEST_MAX];
	} request;
};

GatewayRtnl *gateway_rtnl_new(void)
{
	GatewayRtnl *rtnl = calloc(1, sizeof(*rtnl));
	int saved;

	if (!rtnl)
		return NULL;
	rtnl->seq = (uint32_t)time(NULL);
	rtnl->nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (rtnl->nl && mnl_socket_bind(rtnl->nl, 0, MNL_SOCKET_AUTOPID) == 0)
		return rtnl;
	saved = errno;
	gateway_rtnl_free(rtnl);
	errno = saved;
	return NULL;
}

void gateway_rtnl_free(GatewayRtnl *rtnl)
{
	if (!rtnl)
		return;
	if (rtnl->nl)
		mnl_socket_close(rtnl->nl);
	free(rtnl);
}

static struct nlmsghdr *begin(GatewayRtnl *rtnl, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *nlh;

	memset(&rtnl->request, 0, sizeof(rtnl->request));
	nlh = mnl_nlmsg_put_header(rtnl->request.bytes);
	nlh->nlmsg_type = type;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
	nlh->nlmsg_seq = ++rtnl->seq;
	return nlh;
}

static int finish(GatewayRtnl *rtnl, struct nlmsghdr *nlh)
{
	char reply[REPLY_MAX];
	ssize_t n;

	if (mnl_socket_sendto(rtnl->nl, nlh, nlh->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(rtnl->nl, reply, sizeof(reply));
		if (n < 0)
			return -errno;
		n = mnl_cb_run(reply, (size_t)n, rtnl->seq, mnl_socket_get_portid(rtnl->nl), NULL, NULL);
	} while (n > MNL_CB_STOP);
	return n < 0 ? -errno : 0;
}

int gateway_rtnl_add_veth(GatewayRtnl *rtnl, const char *name, const struct ether_addr *mac, uint32_t mtu,
	const char *peer_name, int peer_netns)
{
	struct nlmsghdr *nlh = begin(rtnl, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
	struct nlattr *info, *data, *peer;
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));

	/*
	 * The kernel tells a veth of its carrier at once only if the two ends' numbers differ (linkwatch_urgent_event());
	 * with equal ones, which fresh namespaces have, up to a second later, and the guest is without IPv6 for so long.
	 */
	ifi->ifi_index = OWN_INDEX;
	mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
	mnl_attr_put(nlh, IFLA_ADDRESS, sizeof(*mac), mac);
	mnl_attr_put_u32(nlh, IFLA_MTU, mtu);
	info = mnl_attr_nest_start(nlh, IFLA_LINKINFO);
	mnl_attr_put_strz(nlh, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(nlh, IFLA_INFO_DATA);
	peer = mnl_attr_nest_start(nlh, VETH_INFO_PEER);
	mnl_nlmsg_put_extra_header(nlh, sizeof(struct ifinfomsg));
	mnl_attr_put_strz(nlh, IFLA_IFNAME, peer_name);
	mnl_attr_put_u32(nlh, IFLA_NET_NS_FD, (uint32_t)peer_netns);
	mnl_attr_nest_end(nlh, peer);
	mnl_attr_nest_end(nlh, data);
	mnl_attr_nest_end(nlh, info);
	return finish(rtnl, nlh);
}

static struct nlmsghdr *begin_link(
	GatewayRtnl *rtnl, uint16_t type, unsigned ifindex, struct ifinfomsg **ret_ifi)
{
	struct nlmsghdr *nlh = begin(rtnl, type, 0);
	struct ifinfomsg *ifi = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifi));

	ifi->ifi_family = AF_UNSPEC;
	ifi->ifi_index = (int)ifindex;
	if (ret_ifi)
		*ret_ifi = ifi;
	return nlh;
}

int gateway_rtnl_del_link(GatewayRtnl *rtnl, unsigned ifindex)
{
	return finish(rtnl, begin_link(rtnl, RTM_DELLINK, ifindex, NULL));
}

int gateway_rtnl_set_up(GatewayRtnl *rtnl, unsigned ifindex)
{
	struct ifinfomsg *ifi;
	struct nlmsghdr *nlh = begin_link(rtnl, RTM_NEWLINK, ifindex, &ifi);

	ifi->ifi_flags = ifi->ifi_change = IFF_UP;
	return finish(rtnl, nlh);
}

int gateway_rtnl_set_no_rp_filter(GatewayRtnl *rtnl, unsigned ifindex)
{
	struct nlmsghdr *nlh = begin_link(rtnl, RTM_NEWLINK, ifindex, NULL);
	struct nlattr *spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	struct nlattr *inet = mnl_attr_nest_start(nlh, AF_INET);
	struct nlattr *conf = mnl_attr_nest_start(nlh, IFLA_INET_CONF);

	mnl_attr_put_u32(nlh, IPV4_DEVCONF_RP_FILTER, 0);
	mnl_attr_nest_end(nlh, conf);
	mnl_attr_nest_end(nlh, inet);
	mnl_attr_nest_end(nlh, spec);
	return finish(rtnl, nlh);
}

int gateway_rtnl_set_addr_gen_none(GatewayRtnl *rtnl, unsigned ifindex)
{
	struct nlmsghdr *nlh = begin_link(rtnl, RTM_NEWLINK, ifindex, NULL);
	struct nlattr *spec = mnl_attr_nest_start(nlh, IFLA_AF_SPEC);
	struct nlattr *inet6 = mnl_attr_nest_start(nlh, AF_INET6);

	mnl_attr_put_u8(nlh, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(nlh, inet6);
	mnl_attr_nest_end(nlh, spec);
	return finish(rtnl, nlh);
}

int gateway_rtnl_add_addr6(GatewayRtnl *rtnl, unsigned ifindex, const struct in6_addr *addr, uint8_t prefix)
{
	struct nlmsghdr *nlh = begin(rtnl, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
	struct ifaddrmsg *ifa = mnl_nlmsg_put_extra_header(nlh, sizeof(*ifa));

	ifa->ifa_family = AF_INET6;
	ifa->ifa_prefixlen = prefix;
	ifa->ifa_scope = IN6_IS_ADDR_LINKLOCAL(addr) ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	ifa->ifa_index = ifindex;
	mnl_attr_put(nlh, IFA_LOCAL, sizeof(*addr), addr);
	mnl_attr_put(nlh, IFA_ADDRESS, sizeof(*addr), addr);
	mnl_attr_put_u32(nlh, IFA_FLAGS, IFA_F_NODAD | IFA_F_PERMANENT);
	return finish(rtnl, nlh);
}

static struct nlmsghdr *begin_route(
	GatewayRtnl *rtnl, int family, uint8_t type, uint8_t scope, uint32_t table, unsigned ifindex)
{
	struct nlmsghdr *nlh = begin(rtnl, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
	struct rtmsg *rtm = mnl_nlmsg_put_extra_header(nlh, sizeof(*rtm));

	rtm->rtm_family = (uint8_t)family;
	rtm->rtm_table = table < 256 ? (uint8_t)table : RT_TABLE_COMPAT;
	rtm->rtm_protocol = RTPROT_STATIC;
	rtm->rtm_scope = scope;
	rtm->rtm_type = type;
	mnl_attr_put_u32(nlh, RTA_TABLE, table);
	mnl_attr_put_u32(nlh, RTA_OIF, ifindex);
	return nlh;
}

int gateway_rtnl_add_default(GatewayRtnl *rtnl, int family, unsigned ifindex, uint32_t mtu)
{
	uint8_t scope = family == AF_INET ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
	struct nlmsghdr *nlh = begin_route(rtnl, family, RTN_UNICAST, scope, RT_TABLE_MAIN, ifindex);
	struct nlattr *metrics = mnl_attr_nest_start(nlh, RTA_METRICS);

	mnl_attr_put_u32(nlh, RTAX_MTU, mtu);
	mnl_attr_nest_end(nlh, metrics);
	return finish(rtnl, nlh);
}

int gateway_rtnl_add_local_default(GatewayRtnl *rtnl, int family, unsigned lo_ifindex, uint32_t table)
{
	uint8_t scope = family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;

	return finish(rtnl, begin_route(rtnl, family, RTN_LOCAL, scope, table, lo_ifindex));
}

int gateway_rtnl_add_mark_rule(GatewayRtnl *rtnl, int family, uint32_t mark, uint32_t table)
{
	struct nlmsghdr *nlh = begin(rtnl, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
	struct fib_rule_hdr *rule = mnl_nlmsg_put_extra_header(nlh, sizeof(*rule));

	rule->family = (uint8_t)family;
	rule->table = table < 256 ? (uint8_t)table : RT_TABLE_COMPAT;
	rule->action = FR_ACT_TO_TBL;
	mnl_attr_put_u32(nlh, FRA_TABLE, table);
	mnl_attr_put_u32(nlh, FRA_FWMARK, mark);
	mnl_attr_put_u32(nlh, FRA_FWMASK, UINT32_MAX);
	return finish(rtnl, nlh);
}
