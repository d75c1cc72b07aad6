#pragma once
/*
 * The guest's frames, as the packet socket on the gateway's veth shows them, many per system call, and frames to the guest.
 */
#include "common/event-loop.h"
#include "netns-helper/gate-frame.h"

typedef struct Gate Gate;

typedef struct {
	/* A first segment or reset of TCP, for the splice engine; the frame as the guest sent it, checksum possibly partial. */
	void (*on_tcp)(void *data, const uint8_t *frame, size_t size, const GateTcp *tcp,
		const struct virtio_net_hdr *vnet);
	/* Everything else, and all TCP of link-local sources, with complete checksums. */
	GateFrameFn on_frame;
	/* The link is gone: somebody in the guest has deleted it (N-143). Nothing will follow. */
	void (*on_gone)(void *data);
	/* After each batch of the above. */
	void (*on_batch_end)(void *data);
	void *data;
} GateHandlers;

/**
 * @param packet_fd  GATEWAY_PACKET, borrowed
 * @param splice     false: TCP is not for the splice engine, all frames go to on_frame
 * @param loop       borrowed
 * @param handlers   copied
 * @return NULL with errno
 */
Gate *gate_new(int packet_fd, bool splice, EventLoop *loop, const GateHandlers *handlers);
void gate_free(Gate *gate);

/** Queue one frame to the guest; goes out with gate_flush(), or before if there is no more room. What the kernel refuses is lost (N-145). */
void gate_send(Gate *gate, const uint8_t *frame, size_t size);
void gate_flush(Gate *gate);
