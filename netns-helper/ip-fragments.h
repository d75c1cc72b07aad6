#pragma once
/*
 * Reassembly of IPv4 fragments from the guest (RFC 791, RFC 815), before libslirp sees them.
 *
 * A single fragment with an offset, written by hand, kills libslirp 4.7 by a wild write in its own reassembly. So it gets whole
 * datagrams only. Bounded: IP_FRAGMENTS_QUEUES datagrams at a time, the oldest makes room; each lives IP_FRAGMENTS_LIFE_MS. Fragments
 * that overlap end their datagram (as RFC 5722 has it for IPv6): no honest sender makes them.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IP_FRAGMENTS_QUEUES 16
#define IP_FRAGMENTS_LIFE_MS 30000
#define IP_FRAGMENTS_FRAME_MAX (14 + 65535) /* bytes: Ethernet header and the largest datagram */

typedef struct IpFragments IpFragments;

/** @return never NULL */
IpFragments *ip_fragments_new(void);
void ip_fragments_free(IpFragments *fragments);

/** Whether @p frame is an IPv4 fragment, or claims to be. */
bool ip_fragments_is_one(const uint8_t *frame, size_t size);

/**
 * Take one fragment.
 *
 * @param fragments  the queues
 * @param frame      Ethernet header and fragment
 * @param size       bytes of it
 * @param now_ms     monotonic time
 * @param ret_size   size of what is returned
 * @return the whole frame, valid until the next call, when this was the missing piece; otherwise NULL
 */
const uint8_t *ip_fragments_add(
	IpFragments *fragments, const uint8_t *frame, size_t size, uint64_t now_ms, size_t *ret_size);
