#pragma once
/*
 * The splice engine: TCP of the guest by the kernels on both sides, everything else handed to whoever is behind (libslirp).
 * See docs/design.md, "The splice engine".
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netns-helper/gate-frame.h"
#include "netns-helper/inbound.h"
#include "netns-helper/splice-table.h"
#include "netns-helper/worker.h"

typedef struct {
	GateFrameFn on_frame; /* one frame of the guest that is not for the splice engine */
	void (*on_gone)(void *data); /* the link was deleted in the guest (N-143) */
	void *data;
} SpliceEngineUser;

/**
 * Whether the link was made with a gateway, so that an engine is needed to serve it.
 */
bool splice_engine_is_needed(const Helper *helper);

/**
 * Serve the gateway, going on with the connections of a predecessor.
 *
 * @param helper  what the daemon shares
 * @param loop    borrowed
 * @param step    WORKER_STEP_*: what is left out
 * @param user    who gets the other frames; copied
 * @return the engine or NULL with errno
 */
SpliceEngine *splice_engine_new(
	const Helper *helper, EventLoop *loop, unsigned step, const SpliceEngineUser *user);
void splice_engine_free(SpliceEngine *engine);

/** Queue a frame to the guest; splice_engine_flush() sends what is queued. */
void splice_engine_send(SpliceEngine *engine, const uint8_t *frame, size_t size);
void splice_engine_flush(SpliceEngine *engine);

/** How published ports reach the guest. */
InboundEngine splice_engine_inbound(SpliceEngine *engine);

/** Connections that a predecessor had accepted and not yet entered: after the published ports were added again. */
void splice_engine_adopt_strays(SpliceEngine *engine);

/** Connections that were taken over from a predecessor. */
unsigned splice_engine_adopted(const SpliceEngine *engine);
