#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "conmon/log/driver.h"

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
	int n;

	if (!bytes)
		return 0;
	n = snprintf(buf, size, "conmon: %llu bytes (%llu lines) of output are missing here\n",
			(unsigned long long)bytes, (unsigned long long)lines);
	return n < 0 || (size_t)n >= size ? 0 : (size_t)n;
}

static void drop_apply(LogSink *sink)
{
	sink->lost_bytes = sink->drop.bytes_after;
	sink->lost_lines = sink->drop.lines_after;
	atomic_store_explicit(&sink->mark[sink->drop.stream], sink->drop.to, memory_order_release);
	atomic_store_explicit(&sink->drop.active, 0, memory_order_release);
}

void log_sink_drop_recover(LogSink *sink)
{
	if (atomic_load_explicit(&sink->drop.active, memory_order_acquire))
		drop_apply(sink);
}

static uint64_t count_lines(const char *p, size_t size)
{
	const char *end = p + size;
	uint64_t lines = 0;

	while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
		lines++;
		p++;
	}
	return lines;
}

void log_sink_drop(LogSink *sink, const Ring *ring, unsigned stream, uint64_t pos)
{
	uint64_t from = log_mark_pos(sink->mark[stream]);
	uint64_t head = ring_head(ring);
	const char *eol;
	bool mid_line = true;

	if (pos > head)
		pos = head;
	if (pos <= from)
		return;
	if (pos < head) {
		eol = memchr(ring_at(ring, pos - 1), '\n', (size_t)(head - pos + 1));
		if (eol) {
			pos += (uint64_t)(eol - ring_at(ring, pos - 1));
			mid_line = false;
		}
	} else {
		mid_line = *ring_at(ring, pos - 1) != '\n';
	}
	sink->drop.stream = stream;
	sink->drop.to = log_mark(pos, mid_line);
	sink->drop.bytes_after = sink->lost_bytes + (pos - from);
	sink->drop.lines_after = sink->lost_lines + count_lines(ring_at(ring, from), (size_t)(pos - from));
	atomic_store_explicit(&sink->drop.active, 1, memory_order_release);
	drop_apply(sink);
}
