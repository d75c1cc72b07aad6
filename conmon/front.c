#include "config.h"

#include "conmon/front.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "conmon/diag.h"
#include "conmon/text.h"

#define START_READ_SIZE 8192 /* C-52, C-53: all of a token, so that it can't satisfy a second wait */

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

static _Noreturn void front_finish(pid_t child, int go_fd, const char *pidfile)
{
	int r = pidfile ? write_pid_file(pidfile, child) : 0;

	if (r < 0) {
		diag_error_errno(r, "Failed to write conmon pidfile: %s:", pidfile);
		close(go_fd); /* without a word: the child ends */
		(void)waitpid(child, NULL, 0);
		_exit(1);
	}
	r = fd_write_all(go_fd, "g", 1);
	_exit(r < 0 ? 1 : 0);
}

int front_daemonize(const char *pidfile)
{
	int go[2];
	ssize_t n;
	pid_t pid;
	char c;

	if (pipe2(go, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		close(go[0]);
		close(go[1]);
		return r;
	}
	if (pid > 0) {
		close(go[0]);
		front_finish(pid, go[1], pidfile);
	}
	close(go[1]);
	do {
		n = read(go[0], &c, 1);
	} while (n < 0 && errno == EINTR);
	close(go[0]);
	if (n != 1)
		_exit(1); /* the front process has said why, or was killed */
	return 0;
}
