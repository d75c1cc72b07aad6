/* The phases from the start of the runtime to the first message, and those of a creation that has failed. */
#include "config.h"

#include "conmon/reaper-private.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/event-loop.h"
#include "common/process.h"
#include "conmon/child.h"
#include "conmon/death-wire.h"
#include "conmon/diag.h"
#include "conmon/json-text.h"
#include "conmon/network.h"
#include "conmon/objects.h"
#include "conmon/runtime.h"
#include "conmon/sync-pipe.h"

/* Bounds, milliseconds. */
#define CONSOLE_LIMIT_MS 1000 /* for a console that was not even connected to when the runtime had ended */
#define FAILURE_LIMIT_MS 3000 /* for the runtime's stderr */

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
	return reaper_go_to(r, PHASE_FAILURE_TEXT);
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

bool reaper_phase_launch(Reaper *r)
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
	return reaper_go_to(r, PHASE_CREATING);
}

bool reaper_phase_creating(Reaper *r)
{
	const Conmon *c = r->conmon;
	pid_t pid = atomic_load(&r->state->runtime_pid);
	int signal = atomic_exchange(&r->state->pending_signal, 0), status = -1, ended;

	reaper_watch_pidfd(r, FD_RUNTIME, &r->runtime_source);
	if (signal && fd_store_get(c->store, FD_RUNTIME) >= 0)
		(void)process_pidfd_signal(fd_store_get(c->store, FD_RUNTIME), signal);
	if (!atomic_load(&r->state->runtime_ended)) {
		ended = child_status(c, pid, FD_RUNTIME, &status);
		if (ended == 0 || (ended < 0 && !reaper_waited(r, STATUS_LIMIT_MS, LOOK_MS)))
			return false;
		atomic_store(&r->state->runtime_status, ended > 0 ? status : -1);
		atomic_store(&r->state->runtime_ended, 1);
	}
	reaper_unwatch_pidfd(r, FD_RUNTIME, &r->runtime_source);
	death_wire_close(c->store);
	(void)waitpid(pid, NULL, WNOHANG); /* its status is written down */
	atomic_store(&c->shared->runtime_running, 0);
	conmon_kick(c, FD_KICK_MONITOR);
	return reaper_go_to(r, PHASE_PAYLOAD);
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

bool reaper_phase_payload(Reaper *r)
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
	return reaper_go_to(r, PHASE_CONSOLE);
}

/* --- the console and the first message --- */

/* C-96: a connection that waits to be accepted is a console to come. */
static bool console_may_come(const Conmon *c)
{
	struct pollfd listener = {.fd = fd_store_get(c->store, FD_CONSOLE_LISTEN), .events = POLLIN};

	return !supervise_is_ready(c->sv, "monitor") || (listener.fd >= 0 && poll(&listener, 1, 0) > 0);
}

bool reaper_phase_console(Reaper *r)
{
	const Conmon *c = r->conmon;
	int ready = atomic_load(&c->shared->console_ready);

	if (!c->options->terminal || ready > 0)
		return reaper_go_to(r, PHASE_NETWORK);
	if (ready == 0 && (!reaper_waited(r, CONSOLE_LIMIT_MS, LOOK_MS) || console_may_come(c)))
		return reaper_look_again(r, LOOK_MS);
	kill_orphaned_payload(atomic_load(&r->state->payload_pid));
	if (ready < 0 && c->shared->console_error[0])
		return fail(r, "%s", c->shared->console_error);
	return fail(r, "Runtime did not set up terminal");
}

bool reaper_phase_network(Reaper *r)
{
	switch (network_bring_up(r->network)) {
	case NETWORK_READY:
		return reaper_go_to(r, PHASE_ANNOUNCE);
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

bool reaper_phase_announce(Reaper *r)
{
	const Conmon *c = r->conmon;
	pid_t pid = atomic_load(&r->state->payload_pid);
	bool is_exec_v0 = c->options->mode == MODE_EXEC && !c->options->api_version;

	if (!is_exec_v0 && sync_pipe_send(c, &r->state->first_message, pid, NULL) == -EAGAIN &&
		!reaper_waited(r, SYNC_LIMIT_MS, LOOK_MS))
		return false;
	objects_remove_console(c);
	atomic_store(&c->shared->payload_pid, pid);
	conmon_kick(c, FD_KICK_MONITOR);
	return reaper_go_to(r, PHASE_RUNNING);
}

/* --- failed creation (C-83 to C-87) --- */

bool reaper_phase_failure_text(Reaper *r)
{
	const Conmon *c = r->conmon;

	if (!atomic_load(&c->shared->failure_wanted)) {
		atomic_store(&c->shared->failure_wanted, 1);
		conmon_kick(c, FD_KICK_MONITOR);
	}
	if (!c->options->log_passthrough && !atomic_load(&c->shared->failure_ready) &&
		!reaper_waited(r, FAILURE_LIMIT_MS, LOOK_MS))
		return false;
	return reaper_go_to(r, PHASE_FAILURE_MESSAGE);
}

bool reaper_phase_failure_message(Reaper *r)
{
	const Conmon *c = r->conmon;
	char escaped[FAILURE_TEXT_MAX + 1] = "";

	if (atomic_load(&c->shared->failure_ready))
		snprintf(escaped, sizeof(escaped), "%s", c->shared->failure_text);
	if (!escaped[0])
		json_text_escape(
			escaped, sizeof(escaped), r->state->failure_text, strlen(r->state->failure_text));
	if (sync_pipe_send(c, &r->state->first_message, -1, escaped) == -EAGAIN &&
		!reaper_waited(r, SYNC_LIMIT_MS, LOOK_MS))
		return false;
	objects_remove_console(c);
	return reaper_go_to(r, PHASE_FAILURE_STOP);
}

bool reaper_phase_failure_stop(Reaper *r)
{
	return reaper_stop_monitor(r) ? reaper_go_to(r, PHASE_CLOSE) : false;
}
