#pragma once
/*
 * How connections to a published port get into the guest. Ports owns the listening sockets and hands each to one engine.
 */
#include "netns-helper/shared-state.h"

typedef struct {
	const char *name; /* "slirp", "splice": in the list and in the state file */
	/*
	 * Serve @p forward on its socket forward->fd, which stays the caller's and is non-blocking, bound and (TCP) listening with a queue
	 * that may already hold connections. Returns 0; -EOPNOTSUPP: not this kind (UDP, say), ask the next engine; other -errno.
	 */
	int (*add)(void *engine, const Forward *forward);
	/* Stop serving it; connections that are established go on. */
	int (*remove)(void *engine, const Forward *forward);
	void *engine;
} InboundEngine;
