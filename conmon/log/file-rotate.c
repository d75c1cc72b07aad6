/*
 * Theory of operation. While a new file is put in place nothing is written, so the whole procedure may be interrupted anywhere and
 * begun again: each step looks at what is there. Backups shift only up to the first gap, and the present file is renamed
 * only while the name still means it; a second run therefore finds the gap that the first one left and the name taken by
 * the new file or by nobody.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "conmon/diag.h"
#include "conmon/log-allowlist.h"
#include "conmon/log/file-compress.h"
#include "conmon/log/file-rotate.h"
#include "conmon/shared.h"

#define FILE_MODE 0640	/* before umask: C-150 */

const char *log_file_fd_name(const LogSink *sink)
{
	return sink->file.fd_name;
}

int log_file_real_path(const LogFile *file, const LogContext *ctx, char path[PATH_MAX])
{
	struct stat st;

	if (lstat(file->path, &st) == 0 && S_ISLNK(st.st_mode)) {
		if (!realpath(file->path, path))
			return -errno;
	} else {
		if (strlen(file->path) >= PATH_MAX - 16)	/* room for a suffix */
			return -ENAMETOOLONG;
		strcpy(path, file->path);
	}
	/* A directory on the way may be another one now (C-140). */
	return log_allowlist_permits(path, ctx->options->log_allowlist_dirs) ? 0 : -EPERM;
}

static bool name_means_file(const char *path, int fd)
{
	struct stat by_name, by_fd;

	return stat(path, &by_name) == 0 && fstat(fd, &by_fd) == 0 && by_name.st_dev == by_fd.st_dev &&
		by_name.st_ino == by_fd.st_ino;
}

/* The directory may have been removed from outside; one level is made again, as far as we may. */
static void parent_restore(const char *path)
{
	char dir[PATH_MAX];
	char *slash;

	snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	if (!slash || slash == dir)
		return;
	*slash = '\0';
	(void)mkdir(dir, 0750);
}

static int file_create(const char *path, int flags)
{
	flags |= O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW;
	int fd = open(path, flags, FILE_MODE);

	if (fd < 0 && errno == ENOENT) {
		parent_restore(path);
		fd = open(path, flags, FILE_MODE);
	}
	return fd < 0 ? -errno : fd;
}

static int rotate_keep(const LogFile *file, const char *path)
{
	char backup[BACKUP_NAME_MAX];

	if (!name_means_file(path, file->fd))
		return file_create(path, 0);	/* renamed or removed by someone else (C-163, C-166) */
	if (file->max_files > 0) {
		backups_shift(path, file->max_files);
		backup_name(backup, path, 1, BACKUP_PLAIN);
		if (rename(path, backup) < 0)
			return -errno;
		backups_trim(path, file->max_files, file->backups_max);
	}
	return file_create(path, 0);
}

static int rotate_truncate(const char *path)
{
	char temporary[PATH_MAX + 16];
	int fd, r;

	snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	(void)unlink(temporary);	/* left by someone who was killed */
	fd = file_create(temporary, O_EXCL);
	if (fd < 0)
		return fd;
	if (rename(temporary, path) < 0) {
		r = -errno;
		(void)unlink(temporary);
		fd_close(fd);
		return r;
	}
	return fd;
}

int log_file_rotate(LogSink *sink, LogContext *ctx)
{
	LogFile *file = &sink->file;
	char path[PATH_MAX];
	struct stat st;
	int fd, r;

	if (!file->is_regular)
		return 0;	/* C-168 */
	r = log_file_real_path(file, ctx, path);
	if (r < 0)
		return r;
	if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return -EINVAL;	/* something else took the name: not ours to replace */
	atomic_store(&file->rotating, 1);
	fd = file->rotate ? rotate_keep(file, path) : rotate_truncate(path);
	if (fd < 0) {
		atomic_store(&file->rotating, 0);
		return fd;
	}
	r = fd_store_replace(ctx->store, log_file_fd_name(sink), fd);
	if (r < 0) {
		fd_close(fd);
		return r;
	}
	file->fd = fd;
	file->born = time(NULL);
	atomic_store(&file->rotating, 0);
	file->compress_failed = false;
	log_file_compress_look(sink, ctx);
	return 0;
}

static void rotation_tell(const LogSink *sink, LogContext *ctx, int error)
{
	const LogFile *file = &sink->file;
	char text[PATH_MAX + 256];

	if (error < 0)
		snprintf(text, sizeof(text), "Log %s can't be rotated: %s. It goes on in the present file, beyond its limit.", file->path,
			strerror(-error));
	else
		snprintf(text, sizeof(text), "Log %s can be rotated again.", file->path);
	diag_warn("%s", text);
	if (ctx->events)
		event_log_emit(ctx->events, error < 0 ? EVENT_ID_SINK_FAILED : EVENT_ID_SINK_RESUMED, error < 0 ? 4 : 5, text, NULL);
}

void log_file_rotate_if_possible(LogSink *sink, LogContext *ctx)
{
	LogFile *file = &sink->file;
	int64_t now = log_stamp(ctx)->sec;
	int r;

	if (file->rotate_error && now == file->rotate_tried)
		return;	/* once a second */
	file->rotate_tried = now;
	r = log_file_rotate(sink, ctx);
	if ((r < 0) != (file->rotate_error != 0))
		rotation_tell(sink, ctx, r);
	file->rotate_error = -r;
}

void log_file_rotate_recover(LogSink *sink, LogContext *ctx)
{
	struct stat st;

	if (!atomic_load(&sink->file.rotating))
		return;
	if (fstat(sink->file.fd, &st) == 0 && st.st_size == 0)
		atomic_store(&sink->file.rotating, 0);	/* the new file is in use already */
	else
		(void)log_file_rotate(sink, ctx);
}
