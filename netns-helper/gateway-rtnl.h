#pragma once
/*
 * The few rtnetlink(7) requests that the gateway namespace needs. Each function is one request, acknowledged by the kernel
 * before it returns; all return 0 or -errno.
 */
#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdint.h>

typedef struct GatewayRtnl GatewayRtnl;

/** A socket in the calling process' present network namespace. @return NULL with errno */
GatewayRtnl *gateway_rtnl_new(void);
/** NULL is fine. */
void gateway_rtnl_free(GatewayRtnl *rtnl);

/**
 * Make a veth pair.
 *
 * @param rtnl        its namespace gets the end @p name
 * @param name        of the near end
 * @param mac         of the near end
 * @param mtu         of the near end, bytes
 * @param peer_name   of the far end; its MAC is random and its MTU the kernel's default
 * @param peer_netns  namespace of the far end, borrowed
 * @return -EEXIST: a name is taken; -EOPNOTSUPP: no veth on this host
 */
int gateway_rtnl_add_veth(GatewayRtnl *rtnl, const char *name, const struct ether_addr *mac, uint32_t mtu,
	const char *peer_name, int peer_netns);
int gateway_rtnl_del_link(GatewayRtnl *rtnl, unsigned ifindex);
int gateway_rtnl_set_up(GatewayRtnl *rtnl, unsigned ifindex);
/** Reverse path filter off and, for IPv6, no address by itself, on one interface. */
int gateway_rtnl_set_no_rp_filter(GatewayRtnl *rtnl, unsigned ifindex);
int gateway_rtnl_set_addr_gen_none(GatewayRtnl *rtnl, unsigned ifindex);
/** An IPv6 address that is valid at once (no duplicate detection), for ever. */
int gateway_rtnl_add_addr6(GatewayRtnl *rtnl, unsigned ifindex, const struct in6_addr *addr, uint8_t prefix);
/** `default dev IFINDEX` for @p family, in the main table, with this MTU and, for IPv4, at link scope. */
int gateway_rtnl_add_default(GatewayRtnl *rtnl, int family, unsigned ifindex, uint32_t mtu);
/** `local default dev lo table TABLE`: every address is ours, for packets that look there. */
int gateway_rtnl_add_local_default(GatewayRtnl *rtnl, int family, unsigned lo_ifindex, uint32_t table);
/** `fwmark MARK lookup TABLE`. */
int gateway_rtnl_add_mark_rule(GatewayRtnl *rtnl, int family, uint32_t mark, uint32_t table);
