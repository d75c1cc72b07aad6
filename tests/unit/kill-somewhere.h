#pragma once
/*
 * Run a step in a process that shares our descriptors and memory, as conmon's processes do, and kill it somewhere in it.
 */
#include <glib.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/process.h"

/** Call @p step in a clone and kill that after @p ns nanoseconds. */
static inline void kill_somewhere(void (*step)(void *data), void *data, long ns)
{
	struct timespec pause = {0, ns};
	pid_t pid = process_clone_shared(NULL);

	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		step(data);
		_exit(0);
	}
	(void)nanosleep(&pause, NULL); /* the instant is the test's input: any will do */
	g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
	g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}
