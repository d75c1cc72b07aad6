#pragma once
/*
 * What conmon finds when it starts: descriptors, signal mask, the _OCI_* variables (contract section 3 and C-41 to C-43).
 */
#include <signal.h>
#include <stddef.h>

#include "conmon/shared.h"

struct ConmonEnvironment {
	int sync_fd, start_fd, attach_fd;	/* -1: not given */
	int *inherited;				/* every other descriptor >= 3 that was open */
	size_t n_inherited;
	sigset_t mask;				/* as conmon was started */
	char oom_score_adj[16];			/* previous value; "": not changed */
};

/**
 * Look at the descriptors; call before anything is opened. A missing descriptor 0, 1 or 2 is opened on /dev/null.
 *
 * @return 0 or -errno
 */
int environment_take_descriptors(ConmonEnvironment *env);

/**
 * Read _OCI_SYNCPIPE, _OCI_STARTPIPE and _OCI_ATTACHPIPE and make them close-on-exec (C-25).
 *
 * @param env           gets them; they are taken off the inherited ones
 * @param exec_attach   whether _OCI_ATTACHPIPE means anything
 * @return 0, or -errno after the one line about what is wrong was printed
 */
int environment_take_pipes(ConmonEnvironment *env, bool exec_attach);

/** Register them all in @p store, so that nobody sweeps them away. */
void environment_register(const ConmonEnvironment *env, FdStore *store);

/** Close what was inherited (C-42), the attach pipe and the start pipe too; the sync pipe stays. May be repeated. */
void environment_close_inherited(const ConmonEnvironment *env, FdStore *store);

/** C-40: set our own score to -1000 and remember what it was; not being allowed to is only a debug line. */
void environment_protect_from_oom(ConmonEnvironment *env);

/** In a child, before exec: previous OOM score, default signals, the start-up mask, umask 0022. */
void environment_restore_for_exec(const ConmonEnvironment *env);
