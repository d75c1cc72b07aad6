#include "config.h"

#include "netns-helper/ip-fragments.h"

#include <net/ethernet.h>
#include <netinet/ip.h>
#include <stdlib.h>
#include <string.h>

#include "netns-helper/checksum.h"

#define UNIT 8 /* bytes: offsets count in these */
#define UNITS_MAX (65536 / UNIT)
#define HEADER_MAX 60 /* bytes of an IPv4 header */
#define DATA_MAX (65535 - 20) /* payload of the largest datagram */

typedef struct {
	bool used;
	uint64_t since_ms;
	struct in_addr src, dst;
	uint16_t id;
	uint8_t proto;
	uint8_t header[ETH_HLEN + HEADER_MAX]; /* of the first fragment */
	size_t header_size; /* 0: it is still missing */
	size_t total; /* payload bytes; 0: the last fragment is still missing */
	size_t got; /* payload bytes so far */
	size_t end; /* where the farthest of them ends */
	uint8_t *data; /* grown as needed */
	size_t room;
	uint8_t units[UNITS_MAX / 8]; /* which are there */
} Queue;

struct IpFragments {
	Queue queues[IP_FRAGMENTS_QUEUES];
	uint8_t whole[IP_FRAGMENTS_FRAME_MAX];
};

/* One fragment, checked against the frame's size. */
typedef struct {
	struct ip ip;
	size_t header; /* bytes of the IP header */
	size_t offset, size; /* of its payload */
	bool more;
} Piece;

IpFragments *ip_fragments_new(void)
{
	IpFragments *fragments = calloc(1, sizeof(*fragments));

	if (!fragments)
		abort();
	return fragments;
}

static void drop(Queue *queue)
{
	free(queue->data);
	memset(queue, 0, sizeof(*queue));
}

void ip_fragments_free(IpFragments *fragments)
{
	if (!fragments)
		return;
	for (size_t i = 0; i < IP_FRAGMENTS_QUEUES; i++)
		drop(&fragments->queues[i]);
	free(fragments);
}

bool ip_fragments_is_one(const uint8_t *frame, size_t size)
{
	return size >= ETH_HLEN + 20 && checksum_get16(frame + 12) == ETHERTYPE_IP &&
	       (checksum_get16(frame + ETH_HLEN + 6) & (IP_MF | IP_OFFMASK));
}

static bool parse(const uint8_t *frame, size_t size, Piece *piece)
{
	size_t total;

	memcpy(&piece->ip, frame + ETH_HLEN, sizeof(piece->ip));
	piece->header = piece->ip.ip_hl * 4U;
	total = ntohs(piece->ip.ip_len);
	if (piece->ip.ip_v != 4 || piece->header < 20 || total <= piece->header || total > size - ETH_HLEN)
		return false;
	if (checksum_fold(checksum_add(frame + ETH_HLEN, piece->header, 0)) != 0)
		return false;
	piece->offset = (size_t)(ntohs(piece->ip.ip_off) & IP_OFFMASK) * UNIT;
	piece->more = ntohs(piece->ip.ip_off) & IP_MF;
	piece->size = total - piece->header;
	/* All but the last are whole units; nothing lies beyond the largest datagram. */
	return (!piece->more || piece->size % UNIT == 0) && piece->offset + piece->size <= DATA_MAX;
}

static bool is_of(const Queue *queue, const struct ip *ip)
{
	return queue->used && queue->id == ip->ip_id && queue->proto == ip->ip_p &&
	       queue->src.s_addr == ip->ip_src.s_addr && queue->dst.s_addr == ip->ip_dst.s_addr;
}

static Queue *find_or_make(IpFragments *fragments, const struct ip *ip, uint64_t now_ms)
{
	Queue *best = &fragments->queues[0];

	for (size_t i = 0; i < IP_FRAGMENTS_QUEUES; i++) {
		Queue *queue = &fragments->queues[i];

		if (queue->used && now_ms - queue->since_ms > IP_FRAGMENTS_LIFE_MS)
			drop(queue);
		if (is_of(queue, ip))
			return queue;
		if (best->used && (!queue->used || queue->since_ms < best->since_ms))
			best = queue;
	}
	drop(best);
	best->used = true;
	best->since_ms = now_ms;
	best->src = ip->ip_src;
	best->dst = ip->ip_dst;
	best->id = ip->ip_id;
	best->proto = ip->ip_p;
	return best;
}

/* Note the units of this piece. @return false if one of them is there already */
static bool claim_units(Queue *queue, size_t offset, size_t size)
{
	size_t first = offset / UNIT, last = (offset + size - 1) / UNIT;

	for (size_t i = first; i <= last; i++) {
		if (queue->units[i / 8] & 1 << i % 8)
			return false;
		queue->units[i / 8] |= (uint8_t)(1 << i % 8);
	}
	return true;
}

static void store(Queue *queue, const uint8_t *data, size_t offset, size_t size)
{
	if (offset + size > queue->room) {
		queue->room = offset + size > queue->room * 2 ? offset + size : queue->room * 2;
		queue->data = realloc(queue->data, queue->room);
		if (!queue->data)
			abort();
	}
	memcpy(queue->data + offset, data, size);
	queue->got += size;
}

static const uint8_t *assemble(IpFragments *fragments, Queue *queue, size_t *ret_size)
{
	uint8_t *ip = fragments->whole + ETH_HLEN;
	size_t header = queue->header_size - ETH_HLEN, total = header + queue->total;
	uint16_t sum;

	if (total > 65535)
		return NULL;
	memcpy(fragments->whole, queue->header, queue->header_size);
	memcpy(fragments->whole + queue->header_size, queue->data, queue->total);
	ip[2] = (uint8_t)(total >> 8);
	ip[3] = (uint8_t)total;
	memset(ip + 6, 0, 2); /* flags and offset */
	memset(ip + 10, 0, 2);
	sum = checksum_fold(checksum_add(ip, header, 0));
	memcpy(ip + 10, &sum, sizeof(sum));
	*ret_size = ETH_HLEN + total;
	return fragments->whole;
}

const uint8_t *ip_fragments_add(
	IpFragments *fragments, const uint8_t *frame, size_t size, uint64_t now_ms, size_t *ret_size)
{
	const uint8_t *whole;
	Queue *queue;
	Piece piece;

	if (!parse(frame, size, &piece))
		return NULL;
	queue = find_or_make(fragments, &piece.ip, now_ms);
	if (piece.offset + piece.size > queue->end)
		queue->end = piece.offset + piece.size;
	if (!piece.more && queue->total == 0)
		queue->total = piece.offset + piece.size;
	/* Overlap, a second last one, or something behind the last one: nobody honest. What is left covers every byte once it adds up. */
	if (!claim_units(queue, piece.offset, piece.size) || (queue->total && queue->end > queue->total)) {
		drop(queue);
		return NULL;
	}
	if (piece.offset == 0) {
		queue->header_size = ETH_HLEN + piece.header;
		memcpy(queue->header, frame, queue->header_size);
	}
	store(queue, frame + ETH_HLEN + piece.header, piece.offset, piece.size);
	if (!queue->header_size || !queue->total || queue->got != queue->total)
		return NULL;
	whole = assemble(fragments, queue, ret_size);
	drop(queue);
	return whole;
}
