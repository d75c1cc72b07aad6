#pragma once
/*
 * Ethernet frames of the guest: reading them, mending their checksums, and writing the few that answer a connection attempt. Everything here
 * works on foreign bytes: no length in a frame is believed before it was compared with what is there.
 */
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netns-helper/splice-table.h"

enum {
	GATE_TCP_SYN = 0x02,
	GATE_TCP_RST = 0x04,
	GATE_TCP_ACK = 0x10,
};

#define GATE_ANSWER_MAX 192 /* bytes: largest frame of gate_frame_refuse() and gate_frame_unreachable() */

typedef struct {
	SpliceAddr src, dst;
	uint32_t seq;
	uint8_t flags;
	size_t l3_size; /* bytes of the IP packet, from offset ETH_HLEN */
	size_t l4; /* offset of the TCP header in the frame */
	size_t payload; /* bytes behind the TCP header */
} GateTcp;

/**
 * Recognise an unfragmented TCP segment over IPv4 or IPv6 (without extension headers).
 *
 * @param frame  Ethernet header and payload
 * @param size   bytes of it
 * @param ret    filled if it is one
 */
bool gate_frame_is_tcp(const uint8_t *frame, size_t size, GateTcp *ret);

/** Whether the frame carries TCP at all, be it broken, a fragment, or behind an IPv6 extension header. */
bool gate_frame_has_tcp(const uint8_t *frame, size_t size);

/**
 * Complete a checksum that the sender left to hardware (VIRTIO_NET_HDR_F_NEEDS_CSUM).
 *
 * @return 0 or -EBADMSG: the header does not fit the frame
 */
int gate_frame_complete_checksum(uint8_t *frame, size_t size, const struct virtio_net_hdr *vnet);

/* Takes one finished frame. */
typedef void (*GateFrameFn)(void *data, const uint8_t *frame, size_t size);

/**
 * Cut a UDP frame that the sender left to hardware to segment (VIRTIO_NET_HDR_GSO_UDP_L4) into datagrams with complete checksums.
 *
 * @param frame    is modified
 * @param size     bytes of it
 * @param gso_size payload bytes of each datagram
 * @param fn       gets each
 * @param data     for @p fn
 * @return 0 or -EBADMSG
 */
int gate_frame_segment_udp(uint8_t *frame, size_t size, size_t gso_size, GateFrameFn fn, void *data);

/** The same for TCP (VIRTIO_NET_HDR_GSO_TCPV4, _TCPV6). */
int gate_frame_segment_tcp(uint8_t *frame, size_t size, size_t gso_size, GateFrameFn fn, void *data);

/**
 * Write the reset that refuses a connection.
 *
 * @param frame  the guest's first segment
 * @param tcp    what gate_frame_is_tcp() said of it
 * @param buf    GATE_ANSWER_MAX bytes of room
 * @return size of the answer
 */
size_t gate_frame_refuse(const uint8_t *frame, const GateTcp *tcp, uint8_t *buf);

/**
 * Write the ICMP or ICMPv6 error that says that the destination is unreachable.
 *
 * @param frame  the guest's first segment
 * @param tcp    what gate_frame_is_tcp() said of it
 * @param host   "host unreachable" rather than "network unreachable"
 * @param from   address of the gateway, of the family of the frame
 * @param buf    GATE_ANSWER_MAX bytes of room
 * @return size of the answer
 */
size_t gate_frame_unreachable(
	const uint8_t *frame, const GateTcp *tcp, bool host, const struct in6_addr *from, uint8_t *buf);
