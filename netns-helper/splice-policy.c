#include "config.h"

#include "netns-helper/splice-policy.h"

#include <errno.h>
#include <string.h>

#include "netns-helper/frame-filter.h"
#include "netns-helper/resolv-conf.h"

#define DNS_PORT 53
#define IPV6_PREFIX_BYTES 8 /* of the guest's /64 */

static int to_loopback(const Options *options, const SpliceAddr *dest, SpliceAddr *ret)
{
	if (options->disable_host_loopback)
		return -ENETUNREACH;
	if (splice_addr_is_v4(dest))
		*ret = splice_addr_from_v4((struct in_addr){htonl(INADDR_LOOPBACK)}, dest->port);
	else
		*ret = (SpliceAddr){.ip = in6addr_loopback, .port = dest->port};
	return 0;
}

static int to_resolver(const SpliceAddr *dest, SpliceAddr *ret)
{
	struct sockaddr_storage server;
	int r;

	if (dest->port != DNS_PORT)
		return -ENETUNREACH;
	r = resolv_conf_server(splice_addr_is_v4(dest) ? AF_INET : AF_INET6, &server);
	if (r < 0 || !splice_addr_from_sockaddr((struct sockaddr *)&server, ret))
		return -ENETUNREACH;
	return 0;
}

/*
 * Addresses that mean this very host, or nobody, in its own routing: the guest has no business there. Its kernel does not send
 * to them either, so whoever tries writes packets by hand.
 */
static bool is_forbidden4(struct in_addr ip)
{
	uint32_t a = ntohl(ip.s_addr);

	return frame_filter_is_own4(ip) || a >> 28 == 0xe || a >> 28 == 0xf;
}

static bool is_forbidden6(const struct in6_addr *ip)
{
	return frame_filter_is_own6(ip) || IN6_IS_ADDR_LINKLOCAL(ip) || IN6_IS_ADDR_MULTICAST(ip);
}

static int outbound4(const Options *options, const AddressPlan *plan, const SpliceAddr *dest, SpliceAddr *ret)
{
	struct in_addr ip = splice_addr_v4(dest);

	if (ip.s_addr == plan->gateway.s_addr || ip.s_addr == INADDR_BROADCAST)
		return to_loopback(options, dest, ret);
	if (ip.s_addr == plan->dns.s_addr && !options->disable_dns)
		return to_resolver(dest, ret);
	if (is_forbidden4(ip))
		return -ENETUNREACH;
	*ret = *dest;
	return 0;
}

static int outbound6(const Options *options, const AddressPlan *plan, const SpliceAddr *dest, SpliceAddr *ret)
{
	if (memcmp(&dest->ip, &plan->dns6, sizeof(dest->ip)) == 0 && !options->disable_dns)
		return to_resolver(dest, ret);
	if (memcmp(&dest->ip, &plan->prefix6, IPV6_PREFIX_BYTES) == 0)
		return to_loopback(options, dest, ret);
	if (is_forbidden6(&dest->ip))
		return -ENETUNREACH;
	*ret = *dest;
	return 0;
}

int splice_policy_outbound(
	const Options *options, const AddressPlan *plan, const SpliceAddr *dest, SpliceAddr *ret)
{
	if (dest->port == 0)
		return -ENETUNREACH;
	return splice_addr_is_v4(dest) ? outbound4(options, plan, dest, ret)
				       : outbound6(options, plan, dest, ret);
}

static bool is_loopback(const SpliceAddr *a)
{
	if (splice_addr_is_v4(a))
		return ntohl(splice_addr_v4(a).s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&a->ip);
}

SpliceAddr splice_policy_inbound(
	const Options *options, const AddressPlan *plan, const SpliceAddr *guest, const SpliceAddr *client)
{
	bool keep = !options->inbound_gateway && !is_loopback(client) &&
		    !IN6_IS_ADDR_LINKLOCAL(&client->ip) &&
		    memcmp(&client->ip, &guest->ip, sizeof(client->ip)) != 0 &&
		    splice_addr_is_v4(client) == splice_addr_is_v4(guest);

	if (keep)
		return *client;
	if (splice_addr_is_v4(guest))
		return splice_addr_from_v4(plan->gateway, client->port);
	return (SpliceAddr){.ip = plan->gateway6, .port = client->port};
}

bool splice_policy_guest_is_valid(const SpliceAddr *guest)
{
	if (splice_addr_is_v4(guest))
		return !is_forbidden4(splice_addr_v4(guest));
	return !is_forbidden6(&guest->ip);
}
