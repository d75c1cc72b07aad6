#pragma once
/*
 * A new file under the log's name: truncation, rotation, reopening on request (contract sections 10.3 and 10.4).
 */
#include <limits.h>

#include "common/fd-util.h"

#include "conmon/log/backups.h"
#include "conmon/log/driver.h"

/** Registry name of the sink's file. */
const char *log_file_fd_name(const LogSink *sink);

/**
 * Where the file really is: behind a symbolic link its target is renamed, not the link (W-14). The name has room for the suffixes of backups.
 *
 * @return 0; -EPERM: not where --log-allowlist-dir permits it (any more); other -errno
 */
int log_file_real_path(const LogFile *file, const LogContext *ctx, char path[PATH_MAX]);

/**
 * Put a new empty file in place of the present one: with backups if the sink rotates, else without (C-156, C-160, C-163). Records
 * written before are in the old file as a whole, later ones in the new one.
 *
 * @return 0; -errno: the old file stays in use
 */
int log_file_rotate(LogSink *sink, LogContext *ctx);

/**
 * Rotate because a limit is reached. What can't be done is tried again a second later, and told once: a log that is longer than was wished is
 * better than none (C-162).
 */
void log_file_rotate_if_possible(LogSink *sink, LogContext *ctx);

/** Finish what a SIGKILL interrupted. */
void log_file_rotate_recover(LogSink *sink, LogContext *ctx);
