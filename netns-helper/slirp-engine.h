#pragma once
/*
 * libslirp on the guest's link: DHCP, DNS, ICMP, UDP, ARP and neighbour discovery, and TCP where nothing faster takes it.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "netns-helper/inbound.h"
#include "netns-helper/worker.h"

#define SLIRP_FRAME_MAX 65550	/* bytes: largest IP packet (N-13) and its Ethernet header */
/*
 * Connections and sessions of the stack at one time; as many as its table lists. Each connection has two buffers of 128 KiB in it (N-254),
 * which cost what is in them: 4.2 GiB is the most that the worst of guests can make of that.
 */
#define SLIRP_SOCKETS_MAX 16384
#define SLIRP_FRAMES_PER_TURN 64 /* from the guest, before sockets and clients have their turn (N-248, N-249) */

/* Where frames come from and go to. */
typedef struct {
	int fd; /* non-blocking; polled for frames; -1: none */
	/* One frame; 0: the other end has gone for good; -EAGAIN; other -errno: this frame, or the link (see slirp-engine.c). */
	ssize_t (*read)(void *data, void *buf, size_t size);
	/* One frame; -errno: lost. */
	ssize_t (*write)(void *data, const void *buf, size_t size);
	/*
	 * Whether the stack shall see this frame from the guest, or somebody else has taken it. May be NULL.
	 */
	bool (*filter)(void *data, const uint8_t *frame, size_t size);
	/* At the end of a turn: what write() has kept back must go out now. May be NULL. */
	void (*flush)(void *data);
	void *data;
} FrameIo;

/**
 * @param helper  what the daemon shares
 * @param loop    for timers
 * @param io      the link, copied; NULL: the tap of GUEST_LINK_TAP
 * @return the engine, or NULL with errno
 */
SlirpEngine *slirp_engine_new(const Helper *helper, EventLoop *loop, const FrameIo *io);
void slirp_engine_free(SlirpEngine *engine);

/**
 * Wait and serve once: frames, sockets of the stack, sources and timers of the loop.
 *
 * @return 0; -EPIPE: the link's other end has gone for good (bess); other -errno
 */
int slirp_engine_turn(SlirpEngine *engine);

/** Put a frame before the stack as if the link had delivered it (from a source of the loop, with FrameIo.fd -1). */
void slirp_engine_input(SlirpEngine *engine, const uint8_t *frame, size_t size);

/** N-143: to be called by a link that is not polled here. */
void slirp_engine_link_is_gone(SlirpEngine *engine, int error);

/** How published ports reach the guest through the stack. */
InboundEngine slirp_engine_inbound(SlirpEngine *engine);

/**
 * Make the guest ask about the connections of a dead predecessor, so that the stack resets them at once.
 *
 * @return how many
 */
unsigned slirp_engine_reset_flows(SlirpEngine *engine);

/** Whether @p fd is the stack's duplicate of a listening socket. */
bool slirp_engine_is_listener(const SlirpEngine *engine, int fd);
