#include "config.h"

#include "netns-helper/splice-engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/fd-util.h"
#include "netns-helper/gate.h"
#include "netns-helper/gateway.h"
#include "netns-helper/splice-flow.h"
#include "netns-helper/splice-inbound.h"
#include "netns-helper/splice-nursery.h"
#include "netns-helper/splice-outbound.h"

#define STRAY_MARGIN 64 /* descriptor numbers above the highest seen that are looked at too */

struct SpliceEngine {
	const Helper *helper;
	SpliceTable *table;
	SpliceKeep *keep;
	SpliceEngineUser user;
	Gate *gate;
	SpliceFlows *flows;
	SpliceNursery *nursery;
	SpliceOutbound *outbound;
	SpliceInbound *inbound;
	unsigned adopted;
	bool off; /* WORKER_STEP_NO_SPLICE */
};

bool splice_engine_is_needed(const Helper *helper)
{
	return helper->link.kind == &guest_link_veth;
}

static void on_connected(void *data, SpliceFlow *flow, int error)
{
	SpliceEngine *engine = data;

	if (flow->inbound)
		splice_inbound_connected(engine->inbound, flow, error);
	else
		splice_outbound_connected(engine->outbound, flow, error);
}

static void on_tcp(
	void *data, const uint8_t *frame, size_t size, const GateTcp *tcp, const struct virtio_net_hdr *vnet)
{
	SpliceEngine *engine = data;

	splice_outbound_on_tcp(engine->outbound, frame, size, tcp, vnet);
}

static void on_frame(void *data, const uint8_t *frame, size_t size)
{
	SpliceEngine *engine = data;

	engine->user.on_frame(engine->user.data, frame, size);
}

static void on_gone(void *data)
{
	SpliceEngine *engine = data;

	engine->user.on_gone(engine->user.data);
}

static void on_batch_end(void *data)
{
	SpliceEngine *engine = data;

	if (!engine->off)
		splice_outbound_accept(engine->outbound);
}

/*
 * The listeners are what nftables' tproxy looks for. Without them TCP is dropped in the gateway, so that libslirp is the only one to
 * answer it; they are not closed, since nobody could make them again.
 */
static void set_listeners(const Helper *helper, bool on)
{
	static const char *const names[] = {GATEWAY_LISTEN, GATEWAY_LISTEN6};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int fd = fd_store_get(helper->store, names[i]);

		if (fd < 0)
			continue;
		if (on)
			(void)listen(fd, GATEWAY_BACKLOG); /* no effect where it listens already */
		else
			(void)shutdown(fd, SHUT_RDWR);
	}
}

static int make_tcp(SpliceEngine *engine, EventLoop *loop)
{
	const Helper *helper = engine->helper;
	const SpliceOutboundConfig out = {
		.helper = helper,
		.options = helper->options,
		.plan = helper->plan,
		.table = engine->table,
		.store = helper->store,
		.loop = loop,
		.flows = engine->flows,
	};
	const SpliceInboundConfig in = {
		.helper = helper,
		.options = helper->options,
		.plan = helper->plan,
		.table = engine->table,
		.loop = loop,
		.flows = engine->flows,
		.nursery = engine->nursery,
	};

	engine->outbound = splice_outbound_new(&out);
	engine->inbound = splice_inbound_new(&in);
	return engine->outbound && engine->inbound ? 0 : -ENOMEM;
}

static int make_parts(SpliceEngine *engine, EventLoop *loop)
{
	const GateHandlers handlers = {
		.on_tcp = on_tcp,
		.on_frame = on_frame,
		.on_gone = on_gone,
		.on_batch_end = on_batch_end,
		.data = engine,
	};
	const Helper *helper = engine->helper;
	int fd = fd_store_get(helper->store, GATEWAY_PACKET);

	engine->flows = splice_flows_new(engine->table, engine->keep, loop, on_connected, engine);
	engine->nursery = splice_nursery_new(engine->table, helper->store);
	if (fd < 0 || !engine->flows || !engine->nursery || make_tcp(engine, loop) < 0)
		return fd < 0 ? fd : -errno;
	engine->gate = gate_new(fd, !engine->off, loop, &handlers);
	if (!engine->gate)
		return -errno;
	splice_outbound_set_gate(engine->outbound, engine->gate);
	set_listeners(helper, !engine->off);
	engine->adopted = splice_flows_adopt(engine->flows);
	splice_outbound_adopt(engine->outbound);
	splice_inbound_adopt(engine->inbound);
	return 0;
}

SpliceEngine *splice_engine_new(
	const Helper *helper, EventLoop *loop, unsigned step, const SpliceEngineUser *user)
{
	SpliceEngine *engine = calloc(1, sizeof(*engine));
	int r;

	if (!engine)
		return NULL;
	engine->helper = helper;
	engine->table = helper->splice;
	engine->user = *user;
	engine->off = step >= WORKER_STEP_NO_SPLICE;
	engine->keep = splice_keep_new(engine->table, helper->store, loop, helper->events);
	if (step >= WORKER_STEP_NO_CONNECTIONS) {
		splice_keep_clear(engine->keep);
		splice_table_clear(engine->table);
	}
	r = make_parts(engine, loop);
	if (r == 0)
		return engine;
	splice_engine_free(engine);
	errno = -r;
	return NULL;
}

void splice_engine_free(SpliceEngine *engine)
{
	if (!engine)
		return;
	gate_free(engine->gate);
	splice_inbound_free(engine->inbound);
	splice_outbound_free(engine->outbound);
	splice_nursery_free(engine->nursery);
	splice_flows_free(engine->flows);
	splice_keep_free(engine->keep);
	free(engine);
}

void splice_engine_send(SpliceEngine *engine, const uint8_t *frame, size_t size)
{
	gate_send(engine->gate, frame, size);
}

void splice_engine_flush(SpliceEngine *engine)
{
	gate_flush(engine->gate);
}

static int inbound_add(void *data, const Forward *forward)
{
	SpliceEngine *engine = data;

	if (!engine->off)
		return splice_inbound_add(engine->inbound, forward);
	if (!forward->is_udp)
		splice_inbound_leave(engine->inbound, forward);
	return -EOPNOTSUPP;
}

static int inbound_remove(void *data, const Forward *forward)
{
	SpliceEngine *engine = data;

	return splice_inbound_remove(engine->inbound, forward);
}

InboundEngine splice_engine_inbound(SpliceEngine *engine)
{
	return (InboundEngine){
		.name = "splice", .add = inbound_add, .remove = inbound_remove, .engine = engine};
}

static void adopt_stray(SpliceEngine *engine, int fd)
{
	struct sockaddr_storage peer, local;
	socklen_t peer_size = sizeof(peer), local_size = sizeof(local);
	SpliceAddr guest, remote;

	/* Not connected: a spare or a new socket, or the listener of a port that was being removed or not yet entered. */
	if (getpeername(fd, (struct sockaddr *)&peer, &peer_size) < 0 ||
		getsockname(fd, (struct sockaddr *)&local, &local_size) < 0 ||
		!splice_addr_from_sockaddr((struct sockaddr *)&peer, &guest) ||
		!splice_addr_from_sockaddr((struct sockaddr *)&local, &remote)) {
		fd_close(fd);
		return;
	}
	if (!splice_outbound_claim(engine->outbound, fd, &guest, &remote))
		splice_inbound_keep_orphan(engine->inbound, fd);
}

static bool is_somebody_elses(const Helper *helper, int fd)
{
	return fd == helper->exit_fd || shared_state_is_inherited(helper->shared, fd) ||
	       fd_store_has_fd(helper->store, fd) || shared_state_is_forward_fd(helper->shared, fd);
}

void splice_engine_adopt_strays(SpliceEngine *engine)
{
	int limit = engine->table->fd_high + STRAY_MARGIN;
	bool *known = calloc((size_t)limit, sizeof(*known));

	if (!known)
		return;
	splice_table_mark_fds(engine->table, known, (size_t)limit);
	for (int fd = 3; fd < limit; fd++) {
		struct stat st;

		if (known[fd] || fstat(fd, &st) < 0 || !(S_ISSOCK(st.st_mode) || S_ISFIFO(st.st_mode)) ||
			is_somebody_elses(engine->helper, fd))
			continue;
		if (S_ISFIFO(st.st_mode))
			fd_close(fd); /* half of a pipe that was being made or closed */
		else if (splice_is_tcp(fd))
			adopt_stray(engine, fd);
	}
	free(known);
}

unsigned splice_engine_adopted(const SpliceEngine *engine)
{
	return engine->adopted;
}
