/*
 * Theory of operation. What one end does, the other sees: end of stream as end of stream (the other direction goes on), reset as
 * reset, after the bytes that came before it. Who has ended both ways is only closed, when there is time. A guest that has ended
 * its stream and then says nothing is asked sooner than others whether it is still there (N-261).
 */
#include "config.h"

#include "netns-helper/splice-private.h"

#include <string.h>
#include <sys/socket.h>

#include "common/fd-util.h"
#include "netns-helper/keep-alive.h"
#include "netns-helper/splice-socket.h"

#define RESET_TRIES 100 /* how often a reset waits for the other end to take what came before it */
#define RESET_STEP_MS 10
#define HALF_CLOSED_LOOK_MS 30000 /* not at the moment of closing: most connections end soon after */

/* --- ends --- */

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
	uint32_t i = splice_flow_index(flows, flow);
	SpliceLocal *l = &flows->local[i];

	splice_flow_unqueue(flows, i);
	if (l->reset_tries)
		splice_flow_unlink(flows, &flows->reset_head, NULL, i);
	if (l->ending)
		splice_flow_unlink(flows, &flows->ending_head, NULL, i);
	flow->ends_with_reset = reset;
	splice_flows_set_phase(flow, SPLICE_ENDING);
	for (int side = 0; side < 2; side++) {
		SpliceHalf *half = &flow->half[side];

		if (half->pipe && l->in_pipe[side])
			splice_pipes_empty(flows->pipes, half->pipe);
		splice_pipes_return(flows->pipes, half);
	}
	splice_keep_end(flows->keep, flow, reset);
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
	uint32_t i = splice_flow_index(flows, flow);
	SpliceLocal *l = &flows->local[i];

	if (l->ending)
		return;
	splice_flow_unqueue(flows, i);
	l->ending = true;
	l->next = flows->ending_head;
	flows->ending_head = i;
	if (!event_timer_is_armed(flows->endings))
		event_timer_set(flows->endings, 0);
}

static void on_endings(void *data)
{
	SpliceFlows *flows = data;

	while (flows->ending_head != SPLICE_NO_FLOW)
		splice_flows_end(flows, &flows->table->flows[flows->ending_head], false);
}

/* --- resets --- */

void splice_teardown_begin_reset(SpliceFlows *flows, SpliceFlow *flow)
{
	uint32_t i = splice_flow_index(flows, flow);
	SpliceLocal *l = &flows->local[i];

	if (l->reset_tries)
		return;
	splice_flow_unqueue(flows, i);
	l->reset_tries = RESET_TRIES;
	l->next = flows->reset_head;
	flows->reset_head = i;
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
	const SpliceLocal *l = &flows->local[splice_flow_index(flows, flow)];
	int source = reset_source(flow);

	return l->dry && l->in_pipe[source] == 0 && splice_has_taken_everything(flow->fd[!source]);
}

static void on_reset_timer(void *data)
{
	SpliceFlows *flows = data;
	uint32_t next;

	for (uint32_t i = flows->reset_head; i != SPLICE_NO_FLOW; i = next) {
		SpliceFlow *f = &flows->table->flows[i];
		SpliceLocal *l = &flows->local[i];

		next = l->next;
		if (l->reset_tries > 1 && !is_ready_for_reset(flows, f)) {
			l->reset_tries--;
			continue;
		}
		splice_flows_end(flows, f, true);
	}
	if (flows->reset_head != SPLICE_NO_FLOW)
		event_timer_set(flows->resets, RESET_STEP_MS);
}

PumpResult splice_teardown_go_on(SpliceFlows *flows, SpliceFlow *flow)
{
	int source = reset_source(flow);
	SpliceLocal *l = &flows->local[splice_flow_index(flows, flow)];
	SpliceHalf *half = &flow->half[source];
	bool reset = false, more;

	while (!l->dry || l->in_pipe[source] > 0) {
		if (l->in_pipe[source] > 0) {
			ssize_t n = l->writable[!source] ? splice_pump_out(flows, flow, source) : 0;

			if (n < 0)
				break;
			if (n == 0 && !l->writable[!source])
				return PUMP_BLOCKED;
			continue;
		}
		more = splice_pump_in(flows, flow, source, &reset);
		if (!more && half->pipe == 0)
			return PUMP_BLOCKED; /* no pipe is free: the bytes wait for one, as long as the reset does */
		l->dry = !more || half->flags & SPLICE_HALF_EOF;
	}
	if (l->dry && !is_ready_for_reset(flows, flow))
		return PUMP_BLOCKED; /* the timer goes on */
	splice_flows_end(flows, flow, true);
	return PUMP_GONE;
}

PumpResult splice_teardown_reset(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	flow->half[side].flags |= SPLICE_HALF_RESET;
	splice_teardown_begin_reset(flows, flow);
	return splice_teardown_go_on(flows, flow);
}

/* --- half-closed --- */

static void on_half_closed(void *data)
{
	SpliceFlows *flows = data;

	for (uint32_t i = 0; i < flows->table->flows_top; i++) {
		SpliceFlow *f = &flows->table->flows[i];

		if (f->phase != SPLICE_OPEN || !(f->half[SPLICE_GUEST].flags & SPLICE_HALF_DONE) ||
			flows->local[i].hurried)
			continue;
		flows->local[i].hurried = true;
		keep_alive_set(f->fd[SPLICE_GUEST], KEEP_ALIVE_GUEST_HALF_CLOSED);
	}
}

PumpResult splice_teardown_half(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	SpliceHalf *half = &flow->half[side];

	if (flow->half[!side].flags & SPLICE_HALF_DONE) {
		end_soon(flows, flow); /* close() tells as well as shutdown() */
		return PUMP_BLOCKED;
	}
	(void)shutdown(flow->fd[!side], SHUT_WR); /* ENOTCONN: gone already, the other half will tell */
	half->flags |= SPLICE_HALF_DONE;
	if (flows->local[splice_flow_index(flows, flow)].hung[side])
		return splice_teardown_reset(flows, flow, side); /* right behind its end; no event will tell again */
	if (side == SPLICE_GUEST && !event_timer_is_armed(flows->half_closed))
		event_timer_set(flows->half_closed, HALF_CLOSED_LOOK_MS);
	return PUMP_BLOCKED;
}

/* --- others --- */

bool splice_flows_give_way(SpliceFlows *flows, SpliceFlow *flow)
{
	SpliceLocal *l = &flows->local[splice_flow_index(flows, flow)];

	if (!l->ending && !l->reset_tries) {
		if (splice_is_closed(flow->fd[SPLICE_GUEST])) { /* in good order, but its event has not been looked at yet */
			l->readable[SPLICE_GUEST] = true;
			splice_pump(flows, flow);
		} else {
			(void)splice_teardown_reset(flows, flow, SPLICE_GUEST);
		}
	}
	if (l->ending)
		splice_flows_end(flows, flow, false);
	return flow->phase == SPLICE_FREE;
}

void splice_teardown_init(SpliceFlows *flows)
{
	flows->reset_head = flows->ending_head = SPLICE_NO_FLOW;
	flows->resets = event_loop_add_timer(flows->loop, 0, on_reset_timer, flows);
	event_timer_stop(flows->resets);
	flows->endings = event_loop_add_timer(flows->loop, 0, on_endings, flows);
	event_timer_stop(flows->endings);
	flows->half_closed = event_loop_add_timer(flows->loop, HALF_CLOSED_LOOK_MS, on_half_closed, flows);
}

void splice_teardown_done(SpliceFlows *flows)
{
	event_timer_free(flows->resets);
	event_timer_free(flows->endings);
	event_timer_free(flows->half_closed);
}
