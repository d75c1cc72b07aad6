#pragma once
/*
 * Compression of rotated files (--log-compress) by a child of the lowest priority, while the container goes on.
 */
#include "conmon/log/driver.h"

/**
 * Begin with the newest backup that is not compressed yet, if compression is wanted and none is under way. When it has ended the
 * next one follows. A failure is told once; after it nothing is tried until the next rotation.
 */
void log_file_compress_look(LogSink *sink, LogContext *ctx);

/** At the start of a monitor: finish what was finished but for the name, throw away what was not, and begin again with that. */
void log_file_compress_recover(LogSink *sink, LogContext *ctx);

/** The end: what is under way is given up, its file stays as it is. */
void log_file_compress_stop(LogSink *sink, LogContext *ctx);

/**
 * The compressed copy is complete under its temporary name: let it take the place of the file that it was made of. For the module and its test.
 *
 * @return 0; -ESTALE: that file has gone or was changed, and so has the copy; other -errno
 */
int log_file_compress_commit(LogSink *sink, const char *path);
