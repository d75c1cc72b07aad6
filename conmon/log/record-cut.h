#pragma once
/*
 * Cutting the input of a batch into the contents of records, for drivers with one record per line: what a piece is, when a line
 * without an end must wait, and when a batch is over. The loop of a driver is
 *
 *	for (log_cut_begin(&cut, batch); log_cut_next(&cut);) {
 *		if (!log_cut_has_room(&cut, bytes of this record))
 *			break;
 *		cut.out = (make the record at cut.out);
 *		if (!log_cut_take(&cut))
 *			break;
 *	}
 *	log_cut_end(&cut);
 *
 * Everything is inline: it runs once for each line.
 */
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "conmon/log/driver.h"

typedef struct {
	LogBatch *batch;
	const char *text;	/* the piece at hand, without its LF */
	size_t length;		/* at most LOG_PIECE_MAX; the driver may shorten a piece that does not end its line */
	bool is_end;		/* an LF follows it */
	char *out;		/* where the next record goes */
	const char *end;	/* of the input */
	char *out_end, *out_stop;
	bool mid_line;
} LogCut;

static inline void log_cut_begin(LogCut *cut, LogBatch *batch)
{
	cut->batch = batch;
	cut->text = batch->data;
	cut->end = batch->data + batch->size;
	cut->out = batch->out;
	cut->out_end = batch->out + batch->room;
	cut->out_stop = batch->stop_after ? batch->out + batch->stop_after : cut->out_end + 1;
	cut->mid_line = batch->mid_line;
	batch->is_full = false;
}

/* Look at the next piece. @return false: there is none, or it is the beginning of a line that is held back */
static inline bool log_cut_next(LogCut *cut)
{
	size_t rest = (size_t)(cut->end - cut->text);
	size_t window = rest > LOG_PIECE_MAX + 1 ? LOG_PIECE_MAX + 1 : rest;
	const char *eol;

	if (rest == 0)
		return false;
	eol = memchr(cut->text, '\n', window);
	cut->is_end = eol != NULL;
	if (eol) {
		cut->length = (size_t)(eol - cut->text);
		return true;
	}
	if (rest <= LOG_PIECE_MAX && cut->batch->urgency == LOG_HOLD)
		return false;
	cut->length = window > LOG_PIECE_MAX ? LOG_PIECE_MAX : window;
	return true;
}

static inline bool log_cut_has_room(LogCut *cut, size_t size)
{
	if ((size_t)(cut->out_end - cut->out) >= size)
		return true;
	cut->batch->is_full = true;
	return false;
}

/* The record of the piece is made, cut->out is behind it. @return whether there may be another one */
static inline bool log_cut_take(LogCut *cut)
{
	cut->text += cut->length + (cut->is_end ? 1 : 0);
	cut->mid_line = !cut->is_end;
	return cut->out < cut->out_stop;
}

static inline void log_cut_end(const LogCut *cut)
{
	cut->batch->used = (size_t)(cut->text - cut->batch->data);
	cut->batch->made = (size_t)(cut->out - cut->batch->out);
	cut->batch->ends_mid_line = cut->mid_line;
}
