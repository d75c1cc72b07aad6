#pragma once
/*
 * Processes: clones that share the descriptor table, pidfds, titles.
 */
#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/**
 * fork(2), but the child shares the caller's descriptor table (clone(2), CLONE_FILES).
 *
 * @param ret_pidfd  pidfd of the child, close-on-exec, in the shared table; NULL if not wanted
 * @return 0 in the child, its pid in the parent, or -errno
 */
pid_t process_clone_shared(int *ret_pidfd);

/**
 * The same, with pid and pidfd of the child written to shared memory by the very system call: whoever finds the parent killed afterwards
 * finds them there, before the child has run a single instruction.
 *
 * @param slot        gets the pid; 0 on failure
 * @param pidfd_slot  gets the pidfd; -1 on failure
 * @return 0 in the child, its pid in the parent, or -errno
 */
pid_t process_clone_recorded(_Atomic pid_t *slot, _Atomic int *pidfd_slot);

/** pidfd_open(2). @return descriptor, close-on-exec, or -errno */
int process_pidfd_open(pid_t pid);
/** pidfd_send_signal(2). @return 0 or -errno */
int process_pidfd_signal(int pidfd, int sig);
/** Whether the process behind a pidfd has ended (it polls readable). */
bool process_pidfd_has_ended(int pidfd);

/**
 * Exit status of a process that is not our child: PIDFD_GET_INFO with PIDFD_INFO_EXIT (Linux >= 6.15).
 *
 * @param pidfd       of the process
 * @param ret_status  wait status as of wait(2)
 * @return 0; -EAGAIN: not known yet (not reaped by anyone yet); -EOPNOTSUPP: this kernel can't tell
 */
int process_pidfd_exit_status(int pidfd, int *ret_status);

/** Words for a siginfo code and status: "killed by SIGKILL", "exit status 3", "unknown cause". Points to a static buffer. */
const char *process_cause(int code, int status);

/**
 * Remember the argv area for process_set_title(), and put copies of the strings into @p argv; call first thing in main(), before
 * anything keeps a pointer to an argument.
 */
void process_title_init(int argc, char **argv, char **envp);
/**
 * Show "<program>: <role> <original arguments…>" in ps. The area stays as large as it was, what does not fit is cut; the environment
 * area is not touched. Only for processes whose command line engines don't read (C-1).
 */
void process_set_title(const char *role);

/**
 * Once, before the first clone: look at what every process would otherwise look at (and write to) for itself, and end the kernel's
 * writing to thread data (rseq(2); sched_getcpu(3) takes the slower way from then on).
 */
void process_prepare_clones(void);

/** Before the first fork: give free heap pages (malloc_trim(3)) and unused stack pages back, so that no child copies them. */
void process_settle_memory(void);

/**
 * When a busy start is over: the same, and unmap program text and constants, of which an idle process needs a few pages and the start a
 * hundred. They are mapped again, from the page cache, when they are used.
 */
void process_rest(void);
