#include "config.h"

#include "conmon/keeper.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <syslog.h>
#include <unistd.h>

#include "common/process.h"
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
	state_file_set(c->state, "MONITOR_PID", "%d", (int)supervise_pid(c->sv, "monitor"));
	state_file_set(c->state, "REAPER_RESTARTS", "%u", supervise_restarts(c->sv, "reaper"));
	state_file_set(c->state, "MONITOR_RESTARTS", "%u", supervise_restarts(c->sv, "monitor"));
	if (reaper_phase(c->reaper) > PHASE_TIMED_OUT && !atomic_load(&c->reaper->failed))
		state_file_set(c->state, "EXIT_STATUS", "%d", atomic_load(&c->reaper->payload_status));
	state_file_flush(c->state);
}

/* --- events --- */

typedef struct {
	const char *id;
	int priority;
	char message[512];
} EventText;

static void describe(const SuperviseEvent *e, EventText *text)
{
	const char *cause = process_cause(e->code, e->status);
	char *m = text->message;
	size_t room = sizeof(text->message);

	text->id = NULL;
	text->priority = LOG_NOTICE;
	switch (e->kind) {
	case SUPERVISE_DIED:
		text->id = EVENT_ID_WORKER_DIED;
		text->priority = LOG_WARNING;
		snprintf(m, room, "The %s of the container died (pid %d, %s)", e->worker, (int)e->pid, cause);
		break;
	case SUPERVISE_STARTED:
		text->priority = LOG_DEBUG;
		snprintf(m, room, "The %s of the container started (pid %d)", e->worker, (int)e->pid);
		break;
	case SUPERVISE_RESTARTED:
		text->id = EVENT_ID_WORKER_RESTARTED;
		snprintf(m, room,
			"The %s of the container works again after %llu ms (pid %d, restart %u); restored: "
			"%s",
			e->worker, (unsigned long long)e->gap_ms, (int)e->pid, e->restarts,
			e->restored[0] ? e->restored : "everything");
		break;
	case SUPERVISE_HUNG:
		text->id = EVENT_ID_WORKER_HUNG;
		text->priority = LOG_WARNING;
		snprintf(m, room, "The %s of the container hangs (pid %d) and is being killed", e->worker,
			(int)e->pid);
		break;
	case SUPERVISE_STEP:
		text->id = EVENT_ID_DEGRADED;
		text->priority = LOG_ERR;
		snprintf(m, room, "The %s of the container keeps dying and is started with less (step %u)",
			e->worker, e->step);
		break;
	case SUPERVISE_NEW_KEEPER:
		text->id = EVENT_ID_NEW_KEEPER;
		text->priority = LOG_WARNING;
		snprintf(m, room, "The keeper of the container was killed; process %d has taken over",
			(int)e->pid);
		break;
	}
}

void keeper_on_event(Supervisor *sv, void *data, const SuperviseEvent *event)
{
	const Conmon *c = data;
	char worker[64], cause[128], gap[48], restarts[48], pid[48], restored[192];
	EventText text;

	publish_state(c);
	describe(event, &text);
	if (text.priority >= LOG_DEBUG) {
		diag_debug("%s", text.message);
		return;
	}
	snprintf(worker, sizeof(worker), "WORKER=%s", event->worker ? event->worker : "keeper");
	snprintf(cause, sizeof(cause), "CAUSE=%s", process_cause(event->code, event->status));
	snprintf(gap, sizeof(gap), "GAP_MS=%llu", (unsigned long long)event->gap_ms);
	snprintf(restarts, sizeof(restarts), "RESTARTS=%u", event->restarts);
	snprintf(pid, sizeof(pid), "WORKER_PID=%d", (int)event->pid);
	snprintf(restored, sizeof(restored), "RESTORED=%s", event->restored ? event->restored : "");
	event_log_emit(c->events, text.id, text.priority, text.message, worker, cause, gap, restarts, pid,
		restored, NULL);
	diag_warn("%s", text.message);
	state_file_event(c->state, "%s", text.message);
	state_file_flush(c->state);
}

/* --- life --- */

static void on_kick(void *data, uint32_t events)
{
	const Conmon *c = data;
	uint64_t count;

	(void)!read(fd_store_get(c->store, FD_KICK_KEEPER), &count, sizeof(count));
	if (atomic_load(&c->reaper->subreaper_off) == 1) {
		(void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
		atomic_store(&c->reaper->subreaper_off, 2);
		conmon_kick(c, FD_KICK_REAPER);
	}
	publish_state(c);
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

/* @return whether the process behind the registered pidfd got it; a reaped one can't (C-47) */
static bool signal_registered(const Conmon *c, const char *name, int signal)
{
	int fd = fd_store_get(c->store, name);

	return fd >= 0 && process_pidfd_signal(fd, signal) == 0;
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
	atomic_store(&c->reaper->pending_signal, signal);
	conmon_kick(c, FD_KICK_REAPER);
}
