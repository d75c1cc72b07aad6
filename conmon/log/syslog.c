/*
 * syslog, RFC 5424: one message per line and datagram, to a unix socket (default /dev/log) or over UDP (RFC 5426).
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conmon/log/driver.h"

#define FACILITY 3		/* daemon */
#define APP_NAME_MAX 48		/* RFC 5424, section 6.2.5 */
#define HEADER_MAX 64		/* <PRI>1 and the time */
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
}

/* One record per call: a datagram carries one message. */
static void syslog_format(const LogSink *sink, LogBatch *batch)
{
	size_t window = batch->size < LOG_PIECE_MAX ? batch->size : LOG_PIECE_MAX;
	const char *text = batch->data, *eol = memchr(text, '\n', window);
	size_t length = eol ? (size_t)(eol - text) : window;
	int severity = batch->stream == 0 ? 6 : 3;
	char *out = batch->out;

	batch->used = batch->made = 0;
	batch->ends_mid_line = batch->mid_line;
	if (batch->size == 0 || (!eol && batch->urgency != LOG_FINISH && window < LOG_PIECE_MAX))
		return;
	if (batch->room < HEADER_MAX + sink->fixed_size + length) {
		batch->is_full = true;
		return;
	}
	batch->used = length + (eol ? 1 : 0);
	batch->ends_mid_line = !eol;
	if (!batch->mid_line && length >= 3 && text[0] == '<' && text[1] >= '0' && text[1] <= '7' && text[2] == '>') {
		severity = text[1] - '0';
		text += 3;
		length -= 3;
	}
	out += snprintf(out, HEADER_MAX, "<%d>1 %.26s%s", FACILITY * 8 + severity, batch->stamp->text,
		batch->stamp->text + 29);	/* microseconds are the most that RFC 5424 allows */
	memcpy(out, sink->fixed, sink->fixed_size);
	out += sink->fixed_size;
	memcpy(out, text, length);
	batch->made = (size_t)(out + length - batch->out);
}

static bool syslog_is_wanted(const ConmonOptions *options)
{
	return options->log_syslog_address != NULL;
}

const LogDriver log_syslog = {
	.name = "syslog",
	.transport = &log_datagram_transport,
	.is_wanted = syslog_is_wanted,
	.prepare = syslog_prepare,
	.format = syslog_format,
};
