/*
 * Theory of operation. The child reads the backup from a descriptor, so that rotations may rename it meanwhile, and has a compressor
 * write to "<path>.zst.tmp"; then it gives that the backup's time, syncs it, and exits with 0. The monitor finds the backup's name of
 * now by its inode, renames the copy to that with a suffix, and removes the original.
 *
 * Whatever is killed, one whole copy of the data is there: the child, or the monitor, which takes the child with it (PR_SET_PDEATHSIG):
 * the temporary file goes and the work begins again. The monitor between its two steps: original and copy are both there, known
 * by their common number and time, and the original goes.
 *
 * The compressor is a program, not a library, and the child a process of its own that waits for it: an idle container pays for neither.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/process.h"

#include "conmon/diag.h"
#include "conmon/log/file-compress.h"
#include "conmon/log/file-rotate.h"

#define NICE_LOWEST 19
#define IOPRIO_WHO_PROCESS 1	/* linux/ioprio.h is not among the installed headers everywhere */
#define IOPRIO_IDLE (3 << 13)
#define OOM_SCORE_FIRST "1000"	/* rather this than anything else */

static const char *const arguments[BACKUP_FORMS][5] = {
	[BACKUP_ZSTD] = { "zstd", "-q", "-c", "-T1", NULL },
	[BACKUP_GZIP] = { "gzip", "-q", "-c", NULL },
};

static bool same_time(const struct stat *a, const struct stat *b)
{
	return a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* --- the child --- */

static void lower_priority(void)
{
	const struct sched_param none = { 0 };
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	/* As far as the kernel permits: none of it matters to the result. */
	(void)setpriority(PRIO_PROCESS, 0, NICE_LOWEST);
	(void)sched_setscheduler(0, SCHED_IDLE, &none);
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE);
	if (fd >= 0)
		(void)!write(fd, OOM_SCORE_FIRST, strlen(OOM_SCORE_FIRST));
	fd_close(fd);
}

static void die_with(pid_t parent)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

static void run_program(const LogFile *file, pid_t parent)
{
	sigset_t none;

	die_with(parent);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)signal(SIGPIPE, SIG_DFL);
	(void)signal(SIGXFSZ, SIG_DFL);
	(void)execv(file->compress_program, (char **)arguments[file->compress_form]);
	_exit(127);
}

/* @return its exit status */
static int child_run(const LogFile *file, int in, int out, pid_t parent)
{
	struct timespec times[2];
	pid_t self, program;
	struct stat st;
	int status;

	die_with(parent);
	/* The descriptors, the container's and the engine's among them, are not for the compressor. */
	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || close_range(STDERR_FILENO + 1, ~0U, 0) < 0 || fstat(STDIN_FILENO, &st) < 0)
		return 1;
	process_set_title("log compressor");
	lower_priority();
	self = getpid();
	program = fork();
	if (program == 0)
		run_program(file, self);
	while (program > 0 && waitpid(program, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	if (program < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return 1;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	return futimens(STDOUT_FILENO, times) < 0 || fsync(STDOUT_FILENO) < 0;
}

/* --- the monitor: its beginning --- */

static int temporary_remove(const LogFile *file, const char *path, int error)
{
	char temporary[BACKUP_NAME_MAX];

	backup_temporary(temporary, path, file->compress_form);
	(void)unlink(temporary);
	return error;
}

/* The newest plain backup. @return a descriptor for reading, or -1 */
static int backup_open_plain(const LogFile *file, const char *path, struct stat *ret_st)
{
	char name[BACKUP_NAME_MAX];

	for (int number = 1, missing = 0; number <= file->max_files && missing < BACKUP_GAP_MAX; number++) {
		int fd;

		backup_name(name, path, number, BACKUP_PLAIN);
		fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
		if (fd < 0) {
			missing++;
			continue;
		}
		missing = 0;
		if (fstat(fd, ret_st) == 0 && S_ISREG(ret_st->st_mode))
			return fd;
		fd_close(fd);
	}
	return -1;
}

static void compress_failed(LogSink *sink, int error)
{
	sink->file.compress_failed = true;
	if (error < 0)
		diag_warn_errno(error, "Failed to compress a backup of %s:", sink->file.path);
	else
		diag_warn("Failed to compress a backup of %s: %s did not end well", sink->file.path,
			sink->file.compress_program);
}

static void on_child_end(void *data, uint32_t events);

static int child_watch(LogSink *sink, LogContext *ctx)
{
	LogCompressView *view = &ctx->compress[sink->index];

	view->sink = sink;
	view->ctx = ctx;
	return event_loop_add_fd(ctx->loop, sink->file.compress_pidfd, EPOLLIN, on_child_end, view, &view->source);
}

static int child_start(LogSink *sink, LogContext *ctx, int in, const struct stat *st, const char *path)
{
	LogFile *file = &sink->file;
	char temporary[BACKUP_NAME_MAX];
	cleanup_close int out = -1;
	pid_t self = getpid(), pid;

	backup_temporary(temporary, path, file->compress_form);
	(void)unlink(temporary);
	out = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out < 0)
		return -errno;
	(void)!fchown(out, st->st_uid, st->st_gid);	/* as far as we may */
	(void)fchmod(out, st->st_mode & 0777);
	file->compress_dev = st->st_dev;
	file->compress_ino = st->st_ino;
	file->compress_size = st->st_size;
	file->compress_pidfd = -1;
	pid = fork();	/* not a clone with our descriptor table: we close ours, and it closes all others */
	if (pid == 0)
		_exit(child_run(file, in, out, self));
	if (pid < 0)
		return -errno;
	file->compress_pid = pid;
	file->compress_pidfd = process_pidfd_open(pid);
	return file->compress_pidfd < 0 ? file->compress_pidfd : child_watch(sink, ctx);
}

/* The number is forgotten first: after a kill in between it may be another one's, as the table is not ours alone. */
static void pidfd_forget(LogFile *file)
{
	int fd = file->compress_pidfd;

	file->compress_pidfd = -1;
	fd_close(fd);
}

/* Reap or kill it, and forget it. @return whether it ended well */
static bool child_end(LogSink *sink, LogContext *ctx)
{
	LogCompressView *view = &ctx->compress[sink->index];
	LogFile *file = &sink->file;
	siginfo_t info = { 0 };
	bool good;

	event_source_remove(view->source);
	view->source = NULL;
	(void)kill(file->compress_pid, SIGKILL);	/* too late for one that has ended; it is our child, so the number is still its own */
	good = waitid(P_PID, (id_t)file->compress_pid, &info, WEXITED) == 0 && info.si_code == CLD_EXITED &&
		info.si_status == 0;
	file->compress_pid = 0;
	pidfd_forget(file);
	return good;
}

void log_file_compress_look(LogSink *sink, LogContext *ctx)
{
	LogFile *file = &sink->file;
	cleanup_close int in = -1;
	char path[PATH_MAX];
	struct stat st;
	int r;

	if (!file->compress_program || !file->is_regular || file->compress_failed || file->compress_pid || !ctx->loop)
		return;
	r = log_file_real_path(file, ctx, path);
	if (r < 0 || (in = backup_open_plain(file, path, &st)) < 0)
		return;
	r = child_start(sink, ctx, in, &st, path);
	if (r < 0) {
		if (file->compress_pid)
			(void)child_end(sink, ctx);
		compress_failed(sink, temporary_remove(file, path, r));
	}
}

/* --- its end --- */

int log_file_compress_commit(LogSink *sink, const char *path)
{
	const LogFile *file = &sink->file;
	char name[BACKUP_NAME_MAX], compressed[BACKUP_NAME_MAX], temporary[BACKUP_NAME_MAX];
	struct stat st, made;

	backup_temporary(temporary, path, file->compress_form);
	if (lstat(temporary, &made) < 0)
		return -errno;
	for (int number = 1, missing = 0; number <= file->max_files && missing < BACKUP_GAP_MAX; number++) {
		backup_name(name, path, number, BACKUP_PLAIN);
		if (lstat(name, &st) < 0) {
			missing++;
			continue;
		}
		missing = 0;
		if (st.st_dev != file->compress_dev || st.st_ino != file->compress_ino)
			continue;
		if (st.st_size != file->compress_size || !same_time(&st, &made))
			break;	/* someone wrote to it */
		backup_name(compressed, path, number, file->compress_form);
		if (rename(temporary, compressed) < 0)
			return temporary_remove(file, path, -errno);
		(void)unlink(name);
		return 0;
	}
	return temporary_remove(file, path, -ESTALE);
}

static void on_child_end(void *data, uint32_t events)
{
	LogCompressView *view = data;
	LogSink *sink = view->sink;
	char path[PATH_MAX];
	int r = log_file_real_path(&sink->file, view->ctx, path);

	(void)events;
	if (!child_end(sink, view->ctx)) {
		if (r >= 0)
			(void)temporary_remove(&sink->file, path, 0);
		compress_failed(sink, 0);
		return;
	}
	if (r >= 0)
		r = log_file_compress_commit(sink, path);
	if (r < 0 && r != -ESTALE)
		compress_failed(sink, r);
	log_file_compress_look(sink, view->ctx);
}

void log_file_compress_stop(LogSink *sink, LogContext *ctx)
{
	char path[PATH_MAX];

	if (!sink->file.compress_pid)
		return;
	(void)child_end(sink, ctx);
	if (log_file_real_path(&sink->file, ctx, path) >= 0)
		(void)temporary_remove(&sink->file, path, 0);
}

/* A copy that has its name already: its original was about to go. */
static void originals_remove(const LogFile *file, const char *path)
{
	char name[BACKUP_NAME_MAX], compressed[BACKUP_NAME_MAX];

	for (int number = 1, missing = 0; number <= file->max_files && missing < BACKUP_GAP_MAX; number++) {
		struct stat st, made;

		backup_name(name, path, number, BACKUP_PLAIN);
		backup_name(compressed, path, number, file->compress_form);
		if (lstat(compressed, &made) < 0) {
			missing += lstat(name, &st) < 0 ? 1 : 0;
			continue;
		}
		missing = 0;
		if (S_ISREG(made.st_mode) && lstat(name, &st) == 0 && same_time(&st, &made))
			(void)unlink(name);
	}
}

void log_file_compress_recover(LogSink *sink, LogContext *ctx)
{
	LogFile *file = &sink->file;
	char path[PATH_MAX];

	if (!file->compress_program || !file->is_regular)
		return;
	file->compress_pid = 0;	/* our predecessor's has died with it */
	pidfd_forget(file);
	if (log_file_real_path(file, ctx, path) < 0)
		return;
	originals_remove(file, path);
	(void)temporary_remove(file, path, 0);
	log_file_compress_look(sink, ctx);
}
