#include "config.h"

#include "netns-helper/frame-filter.h"

#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <string.h>

bool frame_filter_is_own4(struct in_addr ip)
{
	uint32_t net = ntohl(ip.s_addr) >> 24;

	return net == 0 || net == 127;
}

bool frame_filter_is_own6(const struct in6_addr *ip)
{
	static const uint8_t zero[12];

	return memcmp(ip, zero, sizeof(zero)) == 0 || IN6_IS_ADDR_V4MAPPED(ip);
}

bool frame_filter_is_forged(const uint8_t *frame, size_t size)
{
	const uint8_t *ip;
	struct in6_addr dst6;
	struct in_addr dst;
	uint16_t type;

	if (size < sizeof(struct ether_header) + sizeof(struct iphdr))
		return false;
	ip = frame + sizeof(struct ether_header);
	type = (uint16_t)(frame[12] << 8 | frame[13]);
	if (type == ETHERTYPE_IP) {
		memcpy(&dst, ip + offsetof(struct iphdr, daddr), sizeof(dst));
		return frame_filter_is_own4(dst);
	}
	if (type == ETHERTYPE_IPV6 && size >= sizeof(struct ether_header) + sizeof(struct ip6_hdr)) {
		memcpy(&dst6, ip + offsetof(struct ip6_hdr, ip6_dst), sizeof(dst6));
		return frame_filter_is_own6(&dst6);
	}
	return false;
}
