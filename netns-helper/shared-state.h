#pragma once
/*
 * What outlives a network worker: one MAP_SHARED mapping made before the first fork. The worker is its only writer; a kill between any
 * two stores leaves an entry either absent or complete (data first, then the phase with a release store).
 */
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "netns-helper/flow-table.h"

#define FORWARDS_MAX                                                                                         \
	8192 /* listening sockets of published ports; Podman sends one request per port of a range */
#define SHARED_INHERITED_MAX 4096 /* descriptor numbers; a multiple of 8 */
#define STACK_STATE_MAX 65536 /* bytes of a saved libslirp state (a few hundred in 4.7) */

/* One listening socket of a published port. A request for a range or for both families makes several with one id. */
typedef struct {
	_Atomic uint32_t in_use; /* set last, cleared first */
	uint32_t id; /* N-171 */
	uint32_t serial; /* order of creation */
	int32_t fd; /* our listening (or UDP) socket in the shared table */
	int32_t client_fd; /* API client that asked and has not got its answer yet; -1: answered */
	uint8_t is_udp;
	uint8_t family; /* AF_INET or AF_INET6, of both sides */
	uint16_t host_port; /* host order, as bound */
	uint16_t guest_port;
	struct in6_addr host_addr; /* IPv4 in the first four bytes */
	struct in6_addr guest_addr;
} Forward;

typedef struct {
	_Atomic uint32_t phase; /* SharedPhase */
	_Atomic uint32_t next_id; /* last forward id given out */
	_Atomic uint32_t next_serial;
	_Atomic uint32_t n_published; /* -p options carried out */
	_Atomic uint32_t tap_gone; /* N-143 was reported */
	_Atomic uint32_t n_forwards; /* entries of forwards[] that were ever in use come before this index */
	_Atomic int32_t fd_high; /* highest descriptor number any worker has seen */
	uint64_t shortage_ms; /* when a connection last failed because something had run out, monotonic; 0: never */

	uint8_t inherited
		[SHARED_INHERITED_MAX /
			8]; /* descriptors that were open when the program started: not ours to close (N-7) */

	/* The stack's DHCP table and counters: two slots, written in turn. */
	_Atomic uint32_t stack_slot; /* 0: none; otherwise 1 + index of the complete one */
	uint32_t stack_size[2];
	uint8_t stack_state[2][STACK_STATE_MAX];

	Forward forwards[FORWARDS_MAX];
	FlowTable flows;
} SharedState;

typedef enum {
	SHARED_STARTING,
	SHARED_TELLING, /* all is set up; the ready byte may have been written */
	SHARED_READY, /* the ready byte was written */
} SharedPhase;

/** @return zeroed state in shared memory, or NULL with errno; never freed. */
SharedState *shared_state_new(void);

/** Walk the forwards in use: `for (size_t i = 0; (forward = shared_state_next_forward(shared, &i));)`. */
Forward *shared_state_next_forward(SharedState *shared, size_t *iter);

/** Whether @p fd was open when the program started: the caller's (N-7). */
bool shared_state_is_inherited(const SharedState *shared, int fd);

/** Whether @p fd is the listening socket of a forward. */
bool shared_state_is_forward_fd(SharedState *shared, int fd);
