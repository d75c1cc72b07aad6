#pragma once
/*
 * Keeper and workers of one container.
 *
 * Theory of operation. Before its first fork a daemon makes a Supervisor: a shared page with one slot for the keeper and one for each
 * worker, and the descriptor registry. All processes are clones that share the descriptor table (CLONE_FILES) and this
 * page. The keeper starts the workers and starts them again: at once, then after 50 ms doubling to 5 s, from the
 * beginning after 10 s of health. A worker that dies within SUPERVISE_HEALTHY_MS of its start, again and again, is started with one more degrade step
 * after every SUPERVISE_STEP_DEATHS deaths; what a step leaves out is the worker's affair.
 *
 * If the keeper dies and the policy says that it must not matter (SUPERVISE_SURVIVE_KEEPER, may be switched at run
 * time), the first living worker of the list clones a new one. Otherwise workers die with it (PR_SET_PDEATHSIG), before the
 * caller's waitpid() sees it dead.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "event-loop.h"
#include "fd-store.h"

#define SUPERVISE_WORKERS_MAX 4
#define SUPERVISE_BACKOFF_MIN_MS 50
#define SUPERVISE_BACKOFF_MAX_MS 5000
#define SUPERVISE_HEALTHY_MS 10000
#define SUPERVISE_STEP_DEATHS 3
#define SUPERVISE_HOPELESS_DEATHS 12 /* in a row, some 20 s: said once, and by option the end; else it is tried on */
#define SUPERVISE_HEARTBEAT_MS 2000 /* a worker's loop stores a sign of life at least this often */
#define SUPERVISE_HUNG_MS 8000 /* without one for this long it is killed */

typedef struct Supervisor Supervisor;

typedef struct {
	const char *name; /* "monitor", "reaper", "worker": in events, titles, registry names */
	/*
	 * The worker's whole life, in the cloned process. It may be cloned from a keeper that was itself cloned from a worker, so no
	 * static or heap state of an earlier life may be relied on: everything is set up here, from the registry and
	 * shared memory. @p restarts: how often it was started before (0: first start). @p step: degrade step.
	 * The return value is its exit status. Status 0 after supervise_finish() ends the worker for good.
	 */
	int (*run)(Supervisor *sv, void *data, unsigned restarts, unsigned step);
	unsigned
		max_step; /* highest degrade step it knows; after more deaths it goes on being started at this step */
	bool has_heartbeat; /* runs an EventLoop with supervise_attach_loop() */
} SuperviseWorker;

/* What the keeper tells about, once it happened; called in the keeper process. */
typedef enum {
	SUPERVISE_DIED, /* a worker died; cause in siginfo */
	SUPERVISE_STARTED, /* first start */
	SUPERVISE_RESTARTED, /* running and ready again; gap_ms from death to ready */
	SUPERVISE_HUNG, /* no heartbeat or stopped; it is being killed */
	SUPERVISE_STEP, /* next start with less; step */
	SUPERVISE_RECOVERED, /* as SUPERVISE_RESTARTED, with everything again after starts with less */
	SUPERVISE_HOPELESS, /* SUPERVISE_HOPELESS_DEATHS in a row; goes on trying unless the daemon ends */
	SUPERVISE_NEW_KEEPER, /* this process has taken over the keeper's role */
} SuperviseEventKind;

typedef struct {
	SuperviseEventKind kind;
	const char *worker; /* name; NULL for SUPERVISE_NEW_KEEPER */
	pid_t pid; /* the one that died or started */
	int code,
		status; /* siginfo: CLD_EXITED/CLD_KILLED/CLD_DUMPED and status; code 0: unknown (not our child) */
	unsigned restarts, step;
	uint64_t gap_ms;
	const char *restored; /* what the worker said with supervise_ready(); may be "" */
	const char *lost; /* what it said with supervise_set_lost(); may be "" */
} SuperviseEvent;

typedef struct {
	const SuperviseWorker *workers;
	unsigned n_workers;
	void *data; /* for every callback */
	/* In the keeper: something to report. May be NULL. */
	void (*on_event)(Supervisor *sv, void *data, const SuperviseEvent *event);
	/* In the keeper, once, before its loop runs (also in a keeper that took over): add sources to @p loop. Must return 0 or -errno. */
	int (*on_keeper_start)(Supervisor *sv, void *data, EventLoop *loop);
	/* In the keeper: a signal of keeper_signals arrived. */
	void (*on_signal)(Supervisor *sv, void *data, int signal);
	/* In the keeper: a child that is no worker was reaped (subreaper). May be NULL. */
	void (*on_stray_child)(Supervisor *sv, void *data, const siginfo_t *info);
	/*
	 * In a worker, as its last act, when its keeper was killed and nothing shall outlive that: what must have happened before the caller's
	 * waitpid() returns, beyond the closing of descriptors. Called in a signal handler, so async-signal-safe, and bounded. May be NULL.
	 */
	void (*last_act)(void *data);
	const int *keeper_signals; /* zero-terminated, besides SIGCHLD */
	bool reap_strays; /* PR_SET_CHILD_SUBREAPER and wait for any child */
} SuperviseConfig;

/** @p config is copied, but not what it points to. @return NULL with errno on failure. */
Supervisor *supervise_new(const SuperviseConfig *config);
FdStore *supervise_store(Supervisor *sv);

/** Whether the container outlives a killed keeper. Default true. Takes effect for workers started afterwards and for running ones that call supervise_attach_loop() later. */
void supervise_set_survive_keeper(Supervisor *sv, bool survive);

/**
 * There is nothing for SuperviseConfig.last_act to do: the workers' end at the keeper's death is left to the kernel alone, which a stopped
 * process can't put off. Before the keeper's life.
 */
void supervise_no_last_act(Supervisor *sv);

/**
 * Where a worker's pid is (0: not running), in shared memory: for a process that is none of the supervised and outlives them by a moment.
 * @return NULL if there is no such worker
 */
const _Atomic pid_t *supervise_pid_place(const Supervisor *sv, const char *name);

/** This process has loaded a seccomp filter that kills on prctl, ptrace or pidfd_open: do without, here and in every process cloned from here. */
void supervise_set_filtered(Supervisor *sv);
/** This process inherited such a filter: its keeper was cloned from a worker that had loaded one. */
bool supervise_is_filtered(const Supervisor *sv);

/** Run the keeper's life in this process. @return the status given to supervise_finish()/keeper_quit, or -errno. */
int supervise_keeper_run(Supervisor *sv);

/* --- in the keeper --- */
/** End the keeper's loop with this value; workers that still run are killed and waited for (survivors of an earlier keeper too). */
void supervise_keeper_quit(Supervisor *sv, int value);
/**
 * End the keeper's process with this value and leave the workers alive: one of them makes the next keeper, as if this one had been killed, but nobody is
 * told. For what is still to be done when the caller, who waits for the pid that it knows, shall not wait any longer.
 */
void supervise_keeper_leave(Supervisor *sv, int value);
/** Send a signal to a worker if it runs. @return 0 or -errno */
int supervise_signal_worker(Supervisor *sv, const char *name, int signal);

/* --- in a worker --- */
/** Heartbeat, keeper watch and take-over on @p loop. Call once the loop exists. */
int supervise_attach_loop(Supervisor *sv, EventLoop *loop);
/** A worker's whole life, for one that is there only to make the next keeper, with the rights that it has: sleeps, and never returns. */
void supervise_stand_by(Supervisor *sv);
/** For a worker without an EventLoop: call at least every SUPERVISE_HEARTBEAT_MS if has_heartbeat. */
void supervise_heartbeat(Supervisor *sv);
/** The worker works now. @p restored: words for the event, cut at 127 bytes. Call again to change the words. */
void supervise_ready(Supervisor *sv, const char *restored);
/** Before supervise_ready(): what of its predecessor's could not be restored, in words; "" or NULL if nothing. Cut at 127 bytes. */
void supervise_set_lost(Supervisor *sv, const char *lost);
/** Tell the keeper that the daemon's work is done and the keeper shall return @p value after this worker has ended. */
void supervise_finish(Supervisor *sv, int value);
/** Mark this worker as ending for good (the keeper does not start it again), without ending the keeper. */
void supervise_retire(Supervisor *sv);

/* --- anywhere --- */
/** Pid of a worker ("keeper" for the keeper), 0 if it does not run. */
pid_t supervise_pid(const Supervisor *sv, const char *name);
bool supervise_is_ready(const Supervisor *sv, const char *name);
unsigned supervise_restarts(const Supervisor *sv, const char *name);
/** The worker has retired (or was never started). */
bool supervise_is_retired(const Supervisor *sv, const char *name);
