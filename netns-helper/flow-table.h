#pragma once
/*
 * The TCP connections and UDP sessions that libslirp carries, as seen from the frames that pass. libslirp cannot be asked in a
 * form for machines, and after a worker's death it is gone: the table lives in shared memory, and tells the next worker
 * which connections the guest still believes in.
 */
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOW_WAYS 8 /* entries that a hash value can stand in */
#define FLOW_SETS 2048
#define FLOW_TCP_LINGER_MS 5000 /* a closed connection is listed no longer than this */
#define FLOW_TCP_CONNECT_MS 80000 /* nor one that has not come about: the stack gives up after 75 s, a guest's kernel repeats within 64 s */
#define FLOW_UDP_IDLE_MS 240000 /* libslirp's own limit (N-100) */

enum {
	FLOW_USED = 1 << 0,
	FLOW_INBOUND = 1 << 1, /* first packet came from the host side: a published port */
	FLOW_ESTABLISHED = 1 << 2, /* the guest has seen the handshake */
	FLOW_GUEST_FIN = 1 << 3,
	FLOW_REMOTE_FIN = 1 << 4,
	FLOW_SILENT = 1 << 5, /* connecting failed in a way that the stack's reset would misreport */
};

typedef struct {
	struct in6_addr guest_addr, remote_addr; /* IPv4 in the first four bytes */
	uint16_t guest_port, remote_port; /* host order */
	uint8_t family; /* AF_INET, AF_INET6 */
	uint8_t proto; /* IPPROTO_TCP, IPPROTO_UDP */
	uint16_t flags; /* FLOW_*; 0: free. Written last */
	uint32_t seq; /* TCP: next sequence number of the remote side, as sent to the guest */
	uint32_t ack; /* TCP: last acknowledgement sent to the guest */
	uint64_t bytes_out, bytes_in; /* payload from and to the guest */
	uint64_t started_ms, last_ms; /* monotonic */
	uint16_t probes; /* sent in vain since the guest's last frame */
	uint8_t guest_mac[6];
} Flow;

typedef struct {
	Flow entries[FLOW_SETS][FLOW_WAYS];
	uint64_t touched[FLOW_SETS /
			 64]; /* sets that were ever used: a walk leaves the pages of others alone */
	uint64_t overflowed; /* flows that found no room */
	uint32_t used; /* about how many are in use: may be off by one after a kill */
	uint32_t peak; /* highest number since memory was last given back; its reader sets it */
} FlowTable;

/**
 * Take note of one Ethernet frame; anything that is not TCP or UDP over IPv4 or IPv6, or is cut short, is passed over.
 *
 * @param table       the table
 * @param frame       Ethernet header and payload
 * @param size        bytes of it
 * @param from_guest  direction
 * @param now_ms      monotonic time
 * @return whether it is the first of a connection or session that is listed from now on
 */
bool flow_table_see(FlowTable *table, const uint8_t *frame, size_t size, bool from_guest, uint64_t now_ms);

/** The entry that this frame belongs to, or NULL. Parameters as for flow_table_see(). */
Flow *flow_table_find(FlowTable *table, const uint8_t *frame, size_t size, bool from_guest);

/** Drop what is over: closed, never established, or idle. @return number of entries still in use */
size_t flow_table_expire(FlowTable *table, uint64_t now_ms);

/** Return the memory of the entries to the system, if none is in use. */
void flow_table_give_back(FlowTable *table);

/** Walk: `for (size_t i = 0; (flow = flow_table_next(table, &i));)`. */
Flow *flow_table_next(FlowTable *table, size_t *iter);

#define FLOW_FRAME_MAX 128 /* room for flow_frame_ack() */

/**
 * Write a TCP segment without data from the remote side of @p flow to the guest: a bare ACK.
 *
 * @param flow     a TCP flow
 * @param our_mac  source
 * @param seq      sequence number
 * @param buf      FLOW_FRAME_MAX bytes of room
 * @return size of the frame
 */
size_t flow_frame_ack(const Flow *flow, const uint8_t *our_mac, uint32_t seq, uint8_t *buf);

/**
 * Likewise: what a guest answers by saying where it is, though it changes nothing: a segment far outside any window. It carries one byte,
 * because Linux answers bare ACKs of that kind only twice a second (tcp_invalid_ratelimit), and the one who asked before may have been killed.
 */
size_t flow_frame_question(const Flow *flow, const uint8_t *our_mac, uint8_t *buf);
/** Likewise: the reset by which the guest would end @p flow, had it not vanished. */
size_t flow_frame_reset(const Flow *flow, const uint8_t *our_mac, uint8_t *buf);
