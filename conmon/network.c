#include "config.h"

#include "conmon/network.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <syslog.h>
#include <unistd.h>

#include "common/event-log.h"
#include "common/fd-util.h"
#include "common/process.h"
#include "common/supervise.h"
#include "conmon/child.h"
#include "conmon/diag.h"
#include "conmon/environment.h"
#include "conmon/text.h"

#define FD_NETWORK "network.pidfd"
#define FD_READY "network.ready" /* our end of the ready socket */
#define FD_READY_CHILD "network.ready.child"
#define FD_EXIT "network.exit" /* write end: its closing ends the helper */
#define FD_EXIT_CHILD "network.exit.child"
#define FD_OUTPUT "network.output" /* read end of its stdout and stderr */
#define FD_OUTPUT_CHILD "network.output.child"

#define INTERFACE "tap0" /* as every engine calls it */
#define READS_PER_TURN 16
#define READY_LIMIT_MS 60000 /* for the helper to be ready */
#define HOPELESS_STARTS 12 /* in a row; said once, and by option the end of the container */

struct Network {
	const Conmon *conmon;
	NetworkState *state;
	EventLoop *loop;
	void (*wake)(void *data);
	void *data;
	EventSource *output_source, *ready_source;
	EventTimer *timer;
};

static int get(const Network *n, const char *name)
{
	return fd_store_get(n->conmon->store, name);
}

/* --- what it prints --- */

/* Keep the last line for the engine, and say every line with our own messages. */
static void take_output(Network *n, char *text)
{
	char *next;

	for (char *line = text; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (!*line)
			continue;
		diag_info("network helper: %s", line);
		(void)snprintf(n->state->text, sizeof(n->state->text), "%.*s", (int)sizeof(n->state->text) - 1, line);
	}
}

/* @return whether it has ended, all of it */
static bool drain_output(Network *n)
{
	int fd = get(n, FD_OUTPUT);
	char text[1024];

	for (int i = 0; fd >= 0 && i < READS_PER_TURN; i++) {
		ssize_t size = read(fd, text, sizeof(text) - 1);

		if (size < 0)
			return errno != EAGAIN && errno != EINTR;
		if (size == 0)
			return true;
		text[size] = '\0';
		take_output(n, text);
	}
	return fd < 0;
}

static void on_event(void *data, uint32_t events)
{
	Network *n = data;

	n->wake(n->data);
}

static void on_timer(void *data)
{
	on_event(data, 0);
}

static void watch(Network *n, const char *name, EventSource **source)
{
	int fd = get(n, name);

	if (!*source && fd >= 0 && event_loop_add_fd(n->loop, fd, EPOLLIN, on_event, n, source) < 0)
		event_timer_set(n->timer, SUPERVISE_HEARTBEAT_MS); /* then we look from time to time */
}

static void unwatch(EventSource **source)
{
	event_source_remove(*source);
	*source = NULL;
}

/* --- start --- */

static int put_pair(FdStore *store, const char *ours, const char *childs, int pair[2])
{
	int r = fd_store_replace(store, ours, pair[0]);

	if (r == 0)
		r = fd_store_replace(store, childs, pair[1]);
	if (r < 0) {
		(void)fd_close(pair[0]);
		(void)fd_close(pair[1]);
	}
	return r;
}

/* What an interrupted attempt has made is used again. */
static int make_channels(FdStore *store)
{
	int pair[2], r;

	if (fd_store_get(store, FD_OUTPUT_CHILD) >= 0)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	r = put_pair(store, FD_READY, FD_READY_CHILD, pair);
	if (r < 0 || pipe2(pair, O_CLOEXEC) < 0)
		return r < 0 ? r : -errno;
	r = put_pair(store, FD_EXIT_CHILD, FD_EXIT, pair);
	if (r < 0 || pipe2(pair, O_CLOEXEC) < 0)
		return r < 0 ? r : -errno;
	(void)fd_set_nonblock(pair[0], true);
	return put_pair(store, FD_OUTPUT, FD_OUTPUT_CHILD, pair);
}

/* Looked up before the fork: the parent forgets the child's ends as soon as it is there. */
static struct {
	int ready, exit, output;
} ends;

static char **command_line(const Conmon *conmon)
{
	char **argv = NULL;

	words_add(&argv, conmon->options->network_helper);
	words_add(&argv, "-e");
	words_add(&argv, text_format("%d", ends.exit));
	words_add(&argv, "-r");
	words_add(&argv, text_format("%d", ends.ready));
	for (char **arg = conmon->options->network_helper_args; *arg; arg++)
		words_add(&argv, *arg);
	words_add(&argv, text_format("%d", (int)atomic_load(&conmon->reaper->payload_pid)));
	words_add(&argv, INTERFACE);
	return argv;
}

/* Nothing but its three channels: a descriptor of the container's caller must not outlive the container in there (C-42). */
static int keep_only_ends(void)
{
	int keep[3] = {ends.ready, ends.exit, ends.output};

	for (int i = 0; i < 3; i++) /* three numbers: sorted by hand */
		for (int k = i + 1; k < 3; k++)
			if (keep[k] < keep[i]) {
				int other = keep[i];

				keep[i] = keep[k];
				keep[k] = other;
			}
	if (dup2(ends.output, STDOUT_FILENO) < 0 || dup2(ends.output, STDERR_FILENO) < 0)
		return -errno;
	for (int i = 0, from = STDERR_FILENO + 1; i < 3; from = keep[i++] + 1)
		if (keep[i] > from && close_range((unsigned)from, (unsigned)keep[i] - 1, 0) < 0)
			return -errno;
	(void)close_range((unsigned)keep[2] + 1, ~0U, 0);
	(void)close(ends.output);
	if (fd_set_cloexec(ends.ready, false) < 0 || fd_set_cloexec(ends.exit, false) < 0)
		return -errno;
	return fd_set_nonblock(ends.ready, false);
}

static void helper_child(const Conmon *conmon)
{
	const ConmonOptions *o = conmon->options;
	char **argv = command_line(conmon);
	int null_fd = fd_store_get(conmon->store, FD_DEVNULL), r;

	(void)dup2(null_fd, STDIN_FILENO);
	environment_restore_for_exec(conmon->environment);
	(void)setpgid(0, 0); /* N-8: as Podman starts it */
	(void)setenv("TANDEM_CONTAINER_ID", o->cid, 1);
	if (o->name)
		(void)setenv("TANDEM_CONTAINER_NAME", o->name, 1);
	r = keep_only_ends();
	if (r >= 0) {
		(void)execv(o->network_helper, argv);
		r = -errno;
	}
	dprintf(STDERR_FILENO, "cannot run %s: %s\n", o->network_helper, strerror(-r));
	_exit(127);
}

static int start(Network *n)
{
	FdStore *store = n->conmon->store;
	int r = make_channels(store);

	if (r < 0)
		return r;
	ends.ready = get(n, FD_READY_CHILD);
	ends.exit = get(n, FD_EXIT_CHILD);
	ends.output = get(n, FD_OUTPUT_CHILD);
	r = child_start_once(n->conmon, &n->state->pid, FD_NETWORK, helper_child);
	if (r < 0)
		return r;
	fd_store_close(store, FD_READY_CHILD);
	fd_store_close(store, FD_EXIT_CHILD);
	fd_store_close(store, FD_OUTPUT_CHILD); /* last: as long as it is there, all of it is done again */
	atomic_store(&n->state->phase, NETWORK_STARTED);
	return 0;
}

static void forget(Network *n)
{
	FdStore *store = n->conmon->store;

	unwatch(&n->output_source);
	unwatch(&n->ready_source);
	fd_store_close(store, FD_READY);
	fd_store_close(store, FD_EXIT);
	fd_store_close(store, FD_OUTPUT);
	fd_store_close(store, FD_NETWORK);
	atomic_store(&n->state->pid, 0);
	atomic_store(&n->state->phase, NETWORK_NONE);
}

/* --- readiness --- */

/* The byte stays in the socket until the phase is published: a reaper that is killed in between leaves it for the next one. */
static bool is_ready(Network *n)
{
	char byte;

	return atomic_load(&n->state->phase) == NETWORK_UP || recv(get(n, FD_READY), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

static NetworkProgress look(Network *n)
{
	bool gone;

	watch(n, FD_OUTPUT, &n->output_source);
	watch(n, FD_READY, &n->ready_source);
	gone = drain_output(n);
	if (is_ready(n)) {
		atomic_store(&n->state->phase, NETWORK_UP);
		unwatch(&n->ready_source);
		fd_store_close(n->conmon->store, FD_READY);
		return NETWORK_READY;
	}
	return gone ? NETWORK_FAILED : NETWORK_WAITING;
}

NetworkProgress network_bring_up(Network *n)
{
	uint64_t now = event_now_ms(), until;
	int r;

	if (!n->conmon->options->network_helper)
		return NETWORK_READY;
	if (atomic_load(&n->state->phase) == NETWORK_NONE) {
		atomic_store(&n->state->started_ms, now);
		r = start(n);
		if (r < 0) {
			(void)snprintf(n->state->text, sizeof(n->state->text), "cannot be started: %s", strerror(-r));
			return NETWORK_FAILED;
		}
	}
	until = atomic_load(&n->state->started_ms) + READY_LIMIT_MS;
	if (now >= until) {
		(void)snprintf(n->state->text, sizeof(n->state->text), "not ready after %d s", READY_LIMIT_MS / 1000);
		return NETWORK_FAILED;
	}
	event_timer_set(n->timer, until - now);
	return look(n);
}

/* --- while the container runs --- */

static void tell(Network *n, const char *id, int priority, const char *text)
{
	char cause[sizeof(n->state->text) + 16];

	(void)snprintf(cause, sizeof(cause), "TANDEM_CAUSE=%s", n->state->text);
	event_log_emit(n->conmon->events, id, priority, text, "TANDEM_WORKER=network helper", cause,
		"TANDEM_LOST=all connections of the container", NULL);
	state_file_event(n->conmon->state, "%s", text);
	state_file_flush(n->conmon->state);
	diag_warn("%s", text);
}

static uint64_t backoff_ms(unsigned starts)
{
	uint64_t delay = SUPERVISE_BACKOFF_MIN_MS;

	for (unsigned i = 1; i < starts && delay < SUPERVISE_BACKOFF_MAX_MS; i++)
		delay *= 2;
	if (delay > SUPERVISE_BACKOFF_MAX_MS)
		delay = SUPERVISE_BACKOFF_MAX_MS;
	return starts ? delay : 0;
}

static void lost(Network *n)
{
	NetworkState *s = n->state;
	uint64_t now = event_now_ms();

	if (now - atomic_load(&s->started_ms) >= SUPERVISE_HEALTHY_MS)
		atomic_store(&s->quick, 0);
	tell(n, EVENT_ID_WORKER_DIED, LOG_WARNING, "the network helper of the container ended; starting it again");
	atomic_store(&s->died_ms, now);
	atomic_store(&s->start_at_ms, now + backoff_ms(atomic_fetch_add(&s->quick, 1)));
	forget(n);
	if (atomic_load(&s->quick) != HOPELESS_STARTS)
		return;
	tell(n, EVENT_ID_HOPELESS, LOG_CRIT, "the network helper of the container cannot be kept running");
	if (n->conmon->options->stop_on_worker_failure)
		(void)process_pidfd_signal(get(n, FD_PAYLOAD), SIGKILL);
}

static void start_again(Network *n)
{
	uint64_t now = event_now_ms(), at = atomic_load(&n->state->start_at_ms);

	if (now < at) {
		event_timer_set(n->timer, at - now);
		return;
	}
	atomic_store(&n->state->started_ms, now);
	if (start(n) < 0)
		lost(n);
}

static void came_back(Network *n)
{
	uint64_t gap = event_now_ms() - atomic_load(&n->state->died_ms);
	char text[128], field[48];

	(void)snprintf(text, sizeof(text), "the network helper of the container works again after %llu ms",
		(unsigned long long)gap);
	(void)snprintf(field, sizeof(field), "TANDEM_GAP_MS=%llu", (unsigned long long)gap);
	event_log_emit(n->conmon->events, EVENT_ID_WORKER_RESTARTED, LOG_NOTICE, text, "TANDEM_WORKER=network helper",
		field, "TANDEM_RESTORED=interface, ports of the command line", NULL);
	state_file_event(n->conmon->state, "%s", text);
	state_file_flush(n->conmon->state);
}

void network_keep_up(Network *n)
{
	if (!n->conmon->options->network_helper)
		return;
	if (atomic_load(&n->state->phase) == NETWORK_NONE)
		start_again(n);
	if (atomic_load(&n->state->phase) == NETWORK_STARTED && look(n) == NETWORK_READY)
		came_back(n);
	watch(n, FD_OUTPUT, &n->output_source);
	if (atomic_load(&n->state->phase) != NETWORK_NONE && drain_output(n)) {
		lost(n);
		start_again(n);
	}
}

bool network_bring_down(Network *n)
{
	if (!n->conmon->options->network_helper || get(n, FD_OUTPUT) < 0)
		return true;
	fd_store_close(n->conmon->store, FD_EXIT);
	watch(n, FD_OUTPUT, &n->output_source);
	if (!drain_output(n))
		return false;
	forget(n);
	return true;
}

Network *network_new(const Conmon *conmon, EventLoop *loop, void (*wake)(void *data), void *data)
{
	Network *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	*n = (Network){.conmon = conmon, .state = &conmon->reaper->network, .loop = loop, .wake = wake, .data = data};
	n->timer = event_loop_add_timer(loop, 0, on_timer, n);
	event_timer_stop(n->timer);
	return n;
}
