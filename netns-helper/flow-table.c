#include "config.h"

#include "netns-helper/flow-table.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "netns-helper/checksum.h"

/* The parts of a frame that matter here; addresses by direction. */
typedef struct {
	struct in6_addr guest_addr, remote_addr;
	uint16_t guest_port, remote_port;
	uint8_t family, proto, tcp_flags;
	uint8_t guest_mac[ETH_ALEN];
	uint32_t seq, ack;
	size_t payload; /* bytes */
} Seen;

static bool parse_ports(Seen *seen, const uint8_t *l4, size_t size, bool from_guest)
{
	uint16_t source, dest;

	if (size < 4)
		return false;
	memcpy(&source, l4, sizeof(source));
	memcpy(&dest, l4 + 2, sizeof(dest));
	seen->guest_port = ntohs(from_guest ? source : dest);
	seen->remote_port = ntohs(from_guest ? dest : source);
	return true;
}

static bool parse_transport(Seen *seen, const uint8_t *l4, size_t size, bool from_guest)
{
	struct tcphdr tcp;

	if (!parse_ports(seen, l4, size, from_guest))
		return false;
	if (seen->proto == IPPROTO_UDP) {
		if (size < sizeof(struct udphdr))
			return false;
		seen->payload = size - sizeof(struct udphdr);
		return true;
	}
	if (size < sizeof(tcp))
		return false;
	memcpy(&tcp, l4, sizeof(tcp));
	if (tcp.th_off < 5 || tcp.th_off * 4U > size)
		return false;
	seen->tcp_flags = tcp.th_flags;
	seen->seq = ntohl(tcp.th_seq);
	seen->ack = ntohl(tcp.th_ack);
	seen->payload = size - tcp.th_off * 4U;
	return true;
}

static void set_addresses(Seen *seen, const void *source, const void *dest, size_t size, bool from_guest)
{
	memcpy(&seen->guest_addr, from_guest ? source : dest, size);
	memcpy(&seen->remote_addr, from_guest ? dest : source, size);
}

static bool parse_ipv4(Seen *seen, const uint8_t *packet, size_t size, bool from_guest)
{
	struct ip ip;
	size_t header, total;

	if (size < sizeof(ip))
		return false;
	memcpy(&ip, packet, sizeof(ip));
	header = ip.ip_hl * 4U;
	total = ntohs(ip.ip_len);
	if (ip.ip_v != 4 || header < sizeof(ip) || total < header || total > size)
		return false;
	if (ip.ip_p != IPPROTO_TCP && ip.ip_p != IPPROTO_UDP)
		return false;
	if (ntohs(ip.ip_off) & (IP_OFFMASK | IP_MF)) /* fragments carry no complete header or length */
		return false;
	seen->family = AF_INET;
	seen->proto = ip.ip_p;
	set_addresses(seen, &ip.ip_src, &ip.ip_dst, sizeof(ip.ip_src), from_guest);
	return parse_transport(seen, packet + header, total - header, from_guest);
}

static bool parse_ipv6(Seen *seen, const uint8_t *packet, size_t size, bool from_guest)
{
	struct ip6_hdr ip;
	size_t payload;

	if (size < sizeof(ip))
		return false;
	memcpy(&ip, packet, sizeof(ip));
	payload = ntohs(ip.ip6_plen);
	if ((ip.ip6_vfc >> 4) != 6 || payload > size - sizeof(ip))
		return false;
	if (ip.ip6_nxt != IPPROTO_TCP && ip.ip6_nxt != IPPROTO_UDP)
		return false;
	seen->family = AF_INET6;
	seen->proto = ip.ip6_nxt;
	set_addresses(seen, &ip.ip6_src, &ip.ip6_dst, sizeof(ip.ip6_src), from_guest);
	return parse_transport(seen, packet + sizeof(ip), payload, from_guest);
}

static bool parse_frame(Seen *seen, const uint8_t *frame, size_t size, bool from_guest)
{
	uint16_t type;

	if (size < ETH_HLEN)
		return false;
	memcpy(&type, frame + 2 * ETH_ALEN, sizeof(type));
	memset(seen, 0, sizeof(*seen));
	memcpy(seen->guest_mac, frame + (from_guest ? ETH_ALEN : 0), ETH_ALEN);
	if (type == htons(ETHERTYPE_IP))
		return parse_ipv4(seen, frame + ETH_HLEN, size - ETH_HLEN, from_guest);
	if (type == htons(ETHERTYPE_IPV6))
		return parse_ipv6(seen, frame + ETH_HLEN, size - ETH_HLEN, from_guest);
	return false;
}

static size_t hash_of(const Seen *seen)
{
	uint32_t words[9];
	uint32_t hash = 0x811c9dc5U ^ seen->proto ^ (uint32_t)seen->family << 8;

	memcpy(&words[0], &seen->guest_addr, 16);
	memcpy(&words[4], &seen->remote_addr, 16);
	words[8] = (uint32_t)seen->guest_port << 16 | seen->remote_port;
	for (size_t i = 0; i < 9; i++) {
		hash = (hash ^ words[i]) * 0x9e3779b1U;
		hash ^= hash >> 15;
	}
	return hash % FLOW_SETS;
}

static bool is_same(const Flow *flow, const Seen *seen)
{
	return flow->flags && flow->guest_port == seen->guest_port &&
	       flow->remote_port == seen->remote_port && flow->proto == seen->proto &&
	       flow->family == seen->family &&
	       memcmp(&flow->remote_addr, &seen->remote_addr, sizeof(flow->remote_addr)) == 0 &&
	       memcmp(&flow->guest_addr, &seen->guest_addr, sizeof(flow->guest_addr)) == 0;
}

static void flow_drop(FlowTable *table, Flow *flow)
{
	if (!flow->flags)
		return;
	flow->flags = 0;
	if (table->used)
		table->used--;
}

static bool is_closed(const Flow *flow)
{
	return (flow->flags & FLOW_GUEST_FIN) && (flow->flags & FLOW_REMOTE_FIN);
}

static bool is_over(const Flow *flow, uint64_t now_ms)
{
	uint64_t idle = now_ms - flow->last_ms;

	if (flow->proto == IPPROTO_UDP)
		return idle > FLOW_UDP_IDLE_MS;
	if (is_closed(flow))
		return idle > FLOW_TCP_LINGER_MS;
	/* Refused by an ICMP error, or silence to the end: no segment tells. */
	return !(flow->flags & FLOW_ESTABLISHED) && idle > FLOW_TCP_CONNECT_MS;
}

/* A free entry of the set, or one that is over, or the oldest that lingers, or none: live flows are not evicted. */
static Flow *find_room(FlowTable *table, Flow *set, uint64_t now_ms)
{
	Flow *oldest = NULL;

	for (size_t i = 0; i < FLOW_WAYS; i++) {
		if (!set[i].flags)
			return &set[i];
		if ((is_over(&set[i], now_ms) || is_closed(&set[i])) && (!oldest || set[i].last_ms < oldest->last_ms))
			oldest = &set[i];
	}
	if (oldest)
		flow_drop(table, oldest);
	else
		table->overflowed++;
	return oldest;
}

static Flow *flow_add(FlowTable *table, const Seen *seen, bool from_guest, uint64_t now_ms)
{
	size_t set = hash_of(seen);
	Flow *flow = find_room(table, table->entries[set], now_ms);
	uint16_t flags = FLOW_USED;

	if (!flow)
		return NULL;
	table->touched[set / 64] |= 1ULL << set % 64;
	memset(flow, 0, sizeof(*flow));
	flow->guest_addr = seen->guest_addr;
	flow->remote_addr = seen->remote_addr;
	flow->guest_port = seen->guest_port;
	flow->remote_port = seen->remote_port;
	flow->family = seen->family;
	flow->proto = seen->proto;
	memcpy(flow->guest_mac, seen->guest_mac, ETH_ALEN);
	flow->started_ms = flow->last_ms = now_ms;
	flow->ack = from_guest ? 0 : seen->ack;
	flow->seq = from_guest ? seen->ack : seen->seq;
	if (!from_guest && (seen->proto == IPPROTO_UDP || (seen->tcp_flags & (TH_SYN | TH_ACK)) == TH_SYN))
		flags |= FLOW_INBOUND;
	if (seen->proto == IPPROTO_TCP && !(seen->tcp_flags & TH_SYN))
		flags |= FLOW_ESTABLISHED; /* met half-way */
	__atomic_store_n(&flow->flags, flags, __ATOMIC_RELEASE);
	if (++table->used > table->peak)
		table->peak = table->used;
	return flow;
}

static void see_tcp(FlowTable *table, Flow *flow, const Seen *seen, bool from_guest)
{
	uint8_t flags = seen->tcp_flags;

	if (flags & TH_RST) {
		flow_drop(table, flow);
		return;
	}
	if ((flags & (TH_SYN | TH_ACK)) == (TH_SYN | TH_ACK))
		flow->flags |= FLOW_ESTABLISHED;
	if (flags & TH_FIN)
		flow->flags |= from_guest ? FLOW_GUEST_FIN : FLOW_REMOTE_FIN;
	if (from_guest) {
		flow->probes = 0;
		return;
	}
	uint32_t next = seen->seq + (uint32_t)seen->payload + !!(flags & TH_SYN) + !!(flags & TH_FIN);

	if ((int32_t)(next - flow->seq) > 0 || (flags & TH_SYN))
		flow->seq = next;
	if (flags & TH_ACK)
		flow->ack = seen->ack;
}

static Flow *find_same(FlowTable *table, const Seen *seen)
{
	Flow *set = table->entries[hash_of(seen)];

	for (size_t i = 0; i < FLOW_WAYS; i++)
		if (is_same(&set[i], seen))
			return &set[i];
	return NULL;
}

Flow *flow_table_find(FlowTable *table, const uint8_t *frame, size_t size, bool from_guest)
{
	Seen seen;

	return parse_frame(&seen, frame, size, from_guest) ? find_same(table, &seen) : NULL;
}

/*
 * Whether a frame that belongs to no entry makes one. A connection that had no room when it began gets one with its next data; not with
 * the last words of one that has had its time, or there would be entries that nothing ends.
 */
static bool begins_flow(const Seen *seen, bool opens)
{
	if (seen->proto != IPPROTO_TCP || opens)
		return true;
	return seen->payload > 0 && !(seen->tcp_flags & (TH_FIN | TH_RST));
}

bool flow_table_see(FlowTable *table, const uint8_t *frame, size_t size, bool from_guest, uint64_t now_ms)
{
	Seen seen;
	Flow *flow;
	bool opens, is_new = false;

	if (!parse_frame(&seen, frame, size, from_guest))
		return false;
	flow = find_same(table, &seen);
	opens = seen.proto == IPPROTO_TCP && (seen.tcp_flags & (TH_SYN | TH_ACK)) == TH_SYN;
	if (flow && opens && (flow->flags & FLOW_ESTABLISHED)) {
		flow_drop(table, flow); /* the ports are used again */
		flow = NULL;
	}
	if (!flow) {
		if (!begins_flow(&seen, opens))
			return false;
		flow = flow_add(table, &seen, from_guest, now_ms);
		if (!flow)
			return false;
		is_new = true;
	}
	if (from_guest)
		flow->bytes_out += seen.payload;
	else
		flow->bytes_in += seen.payload;
	flow->last_ms = now_ms;
	if (seen.proto == IPPROTO_TCP)
		see_tcp(table, flow, &seen, from_guest);
	return is_new;
}

size_t flow_table_expire(FlowTable *table, uint64_t now_ms)
{
	size_t used = 0;
	Flow *flow;

	if (table->used == 0)
		return 0; /* do not touch the pages */
	for (size_t i = 0; (flow = flow_table_next(table, &i));) {
		if (is_over(flow, now_ms))
			flow_drop(table, flow);
		else
			used++;
	}
	table->used = (uint32_t)used;
	return used;
}

void flow_table_give_back(FlowTable *table)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t first = ((uintptr_t)table->entries + page - 1) / page * page;
	uintptr_t end = ((uintptr_t)table->entries + sizeof(table->entries)) / page * page;

	if (table->used)
		return;
	/* Every entry is free, which is what pages that nobody has touched say too. */
	if (end > first && madvise((void *)first, end - first, MADV_REMOVE) ==
				   0) /* EINVAL: not shared memory (a test) */
		memset(table->touched, 0, sizeof(table->touched));
}

Flow *flow_table_next(FlowTable *table, size_t *iter)
{
	while (*iter < (size_t)FLOW_SETS * FLOW_WAYS) {
		size_t set = *iter / FLOW_WAYS;
		Flow *flow = &table->entries[set][*iter % FLOW_WAYS];

		if (!(table->touched[set / 64] & 1ULL << set % 64)) {
			*iter = (set + 1) * FLOW_WAYS;
			continue;
		}
		(*iter)++;
		if (flow->flags)
			return flow;
	}
	return NULL;
}

/* @p size: of what follows the header */
static size_t put_ip_header(const Flow *flow, size_t size, uint8_t *packet)
{
	if (flow->family == AF_INET) {
		struct ip ip = {
			.ip_v = 4,
			.ip_hl = 5,
			.ip_len = htons((uint16_t)(sizeof(ip) + size)),
			.ip_ttl = 64,
			.ip_p = IPPROTO_TCP,
		};

		memcpy(&ip.ip_src, &flow->remote_addr, sizeof(ip.ip_src));
		memcpy(&ip.ip_dst, &flow->guest_addr, sizeof(ip.ip_dst));
		ip.ip_sum = checksum_fold(checksum_add(&ip, sizeof(ip), 0));
		memcpy(packet, &ip, sizeof(ip));
		return sizeof(ip);
	}
	struct ip6_hdr ip6 = {0};

	ip6.ip6_vfc = 6 << 4;
	ip6.ip6_plen = htons((uint16_t)size);
	ip6.ip6_nxt = IPPROTO_TCP;
	ip6.ip6_hlim = 64;
	ip6.ip6_src = flow->remote_addr;
	ip6.ip6_dst = flow->guest_addr;
	memcpy(packet, &ip6, sizeof(ip6));
	return sizeof(ip6);
}

/* A segment from the remote side of @p flow, with @p n_zeros bytes of data. */
static size_t make_segment(const Flow *flow, const uint8_t *dst_mac, const uint8_t *src_mac, struct tcphdr *tcp,
	size_t n_zeros, uint8_t *buf)
{
	size_t addr_size = flow->family == AF_INET ? 4 : 16, size;
	uint16_t type = htons(flow->family == AF_INET ? ETHERTYPE_IP : ETHERTYPE_IPV6);
	size_t tcp_size = sizeof(*tcp) + n_zeros;
	uint32_t sum = IPPROTO_TCP + (uint32_t)tcp_size;

	tcp->th_sport = htons(flow->remote_port);
	tcp->th_dport = htons(flow->guest_port);
	tcp->th_off = 5;
	sum = checksum_add(&flow->remote_addr, addr_size, sum);
	sum = checksum_add(&flow->guest_addr, addr_size, sum);
	tcp->th_sum = checksum_fold(checksum_add(tcp, sizeof(*tcp), sum));

	memcpy(buf, dst_mac, ETH_ALEN);
	memcpy(buf + ETH_ALEN, src_mac, ETH_ALEN);
	memcpy(buf + 2 * ETH_ALEN, &type, sizeof(type));
	size = ETH_HLEN;
	size += put_ip_header(flow, tcp_size, buf + size);
	memcpy(buf + size, tcp, sizeof(*tcp));
	memset(buf + size + sizeof(*tcp), 0, n_zeros);
	return size + tcp_size;
}

static size_t make_ack(const Flow *flow, const uint8_t *our_mac, uint32_t seq, size_t n_zeros, uint8_t *buf)
{
	struct tcphdr tcp = {
		.th_seq = htonl(seq),
		.th_ack = htonl(flow->ack),
		.th_flags = TH_ACK,
		.th_win = htons(65535),
	};

	return make_segment(flow, flow->guest_mac, our_mac, &tcp, n_zeros, buf);
}

size_t flow_frame_ack(const Flow *flow, const uint8_t *our_mac, uint32_t seq, uint8_t *buf)
{
	return make_ack(flow, our_mac, seq, 0, buf);
}

size_t flow_frame_question(const Flow *flow, const uint8_t *our_mac, uint8_t *buf)
{
	return make_ack(flow, our_mac, flow->seq - 0x40000000U, 1, buf);
}

size_t flow_frame_reset(const Flow *flow, const uint8_t *our_mac, uint8_t *buf)
{
	struct tcphdr tcp = {.th_seq = htonl(flow->ack), .th_flags = TH_RST};
	Flow mirrored = *flow;

	mirrored.guest_addr = flow->remote_addr;
	mirrored.remote_addr = flow->guest_addr;
	mirrored.guest_port = flow->remote_port;
	mirrored.remote_port = flow->guest_port;
	return make_segment(&mirrored, our_mac, flow->guest_mac, &tcp, 0, buf);
}
