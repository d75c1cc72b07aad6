/*
 * Frames of the guest as the packet socket shows them: recognising TCP, completing checksums, cutting up what was left to hardware to
 * segment, and the answers to a connection attempt. Input: frames one after the other, each with its length before it (two bytes,
 * big-endian) and then the ten bytes of its virtio header.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netns-helper/checksum.h"
#include "netns-helper/frame-filter.h"
#include "netns-helper/gate.h"
#include "netns-helper/gateway.h"
#include "tests/fuzz/isolate.h"

#define FRAMES_MAX 64 /* in one input */
#define FRAME_MAX (ETH_HLEN + 65535)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static Gate *gate;

/* The kernel's part; here the gate gets everything. */
int gateway_filter_gate(int packet_fd)
{
	return 0;
}

int gateway_filter_all(int packet_fd)
{
	return 0;
}

static void send_answer(const uint8_t *answer, size_t size)
{
	if (size > GATE_ANSWER_MAX)
		abort();
	gate_send(gate, answer, size);
}

static void on_tcp(
	void *data, const uint8_t *frame, size_t size, const GateTcp *tcp, const struct virtio_net_hdr *vnet)
{
	struct in6_addr from = {.s6_addr = {0xfd, [15] = 2}};
	uint8_t answer[GATE_ANSWER_MAX];

	if (ETH_HLEN + tcp->l3_size > size || tcp->l4 + tcp->payload > size)
		abort();
	send_answer(answer, gate_frame_refuse(frame, tcp, answer));
	for (int host = 0; host < 2; host++)
		send_answer(answer, gate_frame_unreachable(frame, tcp, host, &from, answer));
}

static void on_frame(void *data, const uint8_t *frame, size_t size)
{
	uint8_t *copy;

	if (size < ETH_HLEN || size > FRAME_MAX)
		abort();
	copy = malloc(size); /* of its own, so that a sanitizer sees its end */
	if (!copy)
		abort();
	memcpy(copy, frame, size);
	(void)frame_filter_is_forged(copy, size);
	free(copy);
}

static void on_batch_end(void *data)
{
}

static void on_gone(void *data)
{
	abort();
}

/* @return the other end of the gate's "packet socket" */
static int make_gate(EventLoop *loop)
{
	const GateHandlers handlers = {
		.on_tcp = on_tcp, .on_frame = on_frame, .on_gone = on_gone, .on_batch_end = on_batch_end};
	int fds[2];

	if (!loop || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		abort();
	gate = gate_new(fds[0], true, loop, &handlers);
	if (!gate)
		abort();
	return fds[1];
}

/* The socket holds few frames, so each is served at once. */
static void pass(EventLoop *loop, int kernel, const uint8_t *frame, size_t size)
{
	uint8_t sink[sizeof(struct virtio_net_hdr) + GATE_ANSWER_MAX];

	if (send(kernel, frame, size, MSG_DONTWAIT) < 0)
		return;
	if (event_loop_step(loop, 0) < 0)
		abort();
	while (recv(kernel, sink, sizeof(sink), MSG_DONTWAIT) >= 0)
		;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static EventLoop *loop;
	static int kernel;
	size_t n = 0;

	if (!loop) {
		loop = event_loop_new(NULL, "fuzz");
		kernel = make_gate(loop);
	}
	while (size >= 2 && n++ < FRAMES_MAX) {
		size_t length = sizeof(struct virtio_net_hdr) + checksum_get16(data);

		data += 2;
		size -= 2;
		if (length > size)
			length = size;
		pass(loop, kernel, data, length);
		data += length;
		size -= length;
	}
	return 0;
}
