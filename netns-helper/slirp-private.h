#pragma once
/* Between slirp-engine.c (the loop), slirp-stack.c (libslirp's set-up and callbacks) and slirp-forward.c. */
#include <poll.h>
#include <slirp/libslirp.h>

#include "netns-helper/ip-fragments.h"
#include "netns-helper/rate-limit.h"
#include "netns-helper/slirp-engine.h"

#define SLIRP_HOLES_MAX 32 /* of 128 KiB in the heap, held at a time */
#define SYN_KEPT_MAX 128 /* bytes of a SYN frame: enough for all headers with options */

typedef struct {
	int fd;
	size_t size;
	uint8_t syn[SYN_KEPT_MAX];
} Connecting;

struct SlirpEngine {
	const Helper *helper;
	SharedState *shared;
	EventLoop *loop;
	Slirp *slirp;
	FrameIo io;
	int tap; /* descriptor behind the default FrameIo; -1: none */

	struct pollfd *fds;
	size_t n_fds, room;
	int fd_limit; /* RLIMIT_NOFILE */

	bool link_gone; /* N-143 */
	bool peer_gone; /* bess client */
	unsigned barren_turns; /* one after the other that poll ended although there was nothing to do */
	uint64_t progress; /* frames and callbacks so far */
	uint64_t stepped_ms; /* when the loop had its last turn */
	uint64_t polled_ms; /* when the stack last learnt the time; 0: never */
	uint64_t now_ms; /* of this turn */
	RateLimit complaints; /* of the stack */
	EventTimer *janitor;

	/* Numbers + 1 under which the stack has our listening sockets, by index of the forward; 0: not served by it. */
	int forward_numbers[FORWARDS_MAX];
	/* One bit for each descriptor number below fd_limit. */
	unsigned char *is_listener;
	unsigned char *is_socket; /* of a connection or session */
	unsigned n_sockets;
	uint64_t rest_until_ms; /* no descriptor for those that wait at a listening socket */

	void *holes[SLIRP_HOLES_MAX]; /* slirp-stack.c */
	unsigned n_holes, opened;
	IpFragments *fragments; /* NULL: none was seen */
	const uint8_t *syn; /* frame that is before the stack now, if it is a SYN */
	size_t syn_size;
	Connecting *connecting; /* sockets whose connect() has not ended: slirp-connect.c */
	size_t n_connecting, connecting_room;

	uint8_t frame[SLIRP_FRAME_MAX];
	uint8_t mended[SLIRP_FRAME_MAX];
};

/** @return the stack or NULL with errno; its callbacks get @p engine. */
Slirp *slirp_stack_new(SlirpEngine *engine);
/** Before the stack makes a connection. */
void slirp_stack_hold_holes(SlirpEngine *engine);
/** Before memory is given back. */
void slirp_stack_release_holes(SlirpEngine *engine);
/** Save DHCP table and counters into shared memory. */
void slirp_stack_save(SlirpEngine *engine);
/** Load what a predecessor has saved, if anything. @return 0 or -errno */
int slirp_stack_load(SlirpEngine *engine);
/** Remember that this number is in use by a worker (for closing what a dead one has left). */
void slirp_engine_note_fd(SlirpEngine *engine, int fd);
/** The stack has made a socket for a connection or session, or is about to close it. */
void slirp_engine_count_socket(SlirpEngine *engine, int fd, bool open);

/* --- slirp-connect.c --- */

/** The connection that this SYN opens cannot be had: tell the guest that there is no way. */
void slirp_connect_refuse(SlirpEngine *engine, const uint8_t *frame, size_t size);
/** A socket was made; if the frame before the stack is a SYN, for that. */
void slirp_connect_begin(SlirpEngine *engine, int fd);
/** A socket is ready, or failed: tell the guest what the stack would not. */
void slirp_connect_check(SlirpEngine *engine, int fd);
/** Whether @p frame, a reset for the guest, misreports what happened and must be kept from it. */
bool slirp_connect_hides(SlirpEngine *engine, const uint8_t *frame, size_t size);
