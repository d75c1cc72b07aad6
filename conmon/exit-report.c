/*
 * Theory of operation. The value goes into a temporary file of a fixed name, then a rename. After a SIGKILL the temporary
 * name tells whether the rename had happened:
 *
 *   NONE ── temporary file written ──▶ RENAMING ── rename ──▶ WRITTEN
 *
 * RENAMING: if the temporary file is still there the rename is to be done, otherwise it was.
 */
#include "config.h"

#include "conmon/exit-report.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "conmon/diag.h"

enum { NONE, RENAMING, WRITTEN };

int exit_report_value(int wait_status)
{
	if (wait_status == -1)
		return -1;
	if (WIFEXITED(wait_status))
		return WEXITSTATUS(wait_status);
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : -1;
}

static int write_temporary(int dir_fd, const char *name, int value)
{
	cleanup_close int fd = -1;
	char text[16];
	int size = snprintf(text, sizeof(text), "%d", value), r;

	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, text, (size_t)size);
	if (r < 0)
		(void)unlinkat(dir_fd, name, 0);
	return r;
}

static int write_once(ExitFile *file, const char *dir, const char *name, const char *temporary, int value)
{
	cleanup_close int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (dir_fd < 0)
		return -errno;
	if (atomic_load(&file->step) == NONE) {
		r = write_temporary(dir_fd, temporary, value);
		if (r < 0)
			return r;
		atomic_store(&file->step, RENAMING);
	} else if (faccessat(dir_fd, temporary, F_OK, 0) < 0) {
		return errno == ENOENT ? 0 : -errno;
	}
	if (renameat(dir_fd, temporary, dir_fd, name) == 0)
		return 0;
	r = -errno;
	(void)unlinkat(dir_fd, temporary, 0);
	return r;
}

int exit_report_write(const Conmon *conmon, ExitFile *file, const char *dir, const char *name, int value)
{
	char temporary[NAME_MAX + 1];

	if (!dir || atomic_load(&file->step) == WRITTEN)
		return atomic_load(&file->error);
	(void)snprintf(temporary, sizeof(temporary), ".%.200s.%d.tmp", name, (int)conmon->reaper->published_pid);
	atomic_store(&file->error, write_once(file, dir, name, temporary, value));
	atomic_store(&file->step, WRITTEN);
	if (atomic_load(&file->error) < 0)
		diag_error_errno(atomic_load(&file->error), "Failed to write exit file %s/%s:", dir, name);
	return atomic_load(&file->error);
}
