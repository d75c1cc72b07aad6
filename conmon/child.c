#include "config.h"

#include "conmon/child.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/process.h"

#define REAP_MAX 1024 /* per turn */

/* Put @pid into the slot unless another one is there. @return whether it is ours. */
static bool claim(_Atomic pid_t *slot, pid_t pid)
{
	pid_t expected = 0;

	return atomic_compare_exchange_strong(slot, &expected, pid) || expected == pid;
}

int child_start_once(
	const Conmon *conmon, _Atomic pid_t *slot, const char *pidfd_name, void (*run)(const Conmon *))
{
	int pidfd;

	if (atomic_load(slot) == 0) {
		pid_t pid = fork();

		if (pid < 0)
			return -errno;
		if (pid == 0) {
			if (claim(slot, getpid()))
				run(conmon);
			_exit(127);
		}
		(void)claim(slot, pid);
	}
	if (fd_store_get(conmon->store, pidfd_name) >= 0)
		return 0;
	pidfd = process_pidfd_open(atomic_load(slot));
	if (pidfd == -ESRCH)
		return 0; /* reaped by the keeper before its pidfd was stored: it has the status */
	return pidfd < 0 ? pidfd : fd_store_replace(conmon->store, pidfd_name, pidfd);
}

static int wait_status_of(const siginfo_t *info)
{
	if (info->si_code == CLD_EXITED)
		return (info->si_status & 0xff) << 8;
	return info->si_status & 0x7f;
}

static bool find_stray(const ReaperState *state, pid_t pid, int *ret_wait_status)
{
	for (size_t i = 0; i < STRAYS_MAX; i++) {
		if (atomic_load(&state->strays[i].pid) == pid) {
			*ret_wait_status = atomic_load(&state->strays[i].wait_status);
			return true;
		}
	}
	return false;
}

/*
 * Nobody of us is its parent any more, and the parent it has now has not reaped it yet: proc(5) shows the wait status of a zombie
 * to those who may trace it. Others see 0 there, which must never be taken for a status, so that is asked first.
 */
static bool zombie_status(pid_t pid, int pidfd, int *ret_wait_status)
{
	char path[64], text[1024];
	const char *state;
	ssize_t size;

	snprintf(path, sizeof(path), "/proc/%d/cwd", (int)pid);
	if (readlink(path, text, sizeof(text)) >= 0 || errno != ENOENT)	/* EACCES: we may not see it */
		return false;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	size = fd_read_file(path, text, sizeof(text));
	state = size > 0 ? strrchr(text, ')') : NULL;
	if (!state || strncmp(state, ") Z ", 4) != 0)
		return false;
	while (size > 0 && text[size - 1] == '\n')
		text[--size] = '\0';
	*ret_wait_status = atoi(strrchr(text, ' ') + 1);	/* exit_code is the last field */
	return process_pidfd_signal(pidfd, 0) == 0;	/* still not reaped: the number still was this process */
}

int child_status(const Conmon *conmon, pid_t pid, const char *pidfd_name, int *ret_wait_status)
{
	int pidfd = fd_store_get(conmon->store, pidfd_name);
	siginfo_t info = {0};

	/* WNOWAIT: were we killed between reaping and writing it down, the status would be lost. */
	if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
		if (info.si_pid == 0)
			return 0;
		*ret_wait_status = wait_status_of(&info);
		return 1;
	}
	if (pidfd >= 0 && !process_pidfd_has_ended(pidfd))
		return 0;
	if (find_stray(conmon->reaper, pid, ret_wait_status))
		return 1;
	if (pidfd < 0)
		return -EAGAIN;
	if (process_pidfd_exit_status(pidfd, ret_wait_status) == 0 || zombie_status(pid, pidfd, ret_wait_status))
		return 1;
	return -EAGAIN;
}

void child_reap_all(ReaperState *state)
{
	for (int i = 0; i < REAP_MAX; i++) {
		siginfo_t info = {0};

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
			return;
		child_remember_stray(state, &info);
		(void)waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
	}
}

void child_remember_stray(ReaperState *state, const siginfo_t *info)
{
	Stray *stray = &state->strays[atomic_fetch_add(&state->n_strays, 1) % STRAYS_MAX];

	atomic_store(&stray->pid, 0);
	atomic_store(&stray->wait_status, wait_status_of(info));
	atomic_store(&stray->pid, info->si_pid);
}
