#pragma once
/*
 * The OCI runtime: its command line, its start, and the pid file that it writes (contract section 6).
 */
#include "conmon/reaper-state.h"
#include "conmon/shared.h"

/** @return the command line of C-73, NULL-terminated; the list is to be freed with free(), its words are borrowed */
char **runtime_command_line(const ConmonOptions *options, const char *console_path);

/** Note what lies at the pid file's path before the runtime runs (C-81). */
void runtime_note_stale_pid_file(const Conmon *conmon);

/** Fork and exec the runtime exactly once; with --exec-attach its exec waits for the start pipe (C-69 to C-72). @return 0 or -errno */
int runtime_start(const Conmon *conmon);

/**
 * Read the payload's pid from the pid file (C-38, C-80, C-81).
 *
 * @return the pid; -ENODATA: empty, not a number, or left over from an earlier run; other -errno of opening and reading
 */
pid_t runtime_read_pid_file(const Conmon *conmon);
