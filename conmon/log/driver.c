#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "conmon/log/driver.h"

#define CUT_ENDED (1U << 31)	/* in LogSink.cut: the note, which comes next, writes the LF of the line whose beginning is recorded */

static const LogDriver *const drivers[] = {
	&log_k8s_file,
	&log_json_file,
	&log_journald,
	&log_syslog,
	&log_syslog_tcp,
};

const LogDriver *log_driver_next(size_t *iter, const ConmonOptions *options)
{
	while (*iter < sizeof(drivers) / sizeof(drivers[0])) {
		const LogDriver *driver = drivers[(*iter)++];

		if (driver->is_wanted(options))
			return driver;
	}
	return NULL;
}

void log_stamp_take(LogStamp *stamp)
{
	static time_t cached_sec = -1;
	static char date[20], zone[7];
	struct timespec now;
	long nsec;
	char *p;

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != cached_sec) {
		struct tm tm;
		long offset;

		localtime_r(&now.tv_sec, &tm);
		strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
		offset = tm.tm_gmtoff / 60;	/* minutes */
		zone[0] = offset < 0 ? '-' : '+';
		if (offset < 0)
			offset = -offset;
		zone[1] = (char)('0' + offset / 600);
		zone[2] = (char)('0' + offset / 60 % 10);
		zone[3] = ':';
		zone[4] = (char)('0' + offset % 60 / 10);
		zone[5] = (char)('0' + offset % 10);
		cached_sec = now.tv_sec;
	}

	stamp->sec = now.tv_sec;
	stamp->nsec = nsec = now.tv_nsec;
	memcpy(stamp->text, date, 19);
	stamp->text[19] = '.';
	for (p = stamp->text + 28; p > stamp->text + 19; p--) {
		*p = (char)('0' + nsec % 10);
		nsec /= 10;
	}
	memcpy(stamp->text + 29, zone, 6);
	stamp->text[LOG_STAMP_SIZE] = '\0';
}

const LogStamp *log_stamp(LogContext *ctx)
{
	if (!ctx->stamp_is_fresh) {
		log_stamp_take(&ctx->stamp);
		ctx->stamp_is_fresh = true;
	}
	return &ctx->stamp;
}

size_t log_note_text(const LogSink *sink, char *buf, size_t size)
{
	uint64_t bytes = sink->lost_bytes - sink->noted_bytes;
	uint64_t lines = sink->lost_lines - sink->noted_lines;
	const char *end = log_mark_is_mid_line(sink->mark[LOG_NOTE_STREAM]) ? "\n" : "";
	int n;

	if (!bytes)
		return 0;
	n = snprintf(buf, size, "%sconmon: %llu bytes (%llu lines) of output are missing here\n",
			end, (unsigned long long)bytes, (unsigned long long)lines);
	return n < 0 || (size_t)n >= size ? 0 : (size_t)n;
}

void log_note_done(LogSink *sink, uint64_t bytes, uint64_t lines)
{
	uint64_t mark = sink->mark[LOG_NOTE_STREAM];

	sink->noted_lines = lines;
	sink->noted_bytes = bytes;
	sink->cut[LOG_NOTE_STREAM] &= ~CUT_ENDED;
	atomic_store_explicit(&sink->mark[LOG_NOTE_STREAM], log_mark(log_mark_pos(mark), false), memory_order_release);
}

static void drop_apply(LogSink *sink)
{
	sink->lost_bytes = sink->drop.bytes_after;
	sink->lost_lines = sink->drop.lines_after;
	sink->cut[sink->drop.stream] = sink->drop.cut_after;
	atomic_store_explicit(&sink->mark[sink->drop.stream], sink->drop.to, memory_order_release);
	atomic_store_explicit(&sink->drop.active, 0, memory_order_release);
}

void log_sink_drop_recover(LogSink *sink)
{
	if (atomic_load_explicit(&sink->drop.active, memory_order_acquire))
		drop_apply(sink);
}

uint64_t log_count_lines(const char *p, size_t size)
{
	const char *end = p + size;
	uint64_t lines = 0;

	while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
		lines++;
		p++;
	}
	return lines;
}

/*
 * Leave out what is before @to, a mark. @cut: how far the end of the line is still to be searched; @kept: so many bytes at its end are written
 * by others.
 */
static void drop_to(LogSink *sink, const Ring *ring, unsigned stream, uint64_t to, unsigned cut, size_t kept)
{
	uint64_t from = log_mark_pos(sink->mark[stream]), size = log_mark_pos(to) - from - kept;

	sink->drop.stream = stream;
	sink->drop.cut_after = cut;
	sink->drop.to = to;
	sink->drop.bytes_after = sink->lost_bytes + size;
	sink->drop.lines_after = sink->lost_lines + log_count_lines(ring_at(ring, from), (size_t)size);
	atomic_store_explicit(&sink->drop.active, 1, memory_order_release);
	drop_apply(sink);
}

/* Leave out everything up to the end of the line that is found from @pos on, at most @window bytes further; else up to @pos + @window. */
static void drop_line(LogSink *sink, const Ring *ring, unsigned stream, uint64_t pos, size_t window, unsigned cut)
{
	unsigned ended = sink->cut[stream] & CUT_ENDED;
	bool mid_line = log_mark_is_mid_line(sink->mark[stream]);
	bool is_open = mid_line && !ended;	/* its beginning is recorded: the LF is to be */
	const char *text = ring_at(ring, pos), *eol = memchr(text, '\n', window);

	if (!eol) {	/* a line longer than a record may go on in the middle */
		drop_to(sink, ring, stream, log_mark(pos + window, mid_line || cut == 0), cut | ended, 0);
		return;
	}
	pos += (uint64_t)(eol - text);
	if (is_open && stream != LOG_NOTE_STREAM)
		drop_to(sink, ring, stream, log_mark(pos, true), 0, 0);
	else if (is_open)
		drop_to(sink, ring, stream, log_mark(pos + 1, true), CUT_ENDED, 1);
	else
		drop_to(sink, ring, stream, log_mark(pos + 1, mid_line && ended), ended, 0);
}

void log_sink_drop(LogSink *sink, const Ring *ring, unsigned stream, uint64_t pos)
{
	uint64_t from = log_mark_pos(sink->mark[stream]);
	uint64_t head = ring_head(ring);

	if (pos > head)
		pos = head;
	if (pos <= from)
		return;
	if (memchr(ring_at(ring, pos - 1), '\n', (size_t)(head - pos + 1)))
		drop_line(sink, ring, stream, pos - 1, (size_t)(head - pos + 1), 0);
	else
		drop_line(sink, ring, stream, pos - 1, 1, LOG_PIECE_MAX);
}

void log_sink_drop_rest(LogSink *sink, const Ring *ring, unsigned stream)
{
	unsigned cut = sink->cut[stream] & ~CUT_ENDED;
	uint64_t from = log_mark_pos(sink->mark[stream]);
	uint64_t window = ring_head(ring) - from;

	if (cut == 0 || window == 0)
		return;
	if (window > cut)
		window = cut;
	drop_line(sink, ring, stream, from, (size_t)window, cut - (unsigned)window);
}
