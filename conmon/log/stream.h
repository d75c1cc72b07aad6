#pragma once
/*
 * State of a sink that sends its records over a TCP connection; see log/stream.c.
 */
#include "conmon/log/driver.h"

#define LOG_STREAM_BATCHES 64	/* under way at once; more wait until the first are acknowledged */
#define LOG_STREAM_TEXT_MAX 65536	/* bytes of one batch */

/* A batch that was given to the connection and that its receiver has not acknowledged yet. */
typedef struct {
	bool is_note;
	unsigned stream;
	uint64_t from, to;	/* marks */
	uint64_t bytes, lines;	/* of the container's output; of a note: what it tells */
	uint64_t end;		/* where it ends, counted from the connection's first byte */
	uint64_t made;		/* its length */
	LogStamp stamp;
} LogStreamBatch;

typedef enum {
	LOG_STREAM_NONE,	/* no connection */
	LOG_STREAM_CONNECTING,
	LOG_STREAM_UP,
	LOG_STREAM_LOST,	/* it has ended; what it did not deliver is being looked for */
	LOG_STREAM_TAKING_BACK,	/* the result of that is being applied */
} LogStreamPhase;

struct LogStream {
	_Atomic int phase;
	uint64_t base;		/* the kernel's count of acknowledged bytes when nothing had been sent: it counts the SYN */
	uint64_t end;		/* of the last batch */
	_Atomic uint64_t popped, pushed;	/* batches of all connections; those between are under way */
	LogStreamBatch batches[LOG_STREAM_BATCHES];
	struct {
		uint64_t mark[LOG_STREAMS], lost_bytes, lost_lines;
	} back;			/* where the sink stands without the connection */
	uint64_t acked_seen;	/* to tell progress */
	char text[LOG_STREAM_TEXT_MAX];	/* of the last batch */
};
