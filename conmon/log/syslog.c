/*
 * syslog, RFC 5424: one message per line, in a datagram to a unix socket (default /dev/log) or over UDP (RFC 5426), or many over a TCP
 * connection (RFC 6587).
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conmon/log/driver.h"

#define FACILITY 3		/* daemon */
#define APP_NAME_MAX 48		/* RFC 5424, section 6.2.5 */
#define STAMP_TIME_SIZE 26	/* of a stamp up to its microseconds */
#define STAMP_ZONE_SIZE 6	/* at its end */
#define HEADER_SIZE (6 + STAMP_TIME_SIZE + STAMP_ZONE_SIZE)	/* <PRI>1 and the time; priorities of that facility have two digits */
#define PREFIX_SIZE 3		/* "<4>" at the beginning of a line: its severity */
#define COUNT_MAX 24		/* digits and a blank */
#define SD_ID "container@32473"	/* the number that RFC 5612 reserves for examples: readers match the names */

/* PARAM-VALUE: RFC 5424, section 6.3.3. */
static void add_parameter(FILE *stream, const char *name, const char *value)
{
	fprintf(stream, " %s=\"", name);
	for (; *value; value++) {
		if (strchr("\"\\]", *value))
			fputc('\\', stream);
		fputc(*value, stream);
	}
	fputc('"', stream);
}

/* A header field: printable, without blanks. */
static void add_word(FILE *stream, const char *word, size_t max)
{
	size_t n = 0;

	fputc(' ', stream);
	for (; *word && n < max; word++, n++)
		fputc(*word > ' ' && *word < 0x7f ? *word : '_', stream);
	if (n == 0)
		fputc('-', stream);
}

static bool is_tcp(const char *address)
{
	return address && strncmp(address, "tcp:", strlen("tcp:")) == 0;
}

static void syslog_prepare(LogSink *sink, const ConmonOptions *options)
{
	char short_id[13], host[256] = "-", *text = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&text, &size);

	if (!stream)
		abort();
	(void)gethostname(host, sizeof(host) - 1);
	snprintf(short_id, sizeof(short_id), "%s", options->cid);
	add_word(stream, host, 255);
	add_word(stream, options->log_tag ? options->log_tag : options->name ? options->name : short_id, APP_NAME_MAX);
	fputs(" - - [" SD_ID, stream);
	add_parameter(stream, "id", options->cid);
	if (options->name)
		add_parameter(stream, "name", options->name);
	if (options->log_tag)
		add_parameter(stream, "tag", options->log_tag);
	for (char **label = options->log_labels; *label; label++) {
		char *name = strndup(*label, strcspn(*label, "="));

		if (!name)
			abort();
		add_parameter(stream, name, *label + strlen(name) + 1);
		free(name);
	}
	fputs("] ", stream);
	if (fclose(stream) != 0)
		abort();
	sink->fixed = text;	/* for the life of the process */
	sink->fixed_size = size;
	sink->socket.address = options->log_syslog_address;
	sink->socket.fd_name = "syslog.sock";
	if (!is_tcp(options->log_syslog_address))
		return;
	sink->socket.stream = log_stream_new();
	if (!sink->socket.stream)
		abort();
}

/*
 * The next piece of the batch's input: a line without its LF, or LOG_PIECE_MAX bytes of one. A line that has no end yet waits for it.
 * @return what is to be consumed for it, 0: nothing yet
 */
static size_t piece_find(const char *text, size_t size, LogUrgency urgency, size_t *ret_length)
{
	size_t window = size < LOG_PIECE_MAX ? size : LOG_PIECE_MAX;
	const char *eol = memchr(text, '\n', window);

	if (!eol && urgency != LOG_FINISH && window < LOG_PIECE_MAX)
		return 0;
	*ret_length = eol ? (size_t)(eol - text) : window;
	return *ret_length + (eol ? 1 : 0);
}

static bool has_priority(const char *text, size_t length, bool mid_line)
{
	return !mid_line && length >= PREFIX_SIZE && text[0] == '<' && text[1] >= '0' && text[1] <= '7' && text[2] == '>';
}

static size_t message_size(const LogSink *sink, const char *text, size_t length, bool mid_line)
{
	return HEADER_SIZE + sink->fixed_size + length - (has_priority(text, length, mid_line) ? PREFIX_SIZE : 0);
}

/* @return the end of the message */
static char *message_make(char *out, const LogSink *sink, const LogBatch *batch, const char *text, size_t length, bool mid_line)
{
	int severity = batch->stream == 0 ? 6 : 3, priority;
	char pri[] = "<00>1 ";

	if (has_priority(text, length, mid_line)) {
		severity = text[1] - '0';
		text += PREFIX_SIZE;
		length -= PREFIX_SIZE;
	}
	priority = FACILITY * 8 + severity;
	pri[1] = (char)('0' + priority / 10);
	pri[2] = (char)('0' + priority % 10);
	out = mempcpy(out, pri, sizeof(pri) - 1);
	out = mempcpy(out, batch->stamp->text, STAMP_TIME_SIZE);	/* microseconds are the most that RFC 5424 allows */
	out = mempcpy(out, batch->stamp->text + LOG_STAMP_SIZE - STAMP_ZONE_SIZE, STAMP_ZONE_SIZE);
	out = mempcpy(out, sink->fixed, sink->fixed_size);
	return mempcpy(out, text, length);
}

/* One record per call: a datagram carries one message. */
static void syslog_format(const LogSink *sink, LogBatch *batch)
{
	size_t length = 0, used = piece_find(batch->data, batch->size, batch->urgency, &length);

	batch->used = batch->made = 0;
	batch->ends_mid_line = batch->mid_line;
	if (batch->size == 0 || used == 0)
		return;
	if (batch->room < message_size(sink, batch->data, length, batch->mid_line)) {
		batch->is_full = true;
		return;
	}
	batch->made = (size_t)(message_make(batch->out, sink, batch, batch->data, length, batch->mid_line) - batch->out);
	batch->used = used;
	batch->ends_mid_line = used == length;
}

/* Many messages, each after its length (octet counting: RFC 6587, section 3.4.1). */
static void syslog_tcp_format(const LogSink *sink, LogBatch *batch)
{
	const char *p = batch->data, *end = p + batch->size;
	char *out = batch->out, *out_end = out + batch->room;
	bool mid_line = batch->mid_line;

	batch->is_full = false;
	while (p < end) {
		size_t length = 0, used = piece_find(p, (size_t)(end - p), batch->urgency, &length), n;
		char count[COUNT_MAX];

		if (used == 0)
			break;
		n = (size_t)snprintf(count, sizeof(count), "%zu ", message_size(sink, p, length, mid_line));
		if ((size_t)(out_end - out) < n + message_size(sink, p, length, mid_line)) {
			batch->is_full = true;
			break;
		}
		out = message_make(mempcpy(out, count, n), sink, batch, p, length, mid_line);
		p += used;
		mid_line = used == length;
	}
	batch->used = (size_t)(p - batch->data);
	batch->made = (size_t)(out - batch->out);
	batch->ends_mid_line = mid_line;
}

static bool syslog_is_wanted(const ConmonOptions *options)
{
	return options->log_syslog_address && !is_tcp(options->log_syslog_address);
}

static bool syslog_tcp_is_wanted(const ConmonOptions *options)
{
	return is_tcp(options->log_syslog_address);
}

const LogDriver log_syslog = {
	.name = "syslog",
	.transport = &log_datagram_transport,
	.is_wanted = syslog_is_wanted,
	.prepare = syslog_prepare,
	.format = syslog_format,
};

const LogDriver log_syslog_tcp = {
	.name = "syslog",
	.transport = &log_stream_transport,
	.is_wanted = syslog_tcp_is_wanted,
	.prepare = syslog_prepare,
	.format = syslog_tcp_format,
};
