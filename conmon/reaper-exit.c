/* The phases of the running container and of its end. */
#include "config.h"

#include "conmon/reaper-private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/event-loop.h"
#include "common/process.h"
#include "conmon/child.h"
#include "conmon/diag.h"
#include "conmon/environment.h"
#include "conmon/exit-command.h"
#include "conmon/exit-report.h"
#include "conmon/network.h"
#include "conmon/objects.h"
#include "conmon/oom.h"
#include "conmon/sync-pipe.h"

/* Bounds, milliseconds. */
#define KILLED_LIMIT_MS 1000 /* for a payload to die of SIGKILL */
/* For the monitor's last bytes; one that hangs is killed within the first two summands, and its successor has the third. */
#define DRAIN_LIMIT_MS (SUPERVISE_HUNG_MS + 3 * SUPERVISE_HEARTBEAT_MS + 10000)
#define SUBREAPER_LIMIT_MS 500 /* for the keeper to give up adopting */
#define NETWORK_DOWN_LIMIT_MS 5000 /* for the network helper to end */

#define FD_MONITOR_WATCH "monitor-watch.pidfd"

/* --- the running container --- */

static bool payload_ended(Reaper *r, int value)
{
	atomic_store(&r->state->payload_status, value);
	return reaper_go_to(r, PHASE_OOM);
}

static bool status_unknown(Reaper *r)
{
	char pid[32];

	snprintf(pid, sizeof(pid), "PAYLOAD_PID=%d", (int)atomic_load(&r->state->payload_pid));
	diag_error("The container has ended, its exit status is unknown");
	event_log_emit(r->conmon->events, EVENT_ID_EXIT_UNKNOWN, 3,
		"The container has ended, but no process that could have seen how was alive: its exit status "
		"is reported as unknown (-1)",
		pid, NULL);
	return payload_ended(r, -1);
}

bool reaper_phase_running(Reaper *r)
{
	const Conmon *c = r->conmon;
	uint64_t timeout_at = atomic_load(&r->state->timeout_at_ms), now = event_now_ms();
	int status, ended = child_status(c, atomic_load(&r->state->payload_pid), FD_PAYLOAD, &status);

	reaper_watch_pidfd(r, FD_PAYLOAD, &r->payload_source);
	if (ended == 0)
		network_keep_up(r->network);
	if (!r->oom_watched) {
		r->oom_watched = true;
		oom_watch(c, r->loop);
	}
	if (ended > 0)
		return payload_ended(r, exit_report_value(status));
	if (ended < 0)
		return reaper_waited(r, STATUS_LIMIT_MS, LOOK_MS) ? status_unknown(r) : false;
	if (!timeout_at)
		return false;
	if (now < timeout_at)
		return reaper_look_again(r, timeout_at - now);
	atomic_store(&r->state->timed_out, 1);
	return reaper_go_to(r, PHASE_TIMED_OUT);
}

/* C-199. The group is the payload's only if it is not ours (W-22). */
static void kill_payload_group(const Reaper *r)
{
	pid_t pid = atomic_load(&r->state->payload_pid), group;
	int pidfd = fd_store_get(r->conmon->store, FD_PAYLOAD);

	if (pidfd < 0 || process_pidfd_has_ended(pidfd))
		return;
	group = getpgid(pid);
	if (group > 1 && group != r->state->session_group && group != getpgrp())
		(void)kill(-group, SIGKILL);
	(void)process_pidfd_signal(pidfd, SIGKILL);
}

bool reaper_phase_timed_out(Reaper *r)
{
	int pidfd = fd_store_get(r->conmon->store, FD_PAYLOAD);

	kill_payload_group(r);
	reaper_watch_pidfd(r, FD_PAYLOAD, &r->payload_source);
	if (pidfd >= 0 && !process_pidfd_has_ended(pidfd) && !reaper_waited(r, KILLED_LIMIT_MS, LOOK_MS))
		return false;
	return payload_ended(r, -1);
}

/* --- the exit sequence (C-189) --- */

bool reaper_phase_check_oom(Reaper *r)
{
	reaper_unwatch_pidfd(r, FD_PAYLOAD, &r->payload_source);
	oom_check(r->conmon);
	return reaper_go_to(r, PHASE_DRAIN);
}

/* Its own registered pidfd, because the keeper that would tell may be gone at this very moment. */
static bool monitor_has_ended(Reaper *r)
{
	const Conmon *c = r->conmon;
	pid_t pid = supervise_pid(c->sv, "monitor");
	int fd = fd_store_get(c->store, FD_MONITOR_WATCH);

	if (!supervise_is_retired(c->sv, "monitor") && !atomic_load(&r->state->monitor_given_up))
		return false;
	if (pid == 0)
		return true;
	if (fd < 0) {
		fd = process_pidfd_open(pid);
		if (fd < 0)
			return fd == -ESRCH;
		if (fd_store_put(c->store, FD_MONITOR_WATCH, fd) < 0) {
			close(fd);
			return false;
		}
	}
	reaper_watch_pidfd(r, FD_MONITOR_WATCH, &r->monitor_source);
	return process_pidfd_has_ended(fd);
}

static void give_up_monitor(Reaper *r)
{
	pid_t pid = supervise_pid(r->conmon->sv, "monitor");
	int pidfd;

	atomic_store(&r->state->monitor_given_up, 1); /* its next instance ends at once */
	diag_error("The monitor did not finish in time, giving it up");
	event_log_emit(r->conmon->events, EVENT_ID_DEGRADED, 3,
		"The monitor did not write the last output of the container in time and is given up; the "
		"rest of it is lost",
		NULL);
	pidfd = pid > 0 ? process_pidfd_open(pid) : -1;
	if (pidfd < 0)
		return;
	(void)process_pidfd_signal(pidfd, SIGKILL);
	close(pidfd);
}

/* Tell the monitor to finish. @return whether it has ended (C-189.2, .3, .5) */
bool reaper_stop_monitor(Reaper *r)
{
	const Conmon *c = r->conmon;
	int wanted = atomic_load(&r->state->timed_out) ? 2 : 1;

	if (atomic_load(&c->shared->drain_wanted) != wanted) {
		atomic_store(&c->shared->drain_wanted, wanted);
		conmon_kick(c, FD_KICK_MONITOR);
	}
	if (monitor_has_ended(r)) {
		reaper_unwatch_pidfd(r, FD_MONITOR_WATCH, &r->monitor_source);
		return true;
	}
	if (atomic_load(&r->state->monitor_given_up)) /* killed: give it a moment, not for ever */
		return reaper_waited(r, STATUS_LIMIT_MS, 1);
	if (!reaper_waited(r, DRAIN_LIMIT_MS, LOOK_MS))
		return false;
	give_up_monitor(r);
	atomic_store(&r->state->wait_until_ms, 0);
	return reaper_look_again(r, 1);
}

bool reaper_phase_drain(Reaper *r)
{
	return reaper_stop_monitor(r) ? reaper_go_to(r, PHASE_NETWORK_DOWN) : false;
}

/* Its ports must be free when somebody sees the exit file, as with C-42. */
bool reaper_phase_network_down(Reaper *r)
{
	if (!network_bring_down(r->network) && !reaper_waited(r, NETWORK_DOWN_LIMIT_MS, LOOK_MS))
		return false;
	return reaper_go_to(r, PHASE_RELEASE_INHERITED);
}

bool reaper_phase_release_inherited(Reaper *r)
{
	const Conmon *c = r->conmon;

	environment_close_inherited(c->environment, c->store);
	fd_store_close(c->store, FD_ATTACH); /* the monitor's to close, unless it was given up */
	objects_remove_attach(c);
	return reaper_go_to(r, PHASE_PERSIST_FILE);
}

static void note_trouble(Reaper *r, int error)
{
	if (error < 0)
		atomic_store(&r->state->exit_trouble, 1);
}

bool reaper_phase_write_persist_file(Reaper *r)
{
	ReaperState *s = r->state;

	note_trouble(r, exit_report_write(r->conmon, &s->persist_file, r->conmon->options->persist_dir,
				"exit", atomic_load(&s->payload_status)));
	return reaper_go_to(r, PHASE_EXIT_FILE);
}

bool reaper_phase_write_exit_file(Reaper *r)
{
	ReaperState *s = r->state;
	const ConmonOptions *o = r->conmon->options;

	note_trouble(r, exit_report_write(r->conmon, &s->exit_file, o->exit_dir, o->cid,
				atomic_load(&s->payload_status)));
	return reaper_go_to(r, PHASE_EXIT_MESSAGE);
}

bool reaper_phase_send_exit_message(Reaper *r)
{
	const char *text = atomic_load(&r->state->timed_out) ? "command timed out" : NULL;

	if (r->conmon->options->mode == MODE_EXEC &&
		sync_pipe_send(r->conmon, &r->state->exit_message, atomic_load(&r->state->payload_status),
			text) == -EAGAIN &&
		!reaper_waited(r, SYNC_LIMIT_MS, LOOK_MS))
		return false;
	return reaper_go_to(r, PHASE_CLOSE);
}

/* C-60, C-204: the keeper must stop adopting, too. */
bool reaper_phase_close_and_let_go(Reaper *r)
{
	const Conmon *c = r->conmon;

	environment_close_inherited(c->environment, c->store);
	fd_store_close(c->store, FD_SYNC);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
	if (c->options->exit_command && atomic_load(&r->state->subreaper_off) != 2) {
		atomic_store(&r->state->subreaper_off, 1);
		conmon_kick(c, FD_KICK_KEEPER);
		if (!reaper_waited(r, SUBREAPER_LIMIT_MS, 1))
			return false;
	}
	return reaper_go_to(r, PHASE_EXIT_COMMAND);
}

bool reaper_phase_run_exit_command(Reaper *r)
{
	const Conmon *c = r->conmon;
	uint64_t now = event_now_ms(), at = atomic_load(&r->state->exit_command_at_ms);
	int error, status;

	if (!c->options->exit_command || atomic_load(&r->state->runtime_pid) == 0)
		return reaper_go_to(r, PHASE_END);
	if (!at) {
		at = now + (uint64_t)c->options->exit_delay * 1000;
		atomic_store(&r->state->exit_command_at_ms, at);
	}
	if (now < at)
		return reaper_look_again(r, at - now);
	error = exit_command_start(c);
	if (error < 0) {
		diag_error_errno(error, "Failed to start exit command %s:", c->options->exit_command);
		return reaper_go_to(r, PHASE_END);
	}
	reaper_watch_pidfd(r, FD_EXIT_COMMAND, &r->command_source);
	if (child_status(c, atomic_load(&r->state->exit_command_pid), FD_EXIT_COMMAND, &status) == 0)
		return false;
	reaper_unwatch_pidfd(r, FD_EXIT_COMMAND, &r->command_source);
	return reaper_go_to(r, PHASE_END);
}

static int exit_value(const ReaperState *state)
{
	int value = atomic_load(&state->payload_status) & 255;

	if (atomic_load(&state->failed))
		return 1;
	return value == 0 && atomic_load(&state->exit_trouble) ? 1 : value;
}

/*
 * What bears the container's name goes first: it may be started again while somebody still reads what it said. And whoever waits for the pid
 * in the pid file (systemd, an engine's pidfd) does not wait for a client.
 */
bool reaper_phase_end(Reaper *r)
{
	objects_remove_symlink(r->conmon);
	state_file_remove(r->conmon->state);
	child_reap_all(r->state);
	if (r->linger && !linger_is_over(r->linger) && !atomic_load(&r->state->linger_ends)) {
		atomic_store(&r->state->keeper_may_go, 1 + exit_value(r->state));
		conmon_kick(r->conmon, FD_KICK_KEEPER);
		return false;
	}
	return reaper_go_to(r, PHASE_DONE);
}

bool reaper_phase_done(Reaper *r)
{
	/* Here and not only in main(): a keeper that took over does not return there. */
	state_file_remove(r->conmon->state);
	supervise_finish(r->conmon->sv, exit_value(r->state));
	event_loop_quit(r->loop, 0);
	return false;
}
