/* common/fd-util */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd-util.h"

static void test_close_keeps_errno(void)
{
	errno = ERANGE;
	g_assert_cmpint(fd_close(-1), ==, -1);
	g_assert_cmpint(errno, ==, ERANGE);
	g_assert_cmpint(fd_close(9999), ==, -1);
	g_assert_cmpint(errno, ==, ERANGE);
}

static void test_scope_closes(void)
{
	int number;

	{
		cleanup_close int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

		number = fd;
		g_assert_true(fd_is_open(number));
	}
	g_assert_false(fd_is_open(number));
}

static void test_flags(void)
{
	int p[2];

	g_assert_cmpint(pipe(p), ==, 0);
	g_assert_cmpint(fd_set_nonblock(p[0], true), ==, 0);
	g_assert_true(fcntl(p[0], F_GETFL) & O_NONBLOCK);
	g_assert_cmpint(fd_set_nonblock(p[0], false), ==, 0);
	g_assert_false(fcntl(p[0], F_GETFL) & O_NONBLOCK);
	g_assert_cmpint(fd_set_cloexec(p[0], true), ==, 0);
	g_assert_true(fcntl(p[0], F_GETFD) & FD_CLOEXEC);
	(void)close(p[0]);
	g_assert_cmpint(fd_set_cloexec(p[0], true), ==, -EBADF);
	(void)close(p[1]);
}

static void test_read_file_is_cut_and_terminated(void)
{
	g_autofree char *path = g_build_filename(g_get_tmp_dir(), "tandem-test-read", NULL);
	char buf[5];

	g_assert_true(g_file_set_contents(path, "abcdefgh", 8, NULL));
	g_assert_cmpint((int)fd_read_file(path, buf, sizeof(buf)), ==, 4);
	g_assert_cmpstr(buf, ==, "abcd");
	(void)g_unlink(path);
	g_assert_cmpint((int)fd_read_file(path, buf, sizeof(buf)), ==, -ENOENT);
}

static void test_replace_file_is_whole_or_not_at_all(void)
{
	g_autofree char *dir = g_dir_make_tmp("tandem-XXXXXX", NULL),
			*path = g_build_filename(dir, "exit", NULL), *content = NULL;
	cleanup_close int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	GDir *list;

	g_assert_cmpint(fd_replace_file(dir_fd, "exit", "137", 3, 0644), ==, 0);
	g_assert_cmpint(fd_replace_file(dir_fd, "exit", "0", 1, 0644), ==, 0);
	g_assert_true(g_file_get_contents(path, &content, NULL, NULL));
	g_assert_cmpstr(content, ==, "0");
	g_assert_cmpint(stat(path, &st), ==, 0);
	g_assert_cmpint(st.st_mode & 0777, ==, 0644);
	/* a directory in the way: the error is told and no temporary file stays */
	(void)g_unlink(path);
	g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
	g_assert_cmpint(fd_replace_file(dir_fd, "exit", "1", 1, 0644), ==, -EISDIR);
	list = g_dir_open(dir, 0, NULL);
	g_assert_cmpstr(g_dir_read_name(list), ==, "exit");
	g_assert_null(g_dir_read_name(list));
	g_dir_close(list);
	(void)g_rmdir(path);
	(void)g_rmdir(dir);
}

static void test_write_all_reports_a_dead_reader(void)
{
	int p[2];

	g_assert_cmpint(pipe(p), ==, 0);
	(void)close(p[0]);
	g_assert_cmpint(fd_write_all(p[1], "x", 1), ==, -EPIPE);
	(void)close(p[1]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)umask(0022);
	g_test_add_func("/fd-util/close/keeps-errno", test_close_keeps_errno);
	g_test_add_func("/fd-util/cleanup-close/closes-at-end-of-scope", test_scope_closes);
	g_test_add_func("/fd-util/flags/set-and-clear", test_flags);
	g_test_add_func("/fd-util/read-file/cut-and-terminated", test_read_file_is_cut_and_terminated);
	g_test_add_func(
		"/fd-util/replace-file/whole-or-not-at-all", test_replace_file_is_whole_or_not_at_all);
	g_test_add_func("/fd-util/write-all/reports-a-dead-reader", test_write_all_reports_a_dead_reader);
	return g_test_run();
}
