/*
 * Frames of the guest: the flow table, the answers to failed connections, and libslirp behind them.
 * Input: frames one after the other, each with its length before it (two bytes, big-endian).
 */
#include "config.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "netns-helper/checksum.h"
#include "netns-helper/slirp-engine.h"
#include "tests/fuzz/isolate.h"

#define FRAMES_MAX 64 /* in one input */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ssize_t no_read(void *data, void *buf, size_t size)
{
	return -EAGAIN;
}

/* What the stack sends comes back in, as it would from a guest that mirrors it: more states are reached. */
static ssize_t swallow(void *data, const void *buf, size_t size)
{
	return (ssize_t)size;
}

static SlirpEngine *make_engine(void)
{
	static Options options = {
		.cidr = "10.0.2.0/24", .mtu = 1500, .enable_ipv6 = true, .disable_host_loopback = true};
	static AddressPlan plan;
	static Helper helper = {.options = &options, .plan = &plan};
	const FrameIo io = {.fd = -1, .read = no_read, .write = swallow};
	EventLoop *loop = event_loop_new(NULL, "fuzz");

	helper.shared = shared_state_new();
	helper.store = fd_store_new();
	if (!loop || !helper.shared || !helper.store || address_plan_make(&options, &plan) < 0)
		abort();
	return slirp_engine_new(&helper, loop, &io);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static SlirpEngine *engine;
	size_t n = 0;

	if (!fuzz_is_isolated())
		return 0;
	if (!engine)
		engine = make_engine();
	if (!engine)
		abort();
	while (size >= 2 && n++ < FRAMES_MAX) {
		size_t length = checksum_get16(data);
		uint8_t *frame;

		data += 2;
		size -= 2;
		if (length > size)
			length = size;
		frame = malloc(length ? length : 1); /* of its own, so that a sanitizer sees its end */
		if (!frame)
			abort();
		memcpy(frame, data, length);
		slirp_engine_input(engine, frame, length);
		free(frame);
		data += length;
		size -= length;
	}
	(void)slirp_engine_reset_flows(engine);
	return 0;
}
