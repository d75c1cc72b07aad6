/*
 * common/supervise: a take-over in which the new keeper, or the worker that makes it, is killed before or after each of its system
 * calls, or stands still in one of them. What must be there in the end is one keeper and one worker, never two.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/supervise-rig.h"

#define STEPS_MAX 400 /* of one process; far more than there are */
#define STEPS_BEHIND 8 /* that a process takes, behind a clone, before it waits for events again */

/* --- the daemon --- */

static int run_worker(Supervisor *sv, void *data, unsigned restarts, unsigned step)
{
	EventLoop *loop = event_loop_new(supervise_store(sv), "worker");

	supervise_set_filtered(sv); /* as the network's: keepers cloned from here can ask for no pidfd */
	g_assert_cmpint(supervise_attach_loop(sv, loop), ==, 0);
	rig_look_at_wishes(loop);
	supervise_ready(sv, "");
	(void)event_loop_run(loop);
	return 0;
}

static const SuperviseWorker workers[] = {{.name = "worker", .run = run_worker, .has_heartbeat = true}};

static pid_t start_keeper(void)
{
	SuperviseConfig config = {.workers = workers, .n_workers = 1, .on_keeper_start = rig_on_keeper_start};
	pid_t pid = rig_start_keeper(&config, true);

	WAIT_UNTIL(supervise_is_ready(rig->sv, "worker"));
	return pid;
}

/* --- who is there --- */

/* Living processes of our process group but ourselves; the dead ones among them, all our children in the end, are reaped. */
static int count_processes(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	int n = 0;

	g_assert_nonnull(dir);
	while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
		;
	while ((entry = readdir(dir))) {
		char path[300], state;
		int pgrp;
		FILE *f;

		(void)snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		f = atoi(entry->d_name) > 0 && atoi(entry->d_name) != getpid() ? fopen(path, "re") : NULL;
		if (f && fscanf(f, "%*d (%*[^)]) %c %*d %d", &state, &pgrp) == 2 && pgrp == getpgrp() && state != 'Z' &&
			state != 'X')
			n++;
		if (f)
			(void)fclose(f);
	}
	(void)closedir(dir);
	return n;
}

static bool is_alive(pid_t pid)
{
	(void)waitpid(pid, NULL, WNOHANG | __WALL);
	return pid > 0 && kill(pid, 0) == 0;
}

/* One keeper, not @old_keeper, which looks after one worker. */
static void assert_whole(pid_t old_keeper)
{
	pid_t keeper, worker;

	WAIT_UNTIL((keeper = supervise_pid(rig->sv, "keeper")) != old_keeper && is_alive(keeper));
	WAIT_UNTIL(is_alive(supervise_pid(rig->sv, "worker")) && supervise_is_ready(rig->sv, "worker"));
	WAIT_UNTIL(count_processes() == 2);
	worker = supervise_pid(rig->sv, "worker");
	g_assert_cmpint(kill(worker, SIGKILL), ==, 0);
	WAIT_UNTIL(supervise_pid(rig->sv, "worker") > 0 && supervise_pid(rig->sv, "worker") != worker &&
		   supervise_is_ready(rig->sv, "worker"));
	g_assert_cmpint(supervise_pid(rig->sv, "keeper"), ==, keeper);
	g_assert_cmpint(count_processes(), ==, 2);
	atomic_store(&rig->finish, 1);
	WAIT_UNTIL(count_processes() == 0);
}

/* --- steps --- */

/* The next stop of @pid. @return false: it has ended */
static bool wait_stop(pid_t pid, int *ret_status)
{
	g_assert_cmpint(waitpid(pid, ret_status, __WALL), ==, pid);
	return WIFSTOPPED(*ret_status);
}

/* Kill @victim, and let @parent go on to where it has just cloned another one. @return that, stopped before its first instruction */
static pid_t follow_to_clone(pid_t victim, pid_t parent)
{
	unsigned long next = 0;
	int status;

	g_assert_cmpint(ptrace(PTRACE_SEIZE, parent, NULL, PTRACE_O_TRACEFORK), ==, 0);
	g_assert_cmpint(kill(victim, SIGKILL), ==, 0);
	while (next == 0) {
		g_assert_true(wait_stop(parent, &status));
		if (status >> 8 == (SIGTRAP | PTRACE_EVENT_FORK << 8))
			g_assert_cmpint(ptrace(PTRACE_GETEVENTMSG, parent, NULL, &next), ==, 0);
		else
			g_assert_cmpint(ptrace(PTRACE_CONT, parent, NULL, NULL), ==, 0);
	}
	g_assert_true(wait_stop((pid_t)next, &status));
	return (pid_t)next;
}

/* Let @pid, which is stopped, go @steps stops far, and kill it there. @return whether it got there before anything awaited it for long */
static bool kill_after(pid_t pid, int steps, bool (*is_over)(void))
{
	int status;

	for (int i = 0; i < steps; i++) {
		uint64_t end = event_now_ms() + DEADLINE_MS;

		g_assert_cmpint(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), ==, 0);
		while (waitpid(pid, &status, __WALL | WNOHANG) == 0) {
			if (is_over()) { /* it waits for events now */
				g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
				g_assert_false(wait_stop(pid, &status));
				return false;
			}
			g_assert_cmpuint(event_now_ms(), <, end);
		}
		g_assert_true(WIFSTOPPED(status));
	}
	g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
	g_assert_false(wait_stop(pid, &status));
	return true;
}

static pid_t first_keeper;

static bool is_taken_over(void)
{
	return supervise_pid(rig->sv, "keeper") != first_keeper && atomic_load(&rig->keeper_starts) >= 2;
}

static void test_new_keeper_killed(void)
{
	bool reached = true;
	int step;

	for (step = 0; reached; step++) {
		pid_t keeper = first_keeper = start_keeper(), worker = supervise_pid(rig->sv, "worker");
		pid_t next = follow_to_clone(keeper, worker);

		g_assert_cmpint(step, <, STEPS_MAX);
		g_assert_cmpint(ptrace(PTRACE_DETACH, worker, NULL, NULL), ==, 0);
		reached = kill_after(next, step, is_taken_over);
		assert_whole(next);
	}
	g_test_message("%d steps", step);
	g_assert_cmpint(step, >, 10);
}

static bool never(void)
{
	return false;
}

/* Kill one, and the other @step stops behind the clone of a successor; the successor runs since before those steps, or from then on. */
static void kill_behind_the_clone(pid_t first, pid_t second, int step, bool at_once)
{
	pid_t next = follow_to_clone(first, second);

	if (at_once)
		g_assert_cmpint(ptrace(PTRACE_DETACH, next, NULL, NULL), ==, 0);
	g_assert_true(kill_after(second, step, never));
	if (!at_once)
		g_assert_cmpint(ptrace(PTRACE_DETACH, next, NULL, NULL), ==, 0);
}

static void test_worker_killed_behind_the_clone(void)
{
	for (int step = 0; step < 2 * STEPS_BEHIND; step++) {
		pid_t keeper = start_keeper();

		kill_behind_the_clone(keeper, supervise_pid(rig->sv, "worker"), step / 2, step & 1);
		assert_whole(keeper);
	}
}

static void test_keeper_killed_behind_the_clone(void)
{
	for (int step = 0; step < 2 * STEPS_BEHIND; step++) {
		pid_t keeper = start_keeper();

		kill_behind_the_clone(supervise_pid(rig->sv, "worker"), keeper, step / 2, step & 1);
		assert_whole(keeper);
	}
}

/* A new keeper that is slow to make itself known is waited for; the worker does not make another one. */
static void test_slow_keeper(void)
{
	for (int i = 0; i < 3; i++) {
		pid_t keeper = start_keeper(), worker = supervise_pid(rig->sv, "worker");
		pid_t next = follow_to_clone(keeper, worker);

		g_assert_cmpint(ptrace(PTRACE_DETACH, worker, NULL, NULL), ==, 0);
		(void)usleep(200000); /* many looks of the worker; however long it is, the outcome is the same */
		g_assert_cmpint(count_processes(), ==, 2);
		g_assert_cmpint(ptrace(PTRACE_DETACH, next, NULL, NULL), ==, 0);
		WAIT_UNTIL(supervise_pid(rig->sv, "keeper") == next);
		assert_whole(keeper);
	}
}

/* One that never comes is replaced. */
static void test_hanging_keeper(void)
{
	pid_t keeper = start_keeper(), worker = supervise_pid(rig->sv, "worker");
	pid_t next = follow_to_clone(keeper, worker);

	g_assert_cmpint(kill(next, SIGSTOP), ==, 0);
	g_assert_cmpint(ptrace(PTRACE_DETACH, next, NULL, NULL), ==, 0);
	g_assert_cmpint(ptrace(PTRACE_DETACH, worker, NULL, NULL), ==, 0);
	assert_whole(keeper);
	g_assert_false(is_alive(next));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	rig_init();
	g_assert_cmpint(setpgid(0, 0), ==, 0);
	g_test_add_func("/supervise/take-over/new-keeper-killed-at-every-step", test_new_keeper_killed);
	g_test_add_func("/supervise/take-over/worker-killed-at-every-step-behind-the-clone",
		test_worker_killed_behind_the_clone);
	g_test_add_func("/supervise/take-over/keeper-killed-at-every-step-behind-the-clone",
		test_keeper_killed_behind_the_clone);
	g_test_add_func("/supervise/take-over/slow-keeper-is-waited-for", test_slow_keeper);
	g_test_add_func("/supervise/take-over/hanging-keeper-is-replaced", test_hanging_keeper);
	return g_test_run();
}
