#pragma once
/*
 * The front process, from validation to its exit: contract C-29 to C-32, C-37, C-52 to C-54.
 */
#include "conmon/environment.h"

/** SIGPIPE ignored, SIGTERM ends with status 1 (C-29). */
void front_set_signals(void);

/**
 * Wait for the invoker's go-ahead: one read that takes everything which is there; end of file means go, too.
 *
 * @return 0 or -errno
 */
int front_wait_start(int start_fd);

/**
 * Before the exit of a conmon that was asked for something impossible: the invoker may still be on its way to the start pipe (it sets up a
 * cgroup first), and one that finds it broken tells its user about that instead of our status. Waits for it, a quarter of a second at most.
 */
void front_refuse(void);

/**
 * Fork into the background. The child returns at once. The front process never returns: it writes the pid file and waits until there is a
 * worker, because until then the child is alone, and if it is killed only the front process can tell the invoker. It exits 0, or 1 after a
 * line about what failed; if that is the pid file nothing else is left running (W-28).
 *
 * @param options    whose conmon_pidfile gets the child's pid (C-37); NULL: none
 * @param sync_fd    where the invoker listens, or -1
 * @param ret_front  in the child: connected to the front process
 * @return 0 in the child, or -errno if there is none
 */
int front_daemonize(const ConmonOptions *options, int sync_fd, int *ret_front);

/** In the child: wait for the pid file. @return 0; -ECANCELED: it can't be written, or the front process was killed */
int front_wait_published(int front);

/** The front process may go: a worker exists, or the invoker was told of a failure. Does nothing if it has gone. */
void front_dismiss(FdStore *store);
