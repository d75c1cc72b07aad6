#include "config.h"

#include "conmon/front.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/process.h"
#include "conmon/diag.h"
#include "conmon/sync-pipe.h"
#include "conmon/text.h"

#define START_READ_SIZE 8192 /* C-52, C-53: all of a token, so that it can't satisfy a second wait */
#define GO_AHEAD_PATIENCE_MS 250

static void on_sigterm(int signal)
{
	_exit(1);
}

void front_set_signals(void)
{
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGTERM, on_sigterm);
}

int front_wait_start(int start_fd)
{
	char buf[START_READ_SIZE];
	ssize_t n;

	do {
		n = read(start_fd, buf, sizeof(buf));
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

void front_refuse(void)
{
	const char *name = getenv("_OCI_STARTPIPE");
	struct pollfd p = {.fd = name ? atoi(name) : -1, .events = POLLIN};

	if (p.fd > STDERR_FILENO)
		(void)poll(&p, 1, GO_AHEAD_PATIENCE_MS);
}

static int write_pid_file(const char *path, pid_t pid)
{
	text_auto char *dir = text_dirname(path);
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	cleanup_close int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char text[16];
	int size = snprintf(text, sizeof(text), "%d", (int)pid);

	if (dir_fd < 0)
		return -errno;
	if (name[0] == '\0')
		return -EISDIR;
	return fd_replace_file(dir_fd, name, text, (size_t)size, 0666);
}

/* The child is gone, and with it everybody who could tell the invoker: no worker existed yet. */
static _Noreturn void tell_of_death(const ConmonOptions *options, int sync_fd, pid_t child)
{
	siginfo_t info = {0};
	char text[128];

	(void)waitid(P_PID, (id_t)child, &info, WEXITED);
	(void)snprintf(text, sizeof(text), "conmon ended at its start: %s", process_cause(info.si_code, info.si_status));
	diag_error("%s", text);
	sync_pipe_fail_early(options, sync_fd, text);
	_exit(1);
}

/* @front: our end of the pair with the child. */
static _Noreturn void front_finish(const ConmonOptions *options, int sync_fd, pid_t child, int front)
{
	int r = options->conmon_pidfile ? write_pid_file(options->conmon_pidfile, child) : 0;
	ssize_t n;
	char c;

	if (r < 0) {
		diag_error_errno(r, "Failed to write conmon pidfile: %s:", options->conmon_pidfile);
		close(front); /* without a word: the child ends */
		(void)waitpid(child, NULL, 0);
		_exit(1);
	}
	(void)fd_write_all(front, "g", 1); /* if that fails, the next line tells why */
	do {
		n = read(front, &c, 1);
	} while (n < 0 && errno == EINTR);
	if (n != 1)
		tell_of_death(options, sync_fd, child);
	_exit(0);
}

int front_daemonize(const ConmonOptions *options, int sync_fd, int *ret_front)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(pair[0]);
		close(pair[1]);
		return r;
	}
	if (pid > 0) {
		close(pair[1]);
		front_finish(options, sync_fd, pid, pair[0]);
	}
	close(pair[0]);
	*ret_front = pair[1];
	return 0;
}

int front_wait_published(int front)
{
	ssize_t n;
	char c;

	do {
		n = read(front, &c, 1);
	} while (n < 0 && errno == EINTR);
	return n == 1 ? 0 : -ECANCELED;
}

void front_dismiss(FdStore *store)
{
	int front = fd_store_get(store, FD_FRONT);

	if (front < 0)
		return;
	(void)fd_write_all(front, "w", 1); /* it may have been killed: nobody needs to know */
	fd_store_close(store, FD_FRONT);
}
