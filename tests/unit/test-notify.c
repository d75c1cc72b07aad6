/* common/notify against libsystemd, both ways. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/fd-pass.h"
#include "common/fd-util.h"
#include "common/notify.h"

static char *dir, *path;

static int listener(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	(void)g_unlink(path);
	(void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	g_assert_cmpint(bind(fd, (struct sockaddr *)&un, sizeof(un)), ==, 0);
	g_setenv("NOTIFY_SOCKET", path, TRUE);
	return fd;
}

static void test_we_read_what_libsystemd_writes(void)
{
	cleanup_close int sock = listener();
	char buf[NOTIFY_MESSAGE_MAX];
	int fds[4];
	size_t n_fds = 4;
	NotifyMessage message;
	ssize_t n;

	g_assert_cmpint(
		sd_pid_notify_with_fds(0, 0,
			"FDSTORE=1\nFDNAME=tap\nREADY=1\nSTATUS=serving 3 ports\nUNKNOWN=1", (int[]){0}, 1),
		>, 0);
	n = fd_pass_recv_any(sock, buf, sizeof(buf), fds, &n_fds);
	g_assert_cmpint((int)n, >, 0);
	g_assert_cmpuint(n_fds, ==, 1);
	(void)close(fds[0]);
	g_assert_cmpint(notify_parse(buf, (size_t)n, &message), ==, 0);
	g_assert_true(message.ready && message.fdstore && !message.watchdog && !message.stopping &&
		      !message.fdstore_remove);
	g_assert_cmpstr(message.fdname, ==, "tap");
	g_assert_cmpstr(message.status, ==, "serving 3 ports");
}

static void test_ours_arrives_with_its_descriptor(void)
{
	cleanup_close int sock = listener();
	char buf[NOTIFY_MESSAGE_MAX + 1];
	int fds[4];
	size_t n_fds = 4;
	ssize_t n;

	g_assert_cmpint(notify_store_fd("api.listen", 0), ==, 0);
	n = fd_pass_recv_any(sock, buf, sizeof(buf) - 1, fds, &n_fds);
	g_assert_cmpint((int)n, >, 0);
	buf[n] = '\0';
	g_assert_cmpstr(buf, ==, "FDSTORE=1\nFDNAME=api.listen");
	g_assert_cmpuint(n_fds, ==, 1);
	(void)close(fds[0]);
	g_assert_cmpint(notify_remove_fd("api.listen"), ==, 0);
	n_fds = 4;
	n = fd_pass_recv_any(sock, buf, sizeof(buf) - 1, fds, &n_fds);
	buf[n] = '\0';
	g_assert_cmpstr(buf, ==, "FDSTOREREMOVE=1\nFDNAME=api.listen");
	g_unsetenv("NOTIFY_SOCKET");
	g_assert_cmpint(notify_send("READY=1", NULL, 0), ==, -ENOTCONN);
}

static void test_bad_messages(void)
{
	NotifyMessage message;
	char longest[FD_STORE_NAME_MAX + 16];

	g_assert_cmpint(notify_parse("READY=1\0STOPPING=1", 18, &message), ==, -EINVAL);
	g_assert_cmpint(notify_parse("READY=10\nXREADY=1\nWATCHDOG=trigger", 34, &message), ==, 0);
	g_assert_false(message.ready || message.watchdog);
	memset(longest, 'a', sizeof(longest));
	memcpy(longest, "FDNAME=", 7);
	g_assert_cmpint(notify_parse(longest, sizeof(longest), &message), ==, -EINVAL);
	g_assert_cmpint(notify_parse("", 0, &message), ==, 0);
}

/* In a child, because descriptors 3 and 4 must be the passed ones. */
static void test_listen_fds_are_taken_over(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		FdStore *store = fd_store_new();
		char text[16];
		int r;

		(void)dup2(0, 3);
		(void)dup2(0, 4);
		(void)snprintf(text, sizeof(text), "%d", (int)getpid());
		g_setenv("LISTEN_PID", text, TRUE);
		g_setenv("LISTEN_FDS", "2", TRUE);
		g_setenv("LISTEN_FDNAMES", "tap:bad name", TRUE);
		r = notify_take_listen_fds(store);
		_exit(r == 1 && fd_store_get(store, "tap") == 3 && (fcntl(3, F_GETFD) & FD_CLOEXEC) &&
					!fd_is_open(4) && !getenv("LISTEN_FDS")
				? 0
				: 1);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_cmpint(status, ==, 0);
	g_setenv("LISTEN_PID", "1", TRUE);
	g_setenv("LISTEN_FDS", "2", TRUE);
	g_assert_cmpint(notify_take_listen_fds(NULL), ==, 0); /* meant for another process */
}

int main(int argc, char **argv)
{
	int r;

	g_test_init(&argc, &argv, NULL);
	dir = g_dir_make_tmp("tandem-notify-XXXXXX", NULL);
	path = g_build_filename(dir, "sock", NULL);
	g_test_add_func("/notify/parse/what-libsystemd-writes", test_we_read_what_libsystemd_writes);
	g_test_add_func("/notify/parse/bad-messages", test_bad_messages);
	g_test_add_func("/notify/send/arrives-with-descriptor", test_ours_arrives_with_its_descriptor);
	g_test_add_func("/notify/listen-fds/taken-over", test_listen_fds_are_taken_over);
	r = g_test_run();
	(void)g_unlink(path);
	(void)g_rmdir(dir);
	return r;
}
