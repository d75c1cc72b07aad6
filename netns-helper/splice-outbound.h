#pragma once
/*
 * Connections of the guest: the gate in front of the transparent listener.
 */
#include "common/event-loop.h"
#include "common/fd-store.h"
#include "netns-helper/address-plan.h"
#include "netns-helper/gate.h"
#include "netns-helper/options.h"
#include "netns-helper/splice-flow.h"
#include "netns-helper/worker.h"

typedef struct SpliceOutbound SpliceOutbound;

typedef struct {
	const Helper *helper; /* whose events */
	const Options *options;
	const AddressPlan *plan;
	SpliceTable *table;
	FdStore *store;
	EventLoop *loop;
	SpliceFlows *flows;
} SpliceOutboundConfig;

/** @p config is copied, what it points to is borrowed. @return NULL with errno */
SpliceOutbound *splice_outbound_new(const SpliceOutboundConfig *config);
void splice_outbound_free(SpliceOutbound *out);
/** Where answers to the guest go; set before the first event. */
void splice_outbound_set_gate(SpliceOutbound *out, Gate *gate);
/** Go on with the flows of a predecessor. Call after splice_flows_adopt() and splice_outbound_set_gate(). */
void splice_outbound_adopt(SpliceOutbound *out);

/** GateHandlers.on_tcp; @p data is the SpliceOutbound. */
void splice_outbound_on_tcp(
	void *data, const uint8_t *frame, size_t size, const GateTcp *tcp, const struct virtio_net_hdr *vnet);
/** Take what the listeners have; to be called after a batch of frames. */
void splice_outbound_accept(SpliceOutbound *out);
/** For a flow in CONNECTING: its connect() has ended. */
void splice_outbound_connected(SpliceOutbound *out, SpliceFlow *flow, int error);

/**
 * A socket that was accepted by a predecessor just before its death.
 *
 * @param fd     connected; ours if true is returned
 * @param guest  its peer
 * @param remote its own address
 */
bool splice_outbound_claim(SpliceOutbound *out, int fd, const SpliceAddr *guest, const SpliceAddr *remote);
