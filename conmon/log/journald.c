/*
 * journald: contract section 10.5, in systemd's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL). Many entries go in one datagram,
 * separated by empty lines, which journald has always taken.
 */
#include "config.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conmon/log/driver.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define SHORT_ID_SIZE 12
#define PARTIAL_FIELD "CONTAINER_PARTIAL_MESSAGE=true\n"
#define MESSAGE_FIELD "MESSAGE\n"
#define MESSAGE_OVERHEAD (sizeof(MESSAGE_FIELD) - 1 + 8 + 1)

/* Line of text collected in a stdio memory stream: this runs once, before the first fork. */
static void add_field(FILE *stream, const char *name, const char *value)
{
	size_t size = strlen(value);

	if (!memchr(value, '\n', size)) {
		fprintf(stream, "%s=%s\n", name, value);
		return;
	}
	uint64_t wire = htole64(size);

	fprintf(stream, "%s\n", name);
	fwrite(&wire, 1, sizeof(wire), stream);
	fprintf(stream, "%s\n", value);
}

/* The fields behind MESSAGE, in the order of C-170; fixed_mark is where the digit of PRIORITY stands. */
static void journald_prepare(LogSink *sink, const ConmonOptions *options)
{
	char short_id[SHORT_ID_SIZE + 1], *text = NULL;
	size_t size = 0;
	FILE *stream = open_memstream(&text, &size);

	if (!stream)
		abort();
	snprintf(short_id, sizeof(short_id), "%s", options->cid);
	add_field(stream, "CONTAINER_ID_FULL", options->cid);
	fflush(stream);
	sink->fixed_mark = size + strlen("PRIORITY=");
	add_field(stream, "PRIORITY", "6");
	add_field(stream, "CONTAINER_ID", short_id);
	if (options->log_tag)
		add_field(stream, "CONTAINER_TAG", options->log_tag);
	if (options->name)
		add_field(stream, "CONTAINER_NAME", options->name);
	add_field(stream, "SYSLOG_IDENTIFIER",
			options->log_tag ? options->log_tag : options->name ? options->name : short_id);
	for (char **label = options->log_labels; label && *label; label++) {
		char *value = strchr(*label, '=');
		char *name = strndup(*label, (size_t)(value - *label));

		add_field(stream, name, value + 1);
		free(name);
	}
	if (fclose(stream) != 0)
		abort();
	sink->fixed = text;	/* for the life of the process */
	sink->fixed_size = size;
	sink->has_partial_field = !options->no_container_partial_message;
	sink->socket.address = JOURNAL_SOCKET;
	sink->socket.fd_name = "journal.sock";
}

/* "<N>" at the true start of a line is its priority (C-174). */
static void take_priority(const char **p, size_t *length, char *priority)
{
	const char *s = *p;

	if (*length < 3 || s[0] != '<' || s[1] < '0' || s[1] > '7' || s[2] != '>')
		return;
	*priority = s[1];
	*p += 3;
	*length -= 3;
}

static char *entry_make(char *out, const LogSink *sink, const char *p, size_t length, char priority, bool partial)
{
	uint64_t wire = htole64(length);

	memcpy(out, MESSAGE_FIELD, sizeof(MESSAGE_FIELD) - 1);
	out += sizeof(MESSAGE_FIELD) - 1;
	memcpy(out, &wire, sizeof(wire));
	out += sizeof(wire);
	memcpy(out, p, length);
	out += length;
	*out++ = '\n';
	memcpy(out, sink->fixed, sink->fixed_size);
	out[sink->fixed_mark] = priority;
	out += sink->fixed_size;
	if (partial && sink->has_partial_field) {
		memcpy(out, PARTIAL_FIELD, sizeof(PARTIAL_FIELD) - 1);
		out += sizeof(PARTIAL_FIELD) - 1;
	}
	*out++ = '\n';
	return out;
}

/*
 * One entry per line, its LF included. A line that has not ended is held back in the ring until LOG_PIECE_MAX bytes of
 * it are there, or for good at the end (C-172, C-173).
 */
static void journald_format(const LogSink *sink, LogBatch *batch)
{
	const char *p = batch->data, *end = p + batch->size;
	char *out = batch->out, *out_end = out + batch->room;
	const size_t overhead = MESSAGE_OVERHEAD + sink->fixed_size + sizeof(PARTIAL_FIELD);
	bool mid_line = batch->mid_line;

	while (p < end) {
		size_t rest = (size_t)(end - p);
		size_t window = rest < LOG_PIECE_MAX ? rest : LOG_PIECE_MAX;
		const char *eol = memchr(p, '\n', window);
		size_t used = eol ? (size_t)(eol - p) + 1 : window;
		const char *text = p;
		size_t length = used;
		char priority;

		if (!eol && batch->urgency != LOG_FINISH && window < LOG_PIECE_MAX)
			break;
		if ((size_t)(out_end - out) < overhead + length) {
			batch->is_full = true;
			break;
		}
		priority = batch->stream == 0 ? '6' : '3';
		if (!mid_line)
			take_priority(&text, &length, &priority);
		out = entry_make(out, sink, text, length, priority, !eol);
		p += used;
		mid_line = !eol;
	}
	batch->used = (size_t)(p - batch->data);
	batch->made = (size_t)(out - batch->out);
	batch->ends_mid_line = mid_line;
}

static bool journald_is_wanted(const ConmonOptions *options)
{
	return options->log_journald;
}

const LogDriver log_journald = {
	.name = "journald",
	.transport = &log_datagram_transport,
	.is_wanted = journald_is_wanted,
	.prepare = journald_prepare,
	.format = journald_format,
};
