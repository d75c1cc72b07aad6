#include "config.h"

#include "netns-helper/splice-pipes.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd-util.h"

#define KEPT 2 /* without work for them; made at the start */
#define TRIM_MS 1000
#define SMALL_SIZE (64 << 10) /* bytes, as the kernel makes them */
#define LARGE_SIZE (256 << 10) /* bytes; where the user's limit forbids it the pipe stays as it is */
#define BULK_MIN (48 << 10) /* bytes at once that make a pipe large */

struct SplicePipes {
	SpliceTable *table;
	SpliceKeep *keep;
	EventTimer *trim;
	uint32_t n_free, n_empty_slots, n_large;
	uint32_t least_free; /* since the last trim */
	bool is_short;
	bool large[SPLICE_PIPES_MAX];
	uint32_t free[SPLICE_PIPES_MAX]; /* 1 + index */
	uint32_t empty_slots[SPLICE_PIPES_MAX]; /* below pipes_top, without a pipe */
};

int splice_pipes_read_fd(const SplicePipes *pipes, uint32_t pipe)
{
	return pipes->table->pipes[pipe - 1].read_fd - 1;
}

int splice_pipes_write_fd(const SplicePipes *pipes, uint32_t pipe)
{
	return pipes->table->pipes[pipe - 1].write_fd - 1;
}

static uint32_t pipe_new(SplicePipes *pipes)
{
	SpliceTable *t = pipes->table;
	uint32_t i = pipes->n_empty_slots > 0 ? pipes->empty_slots[pipes->n_empty_slots - 1] : t->pipes_top;
	int fds[2];

	if (i >= SPLICE_PIPES_MAX || pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
		return 0;
	t->pipes[i].read_fd = fds[0] + 1;
	t->pipes[i].write_fd = fds[1] + 1;
	if (i == t->pipes_top)
		t->pipes_top = i + 1;
	else
		pipes->n_empty_slots--;
	splice_table_saw_fd(t, fds[0]);
	splice_table_saw_fd(t, fds[1]);
	splice_keep_pipe(pipes->keep, &t->pipes[i]);
	return i + 1;
}

static void pipe_close(SplicePipes *pipes, uint32_t pipe)
{
	SplicePipe *p = &pipes->table->pipes[pipe - 1];
	int read_fd = p->read_fd - 1, write_fd = p->write_fd - 1;

	splice_keep_drop_pipe(pipes->keep, p);
	p->read_fd = p->write_fd =
		0; /* first: the numbers may be somebody else's the moment they are closed */
	fd_close(read_fd);
	fd_close(write_fd);
	pipes->n_large -= pipes->large[pipe - 1];
	pipes->large[pipe - 1] = false;
	pipes->empty_slots[pipes->n_empty_slots++] = pipe - 1;
}

static void set_large(SplicePipes *pipes, uint32_t pipe, bool large)
{
	if (fcntl(splice_pipes_write_fd(pipes, pipe), F_SETPIPE_SZ, large ? LARGE_SIZE : SMALL_SIZE) < 0)
		return; /* the other size works too */
	pipes->n_large += (uint32_t)large - (uint32_t)pipes->large[pipe - 1];
	pipes->large[pipe - 1] = large;
}

static bool is_worth_trimming(const SplicePipes *pipes)
{
	return pipes->n_large > 0 || pipes->table->pipes_top - pipes->n_empty_slots > KEPT;
}

/* Close as many as were not needed since the last time; those that stay become small when nothing at all is under way. */
static void on_trim(void *data)
{
	SplicePipes *pipes = data;

	for (uint32_t n = pipes->least_free; n > KEPT && pipes->n_free > 0 && splice_keep_is_prompt(pipes->keep); n--)
		pipe_close(pipes, pipes->free[--pipes->n_free]);
	if (pipes->least_free == pipes->n_free || pipes->n_free <= KEPT) {
		for (uint32_t i = 0; i < pipes->n_free && i < pipes->least_free; i++)
			set_large(pipes, pipes->free[i], false);
	}
	pipes->least_free = pipes->n_free;
	if (is_worth_trimming(pipes))
		event_timer_set(pipes->trim, TRIM_MS);
}

static void trim_later(SplicePipes *pipes)
{
	if (event_timer_is_armed(pipes->trim))
		return;
	pipes->least_free = pipes->n_free;
	event_timer_set(pipes->trim, TRIM_MS);
}

bool splice_pipes_borrow(SplicePipes *pipes, SpliceHalf *half)
{
	uint32_t pipe = pipes->n_free > 0 ? pipes->free[--pipes->n_free] : pipe_new(pipes);

	if (pipe == 0) {
		pipes->is_short = true;
		return false;
	}
	half->pipe = pipe;
	if (pipes->n_free < pipes->least_free)
		pipes->least_free = pipes->n_free;
	return true;
}

void splice_pipes_return(SplicePipes *pipes, SpliceHalf *half)
{
	if (half->pipe == 0)
		return;
	pipes->free[pipes->n_free++] = half->pipe;
	half->pipe = 0;
	if (pipes->n_free > KEPT)
		trim_later(pipes);
}

void splice_pipes_saw(SplicePipes *pipes, uint32_t pipe, size_t bytes)
{
	if (bytes < BULK_MIN || pipes->large[pipe - 1])
		return;
	set_large(pipes, pipe, true);
	trim_later(pipes);
}

void splice_pipes_empty(const SplicePipes *pipes, uint32_t pipe)
{
	char scrap[65536];

	while (read(splice_pipes_read_fd(pipes, pipe), scrap, sizeof(scrap)) > 0)
		;
}

bool splice_pipes_is_shortage_over(SplicePipes *pipes)
{
	if (!pipes->is_short || pipes->n_free == 0)
		return false;
	pipes->is_short = false;
	return true;
}

static void mark_used(const SpliceTable *table, bool *used)
{
	for (uint32_t i = 0; i < table->flows_top; i++) {
		for (int side = 0; side < 2 && table->flows[i].phase != SPLICE_FREE; side++)
			used[table->flows[i].half[side].pipe] = true;
	}
}

void splice_pipes_adopt(SplicePipes *pipes)
{
	static bool used[SPLICE_PIPES_MAX + 1];
	SpliceTable *t = pipes->table;

	memset(used, 0, sizeof(used));
	mark_used(t, used);
	/* A kill between the entry of a new pipe and the new top leaves an entry behind the top. */
	while (t->pipes_top < SPLICE_PIPES_MAX && t->pipes[t->pipes_top].write_fd)
		t->pipes_top++;
	for (uint32_t pipe = 1; pipe <= t->pipes_top; pipe++) {
		if (t->pipes[pipe - 1].write_fd == 0) {
			t->pipes[pipe - 1].read_fd = 0;
			pipes->empty_slots[pipes->n_empty_slots++] = pipe - 1;
			continue;
		}
		pipes->large[pipe - 1] = fcntl(splice_pipes_write_fd(pipes, pipe), F_GETPIPE_SZ) > SMALL_SIZE;
		pipes->n_large += pipes->large[pipe - 1];
		if (used[pipe])
			continue;
		splice_pipes_empty(pipes, pipe);
		pipes->free[pipes->n_free++] = pipe;
	}
	while (pipes->n_free < KEPT) {
		uint32_t pipe = pipe_new(pipes);

		if (pipe == 0)
			break;
		pipes->free[pipes->n_free++] = pipe;
	}
	if (is_worth_trimming(pipes))
		trim_later(pipes);
}

SplicePipes *splice_pipes_new(SpliceTable *table, SpliceKeep *keep, EventLoop *loop)
{
	SplicePipes *pipes = calloc(1, sizeof(*pipes));

	if (!pipes)
		return NULL;
	pipes->table = table;
	pipes->keep = keep;
	pipes->trim = event_loop_add_timer(loop, TRIM_MS, on_trim, pipes);
	event_timer_stop(pipes->trim);
	return pipes;
}

void splice_pipes_free(SplicePipes *pipes)
{
	if (!pipes)
		return;
	event_timer_free(pipes->trim);
	free(pipes);
}
