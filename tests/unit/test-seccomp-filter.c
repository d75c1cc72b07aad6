/* netns-helper/seccomp-filter: what the filters of keeper and worker kill for, and what they let pass (N-196, N-197). */
#include "config.h"

#include <glib.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netns-helper/seccomp-filter.h"

/* @return wait status of a process that loads the keeper's filter, or both, and calls @call; exit status 0: @call returned true */
static int run_under(bool worker, bool (*call)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (seccomp_filter_keeper() < 0 || (worker && seccomp_filter_worker() < 0))
			_exit(2);
		_exit(call() ? 0 : 1);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	return status;
}

static bool call_unshare(void)
{
	return unshare(CLONE_FS) == 0;
}

static bool call_execve(void)
{
	return execl("/bin/true", "true", NULL) == 0;
}

static bool call_prctl(void)
{
	return prctl(PR_SET_NAME, "any") == 0;
}

static bool call_seize(void)
{
	return ptrace(PTRACE_SEIZE, getppid(), NULL, NULL) < 2; /* allowed or not by the kernel */
}

static bool call_traceme(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static bool call_listen(void)
{
	return ptrace(PTRACE_LISTEN, getppid(), NULL, NULL) < 0; /* ESRCH: not traced */
}

static bool call_cont(void)
{
	return ptrace(PTRACE_CONT, getppid(), NULL, NULL) < 0;
}

static bool call_usual(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return pid > 0 && waitpid(pid, NULL, 0) == pid && getppid() > 0;
}

static void test_both_kill(void)
{
	for (int worker = 0; worker < 2; worker++) {
		int status = run_under(worker, call_unshare);

		g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
		status = run_under(worker, call_execve);
		g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
	}
}

static void test_worker_kills_more(void)
{
	static bool (*const calls[])(void) = {call_prctl, call_seize, call_traceme};

	for (size_t i = 0; i < G_N_ELEMENTS(calls); i++) {
		int status = run_under(true, calls[i]);

		g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
		g_assert_cmpint(run_under(false, calls[i]), ==, 0);
	}
}

static void test_the_rest_passes(void)
{
	static bool (*const calls[])(void) = {call_listen, call_cont, call_usual};

	for (size_t i = 0; i < G_N_ELEMENTS(calls); i++)
		for (int worker = 0; worker < 2; worker++)
			g_assert_cmpint(run_under(worker, calls[i]), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/seccomp-filter/both/executing-and-unsharing-kill", test_both_kill);
	g_test_add_func("/seccomp-filter/worker/prctl-and-new-tracing-kill", test_worker_kills_more);
	g_test_add_func("/seccomp-filter/both/needed-calls-pass", test_the_rest_passes);
	return g_test_run();
}
