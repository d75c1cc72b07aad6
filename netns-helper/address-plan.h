#pragma once
/*
 * Every address of the guest's link (N-79 to N-82), computed from the CIDR alone as engines do it themselves, and the source
 * addresses of outbound sockets (N-119 to N-122).
 */
#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdbool.h>

#include "netns-helper/options.h"

typedef struct {
	struct in_addr network, netmask;
	unsigned prefix; /* 1 to 25 */
	struct in_addr gateway; /* network + 2 */
	struct in_addr dns; /* network + 3 */
	struct in_addr dhcp; /* network + 15, first of 16 leases */
	struct in_addr guest; /* network + 100 */
	struct in_addr broadcast;

	struct in6_addr prefix6; /* fd00::/64 */
	struct in6_addr gateway6, dns6, router6; /* fd00::2, fd00::3, fe80::2 */

	bool has_mac; /* --macaddress */
	struct ether_addr mac;
	struct ether_addr gateway_mac; /* 52:55 + the IPv4 bytes of the gateway (N-81) */

	bool has_outbound, has_outbound6;
	struct sockaddr_in outbound; /* port 0 */
	struct sockaddr_in6 outbound6; /* port 0 */
} AddressPlan;

/**
 * @param options   the command line
 * @param ret_plan  filled on success
 * @return 0, or -EINVAL with the reason already on stderr
 */
int address_plan_make(const Options *options, AddressPlan *ret_plan);

/** The address that a guest interface with this MAC gives itself in fd00::/64 (EUI-64, RFC 4291 appendix A). */
struct in6_addr address_plan_guest6(const AddressPlan *plan, const struct ether_addr *mac);
