#pragma once
/*
 * The reaper's progress in shared memory: whoever is the reaper goes on from here. Besides the reaper only the keeper
 * writes to it, and only what is marked (k).
 */
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "conmon/shared.h"

#define SYNC_MESSAGE_MAX 4096	/* bytes with the line end: podman's buffer (C-58) */
#define STRAYS_MAX 64		/* last children that were reaped */

/* In order of time. Each step can be repeated: it asks the kernel what it had already done. */
typedef enum {
	PHASE_LAUNCH,		/* fork the runtime */
	PHASE_CREATING,		/* the runtime runs */
	PHASE_PAYLOAD,		/* it has ended: was something created? */
	PHASE_CONSOLE,		/* terminal: wait for the pty master */
	PHASE_NETWORK,		/* --network-helper: wait until it is ready */
	PHASE_ANNOUNCE,		/* first sync message, success */
	PHASE_RUNNING,		/* wait for the payload's end */
	PHASE_TIMED_OUT,	/* it was killed by --timeout: wait for it a little */
	PHASE_OOM,		/* the exit sequence, C-189 */
	PHASE_DRAIN,
	PHASE_NETWORK_DOWN,	/* --network-helper ends with the container */
	PHASE_RELEASE_INHERITED,
	PHASE_PERSIST_FILE,
	PHASE_EXIT_FILE,
	PHASE_EXIT_MESSAGE,
	PHASE_CLOSE,
	PHASE_EXIT_COMMAND,
	PHASE_END,
	PHASE_DONE,
	/* creation failed; goes on with PHASE_CLOSE */
	PHASE_FAILURE_TEXT,	/* wait for what the runtime wrote to stderr */
	PHASE_FAILURE_MESSAGE,	/* sync message -1 */
	PHASE_FAILURE_STOP,	/* the monitor ends */
} ReaperPhase;

/* One sync message, exactly once: see sync-pipe.c. */
typedef struct {
	_Atomic int step;
	unsigned size;
	char text[SYNC_MESSAGE_MAX];
} SyncMessage;

/* One exit file, exactly once: see exit-report.c. */
typedef struct {
	_Atomic int step;
	_Atomic int error;	/* negative errno; 0: fine */
} ExitFile;

/* A child that was reaped by the reaper or, because that was dead, by the keeper (k). */
typedef struct {
	_Atomic pid_t pid;
	_Atomic int wait_status;
} Stray;

typedef enum { NETWORK_NONE, NETWORK_STARTED, NETWORK_UP } NetworkPhase;

/* The network helper that conmon runs itself: see network.c. */
typedef struct {
	_Atomic pid_t pid;		/* claimed by the child itself */
	_Atomic int phase;		/* NetworkPhase */
	_Atomic unsigned quick;		/* ends in a row, each soon after its start */
	_Atomic uint64_t started_ms, died_ms, start_at_ms;
	char text[400];			/* the last line that it printed */
} NetworkState;

struct ReaperState {
	/* constant after start */
	pid_t published_pid;		/* what the pid file says (C-2); LISTEN_PID is compared with it */
	pid_t session_group;		/* process group of conmon: never killed by --timeout (C-199) */
	dev_t attach_dev;		/* identity of our attach socket file */
	ino_t attach_ino;
	dev_t symlink_dev;		/* and of our attach symlink */
	ino_t symlink_ino;
	/* the identity of a pid file that lay there before (C-81); ino 0: none */
	ino_t stale_ino;
	struct timespec stale_ctime;

	_Atomic int phase;		/* ReaperPhase */
	_Atomic pid_t runtime_pid;	/* claimed by the child itself: see process_claim() */
	_Atomic int runtime_ended;
	_Atomic int runtime_status;	/* wait status, -1: unknown */
	_Atomic pid_t payload_pid;
	_Atomic int payload_status;	/* value of C-196, valid from PHASE_OOM on */
	_Atomic int timed_out;
	_Atomic int failed;		/* creation failed */
	_Atomic uint64_t timeout_at_ms;	/* monotonic; 0: none */
	_Atomic uint64_t wait_until_ms;	/* end of the wait that the phase is in; 0: not set */
	char failure_text[512];		/* of our own, escaped when sent; "": what the runtime said */
	ExitFile persist_file, exit_file;
	_Atomic int monitor_given_up;	/* do not start the monitor again */
	_Atomic pid_t exit_command_pid;
	_Atomic uint64_t exit_command_at_ms;
	_Atomic int keeper_may_go;	/* 1 + its exit status: only clients that read late are left (linger.h) */
	_Atomic int exit_trouble;	/* an exit file could not be written (C-193) */

	NetworkState network;

	/* OOM watch, written by the reaper */
	_Atomic int oom_ready, oom_is_v2;
	_Atomic uint64_t oom_count, oom_kill_count;	/* last seen */

	Stray strays[STRAYS_MAX];	/* (k) */
	_Atomic unsigned n_strays;	/* (k) */
	_Atomic int keeper_lost;	/* (k) a keeper died while the runtime ran: creation is to fail (C-39) */
	_Atomic int subreaper_off;	/* 1: wanted by the reaper; 2: done (k) */
	_Atomic int linger_ends;	/* (k) clients that have not read everything are not waited for any more */
	_Atomic int pending_signal;	/* (k) for a runtime that has no pidfd yet */
	/* last, because large and mostly never touched */
	char oom_dir[PATH_MAX];
	SyncMessage first_message, exit_message;
};

static inline ReaperPhase reaper_phase(const ReaperState *state)
{
	return (ReaperPhase)atomic_load_explicit(&state->phase, memory_order_acquire);
}
