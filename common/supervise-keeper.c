/*
 * The keeper's side. States of a worker, moved by whom:
 *
 *   IDLE ──keeper: clone──▶ STARTING ──worker: supervise_ready()──▶ READY
 *     ▲                        │                                      │
 *     └──keeper: saw it dead───┴──────────────────────────────────────┘
 *   any ──worker: supervise_retire()──▶ RETIRED (never started again)
 *
 * What must never happen: two living processes of one worker. The keeper clones only after it has seen the death of
 * the one in the slot; a new keeper finds the slot's pidfd in the shared table.
 */
#include "config.h"

#include "common/supervise-private.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/process.h"

#define READY_LOOK_MS 2 /* how often a restarted worker is asked whether it is ready, for the event */
#define READY_LOOKS_MS 10000
#define STOP_WAIT_MS 5000 /* for a killed worker to be gone */
#define STOP_LOOK_MS 20 /* at the latest, when its pidfd says nothing */

static void schedule_start(KeeperView *view, uint64_t delay_ms);

static const SuperviseWorker *spec_of(const KeeperView *view)
{
	return &view->sv->config.workers[view->index];
}

static WorkerSlot *slot_at(const KeeperView *view)
{
	return &view->sv->shared->workers[view->index];
}

static void report(KeeperView *view, SuperviseEventKind kind, pid_t pid, int code, int status)
{
	Supervisor *sv = view->sv;
	WorkerSlot *slot = slot_at(view);
	uint64_t died = atomic_load(&slot->died_ms), ready = atomic_load(&slot->ready_ms);
	SuperviseEvent event = {
		.kind = kind,
		.worker = spec_of(view)->name,
		.pid = pid,
		.code = code,
		.status = status,
		.restarts = atomic_load(&slot->starts) ? atomic_load(&slot->starts) - 1 : 0,
		.step = atomic_load(&slot->step),
		.gap_ms = died && ready > died ? ready - died : 0,
		.restored = slot->restored,
		.lost = slot->lost,
	};

	if (sv->config.on_event)
		sv->config.on_event(sv, sv->config.data, &event);
}

/* --- starting --- */

static void register_pidfd(KeeperView *view)
{
	char name[FD_STORE_NAME_MAX];

	supervise_pidfd_name(name, sizeof(name), spec_of(view)->name);
	(void)fd_store_replace(view->sv->store, name, atomic_load(&slot_at(view)->pidfd)); /* full: it is watched all the same */
}

static void start_worker(KeeperView *view)
{
	Supervisor *sv = view->sv;
	WorkerSlot *slot = slot_at(view);
	unsigned restarts = atomic_load(&slot->starts);
	pid_t pid;

	atomic_store(&slot->started_ms, event_now_ms());
	atomic_store(&slot->heartbeat_ms, event_now_ms());
	atomic_store(&slot->ready_ms, 0);
	slot->lost[0] = '\0';
	atomic_store(&slot->phase, WORKER_STARTING);
	atomic_store(&slot->starts, restarts + 1);
	/* were we killed before its pid is in the slot, the next keeper would start a second one */
	pid = process_clone_recorded(&slot->pid, &slot->pidfd);
	if (pid == 0)
		supervise_become_worker(sv, view->index, restarts);
	if (pid < 0) { /* out of processes or descriptors: try again later */
		atomic_store(&slot->starts, restarts);
		atomic_store(&slot->phase, WORKER_IDLE);
		schedule_start(view, SUPERVISE_BACKOFF_MAX_MS);
		return;
	}
	register_pidfd(view);
	view->hung_once = view->killed_as_hung = view->reported = false;
}

static SuperviseEventKind ready_kind(WorkerSlot *slot)
{
	if (atomic_load(&slot->starts) == 1)
		return SUPERVISE_STARTED;
	if (atomic_load(&slot->step) || !atomic_load(&slot->was_degraded))
		return SUPERVISE_RESTARTED;
	atomic_store(&slot->was_degraded, 0);
	return SUPERVISE_RECOVERED;
}

static void on_start_timer(void *data)
{
	KeeperView *view = data;
	WorkerSlot *slot = slot_at(view);

	if (view->sv->quitting)
		return;
	if (atomic_load(&slot->phase) == WORKER_IDLE) {
		start_worker(view);
		if (atomic_load(&slot->pid) > 0)
			event_timer_set(view->start_timer, READY_LOOK_MS);
		return;
	}
	/* the same timer watches for readiness, to report the gap */
	if (view->reported)
		return;
	if (atomic_load(&slot->ready_ms)) {
		view->reported = true;
		report(view, ready_kind(slot), atomic_load(&slot->pid), 0, 0);
		return;
	}
	if (event_now_ms() - atomic_load(&slot->started_ms) < READY_LOOKS_MS)
		event_timer_set(view->start_timer, READY_LOOK_MS);
}

static void schedule_start(KeeperView *view, uint64_t delay_ms)
{
	if (!view->start_timer)
		view->start_timer = event_loop_add_timer(view->sv->loop, delay_ms, on_start_timer, view);
	else
		event_timer_set(view->start_timer, delay_ms);
}

/*
 * How long to wait before the next start, and with which step. A SIGKILL from outside to a worker that was working says
 * nothing about the worker: at once. Anything else soon after the start is a crash loop in the making.
 */
static uint64_t backoff_ms(KeeperView *view, int code, int status)
{
	WorkerSlot *slot = slot_at(view);
	uint64_t lived = event_now_ms() - atomic_load(&slot->started_ms);
	/* code 0: not our child, the worker of a keeper that was killed; its cause can't be known in time */
	bool from_outside = ((code == CLD_KILLED && status == SIGKILL) || code == 0) && !view->killed_as_hung;
	unsigned quick;
	uint64_t delay;

	if (lived >= SUPERVISE_HEALTHY_MS || (from_outside && atomic_load(&slot->ready_ms))) {
		if (lived >= SUPERVISE_HEALTHY_MS)
			atomic_store(&slot->step, 0);
		atomic_store(&slot->quick_deaths, 0);
		return 0;
	}
	quick = atomic_fetch_add(&slot->quick_deaths, 1);
	if (!from_outside && (quick + 1) % SUPERVISE_STEP_DEATHS == 0 &&
		atomic_load(&slot->step) < spec_of(view)->max_step) {
		atomic_fetch_add(&slot->step, 1);
		atomic_store(&slot->was_degraded, 1);
		report(view, SUPERVISE_STEP, 0, code, status);
	}
	if (quick + 1 == SUPERVISE_HOPELESS_DEATHS)
		report(view, SUPERVISE_HOPELESS, 0, code, status);
	if (quick == 0)
		return 0;
	delay = SUPERVISE_BACKOFF_MIN_MS;
	for (unsigned i = 1; i < quick && delay < SUPERVISE_BACKOFF_MAX_MS; i++)
		delay *= 2;
	return delay < SUPERVISE_BACKOFF_MAX_MS ? delay : SUPERVISE_BACKOFF_MAX_MS;
}

/* --- deaths --- */

static void worker_died(KeeperView *view, int code, int status)
{
	Supervisor *sv = view->sv;
	WorkerSlot *slot = slot_at(view);
	pid_t pid = atomic_load(&slot->pid);
	char name[FD_STORE_NAME_MAX];
	bool retired = atomic_load(&slot->phase) == WORKER_RETIRED;

	event_source_remove(view->pidfd_source);
	view->pidfd_source = NULL;
	if (!view->reported && atomic_load(&slot->ready_ms)) { /* it worked, if only for a moment */
		view->reported = true;
		report(view, ready_kind(slot), pid, 0, 0);
	}
	atomic_store(&slot->pid, 0);
	atomic_store(&slot->pidfd, -1);
	supervise_pidfd_name(name, sizeof(name), spec_of(view)->name);
	fd_store_close(sv->store, name);
	atomic_store(&slot->died_ms, event_now_ms());
	if (atomic_load(&sv->shared->finishing)) {
		supervise_keeper_quit(sv, atomic_load(&sv->shared->finish_value));
		return;
	}
	if (retired || sv->quitting)
		return;
	atomic_store(&slot->phase, WORKER_IDLE);
	report(view, SUPERVISE_DIED, pid, code, status);
	{
		uint64_t delay = backoff_ms(view, code, status);

		if (delay) {
			schedule_start(view, delay);
			return;
		}
		start_worker(view); /* no turn of the loop in between: the gap is what users feel */
		schedule_start(view, READY_LOOK_MS);
	}
}

/*
 * By number, since a filter may forbid pidfd_send_signal(2). Our own children keep theirs until we reap them; of a worker that an earlier
 * keeper started the pidfd is asked first.
 */
static int signal_worker(WorkerSlot *slot, int signal)
{
	pid_t pid = atomic_load(&slot->pid);
	int pidfd = atomic_load(&slot->pidfd);

	if (pid <= 0 || (pidfd >= 0 && process_pidfd_has_ended(pidfd)))
		return -ESRCH;
	return kill(pid, signal) < 0 ? -errno : 0;
}

static void kill_as_hung(KeeperView *view, int code, int status)
{
	WorkerSlot *slot = slot_at(view);

	if (view->killed_as_hung || !atomic_load(&slot->pid))
		return;
	view->killed_as_hung = true;
	report(view, SUPERVISE_HUNG, atomic_load(&slot->pid), code, status);
	(void)signal_worker(slot, SIGKILL);
}

static KeeperView *view_of_pid(Supervisor *sv, pid_t pid)
{
	for (unsigned i = 0; i < sv->config.n_workers; i++)
		if (atomic_load(&sv->shared->workers[i].pid) == pid)
			return &sv->views[i];
	return NULL;
}

static void on_child_change(Supervisor *sv, const siginfo_t *info)
{
	KeeperView *view = view_of_pid(sv, info->si_pid);

	if (!view) {
		if (info->si_code != CLD_STOPPED && sv->config.on_stray_child)
			sv->config.on_stray_child(sv, sv->config.data, info);
		return;
	}
	if (info->si_code == CLD_STOPPED)
		kill_as_hung(view, info->si_code, info->si_status);
	else
		worker_died(view, info->si_code, info->si_status);
}

#define REAPS_PER_TURN 256 /* a storm of children must not keep the keeper from its signals */

static void reap(Supervisor *sv)
{
	for (int i = 0; i < REAPS_PER_TURN && !sv->quitting; i++) {
		siginfo_t info = {0};

		if (sv->config.reap_strays) {
			if (waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOHANG) < 0 || info.si_pid == 0)
				return;
			on_child_change(sv, &info);
			continue;
		}
		for (unsigned w = 0; w < sv->config.n_workers; w++) {
			pid_t pid = atomic_load(&sv->shared->workers[w].pid);

			info.si_pid = 0;
			if (pid > 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WSTOPPED | WNOHANG) == 0 &&
				info.si_pid != 0)
				on_child_change(sv, &info);
		}
		return;
	}
}

static void on_keeper_signal(void *data, uint32_t signal)
{
	Supervisor *sv = data;

	if (signal == SIGCHLD)
		reap(sv);
	else if (sv->config.on_signal)
		sv->config.on_signal(sv, sv->config.data, (int)signal);
}

/* A worker that an earlier keeper started: not our child, its pidfd tells. */
static void on_foreign_worker(void *data, uint32_t events)
{
	KeeperView *view = data;
	int status, code = 0;
	int r = process_pidfd_exit_status(atomic_load(&slot_at(view)->pidfd), &status);

	if (r == 0) {
		code = WIFSIGNALED(status) ? CLD_KILLED : CLD_EXITED;
		status = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
	} else {
		/* Nobody has reaped it yet, or this kernel can't tell: most likely a SIGKILL, and the cause only makes the words. */
		status = 0;
	}
	worker_died(view, code, status);
}

static void watch_or_start(Supervisor *sv, unsigned i)
{
	KeeperView *view = &sv->views[i];
	WorkerSlot *slot = &sv->shared->workers[i];
	pid_t pid = atomic_load(&slot->pid);

	*view = (KeeperView){.sv = sv, .index = i};
	if (atomic_load(&slot->phase) == WORKER_RETIRED)
		return;
	if (pid > 0 && atomic_load(&slot->pidfd) >= 0) {
		view->reported = true;
		register_pidfd(view); /* our predecessor may not have come to it */
		if (event_loop_add_fd(sv->loop, atomic_load(&slot->pidfd), EPOLLIN, on_foreign_worker, view,
			    &view->pidfd_source) == 0)
			return;
	}
	atomic_store(&slot->phase, WORKER_IDLE);
	start_worker(view);
	schedule_start(view, READY_LOOK_MS);
}

static void on_health_timer(void *data)
{
	Supervisor *sv = data;
	uint64_t now = event_now_ms();

	for (unsigned i = 0; i < sv->config.n_workers; i++) {
		KeeperView *view = &sv->views[i];
		WorkerSlot *slot = &sv->shared->workers[i];
		uint64_t heartbeat = atomic_load(&slot->heartbeat_ms);

		if (!spec_of(view)->has_heartbeat || !atomic_load(&slot->pid) ||
			atomic_load(&slot->phase) == WORKER_RETIRED)
			continue;
		if (now < heartbeat + SUPERVISE_HUNG_MS) {
			view->hung_once = false;
		} else if (!view->hung_once) {
			/* A second look before the axe: the whole machine may have stood still. */
			view->hung_once = true;
		} else {
			kill_as_hung(view, 0, 0);
		}
	}
	event_timer_set(sv->health_timer,
		sv->trimmed < SUPERVISE_FAST_RESTS ? SUPERVISE_REST_MS : SUPERVISE_HEARTBEAT_MS);
	if (sv->trimmed < SUPERVISE_RESTS) {
		sv->trimmed++;
		process_rest();
	}
}

/* --- the keeper's life --- */

/* What clone(2) gave our maker, since a filter may forbid pidfd_open(2); or of the first keeper, its own. */
static int own_pidfd(Supervisor *sv)
{
	Successor *successor = &sv->shared->successors[sv->successor];

	if (!sv->reign_before)
		return process_pidfd_open(getpid());
	return atomic_load(&successor->pid) == getpid() ? atomic_exchange(&successor->pidfd, -1) : -1;
}

static int watch_signals(Supervisor *sv)
{
	int signals[32], n = 0;
	sigset_t all;

	signals[n++] = SIGCHLD;
	for (const int *s = sv->config.keeper_signals; s && *s && n < 31; s++)
		signals[n++] = *s;
	signals[n] = 0;
	/* Everything is blocked: a traced keeper would stop for each signal that is delivered (see supervise-worker.c). */
	(void)sigfillset(&all);
	for (const int *s = (const int[]){SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, 0}; *s;
		s++)
		(void)sigdelset(&all, *s);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	return event_loop_add_signals(sv->loop, signals, on_keeper_signal, sv, NULL);
}

static bool wait_gone(pid_t pid, int pidfd, uint64_t deadline)
{
	while (event_now_ms() < deadline) {
		siginfo_t info = {0};

		if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid == pid)
			return true;
		if (pidfd >= 0 && process_pidfd_has_ended(pidfd) && errno == ECHILD)
			return true;
		if (pidfd < 0 && kill(pid, 0) < 0)
			return true;
		if (pidfd >= 0)
			(void)poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, STOP_LOOK_MS);
		else
			(void)usleep(500); /* only while ending; SIGCHLD is blocked and a killed process takes no time */
	}
	return false;
}

static void stop_workers(Supervisor *sv)
{
	uint64_t deadline = event_now_ms() + STOP_WAIT_MS;

	for (unsigned i = 0; i < sv->config.n_workers; i++) {
		WorkerSlot *slot = &sv->shared->workers[i];
		pid_t pid = atomic_load(&slot->pid);
		int pidfd = atomic_load(&slot->pidfd);

		if (pid <= 0)
			continue;
		(void)signal_worker(slot, SIGKILL);
		(void)wait_gone(pid, pidfd, deadline);
		atomic_store(&slot->pid, 0);
	}
}

void supervise_keeper_quit(Supervisor *sv, int value)
{
	sv->quitting = true;
	sv->quit_value = value;
	event_loop_quit(sv->loop, value);
}

void supervise_keeper_leave(Supervisor *sv, int value)
{
	sv->leaving = true;
	atomic_store(&sv->shared->keeper_left, 1);
	supervise_keeper_quit(sv, value);
}

int supervise_signal_worker(Supervisor *sv, const char *name, int signal)
{
	for (unsigned i = 0; i < sv->config.n_workers; i++)
		if (strcmp(sv->config.workers[i].name, name) == 0)
			return signal_worker(&sv->shared->workers[i], signal);
	return -ENOENT;
}

int supervise_keeper_run(Supervisor *sv)
{
	bool taken_over = sv->reign_before != 0, was_killed;
	int r;

	sv->self = -1;
	sv->quitting = sv->leaving = false;
	sv->trimmed = 0;
	/* First of all: a successor that comes too late must not touch anything of the keeper's. */
	r = supervise_reign_begin(sv, sv->reign_before, own_pidfd(sv));
	if (r < 0)
		return r;
	process_settle_memory(); /* what the options took is not to be copied by every worker */
	sv->loop = event_loop_new(sv->store, "keeper");
	if (!sv->loop)
		return -errno;
	if (!sv->filtered) {
		if (sv->config.reap_strays)
			(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
		if (!atomic_load(&sv->shared->survive))
			(void)prctl(PR_SET_DUMPABLE, 1, 0, 0,
				0); /* the worker must be allowed to hold our zombie */
	}
	r = watch_signals(sv);
	if (r == 0 && sv->config.on_keeper_start)
		r = sv->config.on_keeper_start(sv, sv->config.data, sv->loop);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < sv->config.n_workers; i++)
		watch_or_start(sv, i);
	sv->health_timer = event_loop_add_timer(sv->loop, SUPERVISE_REST_MS, on_health_timer, sv);
	was_killed = taken_over && !atomic_exchange(&sv->shared->keeper_left, 0);
	if (was_killed && sv->config.on_event)
		sv->config.on_event(sv, sv->config.data,
			&(SuperviseEvent){.kind = SUPERVISE_NEW_KEEPER, .pid = getpid(), .restored = "", .lost = ""});
	reap(sv); /* whoever died before the signalfd existed */
	r = sv->quitting ? sv->quit_value : event_loop_run(sv->loop);
	if (!sv->leaving)
		stop_workers(sv);
	event_loop_free(sv->loop);
	sv->loop = NULL;
	return r;
}

_Noreturn void supervise_become_keeper(Supervisor *sv)
{
	int r;

	sv->worker_loop = NULL;
	process_set_title("keeper");
	r = supervise_keeper_run(sv);
	_exit(r < 0 ? 1 : r & 255);
}
