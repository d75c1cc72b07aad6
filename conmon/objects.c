#include "config.h"

#include "conmon/objects.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "conmon/diag.h"
#include "conmon/text.h"

#define ATTACH_BACKLOG 128 /* C-103 wants at least 10; more connect at once when nobody has accepted yet */
#define CONSOLE_TRIES 100 /* for a name that nobody has */
#define CONSOLE_NAME_RANDOM 6 /* characters */

static int failed(char *error, int r, const char *what, const char *path)
{
	snprintf(error, OBJECTS_ERROR_MAX, "%s %s: %s", what, path ? path : "", strerror(-r));
	return r;
}

static int put(const Conmon *conmon, const char *name, int fd_take)
{
	int r = fd_store_put(conmon->store, name, fd_take);

	if (r < 0)
		close(fd_take);
	return r;
}

bool objects_has_attach(const ConmonOptions *options)
{
	return options->bundle && !options->log_passthrough;
}

/*
 * Bind below a directory descriptor, so that paths of any length work (C-106). The mode is that of the socket's inode at
 * the time of bind(2): there is no moment with another one.
 */
static int bind_in_dir(int sock, int dir_fd, const char *name, mode_t mode)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	mode_t umask_was;
	int r;

	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s", dir_fd, name);
	if (fchmod(sock, mode) < 0)
		return -errno;
	umask_was = umask(0);
	r = bind(sock, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	(void)umask(umask_was);
	return r;
}

/* --- notify socket --- */

int objects_create_notify(const Conmon *conmon, char ret_error[OBJECTS_ERROR_MAX])
{
	const ConmonOptions *o = conmon->options;
	text_auto char *dir = NULL;
	cleanup_close int dir_fd = -1, sock = -1;
	int r;

	if (!o->sdnotify_socket)
		return 0;
	if (!o->bundle) {
		snprintf(ret_error, OBJECTS_ERROR_MAX, "--sdnotify-socket needs a bundle: use --bundle");
		return -EINVAL;
	}
	dir = text_format("%s/notify", o->bundle);
	dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return failed(ret_error, -errno, "Failed to open notify directory", dir);
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0)
		return failed(ret_error, -errno, "Failed to create notify socket", NULL);
	r = bind_in_dir(sock, dir_fd, "notify.sock", 0777);
	if (r < 0)
		return failed(ret_error, r, "Failed to bind notify socket in", dir);
	return put(conmon, FD_NOTIFY, fd_steal(&sock));
}

/* --- stdio --- */

/* @return 0 with our end and the child's registered; the child's is blocking and may be opened again through /proc by anyone (C-77) */
static int make_pipe(const Conmon *conmon, const char *ours, const char *childs, bool child_reads)
{
	int ends[2], r;
	int our_end, child_end;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	our_end = ends[child_reads ? 1 : 0];
	child_end = ends[child_reads ? 0 : 1];
	(void)fchmod(child_end, 0777); /* not fatal: C-77 */
	r = fd_set_nonblock(our_end, true);
	if (r < 0) {
		close(our_end);
		close(child_end);
		return r;
	}
	r = put(conmon, ours, our_end);
	if (r < 0) {
		close(child_end);
		return r;
	}
	return put(conmon, childs, child_end);
}

static int create_pipes(const Conmon *conmon, char *error)
{
	const ConmonOptions *o = conmon->options;
	int r = 0;

	if (o->log_passthrough)
		return 0;
	if (!o->terminal && o->stdin_open)
		r = make_pipe(conmon, FD_STDIN, FD_CHILD_STDIN, true);
	if (r >= 0 && !o->terminal)
		r = make_pipe(conmon, FD_STDOUT, FD_CHILD_STDOUT, false);
	if (r >= 0)
		r = make_pipe(conmon, FD_STDERR, FD_CHILD_STDERR, false);
	return r < 0 ? failed(error, r, "Failed to create stdio pipes", NULL) : 0;
}

/* --- console socket --- */

static void random_name(char *out, size_t size)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

	if (getrandom(out, size, 0) != (ssize_t)size)
		memset(out, 0, size); /* the tries below make it unique all the same */
	for (size_t i = 0; i < size; i++)
		out[i] = letters[(unsigned char)out[i] % (sizeof(letters) - 1)];
}

/* bind(2) itself makes sure that the name is new: nothing is unlinked, so there is no race for the name (W-25). */
static int bind_console(
	int sock, const char *dir, char path[static sizeof(((struct sockaddr_un *)0)->sun_path)])
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	for (int i = 0; i < CONSOLE_TRIES; i++) {
		char unique[CONSOLE_NAME_RANDOM + 1] = "";
		int size;

		random_name(unique, CONSOLE_NAME_RANDOM);
		size = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/conmon-term.%s", dir, unique);
		if ((size_t)size >= sizeof(addr.sun_path))
			return -ENAMETOOLONG;
		if (bind(sock, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
			strcpy(path, addr.sun_path);
			return 0;
		}
		if (errno != EADDRINUSE)
			return -errno;
	}
	return -EADDRINUSE;
}

static int create_console_socket(const Conmon *conmon, char *error)
{
	const char *dir = getenv("TMPDIR");
	cleanup_close int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r;

	if (!conmon->options->terminal)
		return 0;
	if (sock < 0)
		return failed(error, -errno, "Failed to create console socket", NULL);
	if (!dir || dir[0] == '\0')
		dir = "/tmp";
	if (fchmod(sock, 0700) < 0)
		return failed(error, -errno, "Failed to chmod console socket", NULL);
	r = bind_console(sock, dir, conmon->shared->console_path);
	if (r == -ENAMETOOLONG) {
		/* The runtime must connect to that path, and it holds 107 bytes. */
		diag_warn("TMPDIR %s is too long for a socket, using /tmp", dir);
		dir = "/tmp";
		r = bind_console(sock, dir, conmon->shared->console_path);
	}
	if (r < 0)
		return failed(error, r, "Failed to bind console socket in", dir);
	if (listen(sock, 1) < 0)
		return failed(
			error, -errno, "Failed to listen on console socket", conmon->shared->console_path);
	return put(conmon, FD_CONSOLE_LISTEN, fd_steal(&sock));
}

void objects_remove_console(const Conmon *conmon)
{
	if (conmon->shared->console_path[0])
		(void)unlink(conmon->shared->console_path);
}

/* --- attach socket --- */

static char *symlink_path(const ConmonOptions *o)
{
	if (o->full_attach || !o->cuuid)
		return NULL;
	return text_format("%s/%s", o->socket_dir_path, o->cuuid);
}

static int create_symlink(const Conmon *conmon, char *error)
{
	text_auto char *path = symlink_path(conmon->options);
	struct stat st;

	if (!path)
		return 0;
	if (unlink(path) < 0 && errno != ENOENT)
		return failed(error, -errno, "Failed to remove existing symlink for attach socket", path);
	if (symlink(conmon->options->bundle, path) < 0 || lstat(path, &st) < 0)
		return failed(error, -errno, "Failed to create symlink for attach socket", path);
	conmon->reaper->symlink_dev = st.st_dev;
	conmon->reaper->symlink_ino = st.st_ino;
	return 0;
}

void objects_remove_symlink(const Conmon *conmon)
{
	const ConmonOptions *o = conmon->options;
	text_auto char *path = objects_has_attach(o) ? symlink_path(o) : NULL;
	struct stat st;

	if (path && lstat(path, &st) == 0 && st.st_dev == conmon->reaper->symlink_dev &&
		st.st_ino == conmon->reaper->symlink_ino)
		(void)unlink(path);
}

static int create_attach_socket(const Conmon *conmon, int dir_fd, char *error)
{
	cleanup_close int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;
	int r;

	if (sock < 0)
		return failed(error, -errno, "Failed to create attach socket", NULL);
	r = bind_in_dir(sock, dir_fd, "attach", 0700);
	if (r < 0)
		return failed(error, r, "Failed to bind attach socket in", conmon->options->bundle);
	if (listen(sock, ATTACH_BACKLOG) < 0 || fstatat(dir_fd, "attach", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return failed(error, -errno, "Failed to listen on attach socket in", conmon->options->bundle);
	conmon->reaper->attach_dev = st.st_dev;
	conmon->reaper->attach_ino = st.st_ino;
	return put(conmon, FD_ATTACH, fd_steal(&sock));
}

void objects_remove_attach(const Conmon *conmon)
{
	cleanup_close int dir_fd = -1;
	struct stat st;

	if (!objects_has_attach(conmon->options))
		return;
	dir_fd = open(conmon->options->bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0 || fstatat(dir_fd, "attach", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	if (st.st_dev == conmon->reaper->attach_dev && st.st_ino == conmon->reaper->attach_ino)
		(void)unlinkat(dir_fd, "attach", 0);
}

/* --- control FIFOs --- */

static int create_fifo(const Conmon *conmon, int dir_fd, const char *name, const char *reader,
	const char *keeper, char *error)
{
	cleanup_close int r_fd = -1, w_fd = -1;
	int r;

	if (unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
		return failed(error, -errno, "Failed to remove existing FIFO", name);
	if (mkfifoat(dir_fd, name, 0660) < 0)
		return failed(error, -errno, "Failed to create FIFO", name);
	r_fd = openat(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (r_fd < 0)
		return failed(error, -errno, "Failed to open FIFO", name);
	w_fd = openat(dir_fd, name, O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (w_fd < 0)
		return failed(error, -errno, "Failed to open FIFO", name);
	r = put(conmon, reader, fd_steal(&r_fd));
	return r < 0 ? r : put(conmon, keeper, fd_steal(&w_fd));
}

void objects_remove_fifos(const Conmon *conmon)
{
	cleanup_close int dir_fd = -1;

	if (!objects_has_attach(conmon->options))
		return;
	dir_fd = open(conmon->options->bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return;
	(void)unlinkat(dir_fd, "ctl", 0);
	(void)unlinkat(dir_fd, "winsz", 0);
}

static int create_bundle_objects(const Conmon *conmon, char *error)
{
	const char *bundle = conmon->options->bundle;
	cleanup_close int dir_fd = -1;
	int r;

	if (!objects_has_attach(conmon->options))
		return 0;
	dir_fd = open(bundle, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return failed(error, -errno, "Failed to open bundle", bundle);
	if ((r = create_symlink(conmon, error)) < 0 ||
		(r = create_attach_socket(conmon, dir_fd, error)) < 0 ||
		(r = create_fifo(conmon, dir_fd, "ctl", FD_CTL, FD_CTL_KEEP, error)) < 0)
		return r;
	return create_fifo(conmon, dir_fd, "winsz", FD_WINSZ, FD_WINSZ_KEEP, error);
}

int objects_create(const Conmon *conmon, char ret_error[OBJECTS_ERROR_MAX])
{
	int r;

	snprintf(ret_error, OBJECTS_ERROR_MAX,
		"Too many descriptors"); /* if nothing below finds better words */
	if ((r = create_pipes(conmon, ret_error)) < 0 || (r = create_console_socket(conmon, ret_error)) < 0)
		return r;
	r = create_bundle_objects(conmon, ret_error);
	if (r < 0)
		objects_remove_console(conmon);
	return r;
}

void objects_close_child_ends(const Conmon *conmon)
{
	fd_store_close(conmon->store, FD_CHILD_STDIN);
	fd_store_close(conmon->store, FD_CHILD_STDOUT);
	fd_store_close(conmon->store, FD_CHILD_STDERR);
}
