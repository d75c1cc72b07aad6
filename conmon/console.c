/*
 * The terminal of the container: contract section 7.1. The runtime connects to the console socket and sends the pty master. Each
 * descriptor is registered as soon as we have it; one that a killed monitor had not come to register is recognised by what it is.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "common/fd-pass.h"
#include "common/fd-util.h"
#include "conmon/diag.h"
#include "conmon/monitor-private.h"

#define CONSOLE_CONNECTION "console.conn"
#define CONSOLE_MESSAGE_MAX 4096	/* bytes beside the descriptor (C-90) */

static void console_failed(Monitor *m, const char *text, int error)
{
	ConmonShared *shared = m->conmon->shared;

	if (error)
		snprintf(shared->console_error, sizeof(shared->console_error), "%s: %s", text, strerror(-error));
	else
		snprintf(shared->console_error, sizeof(shared->console_error), "%s", text);
	diag_warn("%s", shared->console_error);
	event_source_remove(m->console_source);
	m->console_source = NULL;
	fd_store_close(m->store, CONSOLE_CONNECTION);
	fd_store_close(m->store, FD_CONSOLE_LISTEN);
	atomic_store(&shared->console_ready, -1);
	monitor_kick_reaper(m);
}

/* ONLCR as C-91 says; a terminal that refuses it works all the same. */
static void set_output_flags(int fd)
{
	struct termios settings;

	if (tcgetattr(fd, &settings) < 0) {
		diag_warn_errno(errno, "Failed to read terminal settings:");
		return;
	}
	settings.c_oflag |= ONLCR;
	if (tcsetattr(fd, TCSANOW, &settings) < 0)
		diag_warn_errno(errno, "Failed to set terminal output flags:");
}

/* The master is registered: make it serve both directions. May be repeated. */
static int console_serve(Monitor *m, int fd)
{
	int r, in;

	(void)fd_set_nonblock(fd, true);
	if (fd_store_get(m->store, FD_CONSOLE_IN) < 0 && !m->st->input_closed) {
		in = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		if (in < 0)
			return -errno;
		r = fd_store_put(m->store, FD_CONSOLE_IN, in);
		if (r < 0) {
			fd_close(in);
			return r;
		}
	}
	r = monitor_add_stream(m, STREAM_OUT, fd, true);
	return r < 0 ? r : input_open(m);
}

static void console_take(Monitor *m, int fd)
{
	int r;

	/* a size that was sent before the container's command could run is its size from the beginning (C-94) */
	control_serve(m, OWNER_CTL);
	control_serve(m, OWNER_WINSZ);
	r = fd_store_put(m->store, FD_CONSOLE, fd);
	if (r < 0) {
		fd_close(fd);
	} else {
		event_source_remove(m->console_source);
		m->console_source = NULL;
		fd_store_close(m->store, CONSOLE_CONNECTION);
		control_apply_resize(m);	/* first of all: the command is running already */
		set_output_flags(fd);
		r = console_serve(m, fd);
	}
	if (r < 0) {
		console_failed(m, "Failed to set up the terminal", r);
		return;
	}
	atomic_store(&m->conmon->shared->console_ready, 1);
	monitor_kick_reaper(m);
}

static void on_connection(void *data, uint32_t events)
{
	Monitor *m = data;
	char scrap[CONSOLE_MESSAGE_MAX];
	int fd = -1;
	ssize_t n = fd_pass_recv(fd_store_get(m->store, CONSOLE_CONNECTION), scrap, sizeof(scrap), &fd, 1);

	(void)events;
	if (n == -EAGAIN)
		return;
	if (n == 0)
		console_failed(m, "The runtime closed the console socket without sending a terminal", 0);
	else if (n < 0)
		console_failed(m, "Failed to receive the terminal from the runtime", (int)n);
	else
		console_take(m, fd);
}

static int connection_serve(Monitor *m, int fd)
{
	/* one connection only: stop listening, remove the path (C-90) */
	event_source_remove(m->console_source);
	m->console_source = NULL;
	fd_store_close(m->store, FD_CONSOLE_LISTEN);
	if (m->conmon->shared->console_path[0])
		(void)unlink(m->conmon->shared->console_path);
	return event_loop_add_fd(m->loop, fd, EPOLLIN, on_connection, m, &m->console_source);
}

static void on_listener(void *data, uint32_t events)
{
	Monitor *m = data;
	int fd = accept4(fd_store_get(m->store, FD_CONSOLE_LISTEN), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int r;

	(void)events;
	if (fd < 0)
		return;
	r = fd_store_put(m->store, CONSOLE_CONNECTION, fd);
	if (r < 0)
		fd_close(fd);
	else
		r = connection_serve(m, fd);
	if (r < 0)
		console_failed(m, "Failed to serve the console socket", r);
	else
		on_connection(m, 0);	/* most likely it's there */
}

void console_look(Monitor *m)
{
	if (m->conmon->shared->console_ready || fd_store_get(m->store, CONSOLE_CONNECTION) >= 0 ||
			fd_store_get(m->store, FD_CONSOLE_LISTEN) < 0)
		return;
	on_listener(m, 0);
	if (fd_store_get(m->store, CONSOLE_CONNECTION) < 0 && !m->conmon->shared->console_ready)
		console_failed(m, "Runtime did not set up terminal", 0);
}

/* --- after a restart --- */

static bool is_accepted_from(int fd, int listener)
{
	struct sockaddr_un a, b;
	socklen_t a_size = sizeof(a), b_size = sizeof(b), int_size = sizeof(int);
	int listens = 1;

	return listener >= 0 && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &int_size) == 0 && !listens &&
		getsockname(fd, (struct sockaddr *)&a, &a_size) == 0 &&
		getsockname(listener, (struct sockaddr *)&b, &b_size) == 0 && a_size == b_size &&
		memcmp(&a, &b, a_size) == 0;
}

/* What a killed monitor had accepted or received, but not registered. */
static void adopt(Monitor *m)
{
	int listener = fd_store_get(m->store, FD_CONSOLE_LISTEN);
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		int fd = atoi(entry->d_name), number;

		if (entry->d_name[0] == '.' || fd < 3 || fd == dirfd(dir) || fd_store_has_fd(m->store, fd))
			continue;
		if (is_accepted_from(fd, listener))
			(void)fd_store_put(m->store, CONSOLE_CONNECTION, fd);
		else if (ioctl(fd, TIOCGPTN, &number) == 0 && fd_store_get(m->store, FD_CONSOLE) < 0)
			console_take(m, fd);
	}
	if (dir)
		closedir(dir);
}

int console_open(Monitor *m)
{
	const ConmonShared *shared = m->conmon->shared;
	int fd;

	if (!m->conmon->options->terminal || shared->console_ready < 0)
		return 0;
	if (m->restarts > 0 && fd_store_get(m->store, FD_CONSOLE) < 0 && !shared->console_ready)
		adopt(m);
	fd = fd_store_get(m->store, FD_CONSOLE);
	if (fd >= 0) {
		if (shared->console_ready && m->streams[STREAM_OUT].fd >= 0)
			return 0;	/* just adopted */
		fd_store_close(m->store, CONSOLE_CONNECTION);
		control_apply_resize(m);
		int r = console_serve(m, fd);

		if (r >= 0 && !shared->console_ready) {
			atomic_store(&m->conmon->shared->console_ready, 1);
			monitor_kick_reaper(m);
		}
		return r;
	}
	fd = fd_store_get(m->store, CONSOLE_CONNECTION);
	if (fd >= 0)
		return connection_serve(m, fd);
	fd = fd_store_get(m->store, FD_CONSOLE_LISTEN);
	return fd < 0 ? 0 : event_loop_add_fd(m->loop, fd, EPOLLIN, on_listener, m, &m->console_source);
}
