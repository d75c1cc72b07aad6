#include "config.h"

#include "netns-helper/gate-frame.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

#define QUOTE_MAX                                                                                            \
	96 /* bytes of the offending packet in an ICMP error; holds any IPv4 header and 8 bytes, or IPv6 and TCP headers */
#define ANSWER_TTL 64
#define HEADERS_MAX (ETH_HLEN + 60 + 60) /* bytes: IPv4 and TCP with all the options that fit */
#define TCP_CWR 0x80

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

/* One's complement sum of RFC 1071, without the final complement. */
static uint32_t sum_add(uint32_t sum, const uint8_t *p, size_t size)
{
	uint64_t wide = sum;

	for (; size > 1; p += 2, size -= 2)
		wide += get16(p);
	if (size)
		wide += (uint32_t)*p << 8;
	while (wide >> 16)
		wide = (wide & 0xffff) + (wide >> 16);
	return (uint32_t)wide;
}

static uint16_t sum_end(uint32_t sum)
{
	return (uint16_t)~sum;
}

static bool parse_tcp_header(const uint8_t *frame, GateTcp *ret)
{
	const uint8_t *tcp = frame + ret->l4;
	size_t end = ETH_HLEN + ret->l3_size, header;

	if (ret->l4 + sizeof(struct tcphdr) > end)
		return false;
	header = (size_t)(tcp[12] >> 4) * 4;
	if (header < sizeof(struct tcphdr) || ret->l4 + header > end)
		return false;
	ret->src.port = get16(tcp);
	ret->dst.port = get16(tcp + 2);
	ret->seq = get32(tcp + 4);
	ret->flags = tcp[13];
	ret->payload = end - ret->l4 - header;
	return true;
}

static bool parse4(const uint8_t *frame, size_t size, GateTcp *ret)
{
	const uint8_t *ip = frame + ETH_HLEN;
	struct in_addr src, dst;
	size_t header;

	if (size < ETH_HLEN + sizeof(struct iphdr) || ip[0] >> 4 != 4 || ip[9] != IPPROTO_TCP)
		return false;
	header = (size_t)(ip[0] & 15) * 4;
	ret->l3_size = get16(ip + 2);
	if (header < sizeof(struct iphdr) || ret->l3_size < header || ETH_HLEN + ret->l3_size > size)
		return false;
	if (get16(ip + 6) & (IP_MF | IP_OFFMASK))
		return false;
	memcpy(&src, ip + 12, sizeof(src));
	memcpy(&dst, ip + 16, sizeof(dst));
	ret->src = splice_addr_from_v4(src, 0);
	ret->dst = splice_addr_from_v4(dst, 0);
	ret->l4 = ETH_HLEN + header;
	return parse_tcp_header(frame, ret);
}

static bool parse6(const uint8_t *frame, size_t size, GateTcp *ret)
{
	const uint8_t *ip = frame + ETH_HLEN;

	if (size < ETH_HLEN + sizeof(struct ip6_hdr) || ip[0] >> 4 != 6 || ip[6] != IPPROTO_TCP)
		return false;
	ret->l3_size = sizeof(struct ip6_hdr) + get16(ip + 4);
	if (ETH_HLEN + ret->l3_size > size)
		return false;
	memset(&ret->src, 0, sizeof(ret->src));
	memset(&ret->dst, 0, sizeof(ret->dst));
	memcpy(&ret->src.ip, ip + 8, sizeof(ret->src.ip));
	memcpy(&ret->dst.ip, ip + 24, sizeof(ret->dst.ip));
	/* On the wire such addresses are forgeries, and here they would pass for IPv4. */
	if (IN6_IS_ADDR_V4MAPPED(&ret->src.ip) || IN6_IS_ADDR_V4MAPPED(&ret->dst.ip))
		return false;
	ret->l4 = ETH_HLEN + sizeof(struct ip6_hdr);
	return parse_tcp_header(frame, ret);
}

bool gate_frame_is_tcp(const uint8_t *frame, size_t size, GateTcp *ret)
{
	if (size < ETH_HLEN)
		return false;
	switch (get16(frame + 12)) {
	case ETHERTYPE_IP:
		return parse4(frame, size, ret);
	case ETHERTYPE_IPV6:
		return parse6(frame, size, ret);
	default:
		return false;
	}
}

/* Extension headers of RFC 8200 that may stand in front of TCP; @return the protocol behind them */
static uint8_t skip_extensions(const uint8_t *frame, size_t size)
{
	uint8_t next = frame[ETH_HLEN + 6];
	size_t at = ETH_HLEN + sizeof(struct ip6_hdr);

	while (at + 8 <= size && (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING ||
					 next == IPPROTO_DSTOPTS || next == IPPROTO_FRAGMENT)) {
		size_t length = next == IPPROTO_FRAGMENT ? 8 : ((size_t)frame[at + 1] + 1) * 8;

		next = frame[at];
		at += length;
	}
	return next;
}

bool gate_frame_has_tcp(const uint8_t *frame, size_t size)
{
	if (size < ETH_HLEN + sizeof(struct iphdr))
		return false;
	if (get16(frame + 12) == ETHERTYPE_IP)
		return frame[ETH_HLEN + 9] == IPPROTO_TCP;
	return get16(frame + 12) == ETHERTYPE_IPV6 && size >= ETH_HLEN + sizeof(struct ip6_hdr) &&
	       skip_extensions(frame, size) == IPPROTO_TCP;
}

int gate_frame_complete_checksum(uint8_t *frame, size_t size, const struct virtio_net_hdr *vnet)
{
	size_t start = vnet->csum_start, at = start + vnet->csum_offset;
	uint16_t sum;

	if (!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return 0;
	if (start < ETH_HLEN || at + 2 > size)
		return -EBADMSG;
	/* The field holds the sum of the pseudo header; it is part of what is summed. */
	sum = sum_end(sum_add(0, frame + start, size - start));
	if (sum == 0 && vnet->csum_offset == offsetof(struct udphdr, check))
		sum = 0xffff;
	put16(frame + at, sum);
	return 0;
}

static uint32_t pseudo_header(const uint8_t *ip, uint8_t protocol, size_t l4_size)
{
	uint8_t tail[4] = {0, protocol, (uint8_t)(l4_size >> 8), (uint8_t)l4_size};
	uint32_t sum = sum_add(0, tail, sizeof(tail));

	return ip[0] >> 4 == 4 ? sum_add(sum, ip + 12, 8) : sum_add(sum, ip + 8, 32);
}

static size_t ip_header_size(const uint8_t *ip)
{
	return ip[0] >> 4 == 4 ? (size_t)(ip[0] & 15) * 4 : sizeof(struct ip6_hdr);
}

/* Lengths and checksum of the IP header in front of @p l4_size bytes. */
static void finish_ip(uint8_t *ip, size_t l4_size)
{
	size_t header = ip_header_size(ip);

	if (ip[0] >> 4 == 6) {
		put16(ip + 4, (uint32_t)l4_size);
		return;
	}
	put16(ip + 2, (uint32_t)(header + l4_size));
	put16(ip + 10, 0);
	put16(ip + 10, sum_end(sum_add(0, ip, header)));
}

static void finish_udp(uint8_t *ip, uint8_t *udp, size_t l4_size)
{
	uint16_t sum;

	finish_ip(ip, l4_size);
	put16(udp + 4, (uint32_t)l4_size);
	put16(udp + 6, 0);
	sum = sum_end(sum_add(pseudo_header(ip, IPPROTO_UDP, l4_size), udp, l4_size));
	put16(udp + 6, sum ? sum : 0xffff);
}

static void finish_tcp(uint8_t *ip, uint8_t *tcp, size_t l4_size)
{
	finish_ip(ip, l4_size);
	put16(tcp + 16, 0);
	put16(tcp + 16, sum_end(sum_add(pseudo_header(ip, IPPROTO_TCP, l4_size), tcp, l4_size)));
}

/* @return offset of the header behind IP, which is of @p protocol; 0: the frame is something else */
static size_t find_l4(const uint8_t *frame, size_t size, uint8_t protocol)
{
	const uint8_t *ip = frame + ETH_HLEN;

	if (size < ETH_HLEN + sizeof(struct iphdr))
		return 0;
	if (ip[0] >> 4 == 4)
		return ip[9] == protocol && ip_header_size(ip) >= sizeof(struct iphdr) ? ETH_HLEN + ip_header_size(ip) : 0;
	return ip[0] >> 4 == 6 && ip[6] == protocol ? ETH_HLEN + sizeof(struct ip6_hdr) : 0;
}

int gate_frame_segment_udp(uint8_t *frame, size_t size, size_t gso_size, GateFrameFn fn, void *data)
{
	size_t l4 = find_l4(frame, size, IPPROTO_UDP), headers = l4 + sizeof(struct udphdr), left;

	if (l4 == 0 || headers > size || gso_size == 0)
		return -EBADMSG;
	left = size - headers;
	/* Each datagram's headers are written over the end of the one before, which has been passed on by then. */
	while (left > 0) {
		size_t n = left < gso_size ? left : gso_size;
		uint8_t saved[HEADERS_MAX];

		finish_udp(frame + ETH_HLEN, frame + l4, sizeof(struct udphdr) + n);
		memcpy(saved, frame, headers);
		fn(data, frame, headers + n);
		left -= n;
		frame += n;
		memcpy(frame, saved, headers);
	}
	return 0;
}

int gate_frame_segment_tcp(uint8_t *frame, size_t size, size_t gso_size, GateFrameFn fn, void *data)
{
	size_t l4 = find_l4(frame, size, IPPROTO_TCP), headers, left;
	uint8_t flags;

	if (l4 == 0 || l4 + sizeof(struct tcphdr) > size || gso_size == 0)
		return -EBADMSG;
	headers = l4 + (size_t)(frame[l4 + 12] >> 4) * 4;
	if (headers < l4 + sizeof(struct tcphdr) || headers > size)
		return -EBADMSG;
	left = size - headers;
	flags = frame[l4 + 13];
	while (left > 0) {
		size_t n = left < gso_size ? left : gso_size;
		uint8_t saved[HEADERS_MAX];

		/* The end of the stream and the push belong to the last, the answer to congestion (RFC 3168) to the first. */
		frame[l4 + 13] = left > n ? flags & (uint8_t)~(TH_FIN | TH_PUSH) : flags;
		flags &= (uint8_t)~TCP_CWR;
		finish_tcp(frame + ETH_HLEN, frame + l4, headers - l4 + n);
		memcpy(saved, frame, headers);
		fn(data, frame, headers + n);
		left -= n;
		frame += n;
		memcpy(frame, saved, headers);
		put32(frame + l4 + 4, get32(frame + l4 + 4) + (uint32_t)n);
	}
	return 0;
}

/* Ethernet and IP headers of an answer: everything turned round. */
static uint8_t *begin_answer(
	const uint8_t *frame, uint8_t protocol, const struct in6_addr *from, uint8_t *buf)
{
	const uint8_t *ip = frame + ETH_HLEN;
	uint8_t *out = buf + ETH_HLEN;

	memcpy(buf, frame + ETH_ALEN, ETH_ALEN);
	memcpy(buf + ETH_ALEN, frame, ETH_ALEN);
	memcpy(buf + 2 * ETH_ALEN, frame + 2 * ETH_ALEN, 2);
	if (ip[0] >> 4 == 4) {
		memset(out, 0, sizeof(struct iphdr));
		out[0] = 0x45;
		out[6] = IP_DF >> 8;
		out[8] = ANSWER_TTL;
		out[9] = protocol;
		memcpy(out + 12, from ? &from->s6_addr[12] : ip + 16, 4);
		memcpy(out + 16, ip + 12, 4);
		return out + sizeof(struct iphdr);
	}
	memset(out, 0, sizeof(struct ip6_hdr));
	out[0] = 0x60;
	out[6] = protocol;
	out[7] = ANSWER_TTL;
	memcpy(out + 8, from ? from->s6_addr : ip + 24, 16);
	memcpy(out + 24, ip + 8, 16);
	return out + sizeof(struct ip6_hdr);
}

static size_t end_answer(uint8_t *buf, uint8_t *l4, size_t l4_size, size_t checksum, uint8_t pseudo_protocol)
{
	uint8_t *ip = buf + ETH_HLEN;
	uint32_t sum = pseudo_protocol ? pseudo_header(ip, pseudo_protocol, l4_size) : 0;

	put16(l4 + checksum, sum_end(sum_add(sum, l4, l4_size)));
	finish_ip(ip, l4_size);
	return (size_t)(l4 - buf) + l4_size;
}

size_t gate_frame_refuse(const uint8_t *frame, const GateTcp *tcp, uint8_t *buf)
{
	uint8_t *out = begin_answer(frame, IPPROTO_TCP, NULL, buf);

	memset(out, 0, sizeof(struct tcphdr));
	put16(out, tcp->dst.port);
	put16(out + 2, tcp->src.port);
	put32(out + 8, tcp->seq + 1 + (uint32_t)tcp->payload);
	out[12] = sizeof(struct tcphdr) / 4 << 4;
	out[13] = GATE_TCP_RST | GATE_TCP_ACK;
	return end_answer(buf, out, sizeof(struct tcphdr), 16, IPPROTO_TCP);
}

size_t gate_frame_unreachable(
	const uint8_t *frame, const GateTcp *tcp, bool host, const struct in6_addr *from, uint8_t *buf)
{
	bool v4 = frame[ETH_HLEN] >> 4 == 4;
	uint8_t *out = begin_answer(frame, v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, from, buf);
	size_t quote = tcp->l3_size < QUOTE_MAX ? tcp->l3_size : QUOTE_MAX;

	memset(out, 0, sizeof(struct icmphdr));
	if (v4) {
		out[0] = ICMP_DEST_UNREACH;
		out[1] = host ? ICMP_HOST_UNREACH : ICMP_NET_UNREACH;
	} else {
		out[0] = ICMP6_DST_UNREACH;
		out[1] = host ? ICMP6_DST_UNREACH_ADDR : ICMP6_DST_UNREACH_NOROUTE;
	}
	memcpy(out + sizeof(struct icmphdr), frame + ETH_HLEN, quote);
	return end_answer(buf, out, sizeof(struct icmphdr) + quote, 2, v4 ? 0 : IPPROTO_ICMPV6);
}
