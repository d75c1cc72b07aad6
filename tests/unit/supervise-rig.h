#pragma once
/*
 * A keeper with workers in a process of its own, for the tests of common/supervise, and what they wait with.
 */
#include <glib.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/event-loop.h"
#include "common/shared-memory.h"
#include "common/supervise.h"

#define DEADLINE_MS 10000
#define RIG_FINISH_VALUE 42
#define RIG_LOOK_MS 2 /* how often a worker looks whether it is to finish */

#define WAIT_UNTIL(condition)                                                                                \
	do {                                                                                                 \
		uint64_t end = event_now_ms() + DEADLINE_MS;                                                 \
		while (!(condition)) {                                                                       \
			g_assert_cmpuint(event_now_ms(), <, end);                                            \
			(void)usleep(500);                                                                   \
		}                                                                                            \
	} while (0)

/* Shared by the test and all processes of the keeper that it has started last. */
typedef struct {
	_Atomic int finish; /* a wish: the keeper returns RIG_FINISH_VALUE */
	_Atomic int keeper_starts;
	Supervisor *sv;
} SuperviseRig;

static SuperviseRig *rig;

/* First thing in main(): whatever is started ends up as our child. */
static inline void rig_init(void)
{
	g_assert_cmpint(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), ==, 0);
	rig = shared_memory_new(sizeof(*rig));
	g_assert_nonnull(rig);
}

/* In a worker with this loop: finish when the test wishes it. */
static void rig_look_at_wishes(void *data)
{
	EventLoop *loop = data;

	if (atomic_load(&rig->finish)) {
		supervise_finish(rig->sv, RIG_FINISH_VALUE);
		event_loop_quit(loop, 0);
		return;
	}
	(void)event_loop_add_timer(loop, RIG_LOOK_MS, rig_look_at_wishes, loop);
}

/* SuperviseConfig.on_keeper_start */
static int rig_on_keeper_start(Supervisor *sv, void *data, EventLoop *loop)
{
	atomic_fetch_add(&rig->keeper_starts, 1);
	return 0;
}

/* @return pid of the keeper */
static inline pid_t rig_start_keeper(const SuperviseConfig *config, bool survive)
{
	pid_t pid;

	memset(rig, 0, sizeof(*rig));
	rig->sv = supervise_new(config);
	g_assert_nonnull(rig->sv);
	supervise_set_survive_keeper(rig->sv, survive);
	pid = fork();
	if (pid == 0)
		_exit(supervise_keeper_run(rig->sv) & 255);
	return pid;
}
