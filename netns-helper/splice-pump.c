/*
 * Theory of operation. splice(source → pipe) and splice(pipe → destination) alternate until one of them would block. A pipe is borrowed
 * for the time that bytes are in it: ten thousand idle connections need none. A direction whose destination is full keeps its pipe,
 * and with it at most one pipe of bytes; the rest waits in the source's socket, whose window closes: back-pressure is TCP's own.
 * Urgent bytes are sent as urgent bytes.
 */
#include "config.h"

#include "netns-helper/splice-private.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "netns-helper/splice-socket.h"

#define PUMP_BUDGET (2 << 20) /* bytes of one direction before the others have their turn */
#define SPLICE_MAX (1 << 20) /* bytes asked for in one splice; the pipe is what limits it */

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
			splice_flow_wait_until_writable(flows, flow, !side);
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

ssize_t splice_pump_out(SpliceFlows *flows, SpliceFlow *flow, int side)
{
	SpliceLocal *l = &flows->local[splice_flow_index(flows, flow)];
	SpliceHalf *half = &flow->half[side];
	ssize_t n = splice(splice_pipes_read_fd(flows->pipes, half->pipe), NULL, flow->fd[!side], NULL,
		l->in_pipe[side], SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0 && errno == EAGAIN) {
		splice_flow_wait_until_writable(flows, flow, !side);
		return 0;
	}
	if (n <= 0)
		return -1;
	l->in_pipe[side] -= (uint32_t)n;
	half->bytes += (uint64_t)n;
	return n;
}

bool splice_pump_in(SpliceFlows *flows, SpliceFlow *flow, int side, bool *ret_reset)
{
	SpliceLocal *l = &flows->local[splice_flow_index(flows, flow)];
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
	SpliceLocal *l = &flows->local[splice_flow_index(flows, flow)];
	SpliceHalf *half = &flow->half[side];
	size_t moved = 0;
	bool reset = false;

	while (moved < PUMP_BUDGET) {
		if (l->in_pipe[side] > 0) {
			ssize_t n = l->writable[!side] ? splice_pump_out(flows, flow, side) : 0;

			if (n < 0)
				return splice_teardown_reset(flows, flow, !side);
			if (n == 0 && !l->writable[!side])
				return PUMP_BLOCKED;
			moved += (size_t)n;
			continue;
		}
		if (half->flags & SPLICE_HALF_EOF) {
			splice_pipes_return(flows->pipes, half);
			return half->flags & SPLICE_HALF_DONE ? PUMP_BLOCKED : splice_teardown_half(flows, flow, side);
		}
		if (!l->readable[side] || !splice_pump_in(flows, flow, side, &reset)) {
			splice_pipes_return(flows->pipes, half);
			return reset ? splice_teardown_reset(flows, flow, side) : PUMP_BLOCKED;
		}
	}
	return PUMP_MORE;
}

void splice_pump(SpliceFlows *flows, SpliceFlow *flow)
{
	bool more = false;

	if (flows->local[splice_flow_index(flows, flow)].reset_tries) {
		(void)splice_teardown_go_on(flows, flow);
		return;
	}
	for (int side = 0; side < 2; side++) {
		PumpResult r = pump_half(flows, flow, side);

		if (r == PUMP_GONE || flows->local[splice_flow_index(flows, flow)].reset_tries)
			return;
		more |= r == PUMP_MORE;
	}
	if (more)
		splice_flow_queue(flows, splice_flow_index(flows, flow));
}
