/*
 * kill-at PID STEP: SIGKILL a process before (odd stops) or after (even ones) its n-th system call from now on.
 * kill-at PID STEP child: not this process, but the next one that it clones, from its birth on.
 *
 * Of the same call many times in a row (a look at a thousand descriptors) the first ones count.
 *
 * Prints "ready" when it follows the process; then whoever called it makes something happen. Prints "killed NUMBER" (of the system call)
 * when it was killed, or "over" when it has come to rest before STEP: nothing more for QUIET_MS. The process is let go then.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/ptrace.h>

#define QUIET_MS 300
#define ROW_MAX 4 /* stops: before and after two calls */

static long now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* The next stop within QUIET_MS. @return false: none, or the process has ended */
static bool wait_stop(pid_t pid, int *ret_status)
{
	long end = now_ms() + QUIET_MS;
	const struct timespec pause = {.tv_nsec = 200000};
	pid_t r;

	while ((r = waitpid(pid, ret_status, __WALL | WNOHANG)) == 0 && now_ms() < end)
		(void)nanosleep(&pause, NULL);
	return r == pid && WIFSTOPPED(*ret_status);
}

static long call_number(pid_t pid)
{
	struct ptrace_syscall_info info = {0};

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) < 0 || info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return -1;
	return (long)info.entry.nr;
}

/* The signal that a stop is about, to be handed on; 0 if it is about something else. */
static long signal_of(int status)
{
	int number = WSTOPSIG(status);

	return status >> 16 == 0 && number != (SIGTRAP | 0x80) ? number : 0;
}

/* Let @parent, which is stopped, go on until it has cloned. @return the child, stopped at its birth */
static pid_t wait_child(pid_t parent)
{
	unsigned long child = 0;
	int status = SIGTRAP << 8 | 0x7f;

	for (;;) {
		if (ptrace(PTRACE_CONT, parent, NULL, signal_of(status) == SIGTRAP ? 0 : signal_of(status)) < 0)
			fail("PTRACE_CONT");
		if (waitpid(parent, &status, __WALL) != parent || !WIFSTOPPED(status))
			fail("the parent has ended");
		if (status >> 16 == PTRACE_EVENT_FORK)
			break;
	}
	if (ptrace(PTRACE_GETEVENTMSG, parent, NULL, &child) < 0)
		fail("PTRACE_GETEVENTMSG");
	if (!wait_stop((pid_t)child, &status) || ptrace(PTRACE_DETACH, parent, NULL, NULL) < 0)
		fail("the child's birth");
	return (pid_t)child;
}

int main(int argc, char **argv)
{
	bool child = argc == 4 && strcmp(argv[3], "child") == 0;
	pid_t pid = argc == 3 || child ? atoi(argv[1]) : 0;
	int steps = argc >= 3 ? atoi(argv[2]) : 0, status;
	long number = -1, last = -1, row = 0, options = PTRACE_O_TRACESYSGOOD | (child ? PTRACE_O_TRACEFORK : 0), signal = 0;

	if (pid <= 0 || steps <= 0) {
		fprintf(stderr, "usage: kill-at PID STEP [child]\n");
		return 2;
	}
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (ptrace(PTRACE_SEIZE, pid, NULL, options) < 0 || ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0)
		fail("ptrace");
	if (!wait_stop(pid, &status))
		fail("interrupt");
	printf("ready\n");
	if (child)
		pid = wait_child(pid);
	for (int i = 0; i < steps;) {
		if (ptrace(PTRACE_SYSCALL, pid, NULL, signal) < 0)
			fail("PTRACE_SYSCALL");
		if (!wait_stop(pid, &status)) {
			printf("over\n");
			return 0; /* the tracing ends with us */
		}
		signal = signal_of(status);
		if (WSTOPSIG(status) != (SIGTRAP | 0x80))
			continue;
		number = call_number(pid) >= 0 ? call_number(pid) : number;
		row = number == last ? row + 1 : 0;
		last = number;
		i += row < ROW_MAX;
	}
	if (kill(pid, SIGKILL) < 0)
		fail("kill");
	(void)waitpid(pid, &status, __WALL);
	printf("killed %ld\n", number);
	return 0;
}
