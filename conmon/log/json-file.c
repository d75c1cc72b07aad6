/*
 * json-file, Docker's format: one JSON object per record, {"log":…,"stream":…,"attrs":{…},"time":…}, time in UTC. Readers put
 * "log" texts together until one ends in \n.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conmon/log/driver.h"
#include "conmon/utf8.h"

#define ESCAPE_MAX 6		/* \u00xx */

static const char hex[] = "0123456789abcdef";

static char *escape_one(char *out, unsigned char c)
{
	*out++ = '\\';
	switch (c) {
	case '"':
	case '\\':
		*out++ = (char)c;
		return out;
	case '\n':
		*out++ = 'n';
		return out;
	case '\r':
		*out++ = 'r';
		return out;
	case '\t':
		*out++ = 't';
		return out;
	default:
		memcpy(out, "u00", 3);
		out[3] = hex[c >> 4];
		out[4] = hex[c & 15];
		return out + 5;
	}
}

static char *escape(char *out, const char *text, size_t size)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + size;

	while (p < end) {
		int n;

		if (*p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\') {
			*out++ = (char)*p++;
			continue;
		}
		if (*p < 0x80) {
			out = escape_one(out, *p++);
			continue;
		}
		n = utf8_length(p, end);
		if (n > 0) {
			memcpy(out, p, (size_t)n);
			out += n;
			p += n;
		} else {
			memcpy(out, "\xef\xbf\xbd", 3);	/* U+FFFD */
			out += 3;
			p++;
		}
	}
	return out;
}

/* A piece without end of line must not cut a character. @return how much of it to take */
static size_t whole_characters(const char *text, size_t size)
{
	for (size_t back = 1; back <= 3 && back <= size; back++) {
		const unsigned char *p = (const unsigned char *)text + size - back;

		if ((*p & 0xc0) != 0x80)
			return utf8_length(p, (const unsigned char *)text + size) < 0 ? size - back : size;
	}
	return size;
}

#define TIME_SIZE 42	/* "time":"2020-01-02T03:04:05.123456789Z"}\n with the NUL */

static size_t time_make(char text[static TIME_SIZE], const LogStamp *stamp)
{
	time_t sec = (time_t)stamp->sec;
	struct tm tm;
	char date[24];

	gmtime_r(&sec, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	return (size_t)snprintf(text, TIME_SIZE, "\"time\":\"%.19s.%09ldZ\"}\n", date, (long)stamp->nsec);
}

/* Whether a record with this text fits; only near the end of the room the text is measured. */
static bool has_room(size_t room, const char *text, size_t length, size_t others)
{
	static char scrap[LOG_PIECE_MAX * ESCAPE_MAX];

	if (room >= length * ESCAPE_MAX + others)
		return true;
	return room >= (size_t)(escape(scrap, text, length) - scrap) + others;
}

static void json_format(const LogSink *sink, LogBatch *batch)
{
	static const char head[] = "{\"log\":\"", out_stream[] = "\",\"stream\":\"stdout\",",
			  error_stream[] = "\",\"stream\":\"stderr\",";
	const char *p = batch->data, *end = p + batch->size;
	char *out = batch->out, *out_end = out + batch->room;
	char time[TIME_SIZE];
	size_t time_size = time_make(time, batch->stamp);
	size_t others = sizeof(head) - 1 + sizeof(out_stream) - 1 + sink->fixed_size + time_size;
	bool mid_line = batch->mid_line;

	while (p < end) {
		size_t rest = (size_t)(end - p), window = rest < LOG_PIECE_MAX ? rest : LOG_PIECE_MAX;
		const char *eol = memchr(p, '\n', window);
		size_t length = eol ? (size_t)(eol - p) + 1 : window;

		if (!eol && batch->urgency == LOG_HOLD && window < LOG_PIECE_MAX)
			break;
		if (!eol && (batch->urgency != LOG_FINISH || rest > window))
			length = whole_characters(p, length);
		if (length == 0)
			break;
		if (!has_room((size_t)(out_end - out), p, length, others)) {
			batch->is_full = true;
			break;
		}
		out = mempcpy(out, head, sizeof(head) - 1);
		out = escape(out, p, length);
		out = mempcpy(out, batch->stream == 0 ? out_stream : error_stream, sizeof(out_stream) - 1);
		out = mempcpy(out, sink->fixed, sink->fixed_size);
		out = mempcpy(out, time, time_size);
		p += length;
		mid_line = !eol;
		if (batch->stop_after && (size_t)(out - batch->out) >= batch->stop_after)
			break;
	}
	batch->used = (size_t)(p - batch->data);
	batch->made = (size_t)(out - batch->out);
	batch->ends_mid_line = mid_line;
}

static void add_attribute(FILE *stream, bool *is_first, const char *name, const char *value)
{
	char *text = malloc(strlen(value) * ESCAPE_MAX + 1);

	if (!text)
		abort();
	*escape(text, value, strlen(value)) = '\0';
	fprintf(stream, "%s\"%s\":\"%s\"", *is_first ? "\"attrs\":{" : ",", name, text);
	*is_first = false;
	free(text);
}

static void json_prepare(LogSink *sink, const ConmonOptions *options)
{
	char *text = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&text, &size);
	bool is_first = true;

	if (!stream)
		abort();
	if (options->log_tag)
		add_attribute(stream, &is_first, "tag", options->log_tag);
	if (options->name && (options->log_tag || options->log_labels[0]))
		add_attribute(stream, &is_first, "name", options->name);
	for (char **label = options->log_labels; *label; label++) {
		char *name = strndup(*label, strcspn(*label, "="));

		if (!name)
			abort();
		add_attribute(stream, &is_first, name, *label + strlen(name) + 1);
		free(name);
	}
	if (!is_first)
		fputs("},", stream);
	if (fclose(stream) != 0)
		abort();
	sink->fixed = text;	/* for the life of the process */
	sink->fixed_size = size;
	sink->file.fd_name = "log.json";
	sink->file.path = options->log_json_path;
	sink->file.size_max = options->log_size_max;
	sink->file.total_max = options->log_global_size_max;
	sink->file.rotate = options->log_rotate;
	sink->file.max_files = options->log_max_files;
	sink->file.age_max = options->log_rotate_age;
	sink->file.backups_max = options->log_backups_max;
}

static bool json_is_wanted(const ConmonOptions *options)
{
	return options->log_json_path != NULL;
}

const LogDriver log_json_file = {
	.name = "json-file",
	.transport = &log_file_transport,
	.is_wanted = json_is_wanted,
	.prepare = json_prepare,
	.format = json_format,
};
