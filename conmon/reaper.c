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

#include "conmon/reaper-private.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/event-loop.h"
#include "conmon/child.h"
#include "conmon/diag.h"
#include "conmon/front.h"
#include "conmon/network.h"

/* --- moving on --- */

static void advance(Reaper *r);

/* Phases that people see in the state file, which the keeper writes. */
static bool changes_state(ReaperPhase phase)
{
	return phase == PHASE_RUNNING || phase == PHASE_OOM || phase == PHASE_FAILURE_TEXT;
}

bool reaper_go_to(Reaper *r, ReaperPhase phase)
{
	atomic_store(&r->state->wait_until_ms, 0);
	atomic_store_explicit(&r->state->phase, phase, memory_order_release);
	if (r->conmon->state && changes_state(phase))
		conmon_kick(r->conmon, FD_KICK_KEEPER);
	return true;
}

bool reaper_look_again(Reaper *r, uint64_t delay_ms)
{
	event_timer_set(r->timer, delay_ms);
	return false;
}

/* Whether this phase has waited for @limit_ms; if not, there will be another look in time. */
bool reaper_waited(Reaper *r, uint64_t limit_ms, uint64_t look_ms)
{
	uint64_t now = event_now_ms(), until = atomic_load(&r->state->wait_until_ms);

	if (!until) {
		until = now + limit_ms;
		atomic_store(&r->state->wait_until_ms, until);
	}
	if (now >= until)
		return true;
	(void)reaper_look_again(r, look_ms < until - now ? look_ms : until - now);
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

void reaper_watch_pidfd(Reaper *r, const char *name, EventSource **source)
{
	int fd = fd_store_get(r->conmon->store, name);

	if (*source || fd < 0)
		return;
	if (event_loop_add_fd(r->loop, fd, EPOLLIN, on_wake, r, source) < 0)
		*source = NULL; /* SIGCHLD and the looks of reaper_waited() do it alone */
}

void reaper_unwatch_pidfd(Reaper *r, const char *name, EventSource **source)
{
	event_source_remove(*source);
	*source = NULL;
	fd_store_close(r->conmon->store, name);
}

/* --- the loop --- */

static bool (*const phases[])(Reaper *) = {
	[PHASE_LAUNCH] = reaper_phase_launch,
	[PHASE_CREATING] = reaper_phase_creating,
	[PHASE_PAYLOAD] = reaper_phase_payload,
	[PHASE_CONSOLE] = reaper_phase_console,
	[PHASE_NETWORK] = reaper_phase_network,
	[PHASE_ANNOUNCE] = reaper_phase_announce,
	[PHASE_RUNNING] = reaper_phase_running,
	[PHASE_TIMED_OUT] = reaper_phase_timed_out,
	[PHASE_OOM] = reaper_phase_check_oom,
	[PHASE_DRAIN] = reaper_phase_drain,
	[PHASE_NETWORK_DOWN] = reaper_phase_network_down,
	[PHASE_RELEASE_INHERITED] = reaper_phase_release_inherited,
	[PHASE_PERSIST_FILE] = reaper_phase_write_persist_file,
	[PHASE_EXIT_FILE] = reaper_phase_write_exit_file,
	[PHASE_EXIT_MESSAGE] = reaper_phase_send_exit_message,
	[PHASE_CLOSE] = reaper_phase_close_and_let_go,
	[PHASE_EXIT_COMMAND] = reaper_phase_run_exit_command,
	[PHASE_END] = reaper_phase_end,
	[PHASE_DONE] = reaper_phase_done,
	[PHASE_FAILURE_TEXT] = reaper_phase_failure_text,
	[PHASE_FAILURE_MESSAGE] = reaper_phase_failure_message,
	[PHASE_FAILURE_STOP] = reaper_phase_failure_stop,
};

/* Once the monitor has ended; also the next reaper, in whichever phase. */
static void linger_begin(Reaper *r)
{
	ReaperPhase phase = reaper_phase(r->state);

	if (r->linger_looked || phase <= PHASE_DRAIN || phase > PHASE_END)
		return;
	r->linger_looked = true;
	r->linger = linger_new(r->conmon, r->loop, on_timer, r);
}

static void advance(Reaper *r)
{
	do {
		linger_begin(r);
	} while (phases[reaper_phase(r->state)](r));
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
