#pragma once
/*
 * What the reaper and the monitor of one container tell each other: a page of shared memory and two eventfds.
 *
 * Every field has one writer. Requests and answers are levels, not messages: whoever starts again reads where things stand.
 * The order: the reaper creates all objects, registers them (names below) and starts the runtime; the monitor serves
 * them from the beginning. "Kick" = write 1 to the other's eventfd after changing a field.
 *
 *   reaper                                  monitor
 *   runtime ended with status ≠ 0:
 *     failure_wanted = 1, kick       ──▶    drains the stderr pipe without waiting for EOF, escapes (C-57, valid UTF-8),
 *                                           fills failure_text, failure_ready = 1, kick
 *   terminal: waits for console_ready ◀──   received the pty master, registered as "console", console_ready = 1, kick
 *   container ended:
 *     drain_wanted = 1, kick         ──▶    drains stdout, stderr or console without waiting (C-188, C-189.2), flushes journald
 *                                           partials, fsync (C-153), sends everything to the clients as far as their policy allows, closes
 *                                           clients and listener, drain_done = 1, kick, then supervise_retire() and exits 0
 *   exit files, sync message, exit command
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/event-log.h"
#include "common/fd-store.h"
#include "common/state-file.h"
#include "common/supervise.h"

#include "conmon/options.h"

/* Registry names. The side that reads/writes them is the monitor unless said otherwise. */
#define FD_STDIN "stdin.w"		/* our (non-blocking) end of the container's stdin pipe, with -i and no terminal */
#define FD_STDOUT "stdout.r"		/* our end of the stdout pipe (no terminal) */
#define FD_STDERR "stderr.r"		/* our end of the stderr pipe (always but passthrough) */
#define FD_CONSOLE_LISTEN "console.listen"	/* AF_UNIX SOCK_STREAM listener for the runtime's console message; path in shared->console_path */
#define FD_CONSOLE "console"		/* pty master; registered by the monitor when it came */
#define FD_CONSOLE_IN "console.in"	/* second descriptor of it, for input (C-91) */
#define FD_ATTACH "attach.listen"	/* SOCK_SEQPACKET listener, non-blocking */
#define FD_CTL "ctl.r"
#define FD_CTL_KEEP "ctl.w"		/* the writer that we hold ourselves (C-125) */
#define FD_WINSZ "winsz.r"
#define FD_WINSZ_KEEP "winsz.w"
#define FD_NOTIFY "notify"		/* bound SOCK_DGRAM of --sdnotify-socket */
#define FD_LOG_FILE "log.k8s"		/* opened by the front process (C-22); replaced by the monitor on rotation */
#define FD_SYNC "sync"			/* sync pipe; reaper only */
#define FD_KICK_REAPER "kick.reaper"
#define FD_KICK_MONITOR "kick.monitor"
/* Of the process side only. */
#define FD_KICK_KEEPER "kick.keeper"
#define FD_START "start"			/* start pipe, until the runtime was forked (exec-attach) */
#define FD_ATTACH_PIPE "attach.pipe"
#define FD_FRONT "front"			/* to the front process, until there is a worker */
#define FD_CHILD_STDIN "child.stdin"		/* the runtime's ends; until it was forked */
#define FD_CHILD_STDOUT "child.stdout"
#define FD_CHILD_STDERR "child.stderr"
#define FD_DEVNULL "devnull"
#define FD_RUNTIME "runtime.pidfd"
#define FD_PAYLOAD "payload.pidfd"
#define FD_EXIT_COMMAND "exit-command.pidfd"

#define FAILURE_TEXT_MAX 3900	/* bytes, escaped; with the rest of the message below podman's 4096 (C-58) */

typedef struct {
	/* written by the reaper */
	_Atomic pid_t payload_pid;	/* 0: not known yet; set once the first sync message is out (C-62) */
	_Atomic int runtime_running;
	_Atomic int failure_wanted;
	_Atomic int drain_wanted;	/* 1: drain; 2: after timeout, whatever is there at once */
	_Atomic int oom_seen;
	/* written by the monitor */
	_Atomic int failure_ready;
	_Atomic int console_ready;	/* 1: there; -1: broken (console_error says why) */
	_Atomic int drain_done;
	_Atomic int stop_wanted;	/* --log-on-error=stop: the keeper kills the container */
	/* constant after start */
	char console_path[108];
	/* by the monitor; last, because large and mostly never touched */
	char console_error[256];
	char failure_text[FAILURE_TEXT_MAX + 1];	/* escaped for JSON, NUL-terminated, "" if nothing was printed */
} ConmonShared;

typedef struct ReaperState ReaperState;	/* conmon/reaper-state.h */
typedef struct ConmonEnvironment ConmonEnvironment;	/* conmon/environment.h */
typedef struct MonitorState MonitorState;

typedef struct {
	const ConmonOptions *options;
	Supervisor *sv;
	FdStore *store;
	ConmonShared *shared;
	EventLog *events;
	StateFile *state;
	/* process side only */
	const ConmonEnvironment *environment;
	ReaperState *reaper;
	MonitorState *monitor;
} Conmon;

/** Write 1 to the eventfd of that registry name; nothing if there is none. */
void conmon_kick(const Conmon *conmon, const char *name);
