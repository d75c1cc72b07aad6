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
#include "conmon/log/file-rotate.h"
#include "conmon/shared.h"

#define FILE_MODE 0640	/* before umask: C-150 */

const char *log_file_fd_name(const LogSink *sink)
{
	return sink->file.fd_name;
}

/* Where the file really is: behind a symbolic link its target is renamed, not the link (W-14). */
static int real_path(const LogFile *file, char path[PATH_MAX])
{
	struct stat st;

	if (lstat(file->path, &st) == 0 && S_ISLNK(st.st_mode))
		return realpath(file->path, path) ? 0 : -errno;
	if (strlen(file->path) >= PATH_MAX - 16)	/* room for a suffix */
		return -ENAMETOOLONG;
	strcpy(path, file->path);
	return 0;
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

/* path.(k-1) becomes path.k, for k from the first gap down to 2, so that path.1 is free. */
static void backups_shift(const char *path, int max)
{
	char from[PATH_MAX + 16], to[PATH_MAX + 16];
	struct stat st;
	int gap = 1;

	for (; gap < max; gap++) {
		snprintf(to, sizeof(to), "%s.%d", path, gap);
		if (lstat(to, &st) < 0)
			break;
	}
	for (int k = gap; k > 1; k--) {
		snprintf(from, sizeof(from), "%s.%d", path, k - 1);
		snprintf(to, sizeof(to), "%s.%d", path, k);
		(void)rename(from, to);
	}
}

/* The newest backups stay as long as all together have at most @max bytes; once one is too much, so are all older ones. */
static void backups_trim(const char *path, int max_files, int64_t max)
{
	char name[PATH_MAX + 16];
	int64_t total = 0;
	struct stat st;

	for (int k = 1; max > 0 && k <= max_files; k++) {
		snprintf(name, sizeof(name), "%s.%d", path, k);
		if (lstat(name, &st) < 0)
			continue;
		total += st.st_size;
		if (total > max)
			(void)unlink(name);
	}
}

static int rotate_keep(const LogFile *file, const char *path)
{
	char backup[PATH_MAX + 16];

	if (!name_means_file(path, file->fd))
		return file_create(path, 0);	/* renamed or removed by someone else (C-163, C-166) */
	if (file->max_files > 0) {
		backups_shift(path, file->max_files);
		snprintf(backup, sizeof(backup), "%s.1", path);
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
	r = real_path(file, path);
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
	return 0;
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
