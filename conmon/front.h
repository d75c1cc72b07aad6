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
 * Fork into the background. The child returns once the pid file is written; the front process never returns: it exits 0, or 1 after a
 * line about what failed, and then nothing else is left running (W-28).
 *
 * @param pidfile  gets the child's pid (C-37); NULL: none
 * @return 0 in the child, or -errno if there is none
 */
int front_daemonize(const char *pidfile);
