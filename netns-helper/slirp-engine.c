/*
 * Theory of operation. One turn: ask the stack which sockets it wants polled, wait for these, the link and the event loop, then read
 * frames from the link until it has no more or SLIRP_FRAMES_PER_TURN are served, then let the stack serve its sockets, then the
 * loop its sources. No part can starve another: each has its share of every turn.
 *
 * The event loop is one descriptor in the poll set, and has a turn of its own only when that is readable or a timer is due.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "netns-helper/frame-filter.h"
#include "netns-helper/shortage.h"
#include "netns-helper/slirp-private.h"

#define LOOP_STEP_MAX_MS 500	   /* the loop has a turn at least this often while there is traffic: heartbeats */
#define STACK_CLOCK_MS 100
#define STACK_IDLE_MS 1000	   /* what slirp_pollfds_fill() leaves when it has no timer running */
#define WAIT_MAX_MS 60000
#define BARREN_TURNS_MAX 200	   /* then the turns are slowed down */
#define BARREN_PAUSE_MS 5
#define LISTENERS_REST_MS 100	   /* without a free descriptor: whoever waits at a listening socket goes on waiting (N-262) */
#define JANITOR_MS 5000
#define DHCP_SERVER_PORT 67
#define MEMORY_PEAK_MIN 32		   /* flows; fewer leave nothing worth the trouble */
#define JANITOR_HALF_CLOSED_MS 60000 /* a half-closed connection is probed after this, and then this often */
#define JANITOR_IDLE_MS 300000	   /* any other, the first time */
#define JANITOR_PROBES 5	   /* unanswered; then the guest is gone */

enum {
	POLL_LOOP,
	POLL_LINK,
	POLL_FIXED,
};

void slirp_engine_note_fd(SlirpEngine *engine, int fd)
{
	if (fd > atomic_load_explicit(&engine->shared->fd_high, memory_order_relaxed))
		atomic_store(&engine->shared->fd_high, fd);
}

void slirp_engine_count_socket(SlirpEngine *engine, int fd, bool open)
{
	if (fd < 0 || fd >= engine->fd_limit || !!(engine->is_socket[fd / 8] & 1 << fd % 8) == open)
		return;
	engine->is_socket[fd / 8] ^= (unsigned char)(1 << fd % 8);
	engine->n_sockets += open ? 1 : -1U;
}

bool slirp_engine_is_listener(const SlirpEngine *engine, int fd)
{
	return fd >= 0 && fd < engine->fd_limit && (engine->is_listener[fd / 8] & 1 << fd % 8);
}

/* --- the default link: a tap, or a bess client, whose messages are frames alike --- */

static ssize_t tap_read(void *data, void *buf, size_t size)
{
	ssize_t n = read(((SlirpEngine *)data)->tap, buf, size);

	return n < 0 ? -errno : n;
}

static ssize_t tap_write(void *data, const void *buf, size_t size)
{
	ssize_t n = write(((SlirpEngine *)data)->tap, buf, size);

	return n < 0 ? -errno : n;
}

/* N-143: say it once, and go on without it. */
void slirp_engine_link_is_gone(SlirpEngine *engine, int error)
{
	engine->link_gone = true;
	if (atomic_exchange(&engine->shared->tap_gone, 1) == 0)
		fprintf(stderr, "the guest's interface has gone (%s): no traffic from here on\n", strerror(error));
}

static void set_stack_clock(SlirpEngine *engine);

static void serve_link(SlirpEngine *engine)
{
	for (int i = 0; i < SLIRP_FRAMES_PER_TURN; i++) {
		ssize_t n = engine->io.read(engine->io.data, engine->frame, sizeof(engine->frame));

		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n == 0 && engine->helper->options->target_kind == TARGET_BESS) {
			engine->peer_gone = true;
			return;
		}
		if (n == -EBADFD || n == -EBADF || n == -ENXIO || n == -ENODEV) {
			slirp_engine_link_is_gone(engine, (int)-n);
			return;
		}
		if (n == -ECONNRESET || n == -ENOTCONN) {
			engine->peer_gone = true;
			return;
		}
		if (n <= 0)
			return; /* this frame is lost; link down (EIO) comes here too */
		engine->progress++;
		if (!engine->io.filter || engine->io.filter(engine->io.data, engine->frame, (size_t)n))
			slirp_engine_input(engine, engine->frame, (size_t)n);
	}
}

/* Opens a connection: TCP in IPv4 or IPv6, SYN without ACK. */
static bool is_syn(const uint8_t *frame, size_t size)
{
	size_t tcp = 0;

	if (size >= 34 && frame[12] == 0x08 && frame[13] == 0x00 && frame[23] == IPPROTO_TCP)
		tcp = ETH_HLEN + (frame[14] & 15) * 4U;
	else if (size >= 54 && frame[12] == 0x86 && frame[13] == 0xdd && frame[20] == IPPROTO_TCP)
		tcp = ETH_HLEN + 40;
	return tcp && size >= tcp + 20 && (frame[tcp + 13] & (TH_SYN | TH_ACK)) == TH_SYN;
}

/* --- what runs out (N-262) --- */

static bool has_free_descriptor(const SlirpEngine *engine)
{
	int fd = fcntl(event_loop_fd(engine->loop), F_DUPFD_CLOEXEC, 0);

	if (fd < 0) {
		shortage_note(engine->helper, -errno, 0);
		return false;
	}
	close(fd);
	return true;
}

static bool is_full(const SlirpEngine *engine)
{
	if (engine->n_sockets < SLIRP_SOCKETS_MAX)
		return false;
	shortage_note(engine->helper, -ENOBUFS, SLIRP_SOCKETS_MAX);
	return true;
}

/*
 * A frame that may make the stack open a socket: a connection, a session of UDP, an echo request (each is a session of its own). Not what
 * the stack answers by itself: ARP, neighbours, DHCP.
 */
static bool may_open(SlirpEngine *engine, const uint8_t *frame, size_t size)
{
	bool v4 = size >= 34 && frame[12] == 0x08 && frame[13] == 0x00, v6 = size >= 54 && frame[12] == 0x86 && frame[13] == 0xdd;
	uint8_t proto = v4 ? frame[23] : v6 ? frame[20] : IPPROTO_NONE;
	size_t l4 = ETH_HLEN + (v4 ? (frame[14] & 15) * 4U : 40);

	if (proto == IPPROTO_NONE || l4 + 8 > size)
		return false;
	if (proto == IPPROTO_ICMP || proto == IPPROTO_ICMPV6)
		return frame[l4] == (v4 ? ICMP_ECHO : ICMP6_ECHO_REQUEST);
	if (proto == IPPROTO_UDP && frame[l4 + 2] == 0 && frame[l4 + 3] == DHCP_SERVER_PORT)
		return false;
	return (engine->syn || proto == IPPROTO_UDP) && !flow_table_find(&engine->shared->flows, frame, size, true);
}

/*
 * Show it to the stack, unless that is full; then the guest is told what it is told when there are no descriptors. If the stack makes no
 * socket although it might have, that may be the reason, and has to be said.
 */
static void give_to_stack(SlirpEngine *engine, const uint8_t *frame, size_t size)
{
	unsigned n = engine->n_sockets;
	bool is_new;

	if (n >= SLIRP_SOCKETS_MAX && may_open(engine, frame, size) && is_full(engine)) {
		if (engine->syn)
			slirp_connect_refuse(engine, frame, size);
		return;
	}
	is_new = flow_table_see(&engine->shared->flows, frame, size, true, engine->now_ms);
	if (engine->syn)
		slirp_stack_hold_holes(engine);
	slirp_input(engine->slirp, frame, (int)size);
	if (is_new && engine->n_sockets <= n)
		(void)has_free_descriptor(engine);
}

void slirp_engine_input(SlirpEngine *engine, const uint8_t *frame, size_t size)
{
	if (size > SLIRP_FRAME_MAX || frame_filter_is_forged(frame, size))
		return;
	if (engine->io.fd < 0) {
		engine->now_ms = event_now_ms();
		set_stack_clock(engine);
	}
	if (ip_fragments_is_one(frame, size)) {
		if (!engine->fragments)
			engine->fragments = ip_fragments_new();
		frame = ip_fragments_add(engine->fragments, frame, size, engine->now_ms, &size);
		if (!frame)
			return;
	}
	engine->syn = is_syn(frame, size) ? frame : NULL;
	engine->syn_size = size;
	give_to_stack(engine, frame, size);
	engine->syn = NULL;
}

/* --- the stack's sockets --- */

static short to_poll(int events)
{
	return (short)((events & SLIRP_POLL_IN ? POLLIN : 0) | (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
		(events & SLIRP_POLL_PRI ? POLLPRI : 0));
}

static int from_poll(short events)
{
	return (events & POLLIN ? SLIRP_POLL_IN : 0) | (events & POLLOUT ? SLIRP_POLL_OUT : 0) |
	       (events & POLLPRI ? SLIRP_POLL_PRI : 0) | (events & (POLLERR | POLLNVAL) ? SLIRP_POLL_ERR : 0) |
	       (events & (POLLHUP | POLLNVAL) ? SLIRP_POLL_HUP : 0);
}

static int on_add_poll(int fd, int events, void *opaque)
{
	SlirpEngine *engine = opaque;

	if (engine->n_fds == engine->room) {
		engine->room *= 2;
		engine->fds = realloc(engine->fds, engine->room * sizeof(*engine->fds));
		if (!engine->fds)
			abort();
	}
	slirp_engine_note_fd(engine, fd);
	/* A client that cannot be accepted would make every poll return at once. */
	if ((engine->now_ms < engine->rest_until_ms || engine->n_sockets >= SLIRP_SOCKETS_MAX) && slirp_engine_is_listener(engine, fd))
		events = 0;
	engine->fds[engine->n_fds] = (struct pollfd){ .fd = fd, .events = to_poll(events) };
	return (int)engine->n_fds++;
}

static int on_get_revents(int index, void *opaque)
{
	SlirpEngine *engine = opaque;

	const struct pollfd *p;

	if (index < 0 || (size_t)index >= engine->n_fds)
		return 0;
	p = &engine->fds[index];
	if (engine->n_connecting && p->revents)
		slirp_connect_check(engine, p->fd);
	if (p->revents && slirp_engine_is_listener(engine, p->fd)) {
		if (is_full(engine) || !has_free_descriptor(engine)) {
			engine->rest_until_ms = engine->now_ms + LISTENERS_REST_MS;
			return 0;
		}
		slirp_stack_hold_holes(engine);
	}
	return from_poll(p->revents);
}

/* --- a turn --- */

static int wait_ms(const SlirpEngine *engine, uint32_t stack_ms)
{
	int loop_ms = event_loop_timeout(engine->loop);

	/* Nothing of the stack runs: its second of default patience need not be kept. */
	if (stack_ms >= STACK_IDLE_MS && engine->n_fds == POLL_FIXED)
		stack_ms = WAIT_MAX_MS;
	if (loop_ms >= 0 && (uint32_t)loop_ms < stack_ms)
		return loop_ms;
	return stack_ms < WAIT_MAX_MS ? (int)stack_ms : WAIT_MAX_MS;
}

/*
 * A descriptor that reports something which nobody takes would make a busy loop. Whatever its cause: slow it down.
 */
static void throttle(SlirpEngine *engine, bool barren)
{
	static const struct timespec pause = { .tv_nsec = BARREN_PAUSE_MS * 1000000L };

	if (!barren)
		engine->barren_turns = 0;
	else if (++engine->barren_turns > BARREN_TURNS_MAX)
		(void)nanosleep(&pause, NULL);
}

static int step_loop(SlirpEngine *engine)
{
	int r;

	if (!engine->fds[POLL_LOOP].revents && event_loop_timeout(engine->loop) != 0 &&
		engine->now_ms - engine->stepped_ms < LOOP_STEP_MAX_MS)
		return 0;
	engine->stepped_ms = engine->now_ms;
	r = event_loop_step(engine->loop, 0);
	if (r > 0)
		engine->progress += (unsigned)r;
	return r < 0 ? r : 0;
}

/*
 * The stack only learns the time in slirp_pollfds_poll(). After a long wait a session that a frame begins would be born expired. With an
 * "error" it does nothing else.
 */
static void set_stack_clock(SlirpEngine *engine)
{
	if (engine->now_ms - engine->polled_ms >= STACK_CLOCK_MS)
		slirp_pollfds_poll(engine->slirp, 1, on_get_revents, engine);
}

static void end_turn(SlirpEngine *engine)
{
	if (engine->io.flush)
		engine->io.flush(engine->io.data);
}

/* The stack has no sockets, and frames come through the loop: one system call less for each wake-up. */
static int loop_only_turn(SlirpEngine *engine, int timeout_ms)
{
	int r = event_loop_step(engine->loop, timeout_ms);

	engine->now_ms = engine->stepped_ms = engine->polled_ms = event_now_ms();
	slirp_pollfds_poll(engine->slirp, 0, on_get_revents, engine);
	end_turn(engine);
	return r < 0 ? r : 0;
}

int slirp_engine_turn(SlirpEngine *engine)
{
	uint32_t stack_ms = WAIT_MAX_MS;
	uint64_t progress = engine->progress;
	int n, r;

	engine->n_fds = POLL_FIXED;
	slirp_pollfds_fill(engine->slirp, &stack_ms, on_add_poll, engine);
	engine->fds[POLL_LOOP] = (struct pollfd){ .fd = event_loop_fd(engine->loop), .events = POLLIN };
	engine->fds[POLL_LINK] = (struct pollfd){ .fd = engine->link_gone ? -1 : engine->io.fd, .events = POLLIN };

	if (engine->io.fd < 0 && engine->n_fds == POLL_FIXED)
		return loop_only_turn(engine, wait_ms(engine, stack_ms));
	n = poll(engine->fds, engine->n_fds, wait_ms(engine, stack_ms));
	if (n < 0 && errno != EINTR && errno != EAGAIN && errno != ENOMEM)
		return -errno;
	engine->now_ms = event_now_ms();
	if (n < 0) {
		for (size_t i = 0; i < engine->n_fds; i++)
			engine->fds[i].revents = 0;
	}
	if (engine->fds[POLL_LINK].revents) {
		set_stack_clock(engine);
		serve_link(engine);
	}
	r = engine->io.fd < 0 ? step_loop(engine) : 0; /* here the frames come through the loop */
	/* After the frames: what they were waiting for (an ARP answer) is sent here. */
	slirp_pollfds_poll(engine->slirp, n < 0, on_get_revents, engine);
	engine->polled_ms = engine->now_ms;
	if (engine->io.fd >= 0)
		r = step_loop(engine);
	throttle(engine, n != 0 && engine->progress == progress);
	end_turn(engine);
	return r < 0 ? r : engine->peer_gone ? -EPIPE : 0;
}

/* --- connections that nobody ends --- */

/*
 * The stack has no keep-alive. A guest that has closed its half, or that vanished without a word, would leave it and its socket waiting for
 * a remote that may never speak (N-261). Asked by a bare ACK just below the window, a guest that still knows the connection
 * repeats its ACK, which changes nothing; one that does not answers with a reset, which ends it; and where nobody answers at all
 * we say it in the guest's place.
 */
static void probe(SlirpEngine *engine, Flow *flow)
{
	const uint8_t *our_mac = engine->helper->plan->gateway_mac.ether_addr_octet;
	uint8_t buf[FLOW_FRAME_MAX];

	if (flow->probes >= JANITOR_PROBES) {
		slirp_engine_input(engine, buf, flow_frame_reset(flow, our_mac, buf));
		return;
	}
	flow->last_ms = engine->now_ms;
	flow->probes++;
	(void)engine->io.write(engine->io.data, buf, flow_frame_ack(flow, our_mac, flow->seq - 1, buf));
}

static bool wants_probe(const Flow *flow, uint64_t now_ms)
{
	unsigned closed = flow->flags & (FLOW_GUEST_FIN | FLOW_REMOTE_FIN);
	uint64_t patience_ms = closed || flow->probes ? JANITOR_HALF_CLOSED_MS : JANITOR_IDLE_MS;

	return flow->proto == IPPROTO_TCP && (flow->flags & FLOW_ESTABLISHED) && closed != (FLOW_GUEST_FIN | FLOW_REMOTE_FIN) &&
	       now_ms - flow->last_ms >= patience_ms;
}

static void probe_idle(SlirpEngine *engine)
{
	Flow *flow;

	for (size_t i = 0; (flow = flow_table_next(&engine->shared->flows, &i));)
		if (wants_probe(flow, engine->now_ms))
			probe(engine, flow);
	if (engine->io.flush)
		engine->io.flush(engine->io.data);
}

/*
 * After a busy hour, when half of the flows have ended: what the stack's small allocations have left in the heap, and with the last flow
 * the table's pages. The large allocations go back by themselves (slirp_stack_new()).
 */
static void give_memory_back(SlirpEngine *engine, size_t flows)
{
	FlowTable *table = &engine->shared->flows;

	if (table->peak < MEMORY_PEAK_MIN || flows > table->peak / 2)
		return;
	table->peak = flows > MEMORY_PEAK_MIN ? (uint32_t)flows : MEMORY_PEAK_MIN;
	if (flows == 0) {
		table->peak = 0;
		flow_table_give_back(table);
	}
	slirp_stack_release_holes(engine);
	(void)malloc_trim(0);
}

static void on_janitor(void *data)
{
	SlirpEngine *engine = data;
	size_t flows;

	engine->now_ms = event_now_ms();
	flows = flow_table_expire(&engine->shared->flows, engine->now_ms);
	if (flows > 0)
		probe_idle(engine);
	give_memory_back(engine, flows);
	event_timer_set(engine->janitor, JANITOR_MS);
}

unsigned slirp_engine_reset_flows(SlirpEngine *engine)
{
	uint8_t buf[FLOW_FRAME_MAX];
	unsigned asked = 0;
	Flow *flow;

	if (engine->shared->flows.used == 0)
		return 0;
	for (size_t i = 0; (flow = flow_table_next(&engine->shared->flows, &i));) {
		bool asks = flow->proto == IPPROTO_TCP && (flow->flags & FLOW_ESTABLISHED);

		if (asks) {
			/* Answered by an ACK, which the new stack does not know and resets. */
			(void)engine->io.write(engine->io.data, buf,
				flow_frame_question(flow, engine->helper->plan->gateway_mac.ether_addr_octet, buf));
			asked++;
		} else {
			flow->flags = 0;
		}
	}
	/* The asked ones stay until their reset is seen: were we killed before the answer came, our successor asks again. */
	engine->shared->flows.used = asked;
	return asked;
}

/* --- life --- */

static int read_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > 1 << 24)
		return 1 << 20;
	return (int)limit.rlim_cur;
}

SlirpEngine *slirp_engine_new(const Helper *helper, EventLoop *loop, const FrameIo *io)
{
	SlirpEngine *engine = calloc(1, sizeof(*engine));

	if (!engine)
		return NULL;
	engine->helper = helper;
	engine->shared = helper->shared;
	engine->loop = loop;
	engine->tap = fd_store_get(helper->store, GUEST_LINK_TAP);
	engine->io = (FrameIo){ .fd = engine->tap, .read = tap_read, .write = tap_write, .data = engine };
	if (io)
		engine->io = *io;
	engine->link_gone = atomic_load(&engine->shared->tap_gone) != 0;
	engine->now_ms = engine->stepped_ms = event_now_ms();
	engine->fd_limit = read_fd_limit();
	engine->room = 64;
	engine->fds = calloc(engine->room, sizeof(*engine->fds));
	engine->is_listener = calloc(1, (size_t)engine->fd_limit / 8 + 1);
	engine->is_socket = calloc(1, (size_t)engine->fd_limit / 8 + 1);
	engine->slirp = engine->fds && engine->is_listener && engine->is_socket ? slirp_stack_new(engine) : NULL;
	if (!engine->slirp) {
		int saved = errno;

		slirp_engine_free(engine);
		errno = saved;
		return NULL;
	}
	if (slirp_stack_load(engine) < 0)
		fprintf(stderr, "DHCP leases of the predecessor could not be taken over; guests get new ones\n");
	engine->janitor = event_loop_add_timer(loop, JANITOR_MS, on_janitor, engine);
	return engine;
}

void slirp_engine_free(SlirpEngine *engine)
{
	if (!engine)
		return;
	if (engine->slirp)
		slirp_cleanup(engine->slirp);
	slirp_stack_release_holes(engine);
	event_timer_free(engine->janitor);
	free(engine->fds);
	free(engine->is_listener);
	free(engine->is_socket);
	free(engine->connecting);
	ip_fragments_free(engine->fragments);
	free(engine);
}
