#pragma once
/*
 * Run a function in a child process and SIGKILL it at a chosen step: before or after its n-th system call, or after its n-th
 * instruction. What it shares with its parent (mappings, descriptors) is as a killed worker leaves it.
 */
#include <glib.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/process.h"

typedef enum { KILL_AT_SYSCALL, KILL_AT_INSTRUCTION } KillUnit;

/* Returns whether the function came to its end before step @step. */
static inline bool kill_at_step(void (*fn)(void *), void *data, KillUnit unit, long step)
{
	pid_t pid = process_clone_shared(NULL);	/* as workers are: one descriptor table */
	int status;

	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
			_exit(77);
		(void)raise(SIGSTOP);
		fn(data);
		_exit(0);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	if (WIFEXITED(status))
		g_error("no ptrace here");
	for (long i = 0; i < step; i++) {
		int request = unit == KILL_AT_SYSCALL ? PTRACE_SYSCALL : PTRACE_SINGLESTEP;

		g_assert_cmpint(ptrace(request, pid, NULL, NULL), ==, 0);
		g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
		if (WIFEXITED(status)) {
			g_assert_cmpint(WEXITSTATUS(status), ==, 0);
			return true;
		}
		g_assert_true(WIFSTOPPED(status));
	}
	g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	return WIFEXITED(status);
}

/* Without a kill. */
static inline void run_to_end(void (*fn)(void *), void *data)
{
	pid_t pid = process_clone_shared(NULL);	/* as workers are: one descriptor table */
	int status;

	if (pid == 0) {
		fn(data);
		_exit(0);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
