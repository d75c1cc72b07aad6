/*
 * Theory of operation. Both sockets of a flow are in the worker's epoll set, edge-triggered, from the first to the last moment. An event
 * only marks a side as readable or writable; pump_half() then alternates between
 * splice(source → pipe) and splice(pipe → destination) until one of them would block. A pipe is borrowed for the time that bytes are in it:
 * ten thousand idle connections need none. A direction whose destination is full keeps its pipe, and with it at most one pipe of
 * bytes; the rest waits in the source's socket, whose window closes: back-pressure is TCP's own.
 *
 * What one end does, the other sees: end of stream as end of stream (the other direction goes on), reset as reset, after the
 * bytes that came before it. Urgent bytes are sent as urgent bytes.
 */
#include "config.h"

#include "netns-helper/splice-flow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "netns-helper/splice-pipes.h"
#include "netns-helper/splice-socket.h"

#define PUMP_BUDGET (2 << 20) /* bytes of one direction before the others have their turn */
#define SPLICE_MAX (1 << 20) /* bytes asked for in one splice; the pipe is what limits it */
#define RESET_TRIES 100 /* how often a reset waits for the other end to take what came before it */
#define RESET_STEP_MS 10
#define HALF_CLOSED_LOOK_MS                                                                                  \
	30000 /* a guest that has ended its stream is asked whether it is still there (N-261) */
#define NO_FLOW UINT32_MAX

/* What this process knows about a flow; a successor finds it out again. */
typedef struct {
	bool readable[2], writable[2], urgent[2], watched[2];
	bool told[2]; /* watched for EPOLLOUT, too: from the first time on that the side was full */
	bool queued; /* in the ready list */
	bool ending; /* in the list of those that are over */
	bool hung[2]; /* its socket is closed, and not because both sides had ended it: it was reset */
	bool probed; /* half closed, and asked for life signs */
	bool dry; /* nothing more will come from the side that was reset */
	uint8_t reset_tries; /* not 0: in the reset list */
	uint32_t in_pipe[2]; /* bytes, by source side */
	uint32_t next; /* in the ready, reset or ending list */
} Local;

struct SpliceFlows {
	SpliceTable *table;
	EventLoop *loop;
	SplicePipes *pipes;
	EventTimer *again; /* flows whose budget was used up */
	EventTimer *endings; /* flows that are over */
	EventTimer *resets; /* flows that wait before a reset */
	EventTimer *half_closed;
	SpliceConnectedFn connected;
	void *data;
	unsigned count;
	uint32_t ready_head, ready_tail;
	uint32_t reset_head;
	uint32_t ending_head;
	uint32_t n_free_flows;
	Local local[SPLICE_FLOWS_MAX];
	uint32_t free_flows[SPLICE_FLOWS_MAX]; /* stacks of indices */
};

static uint32_t index_of(const SpliceFlows *flows, const SpliceFlow *flow)
{
	return (uint32_t)(flow - flows->table->flows);
}

/* --- ready list --- */

static void queue_ready(SpliceFlows *flows, uint32_t i)
{
	Local *l = &flows->local[i];

	if (l->queued || l->reset_tries || l->ending)
		return;
	l->queued = true;
	l->next = NO_FLOW;
	if (flows->ready_head == NO_FLOW)
		flows->ready_head = i;
	else
		flows->local[flows->ready_tail].next = i;
	flows->ready_tail = i;
}

static void unlink_from(SpliceFlows *flows, uint32_t *head, uint32_t *tail, uint32_t i)
{
	uint32_t before = NO_FLOW;

	for (uint32_t j = *head; j != NO_FLOW; before = j, j = flows->local[j].next) {
		if (j != i)
			continue;
		if (before == NO_FLOW)
			*head = flows->local[i].next;
		else
			flows->local[before].next = flows->local[i].next;
		if (tail && *tail == i)
			*tail = before;
		return;
	}
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
	flows->count++;
	return f;
}

void splice_flows_put_back(SpliceFlows *flows, SpliceFlow *flow)
{
	flows->free_flows[flows->n_free_flows++] = index_of(flows, flow);
	flows->count--;
}

void splice_flows_set_phase(SpliceFlow *flow, SplicePhase phase)
{
	flow->since_ms = event_now_ms();
	atomic_store_explicit(&flow->phase, phase, memory_order_release);
}

static void close_side(SpliceFlow *flow, int side, bool reset)
{
	if (reset)
		splice_reset_close(flow->fd[side]);
	else
		fd_close(flow->fd[side]);
	flow->fd[side] = -1;
}

void splice_flows_end(SpliceFlows *flows, SpliceFlow *flow, bool reset)
{
	uint32_t i = index_of(flows, flow);
	Local *l = &flows->local[i];

	if (l->queued)
		unlink_from(flows, &flows->ready_head, &flows->ready_tail, i);
	if (l->reset_tries)
		unlink_from(flows, &flows->reset_head, NULL, i);
	flow->ends_with_reset = reset;
	if (l->ending)
		unlink_from(flows, &flows->ending_head, NULL, i);
	splice_flows_set_phase(flow, SPLICE_ENDING);
	for (int side = 0; side < 2; side++) {
		SpliceHalf *half = &flow->half[side];

		if (half->pipe && l->in_pipe[side])
			splice_pipes_empty(flows->pipes, half->pipe);
		splice_pipes_return(flows->pipes, half);
	}
	close_side(flow, SPLICE_GUEST, reset);
	close_side(flow, SPLICE_HOST, reset);
	splice_flows_set_phase(flow, SPLICE_FREE);
	memset(l, 0, sizeof(*l));
	splice_flows_put_back(flows, flow);
}

/*
 * What ended by itself has told both sides: only the descriptors are left to be closed, and nobody waits for that. So whatever else
 * there is to do comes first, the guest's next connection above all.
 */
static void end_soon(SpliceFlows *flows, SpliceFlow *flow)
{
	uint32_t i = index_of(flows, flow);
	Local *l = &flows->local[i];

	if (l->ending)
		return;
	if (l->queued) { /* both lists use the same link */
		unlink_from(flows, &flows->ready_head, &flows->ready_tail, i);
		l->queued = false;
	}
	l->ending = true;
	l->next = flows->ending_head;
	flows->ending_head = i;
	if (!event_timer_is_armed(flows->endings))
		event_timer_set(flows->endings, 0);
}

static void on_endings(void *data)
{
	SpliceFlows *flows = data;

	while (flows->ending_head != NO_FLOW)
		splice_flows_end(flows, &flows->table->flows[flows->ending_head], false);
}

static int watch_for(SpliceFlows *flows, SpliceFlow *flow, int side, uint32_t events)
{
	uint32_t i = index_of(flows, flow);
	Local *l = &flows->local[i];
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
	return flows->local[index_of(flows, flow)].watched[side] ? 0 : watch_for(flows, flow, side, 0);
}

int splice_flows_watch_connect(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	return watch_for(flows, flow, side, EPOLLOUT);
}

/* Most connections never fill a socket, and are spared the events of its getting empty. */
static void wait_until_writable(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	Local *l = &flows->local[index_of(flows, flow)];

	l->writable[side] = false;
	if (!l->told[side])
		(void)watch_for(flows, flow, side, EPOLLOUT); /* can't fail: it is being watched */
}

/* --- resets --- */

static void begin_reset(SpliceFlows *flows, SpliceFlow *flow)
{
	Local *l = &flows->local[index_of(flows, flow)];

	if (l->reset_tries)
		return;
	if (l->queued) { /* both lists use the same link */
		unlink_from(flows, &flows->ready_head, &flows->ready_tail, index_of(flows, flow));
		l->queued = false;
	}
	l->reset_tries = RESET_TRIES;
	l->next = flows->reset_head;
	flows->reset_head = index_of(flows, flow);
	if (!event_timer_is_armed(flows->resets))
		event_timer_set(flows->resets, RESET_STEP_MS);
}

/* The side that was reset. */
static int reset_source(const SpliceFlow *flow)
{
	return flow->half[SPLICE_GUEST].flags & SPLICE_HALF_RESET ? SPLICE_GUEST : SPLICE_HOST;
}

static bool is_ready_for_reset(const SpliceFlows *flows, const SpliceFlow *flow)
{
	const Local *l = &flows->local[index_of(flows, flow)];
	int source = reset_source(flow);

	return l->dry && l->in_pipe[source] == 0 && splice_has_taken_everything(flow->fd[!source]);
}

static void on_reset_timer(void *data)
{
	SpliceFlows *flows = data;
	uint32_t next;

	for (uint32_t i = flows->reset_head; i != NO_FLOW; i = next) {
		SpliceFlow *f = &flows->table->flows[i];
		Local *l = &flows->local[i];

		next = l->next;
		if (l->reset_tries > 1 && !is_ready_for_reset(flows, f)) {
			l->reset_tries--;
			continue;
		}
		splice_flows_end(flows, f, true);
	}
	if (flows->reset_head != NO_FLOW)
		event_timer_set(flows->resets, RESET_STEP_MS);
}

/* --- urgent data --- */

/*
 * splice(2) stops in front of an urgent byte. Pass it on as one, then take it out of the source's stream. The steps are in the
 * table: after a kill the destination's byte count tells whether it had been sent.
 *
 * @return whether the stream goes on behind it; false: no urgent byte here, or the destination is full
 */
static bool pass_urgent(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	SpliceHalf *half = &flow->half[side];
	int source = flow->fd[side], dest = flow->fd[!side], at_mark = 0;
	const int on = 1;
	char byte;

	(void)setsockopt(source, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	if (ioctl(source, SIOCATMARK, &at_mark) < 0 || !at_mark ||
		recv(source, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 1) {
		half->urgent = SPLICE_URGENT_NONE;
		return false;
	}
	if (half->urgent == SPLICE_URGENT_SENDING && splice_bytes_given_to(dest) != half->urgent_base)
		half->urgent = SPLICE_URGENT_SENT;
	if (half->urgent != SPLICE_URGENT_SENT) {
		half->urgent_base = splice_bytes_given_to(dest);
		half->urgent = SPLICE_URGENT_SENDING;
		if (send(dest, &byte, 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL) != 1) {
			wait_until_writable(flows, flow, !side);
			return false;
		}
		half->urgent = SPLICE_URGENT_SENT;
	}
	(void)recv(source, &byte, 1, MSG_DONTWAIT);
	half->urgent = SPLICE_URGENT_NONE;
	half->bytes++;
	return true;
}

/* --- moving bytes --- */

typedef enum {
	PUMP_BLOCKED, /* until an event */
	PUMP_MORE, /* budget used up */
	PUMP_GONE, /* the flow has ended */
} PumpResult;

/* Not at the moment of closing: most connections end soon after, and need none of this. */
static void on_half_closed(void *data)
{
	SpliceFlows *flows = data;

	for (uint32_t i = 0; i < flows->table->flows_top; i++) {
		SpliceFlow *f = &flows->table->flows[i];

		if (f->phase != SPLICE_OPEN || !(f->half[SPLICE_GUEST].flags & SPLICE_HALF_DONE) ||
			flows->local[i].probed)
			continue;
		flows->local[i].probed = true;
		splice_ask_for_life(f->fd[SPLICE_GUEST]);
	}
}

static PumpResult on_side_reset(SpliceFlows *flows, SpliceFlow *flow, int side);

static PumpResult end_half(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	SpliceHalf *half = &flow->half[side];

	if (flow->half[!side].flags & SPLICE_HALF_DONE) {
		end_soon(flows, flow); /* close() tells as well as shutdown() */
		return PUMP_BLOCKED;
	}
	(void)shutdown(flow->fd[!side], SHUT_WR); /* ENOTCONN: gone already, the other half will tell */
	half->flags |= SPLICE_HALF_DONE;
	if (flows->local[index_of(flows, flow)].hung[side])
		return on_side_reset(flows, flow, side); /* right behind its end; no event will tell again */
	if (side == SPLICE_GUEST && !event_timer_is_armed(flows->half_closed))
		event_timer_set(flows->half_closed, HALF_CLOSED_LOOK_MS);
	return PUMP_BLOCKED;
}

/* @return bytes moved out; 0: blocked; < 0: the destination was reset */
static ssize_t pump_out(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	Local *l = &flows->local[index_of(flows, flow)];
	SpliceHalf *half = &flow->half[side];
	ssize_t n = splice(splice_pipes_read_fd(flows->pipes, half->pipe), NULL, flow->fd[!side], NULL,
		l->in_pipe[side], SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0 && errno == EAGAIN) {
		wait_until_writable(flows, flow, !side);
		return 0;
	}
	if (n <= 0)
		return -1;
	l->in_pipe[side] -= (uint32_t)n;
	half->bytes += (uint64_t)n;
	return n;
}

/* @return whether there is more to do at once */
static bool pump_in(SpliceFlows *flows, SpliceFlow *flow, int side, bool *ret_reset)
{
	Local *l = &flows->local[index_of(flows, flow)];
	SpliceHalf *half = &flow->half[side];
	ssize_t n;

	if (half->pipe == 0 && !splice_pipes_borrow(flows->pipes, half))
		return false;
	n = splice(flow->fd[side], NULL, splice_pipes_write_fd(flows->pipes, half->pipe), NULL, SPLICE_MAX,
		SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	if (n > 0) {
		l->in_pipe[side] = (uint32_t)n;
		splice_pipes_saw(flows->pipes, half->pipe, (size_t)n);
		return true;
	}
	if (n == 0) {
		half->flags |= SPLICE_HALF_EOF;
		return true;
	}
	if (errno == EINTR)
		return true;
	if (errno != EAGAIN) {
		*ret_reset = true;
		return false;
	}
	if (l->urgent[side] && pass_urgent(flows, flow, side))
		return true;
	l->readable[side] = false;
	return false;
}

static PumpResult pump_half(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	Local *l = &flows->local[index_of(flows, flow)];
	SpliceHalf *half = &flow->half[side];
	size_t moved = 0;
	bool reset = false;

	while (moved < PUMP_BUDGET) {
		if (l->in_pipe[side] > 0) {
			ssize_t n = l->writable[!side] ? pump_out(flows, flow, side) : 0;

			if (n < 0)
				return on_side_reset(flows, flow, !side);
			if (n == 0 && !l->writable[!side])
				return PUMP_BLOCKED;
			moved += (size_t)n;
			continue;
		}
		if (half->flags & SPLICE_HALF_EOF) {
			splice_pipes_return(flows->pipes, half);
			return half->flags & SPLICE_HALF_DONE ? PUMP_BLOCKED : end_half(flows, flow, side);
		}
		if (!l->readable[side] || !pump_in(flows, flow, side, &reset)) {
			splice_pipes_return(flows->pipes, half);
			return reset ? on_side_reset(flows, flow, side) : PUMP_BLOCKED;
		}
	}
	return PUMP_MORE;
}

/* Before a reset only what had come from the side that was reset still moves. */
static PumpResult pump_before_reset(SpliceFlows *flows, SpliceFlow *flow)
{
	int source = reset_source(flow);
	Local *l = &flows->local[index_of(flows, flow)];
	bool reset = false;

	while (!l->dry || l->in_pipe[source] > 0) {
		if (l->in_pipe[source] > 0) {
			ssize_t n = l->writable[!source] ? pump_out(flows, flow, source) : 0;

			if (n < 0)
				break;
			if (n == 0 && !l->writable[!source])
				return PUMP_BLOCKED;
		} else if (!pump_in(flows, flow, source, &reset) ||
			   flow->half[source].flags & SPLICE_HALF_EOF) {
			l->dry = true;
		}
	}
	if (l->dry && !is_ready_for_reset(flows, flow))
		return PUMP_BLOCKED; /* the timer goes on */
	splice_flows_end(flows, flow, true);
	return PUMP_GONE;
}

/*
 * The socket of @p side was reset. Its peer gets what had come before, then a reset too. What waits for @p side has nowhere to go.
 */
static PumpResult on_side_reset(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	flow->half[side].flags |= SPLICE_HALF_RESET;
	begin_reset(flows, flow);
	return pump_before_reset(flows, flow);
}

static void pump(SpliceFlows *flows, SpliceFlow *flow)
{
	bool more = false;

	if (flows->local[index_of(flows, flow)].reset_tries) {
		(void)pump_before_reset(flows, flow);
		return;
	}
	for (int side = 0; side < 2; side++) {
		PumpResult r = pump_half(flows, flow, side);

		if (r == PUMP_GONE || flows->local[index_of(flows, flow)].reset_tries)
			return;
		more |= r == PUMP_MORE;
	}
	if (more)
		queue_ready(flows, index_of(flows, flow));
}

bool splice_flows_give_way(SpliceFlows *flows, SpliceFlow *flow)
{
	Local *l = &flows->local[index_of(flows, flow)];

	if (!l->ending && !l->reset_tries) {
		if (splice_is_closed(flow->fd[SPLICE_GUEST])) { /* in good order, but its event has not been looked at yet */
			l->readable[SPLICE_GUEST] = true;
			pump(flows, flow);
		} else {
			(void)on_side_reset(flows, flow, SPLICE_GUEST);
		}
	}
	if (l->ending)
		splice_flows_end(flows, flow, false);
	return flow->phase == SPLICE_FREE;
}

/* What is there already is reported by the first event, but for a side that was watched while it was connecting. */
void splice_flows_open(SpliceFlows *flows, SpliceFlow *flow)
{
	Local *l = &flows->local[index_of(flows, flow)];

	splice_flows_set_phase(flow, SPLICE_OPEN);
	flows->table->total++;
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
	queue_ready(flows, index_of(flows, flow));
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
	Local *l = &flows->local[i];

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
		(void)on_side_reset(flows, f, side); /* nothing more is read of it, which would tell */
	else
		pump(flows, f);
}

static void pump_ready(SpliceFlows *flows)
{
	uint32_t last = flows->ready_tail;

	while (flows->ready_head != NO_FLOW) {
		uint32_t i = flows->ready_head;

		flows->ready_head = flows->local[i].next;
		flows->local[i].queued = false;
		pump(flows, &flows->table->flows[i]);
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
		const Local *l = &flows->local[i];

		if (f->phase == SPLICE_OPEN && (l->readable[0] || l->readable[1]))
			pump(flows, f);
	}
}

static void after_events(void *data)
{
	SpliceFlows *flows = data;

	pump_ready(flows);
	wake_pipe_waiters(flows);
	if (flows->ready_head != NO_FLOW)
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
	uint32_t i = index_of(flows, flow);
	Local *l = &flows->local[i];

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
		begin_reset(flows, flow);
	queue_ready(flows, i);
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

	for (uint32_t i = 0; i < t->flows_top; i++) {
		flows->count += t->flows[i].phase != SPLICE_FREE;
		if (t->flows[i].phase == SPLICE_ENDING)
			t->flows[i].half[0].pipe = t->flows[i].half[1].pipe = 0;
	}
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

unsigned splice_flows_count(const SpliceFlows *flows)
{
	return flows->count;
}

SpliceFlows *splice_flows_new(SpliceTable *table, EventLoop *loop, SpliceConnectedFn connected, void *data)
{
	SpliceFlows *flows = calloc(1, sizeof(*flows));

	if (!flows)
		return NULL;
	flows->table = table;
	flows->loop = loop;
	flows->connected = connected;
	flows->data = data;
	flows->ready_head = flows->ready_tail = flows->reset_head = flows->ending_head = NO_FLOW;
	flows->pipes = splice_pipes_new(table, loop);
	if (!flows->pipes) {
		free(flows);
		return NULL;
	}
	event_loop_set_keyed(loop, on_flow_event, after_events, flows);
	flows->again = event_loop_add_timer(loop, 0, after_events, flows);
	event_timer_stop(flows->again);
	flows->resets = event_loop_add_timer(loop, 0, on_reset_timer, flows);
	event_timer_stop(flows->resets);
	flows->endings = event_loop_add_timer(loop, 0, on_endings, flows);
	event_timer_stop(flows->endings);
	flows->half_closed = event_loop_add_timer(loop, HALF_CLOSED_LOOK_MS, on_half_closed, flows);
	return flows;
}

void splice_flows_free(SpliceFlows *flows)
{
	if (!flows)
		return;
	event_timer_free(flows->again);
	event_timer_free(flows->resets);
	splice_pipes_free(flows->pipes);
	event_timer_free(flows->half_closed);
	event_timer_free(flows->endings);
	free(flows);
}
