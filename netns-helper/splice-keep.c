#include "config.h"

#include "netns-helper/splice-keep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <syslog.h>

#include "common/fd-keep.h"
#include "netns-helper/splice-socket.h"

#define LOOK_MS 250
#define FLOW_NAME "-c" /* in systemd's store; short, see kept.h */
#define PIPE_NAME "-b"

/* SpliceFlow.kept, SplicePipe.kept. Written before the first message, so that whatever systemd may have is taken back. */
enum { KEPT_NOT, KEPT_PERHAPS, KEPT_ALL };

struct SpliceKeep {
	SpliceTable *table;
	const FdStore *store;
	EventTimer *timer;
	EventLog *events;
	bool is_full; /* and it was said */
};

bool splice_keep_is_prompt(const SpliceKeep *keep)
{
	return !keep || fd_keep_is_prompt(keep->store);
}

/* --- giving --- */

void splice_keep_pipe(SpliceKeep *keep, SplicePipe *pipe)
{
	if (!keep || pipe->kept == KEPT_ALL || pipe - keep->table->pipes >= SPLICE_KEEP_PIPES_MAX ||
		!splice_keep_is_prompt(keep))
		return;
	pipe->kept = KEPT_PERHAPS;
	if (fd_keep_add(keep->store, PIPE_NAME, pipe->read_fd - 1) == 0 && splice_keep_is_prompt(keep) &&
		fd_keep_add(keep->store, PIPE_NAME, pipe->write_fd - 1) == 0)
		pipe->kept = KEPT_ALL;
}

void splice_keep_drop_pipe(SpliceKeep *keep, SplicePipe *pipe)
{
	if (!keep || pipe->kept == KEPT_NOT)
		return;
	fd_keep_remove(keep->store, PIPE_NAME, pipe->read_fd - 1);
	fd_keep_remove(keep->store, PIPE_NAME, pipe->write_fd - 1);
	pipe->kept = KEPT_NOT;
}

static void keep_flow(SpliceKeep *keep, SpliceFlow *flow)
{
	flow->kept = KEPT_PERHAPS;
	if (fd_keep_add_socket(keep->store, FLOW_NAME, flow->fd[SPLICE_GUEST]) == 0 &&
		splice_keep_is_prompt(keep) &&
		fd_keep_add_socket(keep->store, FLOW_NAME, flow->fd[SPLICE_HOST]) == 0)
		flow->kept = KEPT_ALL;
}

static void say_full(SpliceKeep *keep)
{
	static const char text[] = "more long-lived connections than systemd is given to keep: those beyond "
				   "them would not survive a kill of the "
				   "whole unit";

	keep->is_full = true;
	fprintf(stderr, "%s (%d)\n", text, SPLICE_KEEP_FLOWS_MAX);
	event_log_emit(keep->events, EVENT_ID_KEEP_FULL, LOG_WARNING, text, NULL);
}

static void on_look(void *data)
{
	SpliceKeep *keep = data;
	uint64_t now = event_now_ms();
	unsigned kept = 0;

	for (uint32_t i = 0; i < keep->table->pipes_top; i++)
		if (keep->table->pipes[i].write_fd)
			splice_keep_pipe(keep, &keep->table->pipes[i]);
	for (uint32_t i = 0; i < keep->table->flows_top; i++)
		kept += keep->table->flows[i].kept != KEPT_NOT;
	if (kept < SPLICE_KEEP_FLOWS_MAX / 2)
		keep->is_full = false;
	for (uint32_t i = 0; i < keep->table->flows_top && splice_keep_is_prompt(keep); i++) {
		SpliceFlow *flow = &keep->table->flows[i];

		if (flow->phase != SPLICE_OPEN || flow->kept == KEPT_ALL ||
			now - flow->since_ms < SPLICE_KEEP_AGE_MS)
			continue;
		if (flow->kept == KEPT_NOT && kept++ >= SPLICE_KEEP_FLOWS_MAX) {
			if (!keep->is_full)
				say_full(keep);
			break;
		}
		keep_flow(keep, flow);
	}
	event_timer_set(keep->timer, LOOK_MS);
}

/* --- ending --- */

/* A reset, and a hang-up for everybody who has the socket. */
static void disconnect(int fd)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};

	(void)connect(fd, &none, sizeof(none));
}

void splice_keep_end(SpliceKeep *keep, SpliceFlow *flow, bool reset)
{
	if (!keep || flow->kept == KEPT_NOT)
		return;
	for (int side = 0; side < 2; side++) {
		int fd = flow->fd[side];

		if (fd < 0)
			continue;
		if (reset)
			disconnect(fd);
		else
			(void)shutdown(fd, SHUT_RDWR);
		if (splice_keep_is_prompt(keep))
			fd_keep_remove(keep->store, FLOW_NAME, fd);
	}
	flow->kept = KEPT_NOT;
}

void splice_keep_clear(SpliceKeep *keep)
{
	for (uint32_t i = 0; keep && i < keep->table->flows_top; i++)
		splice_keep_end(keep, &keep->table->flows[i], true);
	for (uint32_t i = 0; keep && i < keep->table->pipes_top; i++)
		splice_keep_drop_pipe(keep, &keep->table->pipes[i]);
}

/* --- taking back --- */

static bool is_pipe(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);
}

static bool is_whole(const SpliceTable *table, const SpliceFlow *flow)
{
	if (flow->phase != SPLICE_OPEN || flow->kept != KEPT_ALL)
		return false;
	for (int side = 0; side < 2; side++) {
		uint32_t pipe = flow->half[side].pipe;

		if (flow->fd[side] < 0 || !splice_is_tcp(flow->fd[side]) ||
			(pipe && !table->pipes[pipe - 1].write_fd))
			return false;
	}
	return true;
}

/* What is left of it is closed by who closes everything that no table names; it was told already if it was ending in good order. */
static void forget(SpliceFlow *flow)
{
	for (int side = 0; side < 2; side++) {
		int fd = flow->fd[side];

		if (fd >= 0 && splice_is_tcp(fd) && (flow->phase != SPLICE_ENDING || flow->ends_with_reset))
			disconnect(fd);
	}
	memset(flow, 0, sizeof(*flow));
	flow->fd[SPLICE_GUEST] = flow->fd[SPLICE_HOST] = -1;
}

void splice_keep_repair(SpliceTable *table)
{
	for (uint32_t i = 0; i < SPLICE_PIPES_MAX && i <= table->pipes_top; i++) {
		SplicePipe *pipe = &table->pipes[i];

		if (!is_pipe(pipe->read_fd - 1) || !is_pipe(pipe->write_fd - 1))
			memset(pipe, 0, sizeof(*pipe));
	}
	memset(table->nursery, 0, sizeof(table->nursery));
	for (uint32_t i = 0; i < table->flows_top; i++)
		if (table->flows[i].phase != SPLICE_FREE && !is_whole(table, &table->flows[i]))
			forget(&table->flows[i]);
}

/* --- life --- */

SpliceKeep *splice_keep_new(SpliceTable *table, const FdStore *store, EventLoop *loop, EventLog *events)
{
	SpliceKeep *keep;

	if (!fd_keep_is_taken(store))
		return NULL;
	keep = calloc(1, sizeof(*keep));
	if (!keep)
		abort();
	keep->table = table;
	keep->store = store;
	keep->events = events;
	keep->timer = event_loop_add_timer(loop, LOOK_MS, on_look, keep);
	return keep;
}

void splice_keep_free(SpliceKeep *keep)
{
	if (!keep)
		return;
	event_timer_free(keep->timer);
	free(keep);
}
