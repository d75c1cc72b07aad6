#include "config.h"

#include "netns-helper/keeper.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "common/fd-keep.h"
#include "common/process.h"
#include "common/supervise-report.h"
#include "netns-helper/api-socket.h"
#include "netns-helper/kept.h"
#include "netns-helper/cgroup-watch.h"
#include "netns-helper/gateway.h"
#include "netns-helper/gateway-janitor.h"

#define STATUS_OF_SIGNAL 1000 /* added to the number of a signal that ends the helper */
#define LINK_REMOVAL_MS 500
#define EARLY_DEATHS_MAX 5 /* before readiness, by SIGKILL from outside */

/* Signals that end the helper, as they would by default (N-138). */
static const int ending_signals[] = {
	SIGTERM,
	SIGINT,
	SIGHUP,
	SIGQUIT,
	SIGUSR1,
	SIGUSR2,
	SIGALRM,
	SIGVTALRM,
	SIGPROF,
	SIGXCPU,
	SIGXFSZ,
	SIGIO,
	SIGPWR,
	0,
};

static const SuperviseWorker workers[] = {
	{.name = "worker", .run = worker_run, .max_step = WORKER_STEP_MAX, .has_heartbeat = true},
};

/* --- ends --- */

void keeper_remove_link(const Helper *helper)
{
	int fd = helper->store ? fd_store_get(helper->store, GATEWAY_JANITOR) : -ENOENT;

	if (fd >= 0)
		(void)gateway_janitor_stop(fd, LINK_REMOVAL_MS); /* it goes with its namespace anyway */
}

static void clean_up(Helper *helper)
{
	fd_keep_notify(helper->store, "STOPPING=1");
	if (helper->options->api_socket)
		api_socket_unlink(helper->options->api_socket, &helper->api_path);
	state_file_remove(helper->state);
}

static void on_exit_fd(void *data, uint32_t events)
{
	Helper *helper = data;

	if (events & ~(uint32_t)(EPOLLHUP | EPOLLERR))
		return;
	fprintf(stderr, "exit descriptor %d has hung up, ending\n", helper->options->exit_fd);
	clean_up(helper);
	supervise_keeper_quit(helper->sv, EXIT_SUCCESS);
}

/* Only once the ready byte is out: N-135, N-137. */
static void watch_exit_fd(Helper *helper, EventLoop *loop)
{
	int r;

	if (helper->exit_fd_was_closed) { /* N-134 */
		on_exit_fd(helper, EPOLLERR);
		return;
	}
	if (helper->exit_fd < 0)
		return;
	r = event_loop_add_fd(loop, helper->exit_fd, 0, on_exit_fd, helper, NULL);
	if (r == -EBADF)
		on_exit_fd(helper, EPOLLERR);
	/* -EPERM: a file that never hangs up (N-133) */
}

typedef struct {
	Helper *helper;
	EventLoop *loop;
	EventSource *source;
} ReadyWatch;

static void on_ready_event(void *data, uint32_t events)
{
	ReadyWatch *watch = data;

	event_source_remove(watch->source);
	watch->source = NULL;
	kept_confirm(watch->helper);
	watch_exit_fd(watch->helper, watch->loop);
}

/* N-244: what is born now is born in the keeper's new cgroup. */
static void on_moved(void *data)
{
	Helper *helper = data;

	fprintf(stderr, "moved to another cgroup, replacing the network worker by one in there\n");
	(void)supervise_signal_worker(helper->sv, "worker", SIGKILL);
}

static int on_keeper_start(Supervisor *sv, void *data, EventLoop *loop)
{
	static ReadyWatch watch; /* one keeper per process */

	int r = fd_keep_watchdog(supervise_store(sv), loop);

	if (r == 0)
		r = cgroup_watch_start(supervise_store(sv), loop, on_moved, data);
	if (r < 0)
		return r;
	watch = (ReadyWatch){.helper = data, .loop = loop};
	return event_loop_add_fd(loop, fd_store_get(watch.helper->store, HELPER_READY_EVENT), EPOLLIN,
		on_ready_event, &watch, &watch.source);
}

static void on_signal(Supervisor *sv, void *data, int signal)
{
	clean_up(data);
	supervise_keeper_quit(sv, STATUS_OF_SIGNAL + signal);
}

/* --- events --- */

static const char *worker_words(const char *worker)
{
	return strcmp(worker, "worker") == 0 ? "network worker" : worker;
}

static const char *step_words(const char *worker, unsigned step)
{
	return step == WORKER_STEP_NO_CONNECTIONS ? "without the connections of the one before"
	       : step == WORKER_STEP_NO_SPLICE    ? "without the fast path"
						  : "with everything";
}

static void update_state(Helper *helper)
{
	state_file_set(helper->state, "KEEPER_PID", "%d", (int)supervise_pid(helper->sv, "keeper"));
	state_file_set(helper->state, "WORKER_PID", "%d", (int)supervise_pid(helper->sv, "worker"));
	state_file_set(helper->state, "WORKER_RESTARTS", "%u", supervise_restarts(helper->sv, "worker"));
	state_file_set(helper->state, "LINK", "%s", helper->link.kind ? helper->link.kind->name : "given");
	state_file_flush(helper->state);
}

/* Before readiness the engine is told by our end, unless somebody just killed the worker. */
static bool is_start_failure(const Helper *helper, const SuperviseEvent *event)
{
	bool from_outside = event->code == CLD_KILLED && event->status == SIGKILL;

	return atomic_load(&helper->shared->phase) == SHARED_STARTING &&
	       (!from_outside || event->restarts >= EARLY_DEATHS_MAX);
}

static void on_event(Supervisor *sv, void *data, const SuperviseEvent *event)
{
	Helper *helper = data;
	const SuperviseReporter reporter = {.events = helper->events,
		.state = helper->state,
		.worker_words = worker_words,
		.step_words = step_words};
	char text[SUPERVISE_REPORT_TEXT];

	if (supervise_report(&reporter, event, text) < LOG_DEBUG)
		fprintf(stderr, "%s\n", text);
	if (event->kind == SUPERVISE_DIED && is_start_failure(helper, event))
		supervise_keeper_quit(sv, EXIT_FAILURE);
	if (event->kind == SUPERVISE_HOPELESS && helper->options->stop_on_worker_failure) {
		clean_up(helper);
		supervise_keeper_quit(sv, EXIT_FAILURE);
	}
	update_state(helper);
}

/* --- life --- */

/*
 * N-242: only an open exit descriptor says that the network is still wanted when this pid is killed; and only one whose other end
 * somebody holds, so that it will end one day.
 */
static bool outlives_keeper(const Helper *helper)
{
	struct stat st;

	return helper->exit_fd >= 0 && fstat(helper->exit_fd, &st) == 0 &&
	       (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

/*
 * N-6, N-243: the janitor needs a moment for the link, and nobody who waits for the keeper may be quicker. Not in a unit of systemd whose
 * processes are all killed, the keeper first: the next life has the link from systemd.
 */
static void remove_link(void *data)
{
	keeper_remove_link(data);
}

void keeper_before_link(const Helper *helper)
{
	if (!outlives_keeper(helper) && !fd_keep_is_wanted())
		gateway_janitor_look_after(supervise_pid_place(helper->sv, "worker"));
}

void keeper_after_link(const Helper *helper)
{
	if (fd_store_get(helper->store, GATEWAY_JANITOR) < 0)
		supervise_no_last_act(helper->sv);
}

Supervisor *keeper_supervisor_new(Helper *helper)
{
	const SuperviseConfig config = {
		.workers = workers,
		.n_workers = sizeof(workers) / sizeof(workers[0]),
		.data = helper,
		.on_event = on_event,
		.on_keeper_start = on_keeper_start,
		.on_signal = on_signal,
		.last_act = fd_keep_is_wanted() ? NULL : remove_link,
		.keeper_signals = ending_signals,
	};
	Supervisor *sv = supervise_new(&config);

	if (sv)
		supervise_set_survive_keeper(sv, outlives_keeper(helper));
	return sv;
}

/* Named after what the engine calls the target: the last part of a path (of /proc/PID/ns/net the pid), or the pid; and the interface. */
StateFile *keeper_state_open(const Helper *helper)
{
	const Options *options = helper->options;
	const char *slash = strrchr(options->target, '/');
	char id[96], pid[16];

	if (sscanf(options->target, "/proc/%15[0-9]/ns/net", pid) == 1)
		snprintf(id, sizeof(id), "%s-%s", pid, options->tap_name ? options->tap_name : "link");
	else
		snprintf(id, sizeof(id), "%.64s-%s", slash && slash[1] ? slash + 1 : options->target,
			options->tap_name ? options->tap_name : "link");
	for (char *p = id; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-_.", *p))
			*p = '_';
	return state_file_open("netns-helper", id);
}

static void die_of_signal(int number)
{
	sigset_t set;

	(void)signal(number, SIG_DFL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, number);
	(void)raise(number);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int keeper_run(Helper *helper)
{
	int r = supervise_keeper_run(helper->sv);

	keeper_remove_link(helper); /* the worker, which would miss it, has ended by now */
	fflush(NULL);
	if (r < 0) {
		fprintf(stderr, "the keeper cannot go on: %s\n", strerror(-r));
		return EXIT_FAILURE;
	}
	if (r >= STATUS_OF_SIGNAL)
		die_of_signal(r - STATUS_OF_SIGNAL);
	return r;
}
