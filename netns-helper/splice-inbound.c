#include "config.h"

#include "netns-helper/splice-inbound.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd-util.h"
#include "netns-helper/keep-alive.h"
#include "netns-helper/shortage.h"
#include "netns-helper/splice-pacing.h"
#include "netns-helper/splice-policy.h"
#include "netns-helper/splice-socket.h"

#define ACCEPT_MAX 64 /* connections of one port before others have their turn */
#define ORPHANS_MAX 64 /* one kill leaves at most one */
#define ORPHAN_MS 2000 /* until all ports are added again */
#define FILL_DELAY_MS 20 /* new sockets are bred when there is time */
#define FILL_AT_ONCE 8
#define PAUSE_MS 100 /* no descriptors: leave the queue alone for a moment (N-262) */

typedef struct Port {
	SpliceInbound *in;
	const Forward *forward;
	EventSource *source;
	EventTimer *pause;
	unsigned burst; /* connections to be accepted at one event */
	struct Port *next;
} Port;

struct SpliceInbound {
	SpliceInboundConfig c;
	Port *ports;
	EventTimer *fill, *orphan_timer;
	SplicePacing pacing;
	int orphans[ORPHANS_MAX];
	size_t n_orphans;
};

/* Bind to the client's address; if its port can't be had in there, to any. */
static int bind_as_client(int fd, const SpliceAddr *client, bool again)
{
	struct sockaddr_storage addr;
	SpliceAddr any_port = *client;
	socklen_t size = splice_addr_to_sockaddr(client, &addr);

	if (splice_bind(fd, &addr, size, again) == 0)
		return 0;
	any_port.port = 0;
	size = splice_addr_to_sockaddr(&any_port, &addr);
	return splice_bind(fd, &addr, size, again);
}

/* @p again: a predecessor may have come some way with it. @return as splice_connect() */
static int ask_guest(const SpliceFlow *flow, bool again)
{
	int fd = flow->fd[SPLICE_GUEST], r;
	const int on = 1;

	if (!splice_policy_guest_is_valid(&flow->guest))
		return -EADDRNOTAVAIL;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* only costs speed */
	r = bind_as_client(fd, &flow->remote, again);
	return r < 0 ? r : splice_connect(fd, &flow->guest);
}

static SpliceAddr forward_guest(const Forward *forward)
{
	struct in_addr ip;

	if (forward->family == AF_INET6)
		return (SpliceAddr){.ip = forward->guest_addr, .port = forward->guest_port};
	memcpy(&ip, &forward->guest_addr, sizeof(ip));
	return splice_addr_from_v4(ip, forward->guest_port);
}

static void ask(SpliceInbound *in, SpliceFlow *flow, bool again)
{
	int r = ask_guest(flow, again);

	if (r == -EINPROGRESS)
		r = splice_flows_watch_connect(in->c.flows, flow, SPLICE_GUEST);
	else if (r == 0)
		splice_flows_open(in->c.flows, flow);
	if (r < 0)
		splice_flows_end(in->c.flows, flow, true);
}

/* What can't be served is refused by a reset: better than an end of stream that looks like an empty answer (N-181). */
static void serve(SpliceInbound *in, const Forward *forward, int client_fd, const SpliceAddr *client)
{
	const int on = 1;
	SpliceFlow *f = NULL;
	int fd;

	fd = splice_nursery_take(in->c.nursery, forward->family);
	if (fd >= 0)
		f = splice_flows_take(in->c.flows);
	if (!f) {
		shortage_note(in->c.helper, fd < 0 ? fd : -ENOBUFS, SPLICE_FLOWS_MAX);
		fd_close(fd);
		splice_reset_close(client_fd);
		return;
	}
	f->inbound = true;
	f->family = forward->family;
	f->guest = forward_guest(forward);
	f->host = *client;
	f->remote = splice_policy_inbound(in->c.options, in->c.plan, &f->guest, client);
	f->fd[SPLICE_GUEST] = fd;
	f->fd[SPLICE_HOST] = client_fd;
	splice_table_saw_fd(in->c.table, client_fd);
	splice_flows_set_phase(f, SPLICE_ASKING);
	(void)setsockopt(client_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	splice_pacing_after(&in->pacing, client_fd, client);

	ask(in, f, false);
	if (!event_timer_is_armed(in->fill))
		event_timer_set(in->fill, FILL_DELAY_MS);
}

void splice_inbound_connected(SpliceInbound *in, SpliceFlow *flow, int error)
{
	if (error == 0)
		splice_flows_open(in->c.flows, flow);
	else
		splice_flows_end(in->c.flows, flow, true);
}

static void on_fill(void *data)
{
	SpliceInbound *in = data;

	if (!splice_nursery_fill(in->c.nursery, FILL_AT_ONCE))
		event_timer_set(in->fill, FILL_DELAY_MS);
}

static void on_pause_over(void *data)
{
	Port *port = data;

	(void)event_source_set_events(port->source, EPOLLIN);
}

static bool accept_one(Port *port)
{
	struct sockaddr_storage peer;
	socklen_t size = sizeof(peer);
	SpliceAddr client;
	int fd = accept4(port->forward->fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == ECONNABORTED || errno == EINTR)
			return true;
		if (errno != EAGAIN) {
			shortage_note(port->in->c.helper, -errno, 0);
			(void)event_source_mute(port->source);
			event_timer_set(port->pause, PAUSE_MS);
		}
		return false;
	}
	if (splice_addr_from_sockaddr((struct sockaddr *)&peer, &client))
		serve(port->in, port->forward, fd, &client);
	else
		splice_reset_close(fd);
	return true;
}

/* accept(2) makes a socket before it finds that nobody waits, so the next event tells; where many wait, more are taken at each. */
static void on_client(void *data, uint32_t events)
{
	Port *port = data;
	unsigned n = 0;

	(void)events;
	while (n < port->burst && accept_one(port))
		n++;
	port->burst = n < port->burst ? 1 : n < ACCEPT_MAX ? 2 * n : ACCEPT_MAX;
}

/* --- connections that nobody had entered --- */

static bool belongs_to(int fd, const Forward *forward)
{
	struct sockaddr_storage mine, listener;
	socklen_t size = sizeof(mine), listener_size = sizeof(listener);
	SpliceAddr a, b;

	if (getsockname(fd, (struct sockaddr *)&mine, &size) < 0 ||
		getsockname(forward->fd, (struct sockaddr *)&listener, &listener_size) < 0 ||
		!splice_addr_from_sockaddr((struct sockaddr *)&mine, &a) ||
		!splice_addr_from_sockaddr((struct sockaddr *)&listener, &b))
		return false;
	if (a.port != b.port || mine.ss_family != listener.ss_family)
		return false;
	return splice_addr_equal(&a, &b) || IN6_IS_ADDR_UNSPECIFIED(&b.ip) ||
	       (splice_addr_is_v4(&b) && splice_addr_v4(&b).s_addr == htonl(INADDR_ANY));
}

static void serve_orphans(SpliceInbound *in, const Forward *forward)
{
	size_t kept = 0;

	for (size_t i = 0; i < in->n_orphans; i++) {
		int fd = in->orphans[i];
		struct sockaddr_storage peer;
		socklen_t size = sizeof(peer);
		SpliceAddr client;

		if (!belongs_to(fd, forward)) {
			in->orphans[kept++] = fd;
			continue;
		}
		if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 &&
			splice_addr_from_sockaddr((struct sockaddr *)&peer, &client))
			serve(in, forward, fd, &client);
		else
			fd_close(fd);
	}
	in->n_orphans = kept;
}

static void on_orphan_timer(void *data)
{
	SpliceInbound *in = data;

	while (in->n_orphans > 0)
		splice_reset_close(in->orphans[--in->n_orphans]);
}

void splice_inbound_keep_orphan(SpliceInbound *in, int fd_take)
{
	if (in->n_orphans == ORPHANS_MAX) {
		splice_reset_close(fd_take);
		return;
	}
	in->orphans[in->n_orphans++] = fd_take;
	for (const Port *port = in->ports; port; port = port->next)
		serve_orphans(in, port->forward);
	if (in->n_orphans > 0)
		event_timer_set(in->orphan_timer, ORPHAN_MS);
}

/* --- ports --- */

int splice_inbound_add(void *engine, const Forward *forward)
{
	SpliceInbound *in = engine;
	Port *port;
	int r;

	if (forward->is_udp)
		return -EOPNOTSUPP;
	if (forward->family == AF_INET6 && !in->c.options->enable_ipv6)
		return -EOPNOTSUPP;
	port = calloc(1, sizeof(*port));
	if (!port)
		return -ENOMEM;
	port->in = in;
	port->forward = forward;
	port->burst = 1;
	port->pause = event_loop_add_timer(in->c.loop, PAUSE_MS, on_pause_over, port);
	event_timer_stop(port->pause);
	r = event_loop_add_fd(in->c.loop, forward->fd, EPOLLIN, on_client, port, &port->source);
	if (r < 0) {
		event_timer_free(port->pause);
		free(port);
		return r;
	}
	keep_alive_set(forward->fd, KEEP_ALIVE_HOST); /* for the clients that are accepted */
	splice_pacing_before(&in->pacing, forward->fd);
	port->next = in->ports;
	in->ports = port;
	serve_orphans(in, forward);
	return 0;
}

void splice_inbound_leave(SpliceInbound *in, const Forward *forward)
{
	splice_pacing_undo(&in->pacing, forward->fd);
}

static void port_free(Port *port)
{
	event_source_remove(port->source);
	event_timer_free(port->pause);
	free(port);
}

int splice_inbound_remove(void *engine, const Forward *forward)
{
	SpliceInbound *in = engine;

	for (Port **link = &in->ports; *link; link = &(*link)->next) {
		Port *port = *link;

		if (port->forward != forward)
			continue;
		*link = port->next;
		port_free(port);
		return 0;
	}
	return -ENOENT;
}

SpliceInbound *splice_inbound_new(const SpliceInboundConfig *config)
{
	SpliceInbound *in = calloc(1, sizeof(*in));

	if (!in)
		return NULL;
	in->c = *config;
	splice_pacing_init(&in->pacing);
	in->fill = event_loop_add_timer(config->loop, FILL_DELAY_MS, on_fill, in);
	event_timer_stop(in->fill);
	in->orphan_timer = event_loop_add_timer(config->loop, ORPHAN_MS, on_orphan_timer, in);
	event_timer_stop(in->orphan_timer);
	return in;
}

void splice_inbound_adopt(SpliceInbound *in)
{
	for (uint32_t i = 0; i < in->c.table->flows_top; i++) {
		SpliceFlow *f = &in->c.table->flows[i];

		if (f->phase == SPLICE_ASKING)
			ask(in, f, true);
	}
	event_timer_set(in->fill, 0); /* once we serve: who needs a socket before that makes it */
}

void splice_inbound_free(SpliceInbound *in)
{
	if (!in)
		return;
	on_orphan_timer(in);
	while (in->ports) {
		Port *port = in->ports;

		in->ports = port->next;
		port_free(port);
	}
	event_timer_free(in->fill);
	event_timer_free(in->orphan_timer);
	free(in);
}
