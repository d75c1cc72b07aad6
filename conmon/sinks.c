/*
 * The log sinks at work: each has a position in each stream, and a policy for when it can't keep up or fails.
 *
 * A sink that makes progress, however slowly, is waited for: the ring fills and the container with it, nothing is lost. One that has taken
 * nothing for LOG_STALL_MS, or whose records fail (no journal), is not: when the ring is full its oldest half is dropped. What a
 * file refuses (full disk) is dropped at once, so that it goes on with what is new as soon as there is room. All that is dropped is counted, and the count is written into the log itself once that works again.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>

#include "conmon/diag.h"
#include "conmon/monitor-private.h"

#define LOG_RESUMED_MS 1000	/* without an error for so long, and it counts as working again */

void sinks_prepare(MonitorState *st, const ConmonOptions *options)
{
	const LogDriver *driver;

	for (size_t i = 0; st->n_sinks < LOG_SINKS_MAX && (driver = log_driver_next(&i, options));) {
		LogSink *sink = &st->sinks[st->n_sinks];

		sink->driver = driver;
		sink->index = st->n_sinks++;
		sink->file.fd = sink->socket.fd = -1;
		if (driver->prepare)
			driver->prepare(sink, options);
	}
}

static void on_sink_socket(void *data, uint32_t events)
{
	LogSink *sink = data;

	(void)events;
	sink->is_full = false;	/* the work of this wake-up tries again; if it is an error, sending meets it */
}

/* What a sink waits for: its socket, or a FIFO or terminal that is its file. @return -1: nothing that could be polled */
static int sink_descriptor(const LogSink *sink)
{
	return sink->socket.fd >= 0 || sink->file.is_regular ? sink->socket.fd : sink->file.fd;
}

/* It is polled only while it is full (or being connected). */
static void watch_sink(LogSink *sink, LogContext *ctx)
{
	Monitor *m = ctx->data;
	EventSource **source = &m->sink_sources[sink->index];

	if (sink_descriptor(sink) < 0) {
		event_source_remove(*source);
		*source = NULL;
		return;
	}
	if (!*source && event_loop_add_fd(m->loop, sink_descriptor(sink), 0, on_sink_socket, sink, source) == 0)
		(void)event_source_mute(*source);
}

static bool has_something_to_tell(const LogSink *sink)
{
	return sink->lost_bytes != sink->noted_bytes;
}

static void tell_later(Monitor *m)
{
	if (!event_timer_is_armed(m->tell_timer))
		event_timer_set(m->tell_timer, LOG_RESUMED_MS);
}

static void sink_failed(Monitor *m, LogSink *sink, int error)
{
	char text[256], code[32];

	sink->failed_ms = event_now_ms();
	if (sink->driver->transport != &log_file_transport)
		sink->retry_ms = sink->failed_ms + LOG_RETRY_MS;
	monitor_look_later(m);
	tell_later(m);
	sink->error = -error;
	if (sink->is_told)
		return;
	sink->is_told = true;
	diag_warn_errno(error, "Failed to write to %s log:", sink->driver->name);
	snprintf(text, sizeof(text), "Log %s of the container can't be written: %s. The container goes on; what does not fit in "
		"memory meanwhile is lost and counted.", sink->driver->name, strerror(-error));
	snprintf(code, sizeof(code), "ERRNO=%d", -error);
	event_log_emit(m->conmon->events, EVENT_ID_SINK_FAILED, 4, text, code, NULL);
	if (m->conmon->options->log_error_stops) {
		atomic_store(&m->conmon->shared->stop_wanted, 1);	/* the keeper may signal the container, we may not */
		conmon_kick(m->conmon, FD_KICK_KEEPER);
	}
	state_file_event(m->conmon->state, "log %s failing: %s", sink->driver->name, strerror(-error));
	state_file_flush(m->conmon->state);
}

static void sink_resumed(Monitor *m, LogSink *sink)
{
	char text[256];

	sink->error = 0;
	sink->is_told = false;
	snprintf(text, sizeof(text), "Log %s of the container can be written again; %llu bytes (%llu lines) were lost so far.",
		sink->driver->name, (unsigned long long)sink->lost_bytes, (unsigned long long)sink->lost_lines);
	event_log_emit(m->conmon->events, EVENT_ID_SINK_RESUMED, 5, text, NULL);
	state_file_event(m->conmon->state, "log %s resumed, %llu bytes lost", sink->driver->name,
		(unsigned long long)sink->lost_bytes);
	state_file_flush(m->conmon->state);
}

void sinks_open(Monitor *m)
{
	m->log.watch = watch_sink;
	m->log.data = m;
	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		LogSink *sink = &m->st->sinks[i];
		int r;

		log_sink_drop_recover(sink);
		r = sink->driver->transport->open(sink, &m->log, i);
		sink->stalled_ms = sink->retry_ms = 0;
		if (r < 0)
			sink_failed(m, sink, r);
		if (sink->error || has_something_to_tell(sink))
			tell_later(m);
	}
}

/* @return 0, -EAGAIN or another error: the sink takes no more now */
static int sink_pump(Monitor *m, LogSink *sink, unsigned stream, LogUrgency urgency)
{
	const LogTransport *transport = sink->driver->transport;
	ssize_t n = 0;

	log_sink_drop_rest(sink, &m->st->rings[stream], stream);
	if (sink->lost_bytes != sink->noted_bytes)
		n = transport->note(sink, &m->log);
	while (n >= 0) {
		n = transport->pump(sink, &m->log, stream, urgency);
		if (n <= 0)
			break;
		sink->stalled_ms = 0;
	}
	return (int)n;
}

static bool sink_has_caught_up(const Monitor *m, const LogSink *sink)
{
	for (unsigned s = 0; s < STREAMS; s++)
		if (ring_head(&m->st->rings[s]) - log_mark_pos(sink->mark[s]) >= READ_MAX)
			return false;
	return true;
}

/* The sink takes no more for now: be told when it does, and look whether it ever does. */
static void sink_is_full(Monitor *m, LogSink *sink)
{
	if (!sink->stalled_ms)
		sink->stalled_ms = event_now_ms();
	sink->is_full = m->sink_sources[sink->index] != NULL;
	if (sink->is_full)
		(void)event_source_set_events(m->sink_sources[sink->index], EPOLLOUT);
	else
		sink->retry_ms = event_now_ms() + LOG_RETRY_MS;
	monitor_look_later(m);
}

static void sink_works(Monitor *m, LogSink *sink, bool is_under_way)
{
	if (m->sink_sources[sink->index])
		(void)event_source_mute(m->sink_sources[sink->index]);
	sink->retry_ms = 0;
	if (is_under_way) {
		/* Acknowledgements come without an event. */
		if (!sink->stalled_ms)
			sink->stalled_ms = event_now_ms();
		monitor_look_later(m);
	} else {
		sink->stalled_ms = 0;
	}
	if (sink->is_behind && sink_has_caught_up(m, sink))
		sink->is_behind = false;
	/* A disk with room for a few records now and then must not fill the journal with this. */
	if (sink->error && !sink->is_behind && event_now_ms() - sink->failed_ms >= LOG_RESUMED_MS)
		sink_resumed(m, sink);
}

static void sink_release(Monitor *m, LogSink *sink, bool is_end)
{
	if (sink->driver->transport->release)
		sink->driver->transport->release(sink, &m->log, is_end);
}

/* The next chance is for what comes next. */
static void sink_drop_refused(Monitor *m, LogSink *sink)
{
	if (m->conmon->options->log_error_blocks || sink->driver->transport != &log_file_transport)
		return;	/* a receiver that comes back takes what was kept */
	sink_release(m, sink, false);
	for (unsigned s = 0; s < STREAMS; s++)
		log_sink_drop(sink, &m->st->rings[s], s, ring_head(&m->st->rings[s]));
}

static void sink_judge(Monitor *m, LogSink *sink, int r)
{
	if (r == -EAGAIN || r == -ENOBUFS) {
		sink_is_full(m, sink);
	} else if (r < 0 && r != -EINPROGRESS) {
		sink_failed(m, sink, r);
		sink_drop_refused(m, sink);
	} else {
		sink_works(m, sink, r == -EINPROGRESS);
	}
}

static bool is_idle(const Monitor *m, const LogSink *sink)
{
	for (unsigned s = 0; s < STREAMS; s++)
		if (log_mark_pos(sink->mark[s]) != ring_head(&m->st->rings[s]))
			return false;
	return true;
}

void sinks_pump(Monitor *m, unsigned stream, LogUrgency urgency)
{
	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		LogSink *sink = &m->st->sinks[i];

		if (sink->is_full || (log_mark_pos(sink->mark[stream]) == ring_head(&m->st->rings[stream]) &&
					     !(urgency == LOG_FINISH && has_something_to_tell(sink))))
			continue;
		if (urgency != LOG_FINISH && sink->retry_ms && event_now_ms() < sink->retry_ms) {
			monitor_look_later(m);
			continue;
		}
		sink_judge(m, sink, sink_pump(m, sink, stream, urgency));
	}
}

void sinks_tell(Monitor *m)
{
	uint64_t now_ms = event_now_ms();

	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		LogSink *sink = &m->st->sinks[i];

		if (!sink->error && !has_something_to_tell(sink))
			continue;
		if (now_ms - sink->failed_ms >= LOG_RESUMED_MS && !sink->is_full && (!sink->error || is_idle(m, sink)))
			sink_judge(m, sink, has_something_to_tell(sink) ? sink->driver->transport->note(sink, &m->log) : 0);
		tell_later(m);
	}
}

/* Whether whole lines from before @pos wait for the sink: it can't take any now. */
static bool has_lines_before(const Monitor *m, const LogSink *sink, unsigned stream, uint64_t pos)
{
	uint64_t from = log_mark_pos(sink->mark[stream]);

	return from < pos && memchr(ring_at(&m->st->rings[stream], from), '\n', (size_t)(pos - from));
}

void sinks_drop_new(Monitor *m, unsigned stream, size_t size)
{
	const Ring *ring = &m->st->rings[stream];

	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		LogSink *sink = &m->st->sinks[i];

		sink_release(m, sink, false);
		if (has_lines_before(m, sink, stream, ring_head(ring) - size))
			continue;	/* they would have to go, too, and are within the rate */
		log_sink_drop(sink, ring, stream, ring_head(ring));
		sink->failed_ms = event_now_ms();
	}
	tell_later(m);
}

uint64_t sinks_tail(const Monitor *m, unsigned stream)
{
	uint64_t tail = ring_head(&m->st->rings[stream]);

	for (unsigned i = 0; i < m->st->n_sinks; i++)
		if (log_mark_pos(m->st->sinks[i].mark[stream]) < tail)
			tail = log_mark_pos(m->st->sinks[i].mark[stream]);
	return tail;
}

bool sinks_make_room(Monitor *m, unsigned stream, uint64_t tail)
{
	const Ring *ring = &m->st->rings[stream];
	bool must_wait = false;

	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		LogSink *sink = &m->st->sinks[i];

		if (log_mark_pos(sink->mark[stream]) > tail)
			continue;
		if ((!sink->error && !sink->is_behind) || (sink->error && m->conmon->options->log_error_blocks)) {
			must_wait = true;
			continue;
		}
		sink_release(m, sink, false);
		log_sink_drop(sink, ring, stream, tail + ring->size / 2);
	}
	return must_wait;
}

/* Whether a stream waits for this sink. */
static bool sink_holds_a_stream(const Monitor *m, const LogSink *sink)
{
	for (unsigned s = 0; s < STREAMS; s++)
		if (m->streams[s].is_muted && log_mark_pos(sink->mark[s]) == sinks_tail(m, s))
			return true;
	return false;
}

bool sinks_look_for_stalls(Monitor *m, uint64_t now_ms)
{
	bool found = false;

	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		LogSink *sink = &m->st->sinks[i];

		if (sink->is_behind || sink->error || !sink->stalled_ms || now_ms - sink->stalled_ms < LOG_STALL_MS ||
				!sink_holds_a_stream(m, sink))
			continue;
		sink->is_behind = true;
		sink_failed(m, sink, -ETIMEDOUT);
		sink->retry_ms = 0;
		found = true;
	}
	return found;
}

void sinks_reopen(Monitor *m)
{
	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		LogSink *sink = &m->st->sinks[i];
		int r;

		if (!sink->driver->transport->reopen)
			continue;
		/* what was read before the request belongs to the old file */
		for (unsigned s = 0; s < STREAMS; s++)
			if (m->st->released)
				(void)sink_pump(m, sink, s, LOG_HOLD);
		r = sink->driver->transport->reopen(sink, &m->log);
		if (r < 0)
			diag_warn_errno(r, "Failed to reopen %s log:", sink->driver->name);
		sink->retry_ms = 0;
	}
}

void sinks_give_up_rest(Monitor *m)
{
	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		LogSink *sink = &m->st->sinks[i];
		uint64_t lost_before = sink->lost_bytes;
		char text[256];

		sink_release(m, sink, true);
		for (unsigned s = 0; s < STREAMS && m->st->released; s++)
			log_sink_drop(sink, &m->st->rings[s], s, ring_head(&m->st->rings[s]));
		if (sink->lost_bytes == lost_before) {
			if (sink->is_told && !has_something_to_tell(sink))
				sink_resumed(m, sink);
			continue;
		}
		snprintf(text, sizeof(text), "The container has ended; the last %llu bytes of its output could not be written to log %s "
			"(%llu bytes were lost in all).", (unsigned long long)(sink->lost_bytes - lost_before),
			sink->driver->name, (unsigned long long)sink->lost_bytes);
		diag_warn("%s", text);
		event_log_emit(m->conmon->events, EVENT_ID_SINK_FAILED, 4, text, NULL);
	}
}

void sinks_sync(Monitor *m)
{
	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		LogSink *sink = &m->st->sinks[i];
		int r;

		if (sink->driver->transport->stop)
			sink->driver->transport->stop(sink, &m->log);
		if (!sink->driver->transport->sync)
			continue;
		r = sink->driver->transport->sync(sink, &m->log);
		if (r < 0)
			diag_warn_errno(r, "Failed to sync %s log:", sink->driver->name);
	}
}

bool sinks_await(const Monitor *m)
{
	for (unsigned i = 0; i < m->st->n_sinks; i++)
		if (m->st->sinks[i].socket.stream && m->st->sinks[i].stalled_ms && !m->st->sinks[i].is_full)
			return true;
	return false;
}

bool sinks_are_settled(const Monitor *m)
{
	for (unsigned i = 0; i < m->st->n_sinks; i++) {
		const LogSink *sink = &m->st->sinks[i];
		int queued = 0;

		if (!sink->error && sink->socket.fd >= 0 && ioctl(sink->socket.fd, SIOCOUTQ, &queued) == 0 && queued > 0)
			return false;
	}
	return true;
}

bool sinks_have_datagrams(const Monitor *m)
{
	for (unsigned i = 0; i < m->st->n_sinks; i++)
		if (m->st->sinks[i].socket.fd >= 0)
			return true;
	return false;
}

void sinks_commit(Monitor *m, const ExactTicket *ticket)
{
	if (ticket->owner < m->st->n_sinks)
		log_datagram_commit(&m->st->sinks[ticket->owner], ticket);
}
