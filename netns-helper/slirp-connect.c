/*
 * Connections of the guest that the host cannot make: what the guest is told (N-106, N-107).
 *
 * libslirp 4.7 knows two answers to a connect() that fails late: a reset (which reads "refused") for a refusal, and for all else a FIN,
 * which a guest that is still connecting ignores for two minutes. And it resets what has not answered for 75 seconds. Better:
 * an unreachable host is reported as such, by ICMP, and silence stays silence, until the guest's own patience ends.
 */
#include "config.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "netns-helper/checksum.h"
#include "netns-helper/slirp-private.h"

#define CONNECTING_MAX 1024 /* at once; more get libslirp's answers */
#define STACK_PATIENCE_MS 70000 /* a reset after this is libslirp's own impatience (75 s) */
#define ERROR_FRAME_MAX (ETH_HLEN + sizeof(struct ip6_hdr) + 8 + SYN_KEPT_MAX)

static size_t find(const SlirpEngine *engine, int fd)
{
	for (size_t i = 0; i < engine->n_connecting; i++)
		if (engine->connecting[i].fd == fd)
			return i;
	return engine->n_connecting;
}

static void forget(SlirpEngine *engine, size_t i)
{
	if (i < engine->n_connecting)
		engine->connecting[i] = engine->connecting[--engine->n_connecting];
}

/* The part of a SYN that is needed for answers. */
static void keep_syn(Connecting *entry, const uint8_t *frame, size_t size)
{
	entry->size = size < SYN_KEPT_MAX ? size : SYN_KEPT_MAX;
	memcpy(entry->syn, frame, entry->size);
}

/* The SYN that is before the stack right now opened this socket. */
void slirp_connect_begin(SlirpEngine *engine, int fd)
{
	Connecting *entry;

	forget(engine, find(engine, fd)); /* an earlier socket of that number */
	if (!engine->syn || engine->n_connecting == CONNECTING_MAX)
		return;
	if (engine->n_connecting == engine->connecting_room) {
		engine->connecting_room = engine->connecting_room ? 2 * engine->connecting_room : 8;
		engine->connecting =
			realloc(engine->connecting, engine->connecting_room * sizeof(*engine->connecting));
		if (!engine->connecting)
			abort();
	}
	entry = &engine->connecting[engine->n_connecting++];
	entry->fd = fd;
	keep_syn(entry, engine->syn, engine->syn_size);
}

static size_t make_icmp4(
	const SlirpEngine *engine, const uint8_t *packet, size_t size, int error, uint8_t *out)
{
	struct ip inner, ip = {.ip_v = 4, .ip_hl = 5, .ip_ttl = 64, .ip_p = IPPROTO_ICMP};
	struct icmp icmp = {.icmp_type = ICMP_UNREACH};
	size_t quoted;

	memcpy(&inner, packet, sizeof(inner));
	quoted = inner.ip_hl * 4U + 8; /* RFC 792 */
	if (quoted > size)
		return 0;
	icmp.icmp_code = error == EHOSTUNREACH ? ICMP_UNREACH_HOST : ICMP_UNREACH_NET;
	icmp.icmp_cksum = checksum_fold(checksum_add(packet, quoted, checksum_add(&icmp, ICMP_MINLEN, 0)));
	ip.ip_len = htons((uint16_t)(sizeof(ip) + ICMP_MINLEN + quoted));
	ip.ip_src = engine->helper->plan->gateway;
	ip.ip_dst = inner.ip_src;
	ip.ip_sum = checksum_fold(checksum_add(&ip, sizeof(ip), 0));
	memcpy(out, &ip, sizeof(ip));
	memcpy(out + sizeof(ip), &icmp, ICMP_MINLEN);
	memcpy(out + sizeof(ip) + ICMP_MINLEN, packet, quoted);
	return sizeof(ip) + ICMP_MINLEN + quoted;
}

static size_t make_icmp6(
	const SlirpEngine *engine, const uint8_t *packet, size_t size, int error, uint8_t *out)
{
	struct ip6_hdr inner, ip = {0};
	struct icmp6_hdr icmp = {.icmp6_type = ICMP6_DST_UNREACH};
	uint32_t sum;

	memcpy(&inner, packet, sizeof(inner));
	icmp.icmp6_code = error == EHOSTUNREACH ? ICMP6_DST_UNREACH_ADDR : ICMP6_DST_UNREACH_NOROUTE;
	ip.ip6_vfc = 6 << 4;
	ip.ip6_plen = htons((uint16_t)(sizeof(icmp) + size));
	ip.ip6_nxt = IPPROTO_ICMPV6;
	ip.ip6_hlim = 64;
	ip.ip6_src = engine->helper->plan->gateway6;
	ip.ip6_dst = inner.ip6_src;
	sum = checksum_add(
		&ip.ip6_src, 2 * sizeof(ip.ip6_src), (uint32_t)(IPPROTO_ICMPV6 + sizeof(icmp) + size));
	icmp.icmp6_cksum = checksum_fold(checksum_add(packet, size, checksum_add(&icmp, sizeof(icmp), sum)));
	memcpy(out, &ip, sizeof(ip));
	memcpy(out + sizeof(ip), &icmp, sizeof(icmp));
	memcpy(out + sizeof(ip) + sizeof(icmp), packet, size);
	return sizeof(ip) + sizeof(icmp) + size;
}

/* RFC 792, RFC 4443: destination unreachable, about the SYN. */
static void tell_unreachable(SlirpEngine *engine, const Connecting *entry, int error)
{
	uint8_t frame[ERROR_FRAME_MAX];
	const uint8_t *packet = entry->syn + ETH_HLEN;
	size_t size = entry->size - ETH_HLEN, n;

	memcpy(frame, entry->syn + ETH_ALEN, ETH_ALEN);
	memcpy(frame + ETH_ALEN, engine->helper->plan->gateway_mac.ether_addr_octet, ETH_ALEN);
	memcpy(frame + 2 * ETH_ALEN, entry->syn + 2 * ETH_ALEN, 2);
	if (entry->syn[ETH_HLEN] >> 4 == 4)
		n = make_icmp4(engine, packet, size, error, frame + ETH_HLEN);
	else
		n = make_icmp6(engine, packet, size, error, frame + ETH_HLEN);
	if (n)
		(void)engine->io.write(engine->io.data, frame, ETH_HLEN + n);
}

void slirp_connect_refuse(SlirpEngine *engine, const uint8_t *frame, size_t size)
{
	Connecting refused = {.fd = -1};

	keep_syn(&refused, frame, size);
	tell_unreachable(engine, &refused, ENETUNREACH);
}

/* A socket that was connecting has something to say; it is asked before the stack asks it. */
void slirp_connect_check(SlirpEngine *engine, int fd)
{
	size_t i = find(engine, fd);
	int error = 0;
	socklen_t len = sizeof(error);
	Flow *flow;

	if (i == engine->n_connecting)
		return;
	/* This takes the error away; the stack then sees a socket that is not connected, and resets the guest. */
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error != 0 && error != ECONNREFUSED) {
		flow = flow_table_find(
			&engine->shared->flows, engine->connecting[i].syn, engine->connecting[i].size, true);
		if (flow)
			flow->flags |= FLOW_SILENT;
		if (error != ETIMEDOUT)
			tell_unreachable(engine, &engine->connecting[i], error);
	}
	forget(engine, i);
}

/* Whether this frame, a reset for the guest, is to be kept from it. */
bool slirp_connect_hides(SlirpEngine *engine, const uint8_t *frame, size_t size)
{
	const Flow *flow = flow_table_find(&engine->shared->flows, frame, size, false);

	if (!flow || (flow->flags & (FLOW_INBOUND | FLOW_ESTABLISHED)))
		return false;
	return (flow->flags & FLOW_SILENT) || engine->now_ms - flow->started_ms > STACK_PATIENCE_MS;
}
