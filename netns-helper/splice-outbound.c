/*
 * Theory of operation. The guest's first segment does not reach the listener by itself (gateway-nft.h drops it); the gate sees it, and
 * connects to where splice_policy_outbound() says. The segment is kept in the flow's entry meanwhile; its repetitions only replace it.
 * If the connection succeeds the segment is written to the tun device, the gateway's kernel does the handshake with the guest, and the
 * listener has a connection whose two addresses are those of the segment. If it is refused, or there is no route, the guest is
 * told so by the same answers that the real network would have given; if nobody answers, nobody answers the guest.
 *
 * What an accepted connection leads to is decided by its own addresses alone: there must be a flow in INJECTED with exactly this
 * source and destination, and the destination must still be allowed. Anything else that gets to the listener, by whatever
 * way, is reset. So it does not matter what else the guest sent, redirected or forged before.
 */
#include "config.h"

#include "netns-helper/splice-outbound.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "netns-helper/gateway.h"
#include "netns-helper/keep-alive.h"
#include "netns-helper/shortage.h"
#include "netns-helper/splice-pacing.h"
#include "netns-helper/splice-policy.h"
#include "netns-helper/splice-socket.h"

#define BUCKETS 16384 /* power of two */
#define ACCEPT_MAX 128 /* connections taken before other work has its turn */
#define INJECTED_MAX_MS 75000 /* the guest's kernel repeats the end of its handshake for about a minute */
#define EXPIRE_STEP_MS 10000
#define PAUSE_MS 100 /* no descriptors: leave the queue alone for a moment (N-262) */

typedef struct {
	SpliceOutbound *out;
	EventSource *source;
	int fd; /* -1: none */
	unsigned expected; /* connections whose segment was injected just now */
	unsigned burst; /* to be accepted at one event */
} Listener;

struct SpliceOutbound {
	SpliceOutboundConfig c;
	Gate *gate;
	EventTimer *expire, *pause;
	SplicePacing pacing;
	Listener listener[2]; /* [0] IPv4, [1] IPv6 */
	int tun;
	/*
	 * Flows by their addresses. An entry stays in its chain until its index is used again. All numbers are one more than the index
	 * that they mean, so that 0 is none and pages of these tables that no flow needs are never touched.
	 */
	uint32_t bucket[BUCKETS];
	uint32_t next[SPLICE_FLOWS_MAX + 1];
	uint32_t bucket_of[SPLICE_FLOWS_MAX + 1];
};

/* --- flows by address --- */

static uint32_t hash_bytes(uint32_t h, const void *data, size_t size)
{
	const uint8_t *p = data;

	while (size--)
		h = (h ^ *p++) * 16777619u; /* FNV-1a */
	return h;
}

static uint32_t bucket_for(const SpliceAddr *guest, const SpliceAddr *remote)
{
	uint32_t h = hash_bytes(2166136261u, &guest->port, sizeof(guest->port));

	h = hash_bytes(h, &remote->port, sizeof(remote->port));
	h = hash_bytes(h, &guest->ip, sizeof(guest->ip));
	h = hash_bytes(h, &remote->ip, sizeof(remote->ip));
	return (h ^ h >> 16) & (BUCKETS - 1);
}

static SpliceFlow *find(const SpliceOutbound *out, const SpliceAddr *guest, const SpliceAddr *remote)
{
	for (uint32_t i = out->bucket[bucket_for(guest, remote)]; i != 0; i = out->next[i]) {
		SpliceFlow *f = &out->c.table->flows[i - 1];

		if (f->phase != SPLICE_FREE && f->phase != SPLICE_ENDING && !f->inbound &&
			splice_addr_equal(&f->guest, guest) && splice_addr_equal(&f->remote, remote))
			return f;
	}
	return NULL;
}

static void forget(SpliceOutbound *out, uint32_t i)
{
	uint32_t *link;

	if (out->bucket_of[i] == 0)
		return;
	for (link = &out->bucket[out->bucket_of[i] - 1]; *link != i; link = &out->next[*link])
		;
	*link = out->next[i];
	out->bucket_of[i] = 0;
}

static void remember(SpliceOutbound *out, const SpliceFlow *flow)
{
	uint32_t i = (uint32_t)(flow - out->c.table->flows) + 1;
	uint32_t b = bucket_for(&flow->guest, &flow->remote);

	forget(out, i);
	out->next[i] = out->bucket[b];
	out->bucket[b] = i;
	out->bucket_of[i] = b + 1;
}

/* --- answers to the guest --- */

static void answer_error(
	SpliceOutbound *out, const uint8_t *frame, const GateTcp *tcp, int error, bool at_once)
{
	SpliceAddr gateway = splice_addr_from_v4(out->c.plan->gateway, 0);
	uint8_t buf[GATE_ANSWER_MAX];
	size_t n;

	if (error == ETIMEDOUT)
		return; /* nobody answered; the guest will find out for itself (N-107) */
	if (error == ECONNREFUSED || error == ECONNRESET)
		n = gate_frame_refuse(frame, tcp, buf);
	else
		n = gate_frame_unreachable(frame, tcp, error == EHOSTUNREACH || !at_once,
			splice_addr_is_v4(&tcp->dst) ? &gateway.ip : &out->c.plan->gateway6, buf);
	gate_send(out->gate, buf, n);
}

/* --- the first segment --- */

static bool save_syn(
	SpliceFlow *flow, const uint8_t *frame, const GateTcp *tcp, const struct virtio_net_hdr *vnet)
{
	size_t frame_size = ETH_HLEN + tcp->l3_size;

	if (sizeof(*vnet) + frame_size > SPLICE_SYN_MAX)
		return false; /* carries data (TCP fast open): the guest repeats it without */
	memcpy(flow->syn, vnet, sizeof(*vnet));
	memcpy(flow->syn + sizeof(*vnet), frame, frame_size);
	flow->syn_size = (uint8_t)(sizeof(*vnet) + frame_size);
	return true;
}

/* The tun device takes the packet without its Ethernet header. */
static void inject(SpliceOutbound *out, const SpliceFlow *flow)
{
	struct virtio_net_hdr vnet;
	struct iovec iov[2] = {
		{.iov_base = &vnet, .iov_len = sizeof(vnet)},
		{.iov_base = (void *)(flow->syn + sizeof(vnet) + ETH_HLEN),
			.iov_len = flow->syn_size - sizeof(vnet) - ETH_HLEN},
	};

	memcpy(&vnet, flow->syn, sizeof(vnet));
	vnet.gso_type = VIRTIO_NET_HDR_GSO_NONE;
	vnet.gso_size = vnet.hdr_len = 0;
	if (vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		vnet.csum_start = (uint16_t)(vnet.csum_start - ETH_HLEN);
	(void)!writev(out->tun, iov, 2); /* if it is lost, the guest repeats it */
}

static void on_established(SpliceOutbound *out, SpliceFlow *flow)
{
	splice_pacing_after(&out->pacing, flow->fd[SPLICE_HOST], &flow->host);
	out->listener[!splice_addr_is_v4(&flow->guest)].expected++;
	splice_flows_set_phase(
		flow, SPLICE_INJECTED); /* before the segment: what is accepted must be found */
	inject(out, flow);
}

static int bind_outbound(const AddressPlan *plan, int fd, int family, bool again)
{
	if (family == AF_INET && plan->has_outbound)
		return splice_bind(fd, &plan->outbound, sizeof(plan->outbound), again);
	if (family == AF_INET6 && plan->has_outbound6)
		return splice_bind(fd, &plan->outbound6, sizeof(plan->outbound6), again);
	return 0;
}

/* @p again: a predecessor may have come some way with it. @return as splice_connect() */
static int connect_host(const SpliceOutbound *out, const SpliceFlow *flow, bool again)
{
	int fd = flow->fd[SPLICE_HOST], r;
	const int on = 1;

	r = bind_outbound(out->c.plan, fd, flow->family, again);
	if (r < 0)
		return r;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* only costs speed */
	keep_alive_set(fd, KEEP_ALIVE_HOST);
	splice_pacing_before(&out->pacing, fd);
	return splice_connect(fd, &flow->host);
}

static int begin(
	SpliceOutbound *out, const uint8_t *frame, const GateTcp *tcp, const struct virtio_net_hdr *vnet)
{
	SpliceAddr host;
	SpliceFlow *f;
	int fd, r;

	r = splice_policy_outbound(out->c.options, out->c.plan, &tcp->dst, &host);
	if (r < 0)
		return r;
	f = splice_flows_take(out->c.flows);
	if (!f)
		return -ENOBUFS;
	f->family = splice_addr_is_v4(&host) ? AF_INET : AF_INET6;
	f->guest = tcp->src;
	f->remote = tcp->dst;
	f->host = host;
	if (!save_syn(f, frame, tcp, vnet)) {
		splice_flows_put_back(out->c.flows, f);
		return 0;
	}
	fd = socket(f->family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		r = -errno;
		splice_flows_put_back(out->c.flows, f);
		return r;
	}
	f->fd[SPLICE_HOST] = fd;
	splice_table_saw_fd(out->c.table, fd);
	splice_flows_set_phase(f, SPLICE_CONNECTING);
	remember(out, f);

	r = connect_host(out, f, false);
	if (r == 0) {
		on_established(out, f);
		return 0;
	}
	if (r == -EINPROGRESS)
		r = splice_flows_watch_connect(out->c.flows, f, SPLICE_HOST);
	if (r < 0)
		splice_flows_end(out->c.flows, f, false);
	return r;
}

void splice_outbound_connected(SpliceOutbound *out, SpliceFlow *flow, int error)
{
	const uint8_t *frame = flow->syn + sizeof(struct virtio_net_hdr);
	GateTcp tcp;

	if (error == 0) {
		on_established(out, flow);
		splice_outbound_accept(out);
		return;
	}
	if (gate_frame_is_tcp(frame, flow->syn_size - sizeof(struct virtio_net_hdr), &tcp))
		answer_error(out, frame, &tcp, error, false);
	gate_flush(out->gate);
	splice_flows_end(out->c.flows, flow, false);
}

/* The guest has given up before the connection was its own. */
static void on_guest_reset(SpliceOutbound *out, const GateTcp *tcp)
{
	SpliceFlow *f = find(out, &tcp->src, &tcp->dst);

	if (f && (f->phase == SPLICE_CONNECTING || f->phase == SPLICE_INJECTED))
		splice_flows_end(out->c.flows, f, true);
}

static bool has_seq(const SpliceFlow *flow, uint32_t seq)
{
	GateTcp tcp;

	return gate_frame_is_tcp(flow->syn + sizeof(struct virtio_net_hdr),
		       flow->syn_size - sizeof(struct virtio_net_hdr), &tcp) &&
	       tcp.seq == seq;
}

/*
 * A first segment for addresses that have a connection. In OPEN it never goes to the kernel: the old socket may be gone there before we hear
 * of it, and then the listener would take the new connection, which the old entry has no place for.
 */
static bool is_repeated(
	SpliceOutbound *out, const uint8_t *frame, const GateTcp *tcp, const struct virtio_net_hdr *vnet)
{
	SpliceFlow *f = find(out, &tcp->src, &tcp->dst);

	if (!f)
		return false;
	if (f->phase == SPLICE_OPEN) /* a late copy; or a new beginning, now or when it is repeated */
		return has_seq(f, tcp->seq) || !splice_flows_give_way(out->c.flows, f);
	if (save_syn(f, frame, tcp, vnet) && f->phase != SPLICE_CONNECTING)
		inject(out, f);
	return true;
}

void splice_outbound_on_tcp(
	void *data, const uint8_t *frame, size_t size, const GateTcp *tcp, const struct virtio_net_hdr *vnet)
{
	SpliceOutbound *out = data;
	int r;

	(void)size;
	if (tcp->flags & GATE_TCP_RST) {
		on_guest_reset(out, tcp);
		return;
	}
	if ((tcp->flags & (GATE_TCP_SYN | GATE_TCP_ACK)) != GATE_TCP_SYN ||
		is_repeated(out, frame, tcp, vnet))
		return;
	r = begin(out, frame, tcp, vnet);
	if (r < 0) {
		shortage_note(out->c.helper, r, SPLICE_FLOWS_MAX);
		answer_error(out, frame, tcp, -r, true);
	}
	if (!event_timer_is_armed(out->expire))
		event_timer_set(out->expire, EXPIRE_STEP_MS);
}

/* --- accepting --- */

/* The accepted connection is in the entry. */
static void open_if_allowed(SpliceOutbound *out, SpliceFlow *flow)
{
	SpliceAddr host;

	if (splice_policy_outbound(out->c.options, out->c.plan, &flow->remote, &host) < 0)
		splice_flows_end(out->c.flows, flow, true);
	else
		splice_flows_open(out->c.flows, flow);
}

static void take_connection(SpliceOutbound *out, int fd, const SpliceAddr *guest, const SpliceAddr *remote)
{
	SpliceFlow *f = find(out, guest, remote);

	if (!f || f->phase != SPLICE_INJECTED) {
		splice_reset_close(fd);
		return;
	}
	f->fd[SPLICE_GUEST] = fd;
	splice_table_saw_fd(out->c.table, fd);
	open_if_allowed(out, f);
}

bool splice_outbound_claim(SpliceOutbound *out, int fd, const SpliceAddr *guest, const SpliceAddr *remote)
{
	SpliceFlow *f = find(out, guest, remote);

	if (!f || f->phase != SPLICE_INJECTED)
		return false;
	take_connection(out, fd, guest, remote);
	return true;
}

static void pause_accepting(SpliceOutbound *out)
{
	for (int v6 = 0; v6 < 2; v6++) {
		if (out->listener[v6].source)
			(void)event_source_mute(out->listener[v6].source);
	}
	event_timer_set(out->pause, PAUSE_MS);
}

static void on_pause_over(void *data)
{
	SpliceOutbound *out = data;

	for (int v6 = 0; v6 < 2; v6++) {
		if (out->listener[v6].source)
			(void)event_source_set_events(out->listener[v6].source, EPOLLIN);
	}
}

static bool accept_one(SpliceOutbound *out, int listener)
{
	struct sockaddr_storage peer, local;
	socklen_t peer_size = sizeof(peer), local_size = sizeof(local);
	SpliceAddr guest, remote;
	int fd = accept4(listener, (struct sockaddr *)&peer, &peer_size, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == ECONNABORTED || errno == EINTR)
			return true;
		if (errno != EAGAIN) {
			shortage_note(out->c.helper, -errno, 0);
			pause_accepting(out);
		}
		return false;
	}
	if (getsockname(fd, (struct sockaddr *)&local, &local_size) < 0 ||
		!splice_addr_from_sockaddr((struct sockaddr *)&peer, &guest) ||
		!splice_addr_from_sockaddr((struct sockaddr *)&local, &remote)) {
		splice_reset_close(fd);
		return true;
	}
	take_connection(out, fd, &guest, &remote);
	return true;
}

/*
 * The guest's kernel is on the same machine: its handshake is over, as a rule, when the segment's injection returns. No more are asked for
 * than are expected: accept(2) makes a socket before it finds that nobody waits, and events tell of those that come later.
 */
void splice_outbound_accept(SpliceOutbound *out)
{
	for (int v6 = 0; v6 < 2; v6++) {
		Listener *l = &out->listener[v6];

		while (l->expected > 0 && l->fd >= 0 && accept_one(out, l->fd))
			l->expected--;
		l->expected = 0;
	}
}

static void on_listener(void *data, uint32_t events)
{
	Listener *l = data;
	unsigned n = 0;

	(void)events;
	while (n < l->burst && accept_one(l->out, l->fd))
		n++;
	l->burst = n < l->burst ? 1 : n < ACCEPT_MAX ? 2 * n : ACCEPT_MAX;
}

/* --- flows that come to nothing --- */

static void on_expire(void *data)
{
	SpliceOutbound *out = data;
	uint64_t now_ms = event_now_ms();
	bool any = false;

	for (uint32_t i = 0; i < out->c.table->flows_top; i++) {
		SpliceFlow *f = &out->c.table->flows[i];

		if (f->phase != SPLICE_INJECTED)
			continue;
		if (now_ms - f->since_ms > INJECTED_MAX_MS)
			splice_flows_end(out->c.flows, f, true);
		else
			any = true;
	}
	if (any)
		event_timer_set(out->expire, EXPIRE_STEP_MS);
}

/*
 * The predecessor was killed before connect(), during it, or when it had heard how it ended. In the last case a failure is not told twice by the
 * kernel: the entry is forgotten, and the guest, if it was not answered, asks again.
 */
static void resume_connecting(SpliceOutbound *out, SpliceFlow *flow)
{
	int r = connect_host(out, flow, true);

	if (r == -EINPROGRESS)
		r = splice_flows_watch_connect(out->c.flows, flow, SPLICE_HOST);
	else if (r == 0)
		on_established(out, flow);
	if (r == -ECONNABORTED)
		splice_flows_end(out->c.flows, flow, false);
	else if (r < 0)
		splice_outbound_connected(out, flow, -r);
}

/* Killed between accept() and the next phase, or perhaps before the segment was given to the gateway: one more does no harm. */
static void resume_injected(SpliceOutbound *out, SpliceFlow *flow)
{
	if (flow->fd[SPLICE_GUEST] >= 0)
		open_if_allowed(out, flow);
	else
		inject(out, flow);
}

void splice_outbound_adopt(SpliceOutbound *out)
{
	for (uint32_t i = 0; i < out->c.table->flows_top; i++) {
		SpliceFlow *f = &out->c.table->flows[i];

		if (f->phase == SPLICE_FREE || f->phase == SPLICE_ENDING || f->inbound)
			continue;
		remember(out, f);
		if (f->phase == SPLICE_CONNECTING)
			resume_connecting(out, f);
		else if (f->phase == SPLICE_INJECTED)
			resume_injected(out, f);
	}
	event_timer_set(out->expire, EXPIRE_STEP_MS);
}

void splice_outbound_set_gate(SpliceOutbound *out, Gate *gate)
{
	out->gate = gate;
}

SpliceOutbound *splice_outbound_new(const SpliceOutboundConfig *config)
{
	SpliceOutbound *out = calloc(1, sizeof(*out));

	if (!out)
		return NULL;
	out->c = *config;
	splice_pacing_init(&out->pacing);
	out->tun = fd_store_get(config->store, GATEWAY_TUN);
	out->expire = event_loop_add_timer(config->loop, EXPIRE_STEP_MS, on_expire, out);
	event_timer_stop(out->expire);
	out->pause = event_loop_add_timer(config->loop, PAUSE_MS, on_pause_over, out);
	event_timer_stop(out->pause);
	for (int v6 = 0; v6 < 2; v6++) {
		Listener *l = &out->listener[v6];

		l->out = out;
		l->burst = 1;
		l->fd = fd_store_get(config->store, v6 ? GATEWAY_LISTEN6 : GATEWAY_LISTEN);
		if (l->fd < 0)
			continue;
		keep_alive_set(l->fd, KEEP_ALIVE_GUEST); /* for the connections that are accepted */
		(void)event_loop_add_fd(config->loop, l->fd, EPOLLIN, on_listener, l, &l->source);
	}
	return out;
}

void splice_outbound_free(SpliceOutbound *out)
{
	if (!out)
		return;
	event_source_remove(out->listener[0].source);
	event_source_remove(out->listener[1].source);
	event_timer_free(out->expire);
	event_timer_free(out->pause);
	free(out);
}
