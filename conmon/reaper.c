/*
 * Theory of operation. The container's life is a row of phases (reaper-state.h). Each has one function, which does what can be done now and
 * says whether the phase is over. It is called again after every event (a child, an eventfd, a timer), and by the next
 * reaper if this one is killed: so each function asks the kernel or the shared state what was already done, and
 * never assumes that it is called for the first time. The phase is published after all that belongs to it.
 *
 *   LAUNCH → CREATING → PAYLOAD → CONSOLE → NETWORK → ANNOUNCE → RUNNING → (TIMED_OUT) → OOM → DRAIN → NETWORK_DOWN
 *     │         │          │         │         │        → RELEASE_INHERITED → PERSIST_FILE → EXIT_FILE → EXIT_MESSAGE ─┐
 *     └─────────┴──────────┴─────────┴─────────┴─▶ FAILURE_TEXT → FAILURE_MESSAGE → FAILURE_STOP ────────────┴▶ CLOSE → EXIT_COMMAND → END
 *
 * What must never happen: an exit file before the monitor has written the last log record; a message, file or command
 * twice; a status of 0 for something that nobody has seen end.
 */
#include "config.h"

#include "conmon/reaper.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/event-loop.h"
#include "common/fd-util.h"
#include "common/process.h"
#include "conmon/child.h"
#include "conmon/death-wire.h"
#include "conmon/diag.h"
#include "conmon/environment.h"
#include "conmon/exit-command.h"
#include "conmon/exit-report.h"
#include "conmon/front.h"
#include "conmon/json-text.h"
#include "conmon/network.h"
#include "conmon/objects.h"
#include "conmon/oom.h"
#include "conmon/runtime.h"
#include "conmon/sync-pipe.h"

/* Bounds of what is waited for, milliseconds. */
#define STATUS_LIMIT_MS 2000 /* for the status of a child that somebody else reaps */
#define CONSOLE_LIMIT_MS 1000 /* for a console that was not even connected to when the runtime had ended */
#define FAILURE_LIMIT_MS 3000 /* for the runtime's stderr */
#define SYNC_LIMIT_MS 10000 /* for a full sync pipe */
#define KILLED_LIMIT_MS 1000 /* for a payload to die of SIGKILL */
#define DRAIN_LIMIT_MS 10000 /* for the monitor's last bytes */
#define SUBREAPER_LIMIT_MS 500 /* for the keeper to give up adopting */
#define NETWORK_DOWN_LIMIT_MS 5000 /* for the network helper to end */
#define LOOK_MS 20 /* between two looks at what gives no event */

#define FD_MONITOR_WATCH "monitor-watch.pidfd"

typedef struct {
	const Conmon *conmon;
	ReaperState *state;
	EventLoop *loop;
	EventTimer *timer;
	Network *network;
	EventSource *runtime_source, *payload_source, *command_source, *monitor_source;
	bool oom_watched;
} Reaper;

/* --- moving on --- */

static void advance(Reaper *r);

/* Phases that people see in the state file, which the keeper writes. */
static bool changes_state(ReaperPhase phase)
{
	return phase == PHASE_RUNNING || phase == PHASE_OOM || phase == PHASE_FAILURE_TEXT;
}

static bool go_to(Reaper *r, ReaperPhase phase)
{
	atomic_store(&r->state->wait_until_ms, 0);
	atomic_store_explicit(&r->state->phase, phase, memory_order_release);
	if (r->conmon->state && changes_state(phase))
		conmon_kick(r->conmon, FD_KICK_KEEPER);
	return true;
}

static bool look_again(Reaper *r, uint64_t delay_ms)
{
	event_timer_set(r->timer, delay_ms);
	return false;
}

/* Whether this phase has waited for @limit_ms; if not, there will be another look in time. */
static bool waited(Reaper *r, uint64_t limit_ms, uint64_t look_ms)
{
	uint64_t now = event_now_ms(), until = atomic_load(&r->state->wait_until_ms);

	if (!until) {
		until = now + limit_ms;
		atomic_store(&r->state->wait_until_ms, until);
	}
	if (now >= until)
		return true;
	(void)look_again(r, look_ms < until - now ? look_ms : until - now);
	return false;
}

static void on_wake(void *data, uint32_t events)
{
	advance(data);
}

static void on_timer(void *data)
{
	advance(data);
}

static void watch_pidfd(Reaper *r, const char *name, EventSource **source)
{
	int fd = fd_store_get(r->conmon->store, name);

	if (*source || fd < 0)
		return;
	if (event_loop_add_fd(r->loop, fd, EPOLLIN, on_wake, r, source) < 0)
		*source = NULL; /* SIGCHLD and the looks of waited() do it alone */
}

static void unwatch_pidfd(Reaper *r, const char *name, EventSource **source)
{
	event_source_remove(*source);
	*source = NULL;
	fd_store_close(r->conmon->store, name);
}

/* Creation has failed. @format: what to say if the runtime has said nothing; NULL: nothing. */
static bool __attribute__((format(printf, 2, 3))) fail(Reaper *r, const char *format, ...)
{
	va_list args;

	r->state->failure_text[0] = '\0';
	if (format) {
		va_start(args, format);
		(void)vsnprintf(r->state->failure_text, sizeof(r->state->failure_text), format, args);
		va_end(args);
		diag_error("%s", r->state->failure_text);
	}
	atomic_store(&r->state->failed, 1);
	objects_close_child_ends(r->conmon);
	return go_to(r, PHASE_FAILURE_TEXT);
}

/* What was created without anybody to watch it must not stay. */
static void kill_orphaned_payload(pid_t pid)
{
	int pidfd = pid > 0 ? process_pidfd_open(pid) : -1;

	if (pidfd < 0)
		return;
	(void)process_pidfd_signal(pidfd, SIGKILL);
	close(pidfd);
}

/* --- the runtime --- */

static void release_stdio(const Conmon *conmon)
{
	int null_fd = fd_store_get(conmon->store, FD_DEVNULL);

	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		(void)dup2(null_fd, fd);
}

static bool launch(Reaper *r)
{
	const Conmon *c = r->conmon;
	int error;

	if (atomic_load(&r->state->keeper_lost))
		return fail(r, "conmon was killed before the runtime was started");
	error = runtime_start(c);
	if (error < 0)
		return fail(r, "Failed to start the runtime: %s", strerror(-error));
	atomic_store(&c->shared->runtime_running, 1);
	if (c->options->log_passthrough)
		release_stdio(c); /* C-179: only now */
	objects_close_child_ends(c);
	fd_store_close(c->store, FD_START);
	return go_to(r, PHASE_CREATING);
}

static bool creating(Reaper *r)
{
	const Conmon *c = r->conmon;
	pid_t pid = atomic_load(&r->state->runtime_pid);
	int signal = atomic_exchange(&r->state->pending_signal, 0), status = -1, ended;

	watch_pidfd(r, FD_RUNTIME, &r->runtime_source);
	if (signal && fd_store_get(c->store, FD_RUNTIME) >= 0)
		(void)process_pidfd_signal(fd_store_get(c->store, FD_RUNTIME), signal);
	if (!atomic_load(&r->state->runtime_ended)) {
		ended = child_status(c, pid, FD_RUNTIME, &status);
		if (ended == 0 || (ended < 0 && !waited(r, STATUS_LIMIT_MS, LOOK_MS)))
			return false;
		atomic_store(&r->state->runtime_status, ended > 0 ? status : -1);
		atomic_store(&r->state->runtime_ended, 1);
	}
	unwatch_pidfd(r, FD_RUNTIME, &r->runtime_source);
	death_wire_close(c->store);
	(void)waitpid(pid, NULL, WNOHANG); /* its status is written down */
	atomic_store(&c->shared->runtime_running, 0);
	conmon_kick(c, FD_KICK_MONITOR);
	return go_to(r, PHASE_PAYLOAD);
}

/* C-79, C-84. @return whether the runtime's own status says that creation failed; the diagnostic is printed */
static bool runtime_has_failed(const Reaper *r)
{
	int status = atomic_load(&r->state->runtime_status);

	if (r->conmon->options->mode == MODE_EXEC || status == 0 || status == -1)
		return false; /* unknown: the pid file decides */
	if (WIFEXITED(status))
		diag_error("Failed to create container: exit status %d", WEXITSTATUS(status));
	else
		diag_error("Failed to create container: %s", process_cause(CLD_KILLED, WTERMSIG(status)));
	return true;
}

static void start_timeout(Reaper *r)
{
	int timeout = r->conmon->options->timeout;

	if (timeout > 0 && !atomic_load(&r->state->timeout_at_ms))
		atomic_store(&r->state->timeout_at_ms, event_now_ms() + (uint64_t)timeout * 1000);
}

static bool payload(Reaper *r)
{
	const Conmon *c = r->conmon;
	pid_t pid = runtime_read_pid_file(c);
	int pidfd;

	if (runtime_has_failed(r))
		return fail(r, atomic_load(&r->state->keeper_lost)
				       ? "conmon was killed while the container was being created"
				       : NULL);
	if (pid < 0)
		return fail(r, "%s: %s: %s",
			c->options->mode == MODE_EXEC ? "exec failed" : "container was not created",
			c->options->container_pidfile,
			pid == -ENODATA ? "the runtime wrote no process id" : strerror(-pid));
	if (fd_store_get(c->store, FD_PAYLOAD) < 0) {
		pidfd = process_pidfd_open(pid);
		if (pidfd >= 0 && fd_store_put(c->store, FD_PAYLOAD, pidfd) < 0)
			close(pidfd);
	}
	atomic_store(&r->state->payload_pid, pid);
	start_timeout(r);
	return go_to(r, PHASE_CONSOLE);
}

/* --- the console and the first message --- */

/* C-96: a connection that waits to be accepted is a console to come. */
static bool console_may_come(const Conmon *c)
{
	struct pollfd listener = {.fd = fd_store_get(c->store, FD_CONSOLE_LISTEN), .events = POLLIN};

	return !supervise_is_ready(c->sv, "monitor") || (listener.fd >= 0 && poll(&listener, 1, 0) > 0);
}

static bool console(Reaper *r)
{
	const Conmon *c = r->conmon;
	int ready = atomic_load(&c->shared->console_ready);

	if (!c->options->terminal || ready > 0)
		return go_to(r, PHASE_NETWORK);
	if (ready == 0 && (!waited(r, CONSOLE_LIMIT_MS, LOOK_MS) || console_may_come(c)))
		return look_again(r, LOOK_MS);
	kill_orphaned_payload(atomic_load(&r->state->payload_pid));
	if (ready < 0 && c->shared->console_error[0])
		return fail(r, "%s", c->shared->console_error);
	return fail(r, "Runtime did not set up terminal");
}

static bool network(Reaper *r)
{
	switch (network_bring_up(r->network)) {
	case NETWORK_READY:
		return go_to(r, PHASE_ANNOUNCE);
	case NETWORK_FAILED:
		kill_orphaned_payload(atomic_load(&r->state->payload_pid));
		(void)network_bring_down(r->network);
		return fail(r, "network helper: %s",
			r->state->network.text[0] ? r->state->network.text : "ended without a word");
	case NETWORK_WAITING:
		break;
	}
	return false;
}

static bool announce(Reaper *r)
{
	const Conmon *c = r->conmon;
	pid_t pid = atomic_load(&r->state->payload_pid);
	bool is_exec_v0 = c->options->mode == MODE_EXEC && !c->options->api_version;

	if (!is_exec_v0 && sync_pipe_send(c, &r->state->first_message, pid, NULL) == -EAGAIN &&
		!waited(r, SYNC_LIMIT_MS, LOOK_MS))
		return false;
	objects_remove_console(c);
	atomic_store(&c->shared->payload_pid, pid);
	conmon_kick(c, FD_KICK_MONITOR);
	return go_to(r, PHASE_RUNNING);
}

/* --- the running container --- */

static bool payload_ended(Reaper *r, int value)
{
	atomic_store(&r->state->payload_status, value);
	return go_to(r, PHASE_OOM);
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

static bool running(Reaper *r)
{
	const Conmon *c = r->conmon;
	uint64_t timeout_at = atomic_load(&r->state->timeout_at_ms), now = event_now_ms();
	int status, ended = child_status(c, atomic_load(&r->state->payload_pid), FD_PAYLOAD, &status);

	watch_pidfd(r, FD_PAYLOAD, &r->payload_source);
	if (ended == 0)
		network_keep_up(r->network);
	if (!r->oom_watched) {
		r->oom_watched = true;
		oom_watch(c, r->loop);
	}
	if (ended > 0)
		return payload_ended(r, exit_report_value(status));
	if (ended < 0)
		return waited(r, STATUS_LIMIT_MS, LOOK_MS) ? status_unknown(r) : false;
	if (!timeout_at)
		return false;
	if (now < timeout_at)
		return look_again(r, timeout_at - now);
	atomic_store(&r->state->timed_out, 1);
	return go_to(r, PHASE_TIMED_OUT);
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

static bool timed_out(Reaper *r)
{
	int pidfd = fd_store_get(r->conmon->store, FD_PAYLOAD);

	kill_payload_group(r);
	watch_pidfd(r, FD_PAYLOAD, &r->payload_source);
	if (pidfd >= 0 && !process_pidfd_has_ended(pidfd) && !waited(r, KILLED_LIMIT_MS, LOOK_MS))
		return false;
	return payload_ended(r, -1);
}

/* --- the exit sequence (C-189) --- */

static bool check_oom(Reaper *r)
{
	unwatch_pidfd(r, FD_PAYLOAD, &r->payload_source);
	oom_check(r->conmon);
	return go_to(r, PHASE_DRAIN);
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
	watch_pidfd(r, FD_MONITOR_WATCH, &r->monitor_source);
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
static bool stop_monitor(Reaper *r)
{
	const Conmon *c = r->conmon;
	int wanted = atomic_load(&r->state->timed_out) ? 2 : 1;

	if (atomic_load(&c->shared->drain_wanted) != wanted) {
		atomic_store(&c->shared->drain_wanted, wanted);
		conmon_kick(c, FD_KICK_MONITOR);
	}
	if (monitor_has_ended(r)) {
		unwatch_pidfd(r, FD_MONITOR_WATCH, &r->monitor_source);
		return true;
	}
	if (atomic_load(&r->state->monitor_given_up)) /* killed: give it a moment, not for ever */
		return waited(r, STATUS_LIMIT_MS, 1);
	if (!waited(r, DRAIN_LIMIT_MS, LOOK_MS))
		return false;
	give_up_monitor(r);
	atomic_store(&r->state->wait_until_ms, 0);
	return look_again(r, 1);
}

static bool drain(Reaper *r)
{
	return stop_monitor(r) ? go_to(r, PHASE_NETWORK_DOWN) : false;
}

/* Its ports must be free when somebody sees the exit file, as with C-42. */
static bool network_down(Reaper *r)
{
	if (!network_bring_down(r->network) && !waited(r, NETWORK_DOWN_LIMIT_MS, LOOK_MS))
		return false;
	return go_to(r, PHASE_RELEASE_INHERITED);
}

static bool release_inherited(Reaper *r)
{
	const Conmon *c = r->conmon;

	environment_close_inherited(c->environment, c->store);
	fd_store_close(c->store, FD_ATTACH); /* the monitor's to close, unless it was given up */
	objects_remove_attach(c);
	return go_to(r, PHASE_PERSIST_FILE);
}

static void note_trouble(Reaper *r, int error)
{
	if (error < 0)
		atomic_store(&r->state->exit_trouble, 1);
}

static bool write_persist_file(Reaper *r)
{
	ReaperState *s = r->state;

	note_trouble(r, exit_report_write(r->conmon, &s->persist_file, r->conmon->options->persist_dir,
				"exit", atomic_load(&s->payload_status)));
	return go_to(r, PHASE_EXIT_FILE);
}

static bool write_exit_file(Reaper *r)
{
	ReaperState *s = r->state;
	const ConmonOptions *o = r->conmon->options;

	note_trouble(r, exit_report_write(r->conmon, &s->exit_file, o->exit_dir, o->cid,
				atomic_load(&s->payload_status)));
	return go_to(r, PHASE_EXIT_MESSAGE);
}

static bool send_exit_message(Reaper *r)
{
	const char *text = atomic_load(&r->state->timed_out) ? "command timed out" : NULL;

	if (r->conmon->options->mode == MODE_EXEC &&
		sync_pipe_send(r->conmon, &r->state->exit_message, atomic_load(&r->state->payload_status),
			text) == -EAGAIN &&
		!waited(r, SYNC_LIMIT_MS, LOOK_MS))
		return false;
	return go_to(r, PHASE_CLOSE);
}

/* C-60, C-204: the keeper must stop adopting, too. */
static bool close_and_let_go(Reaper *r)
{
	const Conmon *c = r->conmon;

	environment_close_inherited(c->environment, c->store);
	fd_store_close(c->store, FD_SYNC);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
	if (c->options->exit_command && atomic_load(&r->state->subreaper_off) != 2) {
		atomic_store(&r->state->subreaper_off, 1);
		conmon_kick(c, FD_KICK_KEEPER);
		if (!waited(r, SUBREAPER_LIMIT_MS, 1))
			return false;
	}
	return go_to(r, PHASE_EXIT_COMMAND);
}

static bool run_exit_command(Reaper *r)
{
	const Conmon *c = r->conmon;
	uint64_t now = event_now_ms(), at = atomic_load(&r->state->exit_command_at_ms);
	int error, status;

	if (!c->options->exit_command || atomic_load(&r->state->runtime_pid) == 0)
		return go_to(r, PHASE_END);
	if (!at) {
		at = now + (uint64_t)c->options->exit_delay * 1000;
		atomic_store(&r->state->exit_command_at_ms, at);
	}
	if (now < at)
		return look_again(r, at - now);
	error = exit_command_start(c);
	if (error < 0) {
		diag_error_errno(error, "Failed to start exit command %s:", c->options->exit_command);
		return go_to(r, PHASE_END);
	}
	watch_pidfd(r, FD_EXIT_COMMAND, &r->command_source);
	if (child_status(c, atomic_load(&r->state->exit_command_pid), FD_EXIT_COMMAND, &status) == 0)
		return false;
	unwatch_pidfd(r, FD_EXIT_COMMAND, &r->command_source);
	return go_to(r, PHASE_END);
}

static int exit_value(const ReaperState *state)
{
	int value = atomic_load(&state->payload_status) & 255;

	if (atomic_load(&state->failed))
		return 1;
	return value == 0 && atomic_load(&state->exit_trouble) ? 1 : value;
}

static bool end(Reaper *r)
{
	objects_remove_symlink(r->conmon);
	child_reap_all(r->state);
	return go_to(r, PHASE_DONE);
}

static bool done(Reaper *r)
{
	/* Here and not only in main(): a keeper that took over does not return there. */
	state_file_remove(r->conmon->state);
	supervise_finish(r->conmon->sv, exit_value(r->state));
	event_loop_quit(r->loop, 0);
	return false;
}

/* --- failed creation (C-83 to C-87) --- */

static bool failure_text(Reaper *r)
{
	const Conmon *c = r->conmon;

	if (!atomic_load(&c->shared->failure_wanted)) {
		atomic_store(&c->shared->failure_wanted, 1);
		conmon_kick(c, FD_KICK_MONITOR);
	}
	if (!c->options->log_passthrough && !atomic_load(&c->shared->failure_ready) &&
		!waited(r, FAILURE_LIMIT_MS, LOOK_MS))
		return false;
	return go_to(r, PHASE_FAILURE_MESSAGE);
}

static bool failure_message(Reaper *r)
{
	const Conmon *c = r->conmon;
	char escaped[FAILURE_TEXT_MAX + 1] = "";

	if (atomic_load(&c->shared->failure_ready))
		snprintf(escaped, sizeof(escaped), "%s", c->shared->failure_text);
	if (!escaped[0])
		json_text_escape(
			escaped, sizeof(escaped), r->state->failure_text, strlen(r->state->failure_text));
	if (sync_pipe_send(c, &r->state->first_message, -1, escaped) == -EAGAIN &&
		!waited(r, SYNC_LIMIT_MS, LOOK_MS))
		return false;
	objects_remove_console(c);
	return go_to(r, PHASE_FAILURE_STOP);
}

static bool failure_stop(Reaper *r)
{
	return stop_monitor(r) ? go_to(r, PHASE_CLOSE) : false;
}

/* --- the loop --- */

static bool (*const phases[])(Reaper *) = {
	[PHASE_LAUNCH] = launch,
	[PHASE_CREATING] = creating,
	[PHASE_PAYLOAD] = payload,
	[PHASE_CONSOLE] = console,
	[PHASE_NETWORK] = network,
	[PHASE_ANNOUNCE] = announce,
	[PHASE_RUNNING] = running,
	[PHASE_TIMED_OUT] = timed_out,
	[PHASE_OOM] = check_oom,
	[PHASE_DRAIN] = drain,
	[PHASE_NETWORK_DOWN] = network_down,
	[PHASE_RELEASE_INHERITED] = release_inherited,
	[PHASE_PERSIST_FILE] = write_persist_file,
	[PHASE_EXIT_FILE] = write_exit_file,
	[PHASE_EXIT_MESSAGE] = send_exit_message,
	[PHASE_CLOSE] = close_and_let_go,
	[PHASE_EXIT_COMMAND] = run_exit_command,
	[PHASE_END] = end,
	[PHASE_DONE] = done,
	[PHASE_FAILURE_TEXT] = failure_text,
	[PHASE_FAILURE_MESSAGE] = failure_message,
	[PHASE_FAILURE_STOP] = failure_stop,
};

static void advance(Reaper *r)
{
	while (phases[reaper_phase(r->state)](r))
		;
}

static void on_kick(void *data, uint32_t events)
{
	Reaper *r = data;
	uint64_t count;

	(void)!read(fd_store_get(r->conmon->store, FD_KICK_REAPER), &count, sizeof(count));
	advance(r);
}

static bool is_created(const ReaperState *state)
{
	return reaper_phase(state) >= PHASE_RUNNING;
}

static void on_child(void *data, uint32_t signal)
{
	Reaper *r = data;

	advance(r);
	if (!is_created(r->state))
		return; /* any of the zombies may be the payload, whose pid is not known yet: C-50 */
	child_reap_all(r->state);
	advance(r);
}

static int add_sources(Reaper *r)
{
	int error = supervise_attach_loop(r->conmon->sv, r->loop);
	EventSource *kick;

	if (error >= 0)
		error = event_loop_add_fd(
			r->loop, fd_store_get(r->conmon->store, FD_KICK_REAPER), EPOLLIN, on_kick, r, &kick);
	if (error >= 0)
		error = event_loop_add_signals(r->loop, (const int[]){SIGCHLD, 0}, on_child, r, NULL);
	return error;
}

static void ignore_signals(void)
{
	/* Meant for the keeper, also when a whole process group is signalled. */
	for (const int *s = (const int[]){SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGPIPE, 0}; *s;
		s++)
		(void)signal(*s, SIG_IGN);
}

int reaper_run(const Conmon *conmon, unsigned restarts)
{
	Reaper r = {.conmon = conmon, .state = conmon->reaper};
	int error;

	ignore_signals();
	front_dismiss(conmon->store); /* from here on there is always somebody to tell the invoker */
	if (!atomic_load(&r.state->subreaper_off))
		(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	r.loop = event_loop_new(conmon->store, "reaper");
	if (!r.loop)
		return 1;
	r.timer = event_loop_add_timer(r.loop, 0, on_timer, &r);
	r.network = network_new(conmon, r.loop, on_timer, &r);
	error = r.network ? add_sources(&r) : -ENOMEM;
	if (error < 0) {
		diag_error_errno(error, "The reaper can't set up its events:");
		return 1;
	}
	supervise_ready(conmon->sv, restarts ? "container, exit status, messages to the engine" : "");
	advance(&r);
	error = event_loop_run(r.loop);
	event_loop_free(r.loop);
	return error < 0 ? 1 : 0;
}
