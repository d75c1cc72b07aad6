#pragma once
/*
 * Published TCP ports: accept on the host, connect into the guest as the client.
 */
#include "common/event-loop.h"
#include "netns-helper/address-plan.h"
#include "netns-helper/inbound.h"
#include "netns-helper/options.h"
#include "netns-helper/splice-flow.h"
#include "netns-helper/splice-nursery.h"
#include "netns-helper/worker.h"

typedef struct SpliceInbound SpliceInbound;

typedef struct {
	const Helper *helper; /* whose events */
	const Options *options;
	const AddressPlan *plan;
	SpliceTable *table;
	EventLoop *loop;
	SpliceFlows *flows;
	SpliceNursery *nursery;
} SpliceInboundConfig;

/** @p config is copied, what it points to is borrowed. @return NULL with errno */
SpliceInbound *splice_inbound_new(const SpliceInboundConfig *config);
void splice_inbound_free(SpliceInbound *in);
/** Go on with the flows of a predecessor, and make spare sockets. Call after splice_flows_adopt(). */
void splice_inbound_adopt(SpliceInbound *in);

/** InboundEngine.add and .remove; @p engine is the SpliceInbound. */
int splice_inbound_add(void *engine, const Forward *forward);
int splice_inbound_remove(void *engine, const Forward *forward);
/** The port is to be served by libslirp. */
void splice_inbound_leave(SpliceInbound *in, const Forward *forward);

/** For a flow in ASKING: its connect() has ended. */
void splice_inbound_connected(SpliceInbound *in, SpliceFlow *flow, int error);
/** A connection that a predecessor accepted just before its death; served when its port is added, closed if none is. */
void splice_inbound_keep_orphan(SpliceInbound *in, int fd_take);
