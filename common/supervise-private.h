#pragma once
/*
 * Shared between the three parts of supervise: the shared page and the per-process view of it.
 */
#include <signal.h>
#include <stdatomic.h>

#include "supervise.h"

typedef enum { WORKER_IDLE, WORKER_STARTING, WORKER_READY, WORKER_RETIRED } WorkerPhase;

#define RESTORED_MAX 128
#define SUPERVISE_RESTS 6	/* times that a process gives back the memory of its start: its own, the container's, the first requests */
#define SUPERVISE_FAST_RESTS 2 /* of them at the first beats, SUPERVISE_REST_MS apart */
#define SUPERVISE_REST_MS 700

/* One worker, in shared memory. The keeper writes all but what is marked (w): the worker itself. */
typedef struct {
	_Atomic pid_t pid; /* 0: not running */
	_Atomic int pidfd; /* -1: none */
	_Atomic int phase; /* WorkerPhase; (w) sets READY and RETIRED */
	_Atomic unsigned starts, step, quick_deaths;
	_Atomic uint64_t started_ms, died_ms;
	_Atomic uint64_t ready_ms; /* (w) 0: not ready since this start */
	_Atomic uint64_t heartbeat_ms; /* (w) */
	_Atomic int was_degraded; /* a start with less has been; until one with everything works */
	char restored[RESTORED_MAX]; /* (w) */
	char lost[RESTORED_MAX]; /* (w) */
} WorkerSlot;

/* A clone that is to become keeper; its maker's until it takes the pidfd out. */
typedef struct {
	_Atomic pid_t pid;
	_Atomic int pidfd; /* -1: taken, or none */
} Successor;

#define SUPERVISE_SUCCESSORS 8 /* makings of a keeper that are told apart; two at a time are rare */

typedef struct {
	_Atomic uint64_t reign; /* the keeper, in one word (SuperviseReign) */
	_Atomic pid_t claim; /* worker that is making a new keeper */
	_Atomic unsigned successors_made;
	Successor successors[SUPERVISE_SUCCESSORS];
	_Atomic int survive;
	_Atomic int finishing;
	_Atomic int finish_value;
	_Atomic int keeper_left; /* it was not killed: supervise_keeper_leave() */
	WorkerSlot workers[SUPERVISE_WORKERS_MAX];
} SuperviseShared;

/*
 * Who is keeper. One word, so that two processes that were both cloned to become the next one can't both do it: the second
 * compare-and-exchange fails, and its process ends before it has started anything.
 */
typedef struct {
	unsigned number; /* how many there have been, modulo 2^20 */
	int pidfd; /* in the shared table; -1: not known, ask for the pid */
	pid_t pid;
	uint64_t word;
} SuperviseReign;

/* What the keeper process itself remembers about a worker. */
typedef struct {
	Supervisor *sv;
	unsigned index;
	EventSource *pidfd_source; /* of a worker that is not our child */
	EventTimer *start_timer;
	bool hung_once, killed_as_hung, reported;
} KeeperView;

struct Supervisor {
	SuperviseConfig config;
	SuperviseShared *shared;
	FdStore *store;
	sigset_t original_mask;
	unsigned trimmed; /* how often the memory of the start was given back, and one more */
	int self; /* index of the worker that this process is; -1: keeper or neither */
	bool filtered; /* a seccomp filter forbids prctl, ptrace and pidfd_open here and in children */
	/* keeper process */
	EventLoop *loop;
	KeeperView views[SUPERVISE_WORKERS_MAX];
	EventTimer *health_timer;
	bool quitting;
	bool leaving; /* with quitting: without the workers */
	int quit_value;	/* with quitting, also before the loop runs */
	/* worker process */
	EventLoop *worker_loop;
	EventSource *keeper_watch;
	EventTimer *heartbeat_timer, *keeper_timer;
	uint64_t keeperless_ms; /* since when keeper number keeperless_number is gone */
	unsigned keeperless_number;
	unsigned watched_keeper; /* number of its reign */
	uint64_t reign_before; /* in a successor: the reign that it is to follow */
	pid_t successor_pid; /* the clone that is to be the next keeper; 0: none */
	unsigned successor; /* index of it, or of ourselves */
	uint64_t successor_made_ms;
	bool tracing;
};

SuperviseReign supervise_reign(const Supervisor *sv);

/** Publish this process as the one after @p before; takes @p pidfd over, its own, or negative. @return 0, or -EEXIST: another one was faster, and is keeper */
int supervise_reign_begin(Supervisor *sv, uint64_t before, int pidfd);

/* Replace this process' life by the keeper's: in a fresh clone made by a worker. Never returns. */
_Noreturn void supervise_become_keeper(Supervisor *sv);

/* In a fresh clone made by the keeper: become worker @index and run it. Never returns. */
_Noreturn void supervise_become_worker(Supervisor *sv, unsigned index, unsigned restarts);

/* Registry name of a worker's pidfd. */
void supervise_pidfd_name(char *out, size_t size, const char *worker);
