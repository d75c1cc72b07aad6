/*
 * The worker's side: readiness, heartbeat, and what to do when the keeper dies.
 *
 * If the container shall outlive its keeper, the first worker to see the keeper's pidfd readable wins `claim` and clones a new keeper.
 * If it shall not, the caller has stopped us by SIGKILL and may start a successor as soon as its waitpid()
 * returns. By then tap and ports must be gone, so the worker traces the keeper: a zombie that is traced is shown to its
 * real parent only when the tracer has let go of it (wait(2), ptrace(2)). The worker is told by PR_SET_PDEATHSIG, does what
 * SuperviseConfig.last_act says, if anything, and ends; its descriptors are closed, and only then the kernel ends the tracing.
 * Without a last act the signal is SIGKILL, and no user space is involved.
 */
#include "config.h"

#include "common/supervise-private.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/process.h"

#define KEEPER_KILLED_RT 3	   /* real-time signal, counted from SIGRTMIN */
#define SUCCESSOR_LIMIT_MS 2000 /* for a clone to become keeper; then it is killed and another one is made */
#define SENIOR_LIMIT_MS 2000 /* for a worker before us in the list to make the new keeper */
#define KEEPER_LOOK_MS 20 /* while another worker makes the new keeper */

static void watch_keeper(Supervisor *sv);
static bool is_successor_gone(Supervisor *sv);

/* A stop of the keeper that we trace: hand on what it was, let nothing change for it. */
static void on_traced_keeper(void *data, uint32_t signal)
{
	Supervisor *sv = data;
	pid_t keeper = supervise_reign(sv).pid;
	siginfo_t info = {0};
	int sig;

	if (waitid(P_PID, (id_t)keeper, &info, WSTOPPED | WNOHANG | __WALL) < 0 || info.si_pid == 0)
		return;
	sig = info.si_status & 0xff;
	if (info.si_status >> 8 == PTRACE_EVENT_STOP) {
		if (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
			(void)ptrace(PTRACE_LISTEN, keeper, NULL, NULL);
		else
			(void)ptrace(PTRACE_CONT, keeper, NULL, NULL);
		return;
	}
	(void)ptrace(PTRACE_CONT, keeper, NULL, (void *)(long)sig);
}

static Supervisor *bound; /* for the signal handler: whose keeper's death ends this process */

static _Noreturn void end_with_keeper(int signal)
{
	bound->config.last_act(bound->config.data);
	_exit(0);
}

/* A signal that nobody else sends, so that it means just this. */
static int last_act_signal(Supervisor *sv)
{
	int number = SIGRTMIN + KEEPER_KILLED_RT;
	struct sigaction action = { .sa_handler = end_with_keeper };
	sigset_t set;

	if (!sv->config.last_act)
		return SIGKILL;
	bound = sv;
	(void)sigfillset(&action.sa_mask);
	if (sigaction(number, &action, NULL) < 0)
		return SIGKILL;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, number);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	return number;
}

static void bind_to_keeper(Supervisor *sv)
{
	pid_t keeper = supervise_reign(sv).pid;
	int number;

	if (atomic_load(&sv->shared->survive) || sv->filtered)
		return;
	number = last_act_signal(sv);
	(void)prctl(PR_SET_PDEATHSIG, number, 0, 0, 0);
	if (getppid() != keeper) { /* it died before the line above */
		if (number != SIGKILL)
			end_with_keeper(number);
		_exit(0);
	}
	/* Not allowed (Yama, a debugger is first): then waitpid() may return some hundred microseconds too early. */
	sv->tracing = ptrace(PTRACE_SEIZE, keeper, NULL, NULL) == 0;
}

_Noreturn void supervise_become_worker(Supervisor *sv, unsigned index, unsigned restarts)
{
	const SuperviseWorker *spec = &sv->config.workers[index];
	unsigned step = atomic_load(&sv->shared->workers[index].step);

	sv->self = (int)index;
	/*
	 * What the memory says of loops and sources belongs to the keeper, or to a worker that the keeper was cloned from: not ours to
	 * free (the epoll sets are shared), only to forget.
	 */
	sv->loop = sv->worker_loop = NULL;
	sv->keeper_watch = NULL;
	sv->heartbeat_timer = sv->keeper_timer = NULL;
	sv->tracing = false;
	sv->trimmed = 0;
	sv->successor_pid = 0;
	(void)sigprocmask(SIG_SETMASK, &sv->original_mask, NULL);
	bind_to_keeper(sv);
	process_set_title(spec->name);
	_exit(spec->run(sv, sv->config.data, restarts, step) & 255);
}

void supervise_heartbeat(Supervisor *sv)
{
	if (sv->self >= 0)
		atomic_store(&sv->shared->workers[sv->self].heartbeat_ms, event_now_ms());
}

static void on_heartbeat(void *data)
{
	Supervisor *sv = data;

	/* The first of these beats is at the start itself; by the next the start is over, and soon after the container's own. */
	if (sv->trimmed > 0 && sv->trimmed <= SUPERVISE_RESTS)
		process_rest();
	if (sv->trimmed <= SUPERVISE_RESTS)
		sv->trimmed++;
	supervise_heartbeat(sv);
	event_timer_set(sv->heartbeat_timer,
		sv->trimmed <= SUPERVISE_FAST_RESTS ? SUPERVISE_REST_MS : SUPERVISE_HEARTBEAT_MS);
	(void)is_successor_gone(sv);
	/*
	 * Another worker may have put a new keeper in place, and closed the old pidfd in our shared table, before this
	 * process came to see it readable: then the epoll set has lost it without a word.
	 */
	if (sv->keeper_watch && sv->watched_keeper != supervise_reign(sv).number) {
		event_source_remove(sv->keeper_watch);
		sv->keeper_watch = NULL;
		watch_keeper(sv);
	}
}

void supervise_ready(Supervisor *sv, const char *restored)
{
	WorkerSlot *slot;

	if (sv->self < 0)
		return;
	slot = &sv->shared->workers[sv->self];
	(void)snprintf(slot->restored, sizeof(slot->restored), "%s", restored ? restored : "");
	if (!atomic_load(&slot->ready_ms))
		atomic_store(&slot->ready_ms, event_now_ms());
	if (atomic_load(&slot->phase) == WORKER_STARTING)
		atomic_store(&slot->phase, WORKER_READY);
}

void supervise_set_lost(Supervisor *sv, const char *lost)
{
	if (sv->self >= 0)
		(void)snprintf(sv->shared->workers[sv->self].lost, RESTORED_MAX, "%s", lost ? lost : "");
}

void supervise_finish(Supervisor *sv, int value)
{
	atomic_store(&sv->shared->finish_value, value);
	atomic_store(&sv->shared->finishing, 1);
}

void supervise_retire(Supervisor *sv)
{
	if (sv->self >= 0)
		atomic_store(&sv->shared->workers[sv->self].phase, WORKER_RETIRED);
}

/* --- the keeper's death --- */

/* By its pidfd: kill(2) finds a dead worker, too, until its new parent has reaped it. */
static bool is_worker_alive(Supervisor *sv, const WorkerSlot *slot)
{
	int pidfd = atomic_load(&slot->pidfd);

	return atomic_load(&slot->pid) > 0 && pidfd >= 0 && !process_pidfd_has_ended(pidfd);
}

static bool is_claimed(Supervisor *sv, pid_t holder)
{
	for (unsigned i = 0; i < sv->config.n_workers; i++)
		if (atomic_load(&sv->shared->workers[i].pid) == holder)
			return is_worker_alive(sv, &sv->shared->workers[i]);
	return false;
}

/*
 * The first living worker of the list makes the keeper, because later ones may have given up rights that the keeper and
 * those it starts need. One that hangs is waited for only so long.
 */
static bool is_senior_at_work(Supervisor *sv)
{
	uint64_t now = event_now_ms();

	if (sv->keeperless_number != sv->watched_keeper || !sv->keeperless_ms) {
		sv->keeperless_number = sv->watched_keeper;
		sv->keeperless_ms = now;
	}
	if (now - sv->keeperless_ms >= SENIOR_LIMIT_MS)
		return false;
	for (int i = 0; i < sv->self; i++)
		if (is_worker_alive(sv, &sv->shared->workers[i]))
			return true;
	return false;
}

static bool claim_keeper_role(Supervisor *sv)
{
	pid_t holder = atomic_load(&sv->shared->claim);

	if (is_senior_at_work(sv))
		return false;
	if (holder != 0 && (holder == getpid() || is_claimed(sv, holder)))
		return false;
	return atomic_compare_exchange_strong(&sv->shared->claim, &holder, getpid());
}

/* What is left of a clone that was to be keeper: nothing, if it has come to be that. @return whether there may be another one */
static bool is_successor_gone(Supervisor *sv)
{
	Successor *successor = &sv->shared->successors[sv->successor];
	siginfo_t info = {0};
	int pidfd;

	if (supervise_reign(sv).pid == sv->successor_pid)
		sv->successor_pid = 0;
	if (sv->successor_pid == 0)
		return true;
	if (waitid(P_PID, (id_t)sv->successor_pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0) {
		if (event_now_ms() - sv->successor_made_ms >= SUCCESSOR_LIMIT_MS)
			(void)kill(sv->successor_pid, SIGKILL); /* our child, so the number is its own */
		return false;
	}
	sv->successor_pid = 0;
	pidfd = atomic_exchange(&successor->pidfd, -1);
	if (pidfd >= 0) /* it was killed before its first instruction */
		(void)fd_close(pidfd);
	return true;
}

/*
 * Only the clone itself can tell when it is keeper (supervise_reign_begin()); on a busy machine that takes a while, and others may
 * be made meanwhile, by whoever does not know of this one. One of them succeeds.
 */
static void make_keeper(Supervisor *sv, uint64_t before)
{
	Successor *successor;
	pid_t pid;

	if (!is_successor_gone(sv))
		return;
	sv->successor = atomic_fetch_add(&sv->shared->successors_made, 1) % SUPERVISE_SUCCESSORS;
	sv->reign_before = before;
	successor = &sv->shared->successors[sv->successor];
	atomic_store(&successor->pid, 0);
	atomic_store(&successor->pidfd, -1);
	pid = process_clone_recorded(&successor->pid, &successor->pidfd);
	if (pid == 0)
		supervise_become_keeper(sv);
	if (pid < 0)
		return; /* out of processes or descriptors: the timer tries again */
	sv->successor_pid = pid;
	sv->successor_made_ms = event_now_ms();
}

static void on_keeper_timer(void *data)
{
	watch_keeper(data);
}

static void replace_keeper(Supervisor *sv)
{
	SuperviseReign reign = supervise_reign(sv);

	if (!atomic_load(&sv->shared->survive))
		_exit(0); /* the parent-death signal is on its way */
	if (reign.number == sv->watched_keeper && claim_keeper_role(sv)) {
		make_keeper(sv, reign.word);
		atomic_store(&sv->shared->claim, 0);
	}
}

static void keeper_is_gone(Supervisor *sv)
{
	replace_keeper(sv);
	event_timer_set(sv->keeper_timer, KEEPER_LOOK_MS);
}

static void on_keeper_pidfd(void *data, uint32_t events)
{
	Supervisor *sv = data;
	SuperviseReign reign = supervise_reign(sv);

	event_source_remove(sv->keeper_watch);
	sv->keeper_watch = NULL;
	/* a keeper that we made ourselves is our child: leave no zombie */
	(void)waitid(P_PID, (id_t)reign.pid, &(siginfo_t){0}, WEXITED | WNOHANG);
	if (reign.number == sv->watched_keeper)
		keeper_is_gone(sv);
	else
		watch_keeper(sv);
}

static bool has_ended(SuperviseReign reign)
{
	return reign.pidfd >= 0 ? process_pidfd_has_ended(reign.pidfd) : kill(reign.pid, 0) < 0 && errno == ESRCH;
}

/* Watch the present keeper; if that can't be done now, look again soon. */
static void watch_keeper(Supervisor *sv)
{
	SuperviseReign reign = supervise_reign(sv);
	bool ended;

	(void)is_successor_gone(sv);
	if (sv->keeper_watch)
		return;
	sv->watched_keeper = reign.number;
	ended = has_ended(reign);
	if (!ended && reign.pidfd >= 0)
		(void)event_loop_add_fd(
			sv->worker_loop, reign.pidfd, EPOLLIN, on_keeper_pidfd, sv, &sv->keeper_watch);
	if (supervise_reign(sv).number != reign.number) {
		/* The pidfd may have been closed, and its number given to something else, since the first line. */
		event_source_remove(sv->keeper_watch);
		sv->keeper_watch = NULL;
	} else if (ended) {
		keeper_is_gone(sv);
		return;
	}
	if (!sv->keeper_watch || sv->successor_pid)
		event_timer_set(sv->keeper_timer, KEEPER_LOOK_MS);
}

int supervise_attach_loop(Supervisor *sv, EventLoop *loop)
{
	int r = 0;

	sv->worker_loop = loop;
	sv->heartbeat_timer = event_loop_add_timer(loop, 0, on_heartbeat, sv);
	sv->keeper_timer = event_loop_add_timer(loop, 0, on_keeper_timer, sv);
	event_timer_stop(sv->keeper_timer);
	watch_keeper(sv);
	if (sv->tracing)
		r = event_loop_add_signals(loop, (const int[]){SIGCHLD, 0}, on_traced_keeper, sv, NULL);
	return r;
}

/*
 * A pidfd that poll(2) holds stays what it is, whatever becomes of its number; if the number was somebody else's already when poll(2)
 * began, the next look comes with the next heartbeat. Nothing here touches the heap: what this process never writes to it shares
 * with the others, and what remains of its own are a few pages of stack.
 */
void supervise_stand_by(Supervisor *sv)
{
	for (;;) {
		SuperviseReign reign = supervise_reign(sv);
		struct pollfd keeper = {.fd = reign.pidfd, .events = POLLIN};

		supervise_heartbeat(sv);
		(void)poll(&keeper, 1, SUPERVISE_HEARTBEAT_MS);
		(void)is_successor_gone(sv);
		if (!has_ended(reign) || supervise_reign(sv).word != reign.word)
			continue;
		sv->watched_keeper = reign.number;
		(void)waitid(P_PID, (id_t)reign.pid, &(siginfo_t){0}, WEXITED | WNOHANG);
		replace_keeper(sv);
		(void)usleep(KEEPER_LOOK_MS * 1000);
	}
}
