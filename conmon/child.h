#pragma once
/*
 * Children that are started exactly once, and how they ended, whoever of us reaped them.
 */
#include "conmon/reaper-state.h"
#include "conmon/shared.h"

/**
 * Make the process of @p slot once. The parent may be killed at any instant of it, and its successor call this again: a child begins
 * its work only if it finds, or puts, its own pid in the slot, so that of two children one ends at once without
 * having done anything.
 *
 * @param conmon       the container
 * @param slot         in shared memory, 0 until there is one
 * @param pidfd_name   registry name for its pidfd
 * @param run          in the child, which has a descriptor table of its own
 * @return 0 or -errno
 */
int child_start_once(const Conmon *conmon, _Atomic pid_t *slot, const char *pidfd_name, void (*run)(const Conmon *conmon));

/**
 * How did @p pid end? It is left as a zombie if it is our child: child_reap() takes it away.
 *
 * @param conmon           the container
 * @param pid              the child
 * @param pidfd_name       registry name of its pidfd
 * @param ret_wait_status  as of wait(2)
 * @return 1: ended, @p ret_wait_status set; 0: still there; -EAGAIN: it has ended, but nobody can tell how (yet)
 */
int child_status(const Conmon *conmon, pid_t pid, const char *pidfd_name, int *ret_wait_status);

/** Reap every child that has ended (C-49), remembering how. */
void child_reap_all(ReaperState *state);

/** Remember how a child ended that is (being) reaped, in the reaper or the keeper. The last STRAYS_MAX are kept. */
void child_remember_stray(ReaperState *state, const siginfo_t *info);
