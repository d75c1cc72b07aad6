#pragma once
/*
 * Log drivers: what becomes of the container's output besides the attached clients.
 *
 * A driver is one file and one row of the table in log/driver.c. It makes records out of ring bytes (format); where they go is the affair
 * of one of three transports: log/file.c (append, rotation, limits), log/datagram.c (one datagram per batch) or log/stream.c (TCP). A sink is one driver at
 * work; it lives in shared memory, with its position in each stream.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "common/event-log.h"
#include "common/event-loop.h"
#include "common/fd-store.h"

#include "conmon/exact-send.h"
#include "conmon/options.h"
#include "conmon/ring.h"

#define LOG_STREAMS 2		/* 0 stdout (or terminal), 1 stderr */
#define LOG_NOTE_STREAM 1	/* what is missing is told here */
#define LOG_SINKS_MAX 8
#define LOG_PIECE_MAX 8192	/* longest content of one record (C-146) */
#define LOG_OUT_SIZE (256 * 1024)	/* room for one formatted batch: one write(2); fits the second level cache with its input */
#define LOG_STAMP_SIZE 35	/* 2020-01-02T03:04:05.123456789+01:00 (C-141) */
#define LOG_RETRY_MS 250	/* after an error that time may cure */

typedef struct LogSink LogSink;

/* A position in a stream and whether it is in the middle of a line that has been partly recorded: one word, moved by one store. */
static inline uint64_t log_mark(uint64_t pos, bool mid_line)
{
	return pos << 1 | mid_line;
}
static inline uint64_t log_mark_pos(uint64_t mark)
{
	return mark >> 1;
}
static inline bool log_mark_is_mid_line(uint64_t mark)
{
	return mark & 1;
}

typedef struct {
	char text[LOG_STAMP_SIZE + 1];
	int64_t sec, nsec;	/* CLOCK_REALTIME */
} LogStamp;

/* What happens to a line whose end has not come yet. */
typedef enum {
	LOG_HOLD,	/* more is on its way right now: wait for it */
	LOG_SHOW,	/* nothing more for now: readers want to see a prompt (C-147); journald waits (C-172) */
	LOG_FINISH,	/* nothing more ever */
} LogUrgency;

/* One formatting job. The same input must give the same output again: after a SIGKILL it is made a second time. */
typedef struct {
	const char *data;	/* contiguous input */
	size_t size;
	unsigned stream;
	bool mid_line;		/* data begins in the middle of a line */
	LogUrgency urgency;
	const LogStamp *stamp;
	char *out;
	size_t room;		/* no byte more */
	size_t stop_after;	/* no further record once this many bytes are made; 0: no such limit */
	/* results */
	size_t used, made;	/* input consumed, output made: whole records only */
	bool ends_mid_line;
	bool is_full;		/* stopped because the next record has no room */
} LogBatch;

typedef struct LogTransport LogTransport;

typedef struct {
	const char *name;		/* in --log-path, events and the state file */
	const LogTransport *transport;
	bool (*is_wanted)(const ConmonOptions *options);
	/* Once, before the first fork: constant parts of its records (sink->fixed). May be NULL. */
	void (*prepare)(LogSink *sink, const ConmonOptions *options);
	void (*format)(const LogSink *sink, LogBatch *batch);
} LogDriver;

extern const LogDriver log_k8s_file, log_journald, log_json_file, log_syslog, log_syslog_tcp;

typedef struct LogContext LogContext;

/* A compressor at work, in the process. */
typedef struct {
	LogSink *sink;
	LogContext *ctx;
	EventSource *source;
} LogCompressView;

/* What a sink works with; private to the monitor process. */
struct LogContext {
	const ConmonOptions *options;
	FdStore *store;
	EventLoop *loop;
	EventLog *events;
	Ring *rings[LOG_STREAMS];
	ExactSend *send;
	char *out;		/* LOG_OUT_SIZE bytes */
	void (*watch)(LogSink *sink, LogContext *ctx);	/* its socket is another one now: poll that */
	void *data;
	LogStamp stamp;
	bool stamp_is_fresh;	/* one time stamp per wake-up */
	LogCompressView compress[LOG_SINKS_MAX];
};

struct LogTransport {
	/* At each start of a monitor: take descriptors from the registry, finish what a predecessor had begun. 0 or -errno. */
	int (*open)(LogSink *sink, LogContext *ctx, unsigned index);
	/* Record one batch of a stream. @return input bytes consumed, 0: nothing to record; -EINPROGRESS: nothing
	   but what its receiver has not acknowledged yet; other -errno: no record was torn, try again later */
	ssize_t (*pump)(LogSink *sink, LogContext *ctx, unsigned stream, LogUrgency urgency);
	/* Record a line of our own on stderr. 0 or -errno. */
	int (*note)(LogSink *sink, LogContext *ctx);
	/* The engine asks for a new file (C-163). May be NULL. */
	int (*reopen)(LogSink *sink, LogContext *ctx);
	/* Everything is recorded: make it durable. May be NULL. */
	int (*sync)(LogSink *sink, LogContext *ctx);
	/*
	 * Before a drop: what is on its way already is not kept any longer, so that the drop begins behind it. @is_end: no more will be sent. May be NULL.
	 */
	void (*release)(LogSink *sink, LogContext *ctx, bool is_end);
	/* The container has ended: give up what goes on besides. May be NULL. */
	void (*stop)(LogSink *sink, LogContext *ctx);
};

/* Appending batches to a file; see log/file.c. */
typedef struct {
	_Atomic int phase;
	/* the batch that is being written */
	bool is_note;
	unsigned stream;
	uint64_t from, to;	/* marks */
	LogStamp stamp;
	int64_t offset;		/* size of the file before it; -1: not a regular file */
	uint64_t made;		/* bytes of the batch */
	uint64_t done;		/* written, where the file position can't tell */
	uint64_t noted_bytes_after, noted_lines_after;
	int64_t total_before;
	/* the torn end that is being cut off */
	uint64_t torn, keep, keep_to;
	/* the end of a record that a FIFO has not taken yet, though the ring gives up its batch */
	char *rest;		/* LOG_OUT_SIZE bytes of shared memory, NULL: not reserved */
	uint64_t rest_size;
	/* the file */
	const char *path;
	const char *fd_name;	/* in the registry */
	int fd;
	bool is_regular, is_opened;
	_Atomic int rotating;
	int rotate_error;	/* errno while it can't be rotated, else 0 */
	int64_t rotate_tried;	/* seconds, as stamps */
	int64_t size_max, total_max;	/* <= 0: unlimited */
	bool rotate;
	int max_files;
	int64_t backups_max;	/* bytes of all backups together; <= 0: unlimited */
	int64_t age_max;	/* seconds after which a file is rotated; <= 0: never */
	int64_t born;		/* when the present file was begun: CLOCK_REALTIME seconds, as stamps */
	int64_t total;		/* written so far, with what was there before us (C-158) */
	/* the compressor (log/file-compress.c); pid 0: none */
	const char *compress_program;	/* NULL: not wanted */
	int compress_form;		/* BackupForm */
	_Atomic pid_t compress_pid;
	_Atomic int compress_pidfd;
	dev_t compress_dev;		/* which file */
	ino_t compress_ino;
	int64_t compress_size;
	bool compress_failed;
} LogFile;

typedef struct LogStream LogStream;

typedef struct {
	const char *address;	/* path of a unix socket, or "udp:HOST:PORT", "tcp:HOST:PORT" with a numeric host */
	const char *fd_name;	/* in the registry */
	int fd;			/* -1: not connected */
	LogStream *stream;	/* of a TCP sink, else NULL */
} LogSocket;

struct LogSink {
	const LogDriver *driver;
	unsigned index;
	const char *fixed;	/* constant part of each record, made before the first fork */
	size_t fixed_size, fixed_mark;
	bool has_partial_field;
	_Atomic uint64_t mark[LOG_STREAMS];
	/* A loss is noted before the position moves, so that a SIGKILL counts it once. */
	struct {
		_Atomic int active;
		unsigned stream;
		unsigned cut_after;
		uint64_t to, bytes_after, lines_after;
	} drop;
	/* The line at the position has lost its beginning: so many bytes are searched for its end and left out, too. 0: it has not. */
	unsigned cut[LOG_STREAMS];
	uint64_t lost_bytes, lost_lines;	/* ever */
	uint64_t noted_bytes, noted_lines;	/* of them already told in the log itself */
	int error;		/* errno while records can't be delivered, else 0 */
	bool is_told;		/* that it fails */
	uint64_t failed_ms;	/* when that last happened, or something was left out */
	uint64_t retry_ms;	/* no attempt before */
	bool is_full;		/* its socket takes no more; POLLOUT will tell */
	uint64_t stalled_ms;	/* since when it takes nothing; 0: it does */
	bool is_behind;		/* stalled too long: no longer waited for until it has caught up */
	LogFile file;
	LogSocket socket;
};

/** Next wanted driver: `for (i = 0; (driver = log_driver_next(&i, options));)`. */
const LogDriver *log_driver_next(size_t *iter, const ConmonOptions *options);

/** Fill in @p stamp for now; zone conversions happen once a second at most. */
void log_stamp_take(LogStamp *stamp);
/** The stamp of this wake-up. */
const LogStamp *log_stamp(LogContext *ctx);

/** For the prepare function of a driver that appends to a file: the limits that are the same for all of them. */
void log_file_prepare(LogSink *sink, const ConmonOptions *options, const char *path);

/**
 * Text of the note about what was lost and has not been told yet, with an LF before it if it would stand in a line.
 *
 * @return its length with the LF; 0: nothing to tell
 */
size_t log_note_text(const LogSink *sink, char *buf, size_t size);
/** The note about so much is out. */
void log_note_done(LogSink *sink, uint64_t bytes, uint64_t lines);

/** How many lines end in these bytes. */
uint64_t log_count_lines(const char *p, size_t size);

/**
 * Give up the oldest bytes of a stream up to about @p pos, and count them. Readers must not take what is left of two lines for one: a drop ends
 * where a line ends, and if the line's beginning is recorded already, before its LF, which then ends that record.
 */
void log_sink_drop(LogSink *sink, const Ring *ring, unsigned stream, uint64_t pos);
/** If the line at the position has lost its beginning: leave out the rest of it, too, as far as it has come. */
void log_sink_drop_rest(LogSink *sink, const Ring *ring, unsigned stream);
/**
 * Address of a sink with a socket: a unix socket's path, "udp:HOST:PORT" or "tcp:HOST:PORT" with a numeric host (nothing here may wait for a name server).
 *
 * @return its size, 0 if it is not valid
 */
socklen_t log_address_parse(const char *address, struct sockaddr_storage *ret_addr);

/** A datagram of the sink is out: its position moves. */
void log_datagram_commit(LogSink *sink, const ExactTicket *ticket);

/** Finish a drop that a SIGKILL interrupted. */
void log_sink_drop_recover(LogSink *sink);

/**
 * Open a k8s-file log as C-150 says; called by the front process during validation (C-22).
 *
 * @param path  as given
 * @return descriptor, close-on-exec, or -errno
 */
int log_k8s_open(const char *path);

/** State of a TCP connection in shared memory; before the first fork. NULL with errno if there is none. */
LogStream *log_stream_new(void);

extern const LogTransport log_file_transport, log_datagram_transport, log_stream_transport;
