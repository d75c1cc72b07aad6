/*
 * The monitor: every byte that the container or a client controls.
 *
 * Theory of operation. One loop, no threads, nothing that waits. Each wake-up does the same round: take new clients, read each stream into
 * its ring (source.h), let every sink and every client take what is new for it, move client input to the container. A
 * ring keeps what the slowest of them still needs. If it is full, its stream is not read (the container waits) until
 * the slowest has moved on, or has been found hopeless by its policy (sinks.c, attach.c) and loses the oldest half.
 *
 * All positions are in MonitorState, in shared memory, and every step is such that a successor can tell whether it happened. So the
 * monitor may be killed at any instant: the next one opens what is in the registry, finishes what was begun, and goes on.
 *
 * While the runtime creates the container its output is read, but held back: if creation fails it is the reason, else it
 * is the beginning of the container's output (C-62, C-86, C-88).
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "common/shared-memory.h"

#include "conmon/diag.h"
#include "conmon/monitor-private.h"

#define PIPE_SIZE_IDLE 65536	/* bytes; the kernel's default */
#define BUSY_READ 32768		/* a read of so much means that more is on its way */
#define CLIENTS_FIRST_MAX 4096	/* bytes; less looks like an answer that someone at a terminal waits for: see deliver_output() */
#define RATE_READ_MAX 8192	/* bytes; how far a stream with a limited rate may overdraw */
#define PTY_READ_MAX 4096	/* bytes; a terminal never has more at once, and splice(2) allocates for what it is asked */
#define PTY_READS 16		/* per wake-up: one record batch for so many reads */
#define SETTLE_MS 100	/* at most, for the journal to look at who sent what, before we are gone (C-171) */
#define SETTLE_LOOK_MS 2
#define DRAIN_TERMINAL_MAX (64 * 1024 * 1024)	/* bytes; a background process may write to the terminal for ever */

MonitorState *monitor_state_new(const ConmonOptions *options)
{
	static const size_t sizes[OWNERS] = {
		STREAM_RING_SIZE, STREAM_RING_SIZE, CONTROL_RING_SIZE, CONTROL_RING_SIZE,
	};
	MonitorState *st = shared_memory_new(sizeof(*st));
	LogStamp stamp;

	if (!st)
		abort();
	tzset();
	log_stamp_take(&stamp);	/* loads the time zone here, once for all processes */
	for (unsigned i = 0; i < OWNERS; i++)
		if (ring_init(&st->rings[i], sizes[i]) < 0)
			abort();
	if (!options->log_passthrough)
		sinks_prepare(st, options);
	return st;
}

void monitor_kick_reaper(Monitor *m)
{
	conmon_kick(m->conmon, FD_KICK_REAPER);
}

void monitor_look_later(Monitor *m)
{
	if (!event_timer_is_armed(m->stall_timer))
		event_timer_set(m->stall_timer, STALL_LOOK_MS);
}

/* --- room --- */

static uint64_t stream_tail(const Monitor *m, unsigned stream)
{
	uint64_t sinks, clients;

	if (!m->st->released)
		return m->st->hold_pos[stream];
	sinks = sinks_tail(m, stream);
	clients = attach_tail(m, stream);
	return sinks < clients ? sinks : clients;
}

size_t monitor_room(Monitor *m, unsigned stream)
{
	Ring *ring = &m->st->rings[stream];
	uint64_t tail = stream_tail(m, stream);

	if (tail == ring_head(ring)) {
		ring_rewind(ring);
		return ring->size;
	}
	if (ring_free(ring, tail) >= READ_MIN)
		return ring_free(ring, tail);
	if (!m->st->released)
		return 0;
	/* Both are asked: each drops what its hopeless ones hold. */
	(void)sinks_make_room(m, stream, tail);
	attach_make_room(m, stream, tail);
	return ring_free(ring, stream_tail(m, stream));
}

void monitor_unmute(Monitor *m)
{
	for (unsigned s = 0; s < STREAMS; s++) {
		Stream *stream = &m->streams[s];

		if (!stream->is_muted || monitor_room(m, s) < READ_MIN)
			continue;
		stream->is_muted = false;
		stream->is_ready = true;
		m->again = true;
		(void)event_source_set_events(stream->source, EPOLLIN);
	}
}

static void stream_mute(Monitor *m, Stream *stream)
{
	stream->is_muted = true;
	stream->is_ready = false;
	(void)event_source_mute(stream->source);
	monitor_look_later(m);
}

/* --- reading --- */

static void on_stream(void *data, uint32_t events)
{
	Stream *stream = data;

	(void)events;
	stream->is_ready = true;
}

/* No slave is open, or the stream has used up its rate: the kernel would report it without end. Look again from time to time (C-95). */
static void on_poll_timer(void *data)
{
	Stream *stream = data;

	if (stream->fd < 0 || stream->is_muted)
		return;
	stream->is_ready = true;
	(void)event_source_set_events(stream->source, EPOLLIN);
}

int monitor_add_stream(Monitor *m, unsigned number, int fd, bool is_pty)
{
	Stream *stream = &m->streams[number];
	int r;

	if (stream->fd >= 0)
		return 0;
	stream->m = m;
	stream->stream = number;
	r = event_loop_add_fd(m->loop, fd, EPOLLIN, on_stream, stream, &stream->source);
	if (r < 0)
		return r;
	stream->fd = fd;
	stream->is_pty = is_pty;
	stream->pipe_size = is_pty ? 0 : fcntl(fd, F_GETPIPE_SZ);
	return 0;
}

static const char *stream_name(const Stream *stream)
{
	return stream->is_pty ? FD_CONSOLE : stream->stream == STREAM_OUT ? FD_STDOUT : FD_STDERR;
}

static void stream_close(Monitor *m, Stream *stream)
{
	if (stream->fd < 0)
		return;
	event_source_remove(stream->source);
	stream->source = NULL;
	stream->fd = -1;
	stream->is_ready = stream->is_muted = stream->was_full = false;
	fd_store_close(m->store, stream_name(stream));
}

/*
 * A busy writer gets larger pipes, so that each wake-up moves more. A full pipe may hold as little as half of its size: what does not fit into
 * the rest of a page begins the next one. The kernel may refuse: an ordinary user has a budget for all.
 */
static void stream_grow(Monitor *m, Stream *stream, size_t got)
{
	if (stream->pipe_size <= 0 || stream->pipe_size >= READ_MAX || got < (size_t)stream->pipe_size / 2)
		return;
	if (fcntl(stream->fd, F_SETPIPE_SZ, READ_MAX) >= 0)
		(void)stage_resize(&m->st->stage, READ_MAX);
	stream->pipe_size = READ_MAX;	/* tried */
}

static void stream_pause(Monitor *m, Stream *stream, uint64_t delay_ms)
{
	(void)event_source_mute(stream->source);
	stream->is_ready = false;
	if (!stream->poll_timer)
		stream->poll_timer = event_loop_add_timer(m->loop, delay_ms, on_poll_timer, stream);
	else
		event_timer_set(stream->poll_timer, delay_ms);
}

/* Whether the stream must not be read now: it is in debt, and the policy is to wait. */
static bool rate_holds(Monitor *m, Stream *stream)
{
	const ConmonOptions *o = m->conmon->options;
	uint64_t wait_ms;

	if (!rate_is_limited(o) || o->log_rate_drops || m->is_draining || !m->st->released)
		return false;
	wait_ms = rate_wait_ms(&m->st->rates[stream->stream], o, event_now_ms());
	if (wait_ms > 0)
		stream_pause(m, stream, wait_ms);
	return wait_ms > 0;
}

/* @size bytes have been read: pay for them, or leave them out. */
static void rate_take(Monitor *m, unsigned number, size_t size)
{
	const ConmonOptions *o = m->conmon->options;
	const Ring *ring = &m->st->rings[number];

	if (!rate_is_limited(o))
		return;
	if (o->log_rate_drops && rate_wait_ms(&m->st->rates[number], o, event_now_ms()) > 0)
		sinks_drop_new(m, number, size);
	else
		rate_pay(&m->st->rates[number], o, ring_at(ring, ring_head(ring) - size), size);
}

static void stream_ended(Monitor *m, Stream *stream, int error)
{
	if (error == -EIO && stream->is_pty) {
		stream_pause(m, stream, PTY_POLL_MS);
		return;
	}
	if (error < 0)
		diag_warn_errno(error, "Failed to read %s of the container:", stream_name(stream));
	stream_close(m, stream);
}

/* A terminal gives little at a time. @return bytes or what stage_fill() says if there were none */
static ssize_t stream_fill(Monitor *m, const Stream *stream, size_t room)
{
	Ring *ring = &m->st->rings[stream->stream];
	size_t got = 0;
	ssize_t n;

	if (!stream->is_pty)
		return stage_fill(&m->st->stage, stream->stream, stream->fd, ring, room < READ_MAX ? room : READ_MAX);
	for (int i = 0; i < PTY_READS && room - got >= PTY_READ_MAX; i++) {
		n = stage_fill(&m->st->stage, stream->stream, stream->fd, ring, PTY_READ_MAX);
		if (n <= 0)
			return got > 0 ? (ssize_t)got : n;
		got += (size_t)n;
	}
	return (ssize_t)got;
}

/* @return bytes, 0 when there is nothing (more) for now, or for good */
static size_t stream_read(Monitor *m, unsigned number)
{
	Stream *stream = &m->streams[number];
	size_t room = monitor_room(m, number);
	ssize_t n;

	stream->was_full = false;
	if (room == 0 && !m->st->released) {
		failure_text_make(m);	/* what would be quoted is here; no need to hold back more */
		m->st->released = 1;
		m->again = true;
		return 0;
	}
	if (room < READ_MIN) {
		stream_mute(m, stream);
		return 0;
	}
	if (rate_holds(m, stream))
		return 0;
	if (rate_is_limited(m->conmon->options) && room > RATE_READ_MAX)
		room = RATE_READ_MAX;
	attach_accept(m);	/* C-112 */
	n = stream_fill(m, stream, room);
	stream->is_ready = false;	/* the poll is level-triggered */
	if (n == -EAGAIN)
		return 0;
	if (n <= 0) {
		stream_ended(m, stream, (int)n);
		return 0;
	}
	/* A line that may yet turn out to be beyond the rate is not shown half. */
	stream->was_full = n >= (rate_is_limited(m->conmon->options) ? RATE_READ_MAX : BUSY_READ);
	stream_grow(m, stream, (size_t)n);
	rate_take(m, number, (size_t)n);
	return (size_t)n;
}

/* --- idleness: no page more than needed --- */

static void on_idle(void *data)
{
	Monitor *m = data;
	uint64_t idle_ms = event_now_ms() - m->active_ms;

	if (idle_ms < IDLE_MS) {
		event_timer_set(m->idle_timer, IDLE_MS - idle_ms);
		return;
	}
	for (unsigned s = 0; s < STREAMS; s++) {
		Ring *ring = &m->st->rings[s];
		Stream *stream = &m->streams[s];

		if (m->st->released && stream_tail(m, s) == ring_head(ring) && ring_head(ring) > 0)
			ring_discard(ring);
		if (stream->fd >= 0 && stream->pipe_size > PIPE_SIZE_IDLE) {
			(void)fcntl(stream->fd, F_SETPIPE_SZ, PIPE_SIZE_IDLE);
			(void)stage_resize(&m->st->stage, PIPE_SIZE_IDLE);
			stream->pipe_size = fcntl(stream->fd, F_GETPIPE_SZ);
		}
	}
	(void)madvise(m->log.out, LOG_OUT_SIZE, MADV_DONTNEED);
}

static void note_activity(Monitor *m)
{
	m->active_ms = event_now_ms();
	if (!event_timer_is_armed(m->idle_timer))
		event_timer_set(m->idle_timer, IDLE_MS);
}

/* --- the round of one wake-up --- */

static void on_stall_timer(void *data)
{
	Monitor *m = data;
	uint64_t now_ms = event_now_ms();

	(void)sinks_look_for_stalls(m, now_ms);
	(void)attach_look_for_stalls(m, now_ms);
	/* whoever still waits arms it again */
}

static void on_tell_timer(void *data)
{
	sinks_tell(data);
}

/*
 * First the logs, then the clients (C-98), but for small amounts the other way round: the write to a file costs more than everything else
 * together, and the log has the bytes in the same wake-up anyway. Measured: 47 against 55 microseconds from write to client.
 */
static void deliver_output(Monitor *m, bool finish, bool clients_first)
{
	if (!m->st->released)
		return;
	if (clients_first && attach_send(m))
		monitor_look_later(m);
	for (unsigned s = 0; s < STREAMS; s++) {
		LogUrgency urgency = finish ? LOG_FINISH : m->streams[s].was_full ? LOG_HOLD : LOG_SHOW;

		sinks_pump(m, s, urgency);
	}
	if (!clients_first && attach_send(m))
		monitor_look_later(m);
}

static void monitor_round(Monitor *m)
{
	size_t got = 0;

	m->again = false;
	m->log.stamp_is_fresh = false;
	for (unsigned s = 0; s < STREAMS; s++) {
		Stream *stream = &m->streams[s];

		if (stream->is_ready && stream->fd >= 0 && !stream->is_muted)
			got += stream_read(m, s);
		else
			stream->was_full = false;
		if (stream->was_full)
			m->again = true;	/* the end of its last line is shown in the next round, come what may */
	}
	if (got > 0)
		note_activity(m);
	deliver_output(m, false, got < CLIENTS_FIRST_MAX);
	monitor_unmute(m);
	input_serve(m);
	for (unsigned s = 0; s < STREAMS; s++)
		if (m->streams[s].is_muted)
			monitor_look_later(m);
}

/* --- the end --- */

/* Where the last read of a stream is to stop: what is there now. A background process may go on writing (C-188). */
static uint64_t drain_bound(const Monitor *m, unsigned number)
{
	const Stream *stream = &m->streams[number];
	uint64_t head = ring_head(&m->st->rings[number]);
	int queued = 0;

	if (stream->is_pty)
		return head + DRAIN_TERMINAL_MAX;
	if (ioctl(stream->fd, FIONREAD, &queued) < 0)
		return head;
	return head + (uint64_t)queued;
}

/* @return whether the stream has been read to where it ended when the container did */
static bool drain_stream(Monitor *m, unsigned number)
{
	Stream *stream = &m->streams[number];
	MonitorState *st = m->st;

	if (stream->fd < 0)
		return true;
	if (!st->drain_bound[number])
		st->drain_bound[number] = drain_bound(m, number) + 1;	/* + 1: never 0 */
	while (ring_head(&st->rings[number]) + 1 < st->drain_bound[number]) {
		if (stream_read(m, number) == 0)
			return !stream->is_muted;	/* nothing more, or no room yet */
		deliver_output(m, false, false);
	}
	return true;
}

/* One that was given up because it took nothing, but takes something now, gets its chance. */
static bool sink_is_waited_for(const LogSink *sink, bool is_patient, uint64_t now_ms)
{
	return !sink->error || is_patient ||
		(sink->error == ETIMEDOUT && (!sink->stalled_ms || now_ms - sink->stalled_ms < LOG_LAST_CHANCE_MS));
}

static bool sinks_are_drained(const Monitor *m)
{
	uint64_t now_ms = event_now_ms();
	bool is_patient = m->conmon->options->log_error_blocks && now_ms - m->drain_ms < LOG_BLOCK_DRAIN_MS;

	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		const LogSink *sink = &m->st->sinks[i];

		if (!sink_is_waited_for(sink, is_patient, now_ms))
			continue;
		if (sink->is_full && sink->lost_bytes != sink->noted_bytes)
			return false;
		for (unsigned s = 0; s < STREAMS; s++)
			if (log_mark_pos(sink->mark[s]) != ring_head(&m->st->rings[s]))
				return false;
	}
	return true;
}

/* A log whose receiver has stopped would be waited for until the reaper loses patience. */
static void drain_look_for_stalls(Monitor *m)
{
	uint64_t now_ms = event_now_ms();

	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		LogSink *sink = &m->st->sinks[i];

		if (sink->stalled_ms && now_ms - sink->stalled_ms >= LOG_LAST_CHANCE_MS && !sink->error)
			sink->error = ETIMEDOUT;
	}
}

static void finish(Monitor *m)
{
	sinks_give_up_rest(m);
	sinks_sync(m);	/* C-153 */
	attach_close_all(m);
	for (unsigned s = 0; s < STREAMS; s++)
		stream_close(m, &m->streams[s]);
	fd_store_close(m->store, FD_CONSOLE_IN);
	fd_store_close(m->store, FD_STDIN);
	atomic_store(&m->conmon->shared->drain_done, 1);
	supervise_retire(m->conmon->sv);
	monitor_kick_reaper(m);
	m->done = true;
}

/*
 * The journal reads name and unit of a sender from /proc when it takes a datagram. It gets a moment, and another one for the datagram that it
 * has taken last. @return whether it has had them
 */
static bool has_settled(Monitor *m)
{
	uint64_t now_ms = event_now_ms();

	if (!sinks_have_datagrams(m))
		return true;
	if (!m->settle_ms)
		m->settle_ms = now_ms;
	if (now_ms - m->settle_ms >= SETTLE_MS || (m->is_settled && now_ms - m->settle_ms >= SETTLE_LOOK_MS))
		return true;
	m->is_settled = sinks_are_settled(m);
	event_timer_set(m->stall_timer, SETTLE_LOOK_MS);
	return false;
}

/* The container has ended: C-189.2, C-122, C-154. Called in every round until all is out. */
static void monitor_drain(Monitor *m)
{
	const ConmonShared *shared = m->conmon->shared;
	bool at_once = shared->drain_wanted > 1, is_read = true;

	if (!m->is_draining) {
		m->is_draining = true;
		m->drain_ms = event_now_ms();
		if (shared->payload_pid)
			m->st->released = 1;
		for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++)
			m->st->clients[i].is_behind = 0;	/* a last chance */
		for (unsigned i = 0; i < m->st->n_sinks; i++) {	/* the same for logs */
			m->st->sinks[i].retry_ms = 0;
			if (m->st->sinks[i].stalled_ms)
				m->st->sinks[i].stalled_ms = m->drain_ms;
		}
	}
	for (unsigned s = 0; s < STREAMS; s++)
		is_read = drain_stream(m, s) && is_read;
	deliver_output(m, is_read, false);
	monitor_unmute(m);
	drain_look_for_stalls(m);
	if (sinks_await(m))
		event_timer_set(m->stall_timer, SETTLE_LOOK_MS);
	else
		monitor_look_later(m);
	if (at_once || !m->st->released)
		finish(m);
	else if (is_read && sinks_are_drained(m) && attach_is_drained(m) && has_settled(m))
		finish(m);
}

/* Creation has failed: hand over the reason. */
static void serve_failure(Monitor *m)
{
	if (m->conmon->shared->failure_ready)
		return;
	(void)drain_stream(m, STREAM_ERR);
	failure_text_make(m);
	atomic_store(&m->conmon->shared->failure_ready, 1);
	monitor_kick_reaper(m);
}

static void look_at_requests(Monitor *m)
{
	const ConmonShared *shared = m->conmon->shared;

	if (shared->payload_pid && !m->st->released) {
		m->st->released = 1;
		m->again = true;	/* what was held back goes out */
	}
	if (shared->failure_wanted)
		serve_failure(m);
	if (shared->drain_wanted)
		monitor_drain(m);
}

static void on_kick(void *data, uint32_t events)
{
	Monitor *m = data;
	const ConmonShared *shared = m->conmon->shared;
	uint64_t count;

	(void)events;
	(void)!read(fd_store_get(m->store, FD_KICK_MONITOR), &count, sizeof(count));
	if (m->conmon->options->terminal && !shared->runtime_running && !shared->payload_pid && !shared->failure_wanted)
		console_look(m);
}

/* --- beginning --- */

static int add_pipe(Monitor *m, unsigned number, const char *name)
{
	int fd = fd_store_get(m->store, name);

	return fd < 0 ? 0 : monitor_add_stream(m, number, fd, false);
}

/* Finish the system calls that a predecessor did not come back from. */
static int recover(Monitor *m)
{
	Ring *rings[OWNERS];
	ExactTicket ticket;
	ssize_t n;

	for (unsigned i = 0; i < OWNERS; i++)
		rings[i] = &m->st->rings[i];
	n = stage_recover(&m->st->stage, rings, OWNERS);
	if (n < 0)
		return (int)n;
	if (exact_send_recover(&m->st->send, &ticket)) {
		if (ticket.owner < LOG_SINKS_MAX)
			sinks_commit(m, &ticket);
		else
			attach_commit(m, &ticket);
		exact_send_done(&m->st->send);
	}
	return 0;
}

static int open_memory(Monitor *m)
{
	m->log.out = mmap(NULL, LOG_OUT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->log.out == MAP_FAILED)
		return -errno;
	m->log.options = m->conmon->options;
	m->log.store = m->store;
	m->log.loop = m->loop;
	m->log.events = m->conmon->events;
	m->log.send = &m->st->send;
	for (unsigned s = 0; s < STREAMS; s++)
		m->log.rings[s] = &m->st->rings[s];
	return 0;
}

static int monitor_open(Monitor *m)
{
	int kick = fd_store_get(m->store, FD_KICK_MONITOR), r;

	m->stall_timer = event_loop_add_timer(m->loop, 0, on_stall_timer, m);
	event_timer_stop(m->stall_timer);
	m->tell_timer = event_loop_add_timer(m->loop, 0, on_tell_timer, m);
	event_timer_stop(m->tell_timer);
	m->idle_timer = event_loop_add_timer(m->loop, IDLE_MS, on_idle, m);
	m->active_ms = event_now_ms();
	if ((r = open_memory(m)) < 0 || (r = stage_open(&m->st->stage, m->store, "stage")) < 0 ||
			(r = exact_send_open(&m->st->send, m->store, "send")) < 0 || (r = recover(m)) < 0)
		return r;
	sinks_open(m);
	if ((r = attach_open(m)) < 0 || (r = control_open(m)) < 0 || (r = console_open(m)) < 0 ||
			(r = input_open(m)) < 0 || (r = notify_relay_open(m)) < 0)
		return r;
	if (!m->conmon->options->terminal && (r = add_pipe(m, STREAM_OUT, FD_STDOUT)) < 0)
		return r;
	if ((r = add_pipe(m, STREAM_ERR, FD_STDERR)) < 0)
		return r;
	return kick < 0 ? 0 : event_loop_add_fd(m->loop, kick, EPOLLIN, on_kick, m, NULL);
}

static const char *restored_words(const Monitor *m, unsigned restarts, char *text, size_t size)
{
	unsigned clients = 0;

	if (restarts == 0)
		return "";
	for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++)
		clients += m->st->clients[i].is_used ? 1 : 0;
	snprintf(text, size, "stdio, %u log%s, %u attached client%s", m->st->n_sinks, m->st->n_sinks == 1 ? "" : "s", clients,
		clients == 1 ? "" : "s");
	return text;
}

static int monitor_loop(Monitor *m)
{
	while (!m->done) {
		int r = event_loop_step(m->loop, m->again ? 0 : -1);

		if (r < 0)
			return r;
		monitor_round(m);
		look_at_requests(m);
	}
	return 0;
}

int monitor_run(const Conmon *conmon, MonitorState *state, unsigned restarts, unsigned step)
{
	/* not on the heap, whose pages are shared with the other processes until someone writes to them */
	Monitor *m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char words[128];
	int r;

	(void)step;	/* there is nothing that it could do without */
	if (m == MAP_FAILED)
		return 1;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);	/* a file size limit is an error of write(2) like a full disk */
	m->conmon = conmon;
	m->restarts = restarts;
	m->st = state;
	m->store = conmon->store;
	m->listen_fd = m->input_fd = m->input_r = m->input_w = -1;
	for (unsigned s = 0; s < STREAMS; s++)
		m->streams[s].fd = -1;
	m->loop = event_loop_new(m->store, "monitor");
	if (!m->loop)
		return 1;
	r = supervise_attach_loop(conmon->sv, m->loop);
	if (r >= 0)
		r = monitor_open(m);
	if (r < 0) {
		diag_error_errno(r, "Failed to start the monitor:");
		return 1;
	}
	supervise_ready(conmon->sv, restored_words(m, restarts, words, sizeof(words)));
	m->again = true;	/* requests may be there already */
	r = monitor_loop(m);
	if (r < 0)
		diag_error_errno(r, "The monitor's loop failed:");
	return r < 0 ? 1 : 0;
}
