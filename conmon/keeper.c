#include "config.h"

#include "conmon/keeper.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <syslog.h>
#include <unistd.h>

#include "common/process.h"
#include "common/supervise-report.h"
#include "conmon/child.h"
#include "conmon/diag.h"

const int *keeper_signals(void)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, 0};

	return signals;
}

/* --- state file --- */

static const char *phase_words(const Conmon *c)
{
	ReaperPhase phase = reaper_phase(c->reaper);

	if (atomic_load(&c->reaper->failed))
		return "failed";
	if (phase < PHASE_RUNNING)
		return "creating";
	return phase == PHASE_RUNNING ? "running" : "exited";
}

static void publish_state(const Conmon *c)
{
	state_file_set(c->state, "STATE", "%s", phase_words(c));
	state_file_set(c->state, "PAYLOAD_PID", "%d", (int)atomic_load(&c->reaper->payload_pid));
	state_file_set(c->state, "KEEPER_PID", "%d", (int)supervise_pid(c->sv, "keeper"));
	state_file_set(c->state, "REAPER_PID", "%d", (int)supervise_pid(c->sv, "reaper"));
	state_file_set(c->state, "HEIR_PID", "%d", (int)supervise_pid(c->sv, "heir"));
	state_file_set(c->state, "MONITOR_PID", "%d", (int)supervise_pid(c->sv, "monitor"));
	state_file_set(c->state, "REAPER_RESTARTS", "%u", supervise_restarts(c->sv, "reaper"));
	state_file_set(c->state, "MONITOR_RESTARTS", "%u", supervise_restarts(c->sv, "monitor"));
	if (reaper_phase(c->reaper) > PHASE_TIMED_OUT && !atomic_load(&c->reaper->failed))
		state_file_set(c->state, "EXIT_STATUS", "%d", atomic_load(&c->reaper->payload_status));
	state_file_flush(c->state);
}

/* --- events --- */

/* @return whether the process behind the registered pidfd got it; a reaped one can't (C-47) */
static bool signal_registered(const Conmon *c, const char *name, int signal)
{
	int fd = fd_store_get(c->store, name);

	return fd >= 0 && process_pidfd_signal(fd, signal) == 0;
}

void keeper_on_event(Supervisor *sv, void *data, const SuperviseEvent *event)
{
	const Conmon *c = data;
	const SuperviseReporter reporter = {.events = c->events, .state = c->state};
	char text[SUPERVISE_REPORT_TEXT];
	int priority;

	publish_state(c);
	if (event->kind == SUPERVISE_HOPELESS && c->options->stop_on_worker_failure)
		(void)signal_registered(c, FD_PAYLOAD, SIGKILL);
	priority = supervise_report(&reporter, event, text);
	if (priority >= LOG_DEBUG)
		diag_debug("%s", text);
	else
		diag_warn("%s", text);
	state_file_flush(c->state);
}

/* --- life --- */

static void on_kick(void *data, uint32_t events)
{
	const Conmon *c = data;
	uint64_t count;

	(void)!read(fd_store_get(c->store, FD_KICK_KEEPER), &count, sizeof(count));
	if (atomic_load(&c->shared->stop_wanted))
		(void)signal_registered(c, FD_PAYLOAD, SIGKILL);
	if (atomic_load(&c->reaper->subreaper_off) == 1) {
		(void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
		atomic_store(&c->reaper->subreaper_off, 2);
		conmon_kick(c, FD_KICK_REAPER);
	}
	publish_state(c);
	/* Only the one that somebody waits for. */
	if (atomic_load(&c->reaper->keeper_may_go) && getpid() == c->reaper->published_pid)
		supervise_keeper_leave(c->sv, atomic_load(&c->reaper->keeper_may_go) - 1);
}

/* C-39: a runtime does not outlive the keeper that the engine knows. Afterwards a killed keeper doesn't matter. */
static void end_creation(const Conmon *c)
{
	int runtime;

	if (reaper_phase(c->reaper) > PHASE_CREATING)
		return;
	atomic_store(&c->reaper->keeper_lost, 1);
	runtime = fd_store_get(c->store, FD_RUNTIME);
	if (runtime >= 0)
		(void)process_pidfd_signal(runtime, SIGKILL);
	else
		atomic_store(&c->reaper->pending_signal, SIGKILL);
	conmon_kick(c, FD_KICK_REAPER);
}

int keeper_on_start(Supervisor *sv, void *data, EventLoop *loop)
{
	Conmon *c = data;
	EventSource *source;

	if (getpid() != c->reaper->published_pid) {
		if (atomic_load(&c->reaper->subreaper_off))
			(void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
		end_creation(c);
	}
	return event_loop_add_fd(loop, fd_store_get(c->store, FD_KICK_KEEPER), EPOLLIN, on_kick, c, &source);
}

void keeper_on_stray_child(Supervisor *sv, void *data, const siginfo_t *info)
{
	const Conmon *c = data;

	child_remember_stray(c->reaper, info);
	conmon_kick(c, FD_KICK_REAPER);
}

void keeper_on_signal(Supervisor *sv, void *data, int signal)
{
	const Conmon *c = data;

	if (signal == SIGHUP || signal == SIGUSR1 || signal == SIGUSR2) {
		diag_info("ignored signal %d", signal);
		return;
	}
	if (signal_registered(c, FD_PAYLOAD, signal) || signal_registered(c, FD_RUNTIME, signal))
		return;
	if (atomic_load(&c->reaper->runtime_pid) == 0) { /* C-45: nothing to forward to yet */
		supervise_keeper_quit(sv, 1);
		return;
	}
	/* Only clients that read late are left: whoever wants us to end means them, too. */
	if (reaper_phase(c->reaper) == PHASE_END)
		atomic_store(&c->reaper->linger_ends, 1);
	atomic_store(&c->reaper->pending_signal, signal);
	conmon_kick(c, FD_KICK_REAPER);
}
