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
#include "conmon/log/record-cut.h"
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
static bool has_room(LogCut *cut, size_t others)
{
	static char scrap[LOG_PIECE_MAX * ESCAPE_MAX];
	size_t most = cut->length * ESCAPE_MAX + 2 + others, room = (size_t)(cut->out_end - cut->out);

	if (room < most)
		most = (size_t)(escape(scrap, cut->text, cut->length) - scrap) + (cut->is_end ? 2 : 0) + others;
	return log_cut_has_room(cut, most);
}

static void json_format(const LogSink *sink, LogBatch *batch)
{
	static const char head[] = "{\"log\":\"", out_stream[] = "\",\"stream\":\"stdout\",",
			  error_stream[] = "\",\"stream\":\"stderr\",";
	char time[TIME_SIZE];
	size_t time_size = time_make(time, batch->stamp);
	size_t others = sizeof(head) - 1 + sizeof(out_stream) - 1 + sink->fixed_size + time_size;
	LogCut cut;

	for (log_cut_begin(&cut, batch); log_cut_next(&cut);) {
		if (!cut.is_end && (batch->urgency != LOG_FINISH || cut.text + cut.length < cut.end)) {
			cut.length = whole_characters(cut.text, cut.length);
			if (cut.length == 0)
				break;
		}
		if (!has_room(&cut, others))
			break;
		cut.out = mempcpy(cut.out, head, sizeof(head) - 1);
		cut.out = escape(cut.out, cut.text, cut.length);
		if (cut.is_end)
			cut.out = mempcpy(cut.out, "\\n", 2);
		cut.out = mempcpy(cut.out, batch->stream == 0 ? out_stream : error_stream, sizeof(out_stream) - 1);
		cut.out = mempcpy(cut.out, sink->fixed, sink->fixed_size);
		cut.out = mempcpy(cut.out, time, time_size);
		if (!log_cut_take(&cut))
			break;
	}
	log_cut_end(&cut);
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
	log_file_prepare(sink, options, options->log_json_path);
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
