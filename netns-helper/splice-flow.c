/*
 * Theory of operation. Both sockets of a flow are in the worker's epoll set, edge-triggered, from the first to the last moment. An event
 * marks a side as readable or writable, and then what can be moved is moved (splice-pump.c). What happens when a side ends is in
 * splice-teardown.c. Lists of flows are chained by index through SpliceLocal, which this process alone knows: a flow is in one at most.
 */
#include "config.h"

#include "netns-helper/splice-flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "netns-helper/splice-private.h"
#include "netns-helper/splice-socket.h"

/* --- lists --- */

void splice_flow_queue(SpliceFlows *flows, uint32_t i)
{
	SpliceLocal *l = &flows->local[i];

	if (l->queued || l->reset_tries || l->ending)
		return;
	l->queued = true;
	l->next = SPLICE_NO_FLOW;
	if (flows->ready_head == SPLICE_NO_FLOW)
		flows->ready_head = i;
	else
		flows->local[flows->ready_tail].next = i;
	flows->ready_tail = i;
}

void splice_flow_unlink(SpliceFlows *flows, uint32_t *head, uint32_t *tail, uint32_t i)
{
	uint32_t before = SPLICE_NO_FLOW;

	for (uint32_t j = *head; j != SPLICE_NO_FLOW; before = j, j = flows->local[j].next) {
		if (j != i)
			continue;
		if (before == SPLICE_NO_FLOW)
			*head = flows->local[i].next;
		else
			flows->local[before].next = flows->local[i].next;
		if (tail && *tail == i)
			*tail = before;
		return;
	}
}

void splice_flow_unqueue(SpliceFlows *flows, uint32_t i)
{
	if (!flows->local[i].queued)
		return;
	splice_flow_unlink(flows, &flows->ready_head, &flows->ready_tail, i);
	flows->local[i].queued = false;
}

/* --- life of an entry --- */

SpliceFlow *splice_flows_take(SpliceFlows *flows)
{
	SpliceFlow *f;
	uint32_t i;

	if (flows->n_free_flows > 0) {
		i = flows->free_flows[--flows->n_free_flows];
	} else {
		if (flows->table->flows_top >= SPLICE_FLOWS_MAX)
			return NULL;
		i = flows->table->flows_top;
		flows->table->flows_top = i + 1;
	}
	f = &flows->table->flows[i];
	memset(f, 0, sizeof(*f));
	f->fd[SPLICE_GUEST] = f->fd[SPLICE_HOST] = -1;
	memset(&flows->local[i], 0, sizeof(flows->local[i]));
	return f;
}

void splice_flows_put_back(SpliceFlows *flows, SpliceFlow *flow)
{
	flows->free_flows[flows->n_free_flows++] = splice_flow_index(flows, flow);
}

void splice_flows_set_phase(SpliceFlow *flow, SplicePhase phase)
{
	flow->since_ms = event_now_ms();
	atomic_store_explicit(&flow->phase, phase, memory_order_release);
}

static int watch_for(SpliceFlows *flows, SpliceFlow *flow, int side, uint32_t events)
{
	uint32_t i = splice_flow_index(flows, flow);
	SpliceLocal *l = &flows->local[i];
	int r = event_loop_watch_key(flows->loop, flow->fd[side], EPOLLIN | EPOLLPRI | EPOLLET | events,
		i << 1 | (unsigned)side, l->watched[side]);

	if (r < 0)
		return r;
	l->watched[side] = true;
	l->told[side] = events & EPOLLOUT;
	return 0;
}

static int watch(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	return flows->local[splice_flow_index(flows, flow)].watched[side] ? 0 : watch_for(flows, flow, side, 0);
}

int splice_flows_watch_connect(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	return watch_for(flows, flow, side, EPOLLOUT);
}

/* Most connections never fill a socket, and are spared the events of its getting empty. */
void splice_flow_wait_until_writable(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	SpliceLocal *l = &flows->local[splice_flow_index(flows, flow)];

	l->writable[side] = false;
	if (!l->told[side])
		(void)watch_for(flows, flow, side, EPOLLOUT); /* can't fail: it is being watched */
}

/* What is there already is reported by the first event, but for a side that was watched while it was connecting. */
void splice_flows_open(SpliceFlows *flows, SpliceFlow *flow)
{
	SpliceLocal *l = &flows->local[splice_flow_index(flows, flow)];

	splice_flows_set_phase(flow, SPLICE_OPEN);
	for (int side = 0; side < 2; side++) {
		l->writable[side] = true;
		l->readable[side] = l->watched[side];
		if (watch(flows, flow, side) < 0) {
			splice_flows_end(flows, flow, true);
			return;
		}
	}
	if (!l->readable[SPLICE_GUEST] && !l->readable[SPLICE_HOST])
		return;
	splice_flow_queue(flows, splice_flow_index(flows, flow));
	event_timer_set(flows->again, 0);
}

/* --- events --- */

static void on_connect_event(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (getsockopt(flow->fd[side], SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (error == 0 && !splice_is_connected(flow->fd[side]))
		return; /* an event of the entry's previous connection */
	flows->connected(flows->data, flow, error);
}

static bool is_connecting_side(const SpliceFlow *flow, int side)
{
	return (flow->phase == SPLICE_CONNECTING && side == SPLICE_HOST) ||
	       (flow->phase == SPLICE_ASKING && side == SPLICE_GUEST);
}

static void on_flow_event(void *data, uint32_t key, uint32_t events)
{
	SpliceFlows *flows = data;
	uint32_t i = key >> 1;
	int side = (int)(key & 1);
	SpliceFlow *f = &flows->table->flows[i];
	SpliceLocal *l = &flows->local[i];

	if (!l->watched[side] || l->ending)
		return; /* ended by an earlier event of the same wait */
	if (is_connecting_side(f, side)) {
		if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			on_connect_event(flows, f, side);
		return;
	}
	if (events & (EPOLLIN | EPOLLPRI | EPOLLERR | EPOLLHUP))
		l->readable[side] = true;
	if (events & EPOLLPRI)
		l->urgent[side] = true;
	if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
		l->writable[side] = true;
	if (f->phase != SPLICE_OPEN)
		return;
	if ((events & (EPOLLERR | EPOLLHUP)) && !(f->half[!side].flags & SPLICE_HALF_DONE))
		l->hung[side] = splice_is_closed(f->fd[side]);
	if (l->hung[side] && (f->half[side].flags & SPLICE_HALF_DONE) && !l->reset_tries)
		(void)splice_teardown_reset(flows, f, side); /* nothing more is read of it, which would tell */
	else
		splice_pump(flows, f);
}

static void pump_ready(SpliceFlows *flows)
{
	uint32_t last = flows->ready_tail;

	while (flows->ready_head != SPLICE_NO_FLOW) {
		uint32_t i = flows->ready_head;

		flows->ready_head = flows->local[i].next;
		flows->local[i].queued = false;
		splice_pump(flows, &flows->table->flows[i]);
		if (i == last)
			break; /* those that queued again have their turn next time */
	}
}

static void wake_pipe_waiters(SpliceFlows *flows)
{
	if (!splice_pipes_is_shortage_over(flows->pipes))
		return;
	for (uint32_t i = 0; i < flows->table->flows_top; i++) {
		SpliceFlow *f = &flows->table->flows[i];
		const SpliceLocal *l = &flows->local[i];

		if (f->phase == SPLICE_OPEN && (l->readable[0] || l->readable[1]))
			splice_pump(flows, f);
	}
}

static void after_events(void *data)
{
	SpliceFlows *flows = data;

	pump_ready(flows);
	wake_pipe_waiters(flows);
	if (flows->ready_head != SPLICE_NO_FLOW)
		event_timer_set(flows->again, 0);
}

/* --- taking over --- */

/*
 * A predecessor may have been told of a reset, by the error that the kernel tells once, and been killed before it wrote that down. A
 * socket that is closed though nobody has shut it down was reset; read again, it would look like an end of stream.
 */
static void note_reset(SpliceFlow *flow, int side)
{
	if (!(flow->half[!side].flags & SPLICE_HALF_DONE) && splice_is_closed(flow->fd[side]))
		flow->half[side].flags |= SPLICE_HALF_RESET;
}

static void adopt_open(SpliceFlows *flows, SpliceFlow *flow)
{
	uint32_t i = splice_flow_index(flows, flow);
	SpliceLocal *l = &flows->local[i];

	for (int side = 0; side < 2; side++) {
		SpliceHalf *half = &flow->half[side];
		int n = 0;

		if (half->pipe && ioctl(splice_pipes_read_fd(flows->pipes, half->pipe), FIONREAD, &n) == 0)
			l->in_pipe[side] = (uint32_t)n;
		l->urgent[side] = true;
		note_reset(flow, side);
	}
	for (int side = 0; side < 2; side++) {
		l->readable[side] = l->writable[side] = true;
		if (watch(flows, flow, side) < 0) {
			splice_flows_end(flows, flow, true);
			return;
		}
	}
	if ((flow->half[0].flags | flow->half[1].flags) & SPLICE_HALF_RESET)
		splice_teardown_begin_reset(flows, flow);
	splice_flow_queue(flows, i);
}

/*
 * Its descriptors may be closed, and their numbers given out again: only to something that is no TCP socket, so near to a death. What is
 * still open is closed the way it was going to be: an ordinary end has bytes on their way that a reset would throw away.
 */
static void adopt_ending(SpliceFlows *flows, SpliceFlow *flow)
{
	for (int side = 0; side < 2; side++) {
		flow->half[side].pipe = 0;
		if (flow->fd[side] >= 0 && !splice_is_tcp(flow->fd[side]))
			flow->fd[side] = -1;
	}
	splice_flows_end(flows, flow, flow->ends_with_reset);
}

unsigned splice_flows_adopt(SpliceFlows *flows)
{
	SpliceTable *t = flows->table;
	unsigned open = 0;

	for (uint32_t i = 0; i < t->flows_top; i++)
		if (t->flows[i].phase == SPLICE_ENDING)
			t->flows[i].half[0].pipe = t->flows[i].half[1].pipe = 0;
	splice_pipes_adopt(flows->pipes);
	for (uint32_t i = t->flows_top; i-- > 0;) {
		SpliceFlow *f = &t->flows[i];

		switch ((SplicePhase)f->phase) {
		case SPLICE_FREE:
			flows->free_flows[flows->n_free_flows++] = i;
			break;
		case SPLICE_CONNECTING:
		case SPLICE_ASKING:
		case SPLICE_INJECTED:
			break;
		case SPLICE_OPEN:
			adopt_open(flows, f);
			open++;
			break;
		case SPLICE_ENDING:
			adopt_ending(flows, f);
			break;
		}
	}
	event_timer_set(flows->again, 0);
	return open;
}

SpliceFlows *splice_flows_new(
	SpliceTable *table, SpliceKeep *keep, EventLoop *loop, SpliceConnectedFn connected, void *data)
{
	SpliceFlows *flows = calloc(1, sizeof(*flows));

	if (!flows)
		return NULL;
	flows->table = table;
	flows->keep = keep;
	flows->loop = loop;
	flows->connected = connected;
	flows->data = data;
	flows->ready_head = flows->ready_tail = SPLICE_NO_FLOW;
	flows->pipes = splice_pipes_new(table, keep, loop);
	if (!flows->pipes) {
		free(flows);
		return NULL;
	}
	event_loop_set_keyed(loop, on_flow_event, after_events, flows);
	flows->again = event_loop_add_timer(loop, 0, after_events, flows);
	event_timer_stop(flows->again);
	splice_teardown_init(flows);
	return flows;
}

void splice_flows_free(SpliceFlows *flows)
{
	if (!flows)
		return;
	event_timer_free(flows->again);
	splice_teardown_done(flows);
	splice_pipes_free(flows->pipes);
	free(flows);
}
