#pragma once
/*
 * What the parts of the monitor process share. MonitorState is in shared memory and survives the process; Monitor is the process's own.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/event-loop.h"

#include "conmon/backlog.h"
#include "conmon/exact-send.h"
#include "conmon/log/driver.h"
#include "conmon/monitor.h"
#include "conmon/rate.h"
#include "conmon/ring.h"
#include "conmon/shared.h"
#include "conmon/source.h"

#define STREAM_OUT 0	/* stdout or terminal: packet type 2, "stdout" */
#define STREAM_ERR 1
#define STREAMS LOG_STREAMS
#define OWNER_CTL 2
#define OWNER_WINSZ 3
#define OWNERS 4

#define STREAM_RING_SIZE (1024 * 1024)	/* bytes; how far the slowest sink may lag before its policy counts */
#define CONTROL_RING_SIZE 4096		/* a line has less than CONTROL_LINE_MAX bytes */
#define READ_MAX (256 * 1024)		/* bytes of one stream per wake-up */
#define READ_MIN 4096			/* with less room in the ring it's not worth a system call: wait */
#define CLIENTS_MAX 384			/* attached at once; more wait in the backlog */
#define FAILURE_RAW_MAX 8191		/* bytes of the runtime's stderr that are quoted (C-83) */
#define ATTACH_CHUNK_MAX 8192		/* C-109 */
#define ATTACH_DRAIN_STALL_MS 3000	/* a client that takes nothing for so long once the container has ended (C-121, C-195); before: --attach-stall */
#define LOG_STALL_MS 1000		/* a log's receiver that takes nothing for so long is not waited for any more; see docs/design.md */
#define LOG_LAST_CHANCE_MS 2000		/* the same at the container's end, when nobody is held up */
#define LOG_BLOCK_DRAIN_MS 8000	/* --log-on-error=block once the container has ended: the reaper waits for 10 s */
#define STALL_LOOK_MS 250
#define IDLE_MS 3000			/* nothing for so long: give memory back */
#define PTY_POLL_MS 100			/* C-95 */

typedef struct {
	_Atomic int is_used;
	int fd;
	_Atomic uint64_t pos[STREAMS];
	_Atomic int has_eof;	/* has ended its sending side */
	_Atomic int is_deaf;	/* takes no output any more, but may have sent input that is still to be delivered */
	_Atomic int is_behind;	/* stalled too long: not waited for */
	uint64_t caught_up;	/* bytes it has taken since */
	uint64_t grace;		/* bytes it had sent when another one's EOF came; still to be taken */
	uint64_t progress_ms;
} Client;

struct MonitorState {
	Ring rings[OWNERS];
	_Atomic uint64_t control_mark[OWNERS];	/* consumed of the control rings; in the middle of an over-long line (C-129) */
	Stage stage;
	ExactSend send;
	LogSink sinks[LOG_SINKS_MAX];
	unsigned n_sinks;
	_Atomic int released;	/* the runtime has done its work: what was read goes to the sinks */
	_Atomic uint64_t hold_pos[STREAMS];	/* where it begins, for clients that come before */
	_Atomic int input_eof;	/* a client ended the container's input: close it when what came before is delivered */
	_Atomic int input_closed;
	_Atomic int wanted_rows, wanted_columns;	/* resize that waits for the console, + 1; 0: none */
	_Atomic int text_is_made;	/* shared->failure_text is filled in */
	uint64_t drain_bound[STREAMS];	/* position up to which the final drain reads; 0: not set */
	Backlog backlogs[STREAMS];
	_Atomic int n_clients_high;
	Rate rates[STREAMS];
	Client clients[CLIENTS_MAX];	/* last: pages of unused slots are never touched */
};

typedef struct Monitor Monitor;

/* A stream of the container, in the process. */
typedef struct {
	Monitor *m;
	unsigned stream;
	int fd;			/* -1: not there (yet, any more) */
	EventSource *source;
	bool is_ready, is_muted, is_pty;
	bool was_full;		/* the last read got all it asked for: more is on its way */
	EventTimer *poll_timer;	/* pty without slave; a stream that has used up its rate */
	int pipe_size;
} Stream;

typedef struct {
	Monitor *m;
	EventSource *source;
	bool can_write;
	bool is_ready;		/* has input, or has ended */
} ClientView;

struct Monitor {
	const Conmon *conmon;
	MonitorState *st;
	FdStore *store;
	EventLoop *loop;
	LogContext log;
	EventSource *sink_sources[LOG_SINKS_MAX];
	Stream streams[STREAMS];
	/* attach.c */
	int listen_fd;
	EventSource *listen_source;
	bool listen_muted;	/* no place for another client */
	/* input.c */
	int input_fd, input_r, input_w;	/* the container's side; the pipe between */
	EventSource *input_source;
	EventTimer *input_timer;
	bool input_blocked;
	char *spill;		/* a packet that could not be spliced */
	size_t spill_size, spill_done;
	unsigned input_next;	/* client whose turn it is */
	/* control.c */
	int control_fd[OWNERS];
	EventSource *control_source[OWNERS];
	/* console.c */
	EventSource *console_source;
	/* notify-relay.c */
	EventSource *notify_source;
	/* monitor.c */
	unsigned restarts;
	EventTimer *stall_timer, *idle_timer;
	EventTimer *tell_timer;	/* sinks.c */
	uint64_t active_ms;
	bool again;		/* there is work left that no event will announce */
	bool is_draining;
	uint64_t drain_ms;	/* when the last drain began */
	uint64_t settle_ms;	/* since when only the journal is waited for */
	bool is_settled;
	bool done;
	ClientView views[CLIENTS_MAX];	/* attach.c; last: pages of unused slots are never touched */
};

/* --- monitor.c --- */
/** Free bytes in a stream's ring, after making some by policy if there are none. */
size_t monitor_room(Monitor *m, unsigned stream);
/** Start reading streams again that waited for room. */
void monitor_unmute(Monitor *m);
/** Look again in STALL_LOOK_MS: for retries and for those who take nothing any more. */
void monitor_look_later(Monitor *m);
/** Tell the reaper that a field of ConmonShared has changed. */
void monitor_kick_reaper(Monitor *m);
/** Serve the descriptor of a stream that has just been registered. */
int monitor_add_stream(Monitor *m, unsigned stream, int fd, bool is_pty);

/* --- sinks.c --- */
/** Before the first fork: one sink for each wanted driver. */
void sinks_prepare(MonitorState *st, const ConmonOptions *options);
/** Take over the sinks in a new process. */
void sinks_open(Monitor *m);
/** Record what is in the ring of @p stream. */
void sinks_pump(Monitor *m, unsigned stream, LogUrgency urgency);
/** Leave out of the logs the last @p size bytes of @p stream: they are beyond its rate. A log that can't take what is within it keeps them. */
void sinks_drop_new(Monitor *m, unsigned stream, size_t size);
/** Lowest position that a sink still needs. */
uint64_t sinks_tail(const Monitor *m, unsigned stream);
/** The ring is full: drop what hopeless sinks hold. @return whether there is a sink left that must be waited for */
bool sinks_make_room(Monitor *m, unsigned stream, uint64_t tail);
/** Mark sinks that have taken nothing for too long. @return whether one was */
bool sinks_look_for_stalls(Monitor *m, uint64_t now_ms);
/** Tell what is lost, and which log works again, though the container writes nothing more. */
void sinks_tell(Monitor *m);
void sinks_reopen(Monitor *m);
/** The end: count and tell what could not be recorded. */
void sinks_give_up_rest(Monitor *m);
/** Make everything durable. */
void sinks_sync(Monitor *m);
/** Whether a receiver's acknowledgement is all that a sink waits for. */
bool sinks_await(const Monitor *m);
/** Whether receivers have taken all datagrams out of their queues. */
bool sinks_are_settled(const Monitor *m);
bool sinks_have_datagrams(const Monitor *m);
/** A datagram that a killed predecessor had sent. */
void sinks_commit(Monitor *m, const ExactTicket *ticket);

/* --- attach.c --- */
int attach_open(Monitor *m);
/** Take all pending connections (C-112). */
void attach_accept(Monitor *m);
/** Send what the rings hold for the clients, as far as they take it. @return whether someone waits for room in its socket */
bool attach_send(Monitor *m);
uint64_t attach_tail(const Monitor *m, unsigned stream);
/** The ring is full up to @p tail: move what it holds for those who are behind to the backlog, unless others need it. */
void attach_make_room(Monitor *m, unsigned stream, uint64_t tail);
bool attach_look_for_stalls(Monitor *m, uint64_t now_ms);
/** Everything that was read has been sent to everyone who is not behind. */
bool attach_is_drained(const Monitor *m);
void attach_commit(Monitor *m, const ExactTicket *ticket);
/** The container's output is over: clients that have all of it are closed, the others are left to linger.h; nobody new comes. */
void attach_close_all(Monitor *m);
bool attach_has_output(const Monitor *m, const Client *client);
/** The client has gone (or is sent away). */
void attach_drop(Monitor *m, unsigned index);
/** Poll for what is of interest now. */
void attach_watch(Monitor *m, unsigned index);

/* --- input.c --- */
int input_open(Monitor *m);
/** Move what clients have sent towards the container. */
void input_serve(Monitor *m);

/* --- control.c --- */
int control_open(Monitor *m);
void control_serve(Monitor *m, unsigned owner);
/** Apply a resize that came before the console (C-94). */
void control_apply_resize(Monitor *m);

/* --- console.c --- */
int console_open(Monitor *m);
/** The runtime has ended: no console will come any more, if none is pending (C-85, C-96). */
void console_look(Monitor *m);

/* --- notify-relay.c --- */
int notify_relay_open(Monitor *m);

/* --- failure-text.c --- */
/** Fill shared->failure_text from what the runtime wrote to stderr. */
void failure_text_make(Monitor *m);
