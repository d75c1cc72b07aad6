/*
 * Transport of drivers that send their records over TCP.
 *
 * Theory of operation. The kernel counts for each connection how many bytes were acknowledged by the receiver's (TCP_INFO,
 * tcpi_bytes_acked) and how many wait for that (SIOCOUTQ); together that is what send(2) has taken. So nothing needs to be noted after
 * a send: a monitor that finds a batch on its way, whose text stands in shared memory, asks how much of it was taken and sends the rest.
 *
 *   NONE ── connect ──▶ CONNECTING ──▶ UP ── closed, reset, timed out ──▶ LOST ── looked up ──▶ TAKING_BACK ── applied ──▶ NONE
 *
 * A batch stays in the ring until the receiver's TCP has acknowledged it. What a broken connection had not delivered is sent again over the
 * next one, from the first record on that was not acknowledged as a whole. So:
 *
 *   - whatever happens to the monitor, each record is sent once;
 *   - when a connection breaks, no record is lost that the receiver's TCP has not acknowledged. One may come twice: it had arrived,
 *     its acknowledgement had not. One may be lost: acknowledged, but not read by a receiver that was killed. TCP can't tell these.
 *
 * A sink that is hopelessly behind must not keep the ring: then batches under way are released. They are counted as lost if their
 * connection breaks.
 */
#include "config.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/sockios.h>

#include "common/fd-util.h"
#include "common/shared-memory.h"

#include "conmon/log/stream.h"

#define SEND_BUFFER (256 * 1024)	/* bytes; what may wait for a slow receiver beside the ring */
#define GIVE_UP_MS 10000		/* without an acknowledgement for so long the connection is taken for broken */
#define TALK_MAX 16			/* reads of what a receiver says, at a time */
#define COUNT_TRIES 100			/* two counters that belong together are read one after the other */

/* Linux 4.1; the C library's struct tcp_info ends before it. */
struct tcp_info_acked {
	struct tcp_info old;
	uint64_t pacing_rate, max_pacing_rate, bytes_acked;
};

static void set_phase(LogStream *s, LogStreamPhase phase)
{
	atomic_store_explicit(&s->phase, phase, memory_order_release);
}

static LogStreamBatch *batch_at(LogStream *s, unsigned i)
{
	return &s->batches[(s->popped + i) % LOG_STREAM_BATCHES];
}

static unsigned batches(const LogStream *s)
{
	return (unsigned)(s->pushed - s->popped);
}

/* --- what the kernel knows --- */

static uint64_t acked_raw(int fd)
{
	struct tcp_info_acked info = { 0 };
	socklen_t size = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0 ? 0 : info.bytes_acked;
}

static uint64_t acked(const LogSink *sink)
{
	uint64_t raw = acked_raw(sink->socket.fd), base = sink->socket.stream->base;

	return raw > base ? raw - base : 0;
}

/* How many bytes of this connection send(2) has taken. */
static uint64_t taken(const LogSink *sink)
{
	uint64_t before, after = acked(sink);
	int queued = 0;

	for (int i = 0; i < COUNT_TRIES; i++) {
		before = after;
		if (ioctl(sink->socket.fd, SIOCOUTQ, &queued) < 0)
			break;
		after = acked(sink);
		if (before == after)
			break;
	}
	return before + (uint64_t)queued;
}

/* --- batches --- */

static void batch_commit(LogSink *sink, const LogStreamBatch *batch)
{
	if (batch->is_note) {
		log_note_done(sink, batch->bytes, batch->lines);
	} else if (log_mark_pos(batch->to) > log_mark_pos(sink->mark[batch->stream])) {	/* else it was released */
		atomic_store_explicit(&sink->mark[batch->stream], batch->to, memory_order_release);
	}
}

/* Move the positions of what has been acknowledged. */
static void commit_acked(LogSink *sink)
{
	LogStream *s = sink->socket.stream;
	uint64_t now = batches(s) ? acked(sink) : 0;

	while (batches(s) && batch_at(s, 0)->end <= now) {
		batch_commit(sink, batch_at(s, 0));
		atomic_store_explicit(&s->popped, s->popped + 1, memory_order_release);
	}
	if (now != s->acked_seen) {
		s->acked_seen = now;
		sink->stalled_ms = 0;
	}
}

/* Where the next batch of a stream begins: behind what is under way. */
static uint64_t next_mark(const LogSink *sink, unsigned stream)
{
	LogStream *s = sink->socket.stream;

	for (unsigned i = batches(s); i > 0; i--) {
		const LogStreamBatch *batch = batch_at(s, i - 1);

		if (!batch->is_note && batch->stream == stream && log_mark_pos(batch->to) > log_mark_pos(sink->mark[stream]))
			return batch->to;
	}
	return sink->mark[stream];
}

/* --- the connection --- */

static void take_back_apply(LogSink *sink, LogContext *ctx)
{
	LogStream *s = sink->socket.stream;

	for (unsigned stream = 0; stream < LOG_STREAMS; stream++)
		atomic_store_explicit(&sink->mark[stream], s->back.mark[stream], memory_order_release);
	sink->lost_bytes = s->back.lost_bytes;
	sink->lost_lines = s->back.lost_lines;
	s->popped = s->pushed;
	sink->socket.fd = -1;
	ctx->watch(sink, ctx);
	fd_store_close(ctx->store, sink->socket.fd_name);
	set_phase(s, LOG_STREAM_NONE);
}

/* The part of a batch that was acknowledged in whole records. @return the mark behind it */
static uint64_t batch_part(const LogSink *sink, LogContext *ctx, const LogStreamBatch *batch, uint64_t size)
{
	LogBatch again = {
		.data = ring_at(ctx->rings[batch->stream], log_mark_pos(batch->from)),
		.size = (size_t)(log_mark_pos(batch->to) - log_mark_pos(batch->from)),
		.stream = batch->stream,
		.mid_line = log_mark_is_mid_line(batch->from),
		.urgency = LOG_FINISH,
		.stamp = &batch->stamp,
		.out = ctx->out,
		.room = (size_t)size,
	};

	sink->driver->format(sink, &again);
	return log_mark(log_mark_pos(batch->from) + again.used, again.ends_mid_line);
}

/* The connection has ended: what was delivered, what has to be sent again, what is lost. Nothing of it changes any more. */
static void take_back(LogSink *sink, LogContext *ctx)
{
	LogStream *s = sink->socket.stream;
	uint64_t delivered;

	(void)shutdown(sink->socket.fd, SHUT_RDWR);	/* a later acknowledgement would come too late */
	delivered = acked(sink);
	for (unsigned stream = 0; stream < LOG_STREAMS; stream++)
		s->back.mark[stream] = sink->mark[stream];
	s->back.lost_bytes = sink->lost_bytes;
	s->back.lost_lines = sink->lost_lines;
	for (unsigned i = 0; i < batches(s); i++) {
		const LogStreamBatch *batch = batch_at(s, i);
		uint64_t begin = batch->end - batch->made, *mark = &s->back.mark[batch->stream];
		bool is_released = !batch->is_note && log_mark_pos(batch->from) < log_mark_pos(sink->mark[batch->stream]);

		if (batch->end <= delivered) {
			if (!batch->is_note && !is_released)
				*mark = batch->to;
		} else if (is_released) {
			s->back.lost_bytes += batch->bytes;
			s->back.lost_lines += batch->lines;
		} else if (!batch->is_note && begin < delivered) {
			*mark = batch_part(sink, ctx, batch, delivered - begin);
		}
	}
	set_phase(s, LOG_STREAM_TAKING_BACK);
	take_back_apply(sink, ctx);
}

static int connection_lost(LogSink *sink, LogContext *ctx, int error)
{
	commit_acked(sink);
	set_phase(sink->socket.stream, LOG_STREAM_LOST);
	take_back(sink, ctx);
	return error;
}

/* @return 0: it is up; -EAGAIN: not yet; other -errno */
static int connection_begin(LogSink *sink, LogContext *ctx)
{
	const int buffer = SEND_BUFFER, limit = GIVE_UP_MS, on = 1;
	struct sockaddr_storage addr;
	socklen_t addr_size = log_address_parse(sink->socket.address, &addr);
	cleanup_close int fd = -1;
	int r;

	if (addr_size == 0)
		return -EINVAL;
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &limit, sizeof(limit));
	if (connect(fd, (struct sockaddr *)&addr, addr_size) < 0 && errno != EINPROGRESS)
		return -errno;
	r = fd_store_replace(ctx->store, sink->socket.fd_name, fd);
	if (r < 0)
		return r;
	sink->socket.fd = fd_steal(&fd);
	sink->socket.stream->end = sink->socket.stream->acked_seen = 0;
	set_phase(sink->socket.stream, LOG_STREAM_CONNECTING);
	ctx->watch(sink, ctx);
	return 0;
}

static int connection_finish(LogSink *sink, LogContext *ctx)
{
	LogStream *s = sink->socket.stream;
	struct tcp_info info = { 0 };
	socklen_t size = sizeof(info), error_size = sizeof(int);
	int error = 0;

	if (getsockopt(sink->socket.fd, SOL_SOCKET, SO_ERROR, &error, &error_size) < 0 || error)
		return connection_lost(sink, ctx, -(error ? error : errno));
	if (getsockopt(sink->socket.fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
		return connection_lost(sink, ctx, -errno);
	if (info.tcpi_state == TCP_SYN_SENT || info.tcpi_state == TCP_SYN_RECV)
		return -EAGAIN;
	s->base = acked_raw(sink->socket.fd);
	set_phase(s, LOG_STREAM_UP);
	return 0;
}

/* A receiver that closes its side is noticed before more is sent into the void. What it says is not for us. */
static bool peer_has_left(int fd)
{
	char scrap[512];
	ssize_t n;

	for (int i = 0; i < TALK_MAX; i++) {
		n = recv(fd, scrap, sizeof(scrap), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EINTR))
			return n == 0 || errno != EAGAIN;
	}
	return false;
}

/* @return 0: connected; -errno */
static int connection_look(LogSink *sink, LogContext *ctx)
{
	int phase = atomic_load_explicit(&sink->socket.stream->phase, memory_order_acquire), r;

	if (phase == LOG_STREAM_NONE) {
		r = connection_begin(sink, ctx);
		if (r < 0)
			return r;
		phase = LOG_STREAM_CONNECTING;
	}
	if (phase == LOG_STREAM_CONNECTING)
		return connection_finish(sink, ctx);
	if (peer_has_left(sink->socket.fd))
		return connection_lost(sink, ctx, -ECONNRESET);
	commit_acked(sink);
	return 0;
}

/* --- sending --- */

/* Send what is missing of the last batch. */
static int text_send(LogSink *sink, LogContext *ctx)
{
	LogStream *s = sink->socket.stream;
	uint64_t now = batches(s) ? taken(sink) : s->end;

	while (now < s->end) {
		uint64_t made = batch_at(s, batches(s) - 1)->made, left = s->end - now;
		ssize_t n = send(sink->socket.fd, s->text + (made - left), (size_t)left, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			sink->is_full = true;
			return -EAGAIN;
		}
		if (n < 0)
			return connection_lost(sink, ctx, -errno);
		now += (uint64_t)n;
	}
	return 0;
}

/* The batch, whose text is made, is under way from here on. */
static int batch_send(LogSink *sink, LogContext *ctx, const LogStreamBatch *batch)
{
	LogStream *s = sink->socket.stream;
	LogStreamBatch *slot = batch_at(s, batches(s));

	*slot = *batch;
	slot->end = s->end + batch->made;
	s->end = slot->end;	/* before it is pushed: without a batch it means nothing */
	atomic_store_explicit(&s->pushed, s->pushed + 1, memory_order_release);
	return text_send(sink, ctx);
}

/* @return 0: go on; -EINPROGRESS: all that may be under way is; other -errno */
static int stream_ready(LogSink *sink, LogContext *ctx)
{
	int r = connection_look(sink, ctx);

	if (r == -EAGAIN)
		sink->is_full = true;	/* POLLOUT tells when it is up */
	if (r >= 0)
		r = text_send(sink, ctx);
	if (r >= 0 && batches(sink->socket.stream) == LOG_STREAM_BATCHES)
		r = -EINPROGRESS;
	return r;
}

static ssize_t stream_pump(LogSink *sink, LogContext *ctx, unsigned stream, LogUrgency urgency)
{
	LogStream *s = sink->socket.stream;
	const Ring *ring = ctx->rings[stream];
	LogStreamBatch under_way = { .stream = stream };
	LogBatch batch;
	uint64_t from;
	int r = stream_ready(sink, ctx);

	if (r < 0)
		return r;
	under_way.from = next_mark(sink, stream);
	from = log_mark_pos(under_way.from);
	batch = (LogBatch){
		.data = ring_at(ring, from),
		.size = (size_t)(ring_head(ring) - from),
		.stream = stream,
		.mid_line = log_mark_is_mid_line(under_way.from),
		.urgency = urgency,
		.stamp = log_stamp(ctx),
		.out = s->text,
		.room = LOG_STREAM_TEXT_MAX,
	};
	if (batch.size > 0)
		sink->driver->format(sink, &batch);
	if (batch.is_full && batch.made == 0)
		return -E2BIG;
	if (batch.used == 0)
		return batches(s) ? -EINPROGRESS : 0;
	under_way.to = log_mark(from + batch.used, batch.ends_mid_line);
	under_way.stamp = *batch.stamp;
	under_way.made = batch.made;
	under_way.bytes = batch.used;
	under_way.lines = log_count_lines(batch.data, batch.used);
	r = batch_send(sink, ctx, &under_way);
	return r < 0 ? r : (ssize_t)batch.used;
}

/* Whether the note about all that is lost so far is on its way. */
static bool note_is_under_way(const LogSink *sink)
{
	LogStream *s = sink->socket.stream;

	for (unsigned i = 0; i < batches(s); i++)
		if (batch_at(s, i)->is_note && batch_at(s, i)->bytes == sink->lost_bytes)
			return true;
	return false;
}

static int stream_note(LogSink *sink, LogContext *ctx)
{
	LogStreamBatch under_way = { .is_note = true, .stream = 1, .bytes = sink->lost_bytes, .lines = sink->lost_lines };
	char note[128];
	LogBatch batch = {
		.data = note,
		.stream = 1,
		.urgency = LOG_FINISH,
		.stamp = log_stamp(ctx),
		.out = sink->socket.stream->text,
		.room = LOG_STREAM_TEXT_MAX,
	};
	int r = stream_ready(sink, ctx);

	if (r < 0 || note_is_under_way(sink))
		return r;
	batch.size = log_note_text(sink, note, sizeof(note));
	if (batch.size == 0)
		return 0;
	sink->driver->format(sink, &batch);
	under_way.made = batch.made;
	return batch_send(sink, ctx, &under_way);
}

/* --- the rest of the transport --- */

static int stream_open(LogSink *sink, LogContext *ctx, unsigned index)
{
	LogStream *s = sink->socket.stream;

	(void)index;
	sink->is_full = false;
	sink->socket.fd = fd_store_get(ctx->store, sink->socket.fd_name);
	switch (atomic_load_explicit(&s->phase, memory_order_acquire)) {
	case LOG_STREAM_LOST:
		take_back(sink, ctx);
		return 0;
	case LOG_STREAM_TAKING_BACK:
		take_back_apply(sink, ctx);
		return 0;
	case LOG_STREAM_NONE:	/* killed before its phase was noted: nothing was sent */
		sink->socket.fd = -1;
		fd_store_close(ctx->store, sink->socket.fd_name);
		return 0;
	default:
		ctx->watch(sink, ctx);
		return 0;
	}
}

static void stream_release(LogSink *sink, LogContext *ctx, bool is_end)
{
	LogStream *s = sink->socket.stream;

	(void)ctx;
	if (s->phase != LOG_STREAM_UP)
		return;
	commit_acked(sink);
	for (unsigned stream = 0; stream < LOG_STREAMS; stream++) {
		uint64_t mark = next_mark(sink, stream);

		if (is_end && batches(s) && taken(sink) < s->end && batch_at(s, batches(s) - 1)->stream == stream)
			mark = batch_at(s, batches(s) - 1)->from;	/* its rest is sent by nobody */
		if (log_mark_pos(mark) > log_mark_pos(sink->mark[stream]))
			atomic_store_explicit(&sink->mark[stream], mark, memory_order_release);
	}
}

LogStream *log_stream_new(void)
{
	return shared_memory_new(sizeof(LogStream));
}

const LogTransport log_stream_transport = {
	.open = stream_open,
	.pump = stream_pump,
	.note = stream_note,
	.release = stream_release,
};
