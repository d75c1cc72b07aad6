#include "config.h"

#include "netns-helper/address-plan.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One decimal number of at most @p max_digits digits. */
static int parse_digits(const char **text, int max_digits, unsigned *ret_value)
{
	unsigned value = 0;
	int n = 0;

	while (n < max_digits && isdigit((unsigned char)(*text)[n]))
		value = value * 10 + (unsigned)((*text)[n++] - '0');
	*text += n;
	*ret_value = value;
	return n > 0 ? 0 : -EINVAL;
}

/* N-42: d.d.d.d/p and nothing else. */
static int split_cidr(const char *text, unsigned octets[4], unsigned *ret_prefix)
{
	for (int i = 0; i < 4; i++) {
		if (parse_digits(&text, 3, &octets[i]) < 0)
			return -EINVAL;
		if (*text++ != (i < 3 ? '.' : '/'))
			return -EINVAL;
	}
	if (parse_digits(&text, 2, ret_prefix) < 0 || *text != '\0')
		return -EINVAL;
	return 0;
}

static int parse_cidr(const char *text, AddressPlan *plan)
{
	unsigned octets[4];
	uint32_t network = 0, mask;

	if (split_cidr(text, octets, &plan->prefix) < 0) {
		fprintf(stderr, "invalid CIDR: \"%s\" (it must look like 10.0.2.0/24)\n", text);
		return -EINVAL;
	}
	for (int i = 0; i < 4; i++) {
		if (octets[i] > 255) {
			fprintf(stderr, "invalid CIDR: \"%s\": %u is more than 255\n", text, octets[i]);
			return -EINVAL;
		}
		network = network << 8 | octets[i];
	}
	if (plan->prefix < 1 || plan->prefix > 25) {
		fprintf(stderr, "CIDR \"%s\": prefix length needs to be 1-25\n", text);
		return -EINVAL;
	}
	mask = ~0U << (32 - plan->prefix);
	if (network & ~mask) {
		fprintf(stderr,
			"\"%s\": CIDR needs to be a network address like 10.0.2.0/24, not like "
			"10.0.2.100/24\n",
			text);
		return -EINVAL;
	}
	plan->network.s_addr = htonl(network);
	plan->netmask.s_addr = htonl(mask);
	plan->gateway.s_addr = htonl(network + 2);
	plan->dns.s_addr = htonl(network + 3);
	plan->dhcp.s_addr = htonl(network + 15);
	plan->guest.s_addr = htonl(network + 100);
	plan->broadcast.s_addr = htonl(network | ~mask);
	return 0;
}

/* N-47 and N-76: exactly six bytes; the kernel would refuse a group address only after the link is made. */
static int parse_mac(const char *text, struct ether_addr *ret_mac)
{
	const char *p = text;

	for (int i = 0; i < ETH_ALEN; i++) {
		char *end;
		unsigned long byte = isxdigit((unsigned char)*p) ? strtoul(p, &end, 16) : 256;

		if (byte > 255 || end - p > 2 || *end != (i < ETH_ALEN - 1 ? ':' : '\0')) {
			fprintf(stderr,
				"--macaddress: \"%s\" is not six hexadecimal bytes with ':' between them\n",
				text);
			return -EINVAL;
		}
		ret_mac->ether_addr_octet[i] = (uint8_t)byte;
		p = end + 1;
	}
	if (ret_mac->ether_addr_octet[0] & 1) {
		fprintf(stderr, "--macaddress: %s is a group address; an interface cannot have it\n", text);
		return -EINVAL;
	}
	return 0;
}

static bool address_is(const struct sockaddr *have, int family, const void *wanted)
{
	if (!have || have->sa_family != family)
		return false;
	if (family == AF_INET)
		return memcmp(&((const struct sockaddr_in *)(const void *)have)->sin_addr, wanted,
			       sizeof(struct in_addr)) == 0;
	return memcmp(&((const struct sockaddr_in6 *)(const void *)have)->sin6_addr, wanted,
		       sizeof(struct in6_addr)) == 0;
}

static void copy_address(const struct sockaddr *from, int family, void *to)
{
	if (family == AF_INET)
		memcpy(to, &((const struct sockaddr_in *)(const void *)from)->sin_addr,
			sizeof(struct in_addr));
	else
		memcpy(to, &((const struct sockaddr_in6 *)(const void *)from)->sin6_addr,
			sizeof(struct in6_addr));
}

/*
 * An address literal, or an interface of that name whose first address of the family is taken, once (N-120). IPv6 addresses of
 * link scope are no source for the rest of the world and are passed over.
 */
static int resolve_outbound(const char *option, const char *text, int family, void *ret_addr)
{
	struct ifaddrs *list = NULL;
	bool literal = inet_pton(family, text, ret_addr) == 1, found = false;

	if (getifaddrs(&list) < 0)
		list = NULL;
	for (struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
		if (literal) {
			found = address_is(i->ifa_addr, family, ret_addr);
		} else if (i->ifa_addr && i->ifa_addr->sa_family == family &&
			   strcmp(i->ifa_name, text) == 0) {
			copy_address(i->ifa_addr, family, ret_addr);
			found = family == AF_INET || !IN6_IS_ADDR_LINKLOCAL((struct in6_addr *)ret_addr);
		}
	}
	freeifaddrs(list);
	if (literal && !found) /* N-121: accepted, but said */
		fprintf(stderr,
			"%s: no interface of this host has the address %s; outbound traffic will fail\n",
			option, text);
	if (!literal && !found) {
		fprintf(stderr, "%s: \"%s\" is neither an IPv%d address nor an interface that has one\n",
			option, text, family == AF_INET ? 4 : 6);
		return -EINVAL;
	}
	return 0;
}

static void fill_ipv6(AddressPlan *plan)
{
	inet_pton(AF_INET6, "fd00::", &plan->prefix6);
	inet_pton(AF_INET6, "fd00::2", &plan->gateway6);
	inet_pton(AF_INET6, "fd00::3", &plan->dns6);
	inet_pton(AF_INET6, "fe80::2", &plan->router6);
}

int address_plan_make(const Options *options, AddressPlan *ret_plan)
{
	AddressPlan plan = {0};

	if (parse_cidr(options->cidr, &plan) < 0)
		return -EINVAL;
	fill_ipv6(&plan);
	plan.gateway_mac.ether_addr_octet[0] = 0x52;
	plan.gateway_mac.ether_addr_octet[1] = 0x55;
	memcpy(&plan.gateway_mac.ether_addr_octet[2], &plan.gateway, sizeof(plan.gateway));

	plan.outbound.sin_family = AF_INET;
	plan.outbound6.sin6_family = AF_INET6;
	if (options->outbound_addr) {
		if (resolve_outbound(
			    "--outbound-addr", options->outbound_addr, AF_INET, &plan.outbound.sin_addr) < 0)
			return -EINVAL;
		plan.has_outbound = true;
	}
	if (options->outbound_addr6) {
		if (resolve_outbound("--outbound-addr6", options->outbound_addr6, AF_INET6,
			    &plan.outbound6.sin6_addr) < 0)
			return -EINVAL;
		plan.has_outbound6 = true;
	}
	if (options->macaddress) {
		if (parse_mac(options->macaddress, &plan.mac) < 0)
			return -EINVAL;
		plan.has_mac = true;
	}
	*ret_plan = plan;
	return 0;
}

struct in6_addr address_plan_guest6(const AddressPlan *plan, const struct ether_addr *mac)
{
	struct in6_addr addr = plan->prefix6;
	const uint8_t *m = mac->ether_addr_octet;
	const uint8_t id[8] = {(uint8_t)(m[0] ^ 2), m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]};

	memcpy(&addr.s6_addr[8], id, sizeof(id));
	return addr;
}
