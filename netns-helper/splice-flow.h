#pragma once
/*
 * Moving the bytes of spliced connections. See splice-table.h for what survives.
 */
#include <stdbool.h>
#include <stdint.h>

#include "common/event-loop.h"
#include "netns-helper/splice-keep.h"
#include "netns-helper/splice-table.h"

typedef struct SpliceFlows SpliceFlows;

/*
 * A connect() that was under way has ended: @p error is 0 or a positive errno. Called for flows in CONNECTING (the host's) and ASKING (the
 * guest's); must move the flow on or end it.
 */
typedef void (*SpliceConnectedFn)(void *data, SpliceFlow *flow, int error);

/**
 * @param table      shared; entries of a predecessor are left alone until splice_flows_adopt()
 * @param keep       borrowed, or NULL
 * @param loop       borrowed, must outlive the object; its keyed descriptors are our sockets
 * @param connected  see above
 * @param data       for @p connected
 * @return NULL with errno
 */
SpliceFlows *splice_flows_new(
	SpliceTable *table, SpliceKeep *keep, EventLoop *loop, SpliceConnectedFn connected, void *data);
/** Forgets everything but the table; no connection is closed. */
void splice_flows_free(SpliceFlows *flows);

/**
 * Go on with what a killed predecessor had: flows in OPEN are watched, those in ENDING closed, pipes that are in nobody's use emptied. The other
 * phases are for outbound and inbound to resume. Call once, before the first splice_flows_take() and before this process makes
 * any TCP socket.
 *
 * @return number of connections that are open
 */
unsigned splice_flows_adopt(SpliceFlows *flows);

/** @return a free entry with phase FREE, no descriptors, everything else zero; NULL if there is none. It is taken by setting its phase. */
SpliceFlow *splice_flows_take(SpliceFlows *flows);
/** Set the phase, and the time it began. Everything else of the entry must have been written before. */
void splice_flows_set_phase(SpliceFlow *flow, SplicePhase phase);
/** Put an entry back that was taken and still is FREE. */
void splice_flows_put_back(SpliceFlows *flows, SpliceFlow *flow);
/** Wait for the connect() of one side; the flow is in CONNECTING or ASKING. @return 0 or -errno */
int splice_flows_watch_connect(SpliceFlows *flows, SpliceFlow *flow, int side);
/** Both sockets are connected and in the entry: phase OPEN, and bytes begin to move. */
void splice_flows_open(SpliceFlows *flows, SpliceFlow *flow);
/** Close what there is; with @p reset the ends see a reset, not an end of stream. The entry is FREE afterwards. */
void splice_flows_end(SpliceFlows *flows, SpliceFlow *flow, bool reset);
/**
 * The guest begins a new connection with the addresses of @p flow, which is OPEN: it knows that one no more. What it had said before still
 * goes to the other side.
 *
 * @return whether the entry is FREE now; false: there are bytes that the other side has not taken yet
 */
bool splice_flows_give_way(SpliceFlows *flows, SpliceFlow *flow);
