#pragma once
/*
 * --enable-seccomp (N-195 to N-199).
 *
 * Keeper and worker differ: the keeper must be able to start a worker again, whose first acts are a parent-death signal (prctl) and holding on to
 * the keeper (ptrace, see common/supervise.h). So the keeper's filter leaves these out; the worker, which parses what the guest sends,
 * adds the rest as soon as it is set up. Both filters are compiled when the helper is built (seccomp-compile.c).
 */

/** @return 0, or -errno with the reason on stderr */
int seccomp_filter_keeper(void);

/** @return 0, or -errno with the reason on stderr */
int seccomp_filter_worker(void);

/** The banner's list of blocked calls. */
void seccomp_filter_print(void);

/** Version of the libseccomp that has compiled the filters. */
const char *seccomp_filter_library(void);
