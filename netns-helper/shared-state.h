#pragma once
/*
 * What outlives a network worker: one MAP_SHARED mapping made before the first fork. The worker is its only writer; a kill between any
 * two stores leaves an entry either absent or complete (data first, then the phase with a release store).
 */
#include <net/ethernet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "netns-helper/flow-table.h"

#define FORWARDS_MAX 8192	/* listening sockets of published ports; Podman sends one request per port of a range */
#define STACK_STATE_MAX 65536	/* bytes of a saved libslirp state (a few hundred in 4.7) */

/* One listening socket of a published port. A request for a range or for both families makes several with one id. */
typedef struct {
	_Atomic uint32_t in_use; /* set last, cleared first */
	uint32_t id;		 /* N-171 */
	uint32_t serial;	 /* order of creation */
	int32_t fd;		 /* our listening (or UDP) socket in the shared table */
	int32_t client_fd;	 /* API client that asked and has not got its answer yet; -1: answered */
	uint8_t is_udp;
	uint8_t family;		 /* AF_INET or AF_INET6, of both sides */
	uint8_t proto;		 /* ForwardProto: how it was asked for, for the list */
	uint16_t host_port;	 /* host order, as bound */
	uint16_t guest_port;
	struct in6_addr host_addr;  /* IPv4 in the first four bytes */
	struct in6_addr guest_addr;
} Forward;

typedef struct {
	_Atomic uint32_t phase;		/* SharedPhase */
	_Atomic uint32_t next_id;	/* last forward id given out */
	_Atomic uint32_t next_serial;
	_Atomic uint32_t api_bound;	/* the API socket's path is ours to unlink */
	_Atomic uint32_t guest_seen;	/* a frame came from the guest */
	_Atomic uint32_t tap_gone;	/* N-143 was reported */
	_Atomic int32_t fd_high;	/* highest descriptor number any worker has seen */
	uint8_t guest_mac[ETH_ALEN];	/* of the guest's interface; zero if unknown */

	/* The stack's DHCP table and counters: two slots, written in turn. */
	_Atomic uint32_t stack_slot;	/* 0: none; otherwise 1 + index of the complete one */
	uint32_t stack_size[2];
	uint8_t stack_state[2][STACK_STATE_MAX];

	Forward forwards[FORWARDS_MAX];
	FlowTable flows;
} SharedState;

typedef enum {
	SHARED_STARTING,
	SHARED_READY,	/* the ready byte was written */
} SharedPhase;

/** @return zeroed state in shared memory, or NULL with errno; never freed. */
SharedState *shared_state_new(void);
