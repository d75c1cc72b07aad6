/* common/fd-store: the registry over the shared descriptor table. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd-store.h"
#include "common/fd-util.h"
#include "common/process.h"

static int null_fd(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void test_put_get_forget(void)
{
	FdStore *store = fd_store_new();
	int fd = null_fd();

	g_assert_cmpint(fd_store_put(store, "tap", fd), ==, 0);
	g_assert_cmpint(fd_store_put(store, "tap", fd), ==, -EEXIST);
	g_assert_cmpint(fd_store_get(store, "tap"), ==, fd);
	g_assert_true(fd_store_has_fd(store, fd));
	g_assert_cmpint(fd_store_forget(store, "tap"), ==, fd);
	g_assert_cmpint(fd_store_get(store, "tap"), ==, -ENOENT);
	g_assert_true(fd_is_open(fd));
	g_assert_cmpint(fd_store_put(store, "tap", fd), ==, 0);
	fd_store_close(store, "tap");
	g_assert_false(fd_is_open(fd));
	fd_store_close(store, "tap");
}

static void test_bad_names(void)
{
	FdStore *store = fd_store_new();
	char longest[FD_STORE_NAME_MAX + 1];

	memset(longest, 'a', sizeof(longest));
	longest[FD_STORE_NAME_MAX] = '\0';
	g_assert_cmpint(fd_store_put(store, longest, 0), ==, -EINVAL);
	longest[FD_STORE_NAME_MAX - 1] = '\0';
	g_assert_cmpint(fd_store_put(store, longest, 0), ==, 0);
	g_assert_cmpint(fd_store_put(store, "", 0), ==, -EINVAL);
	g_assert_cmpint(fd_store_put(store, "a:b", 0), ==, -EINVAL); /* ':' separates $LISTEN_FDNAMES */
	g_assert_cmpint(fd_store_put(store, "a b", 0), ==, -EINVAL);
	g_assert_cmpint(fd_store_put(store, "ok", -1), ==, -EINVAL);
}

static void test_full(void)
{
	FdStore *store = fd_store_new();
	char name[16];

	for (int i = 0; i < FD_STORE_MAX; i++) {
		(void)snprintf(name, sizeof(name), "n%d", i);
		g_assert_cmpint(fd_store_put(store, name, 0), ==, 0);
	}
	g_assert_cmpint(fd_store_put(store, "more", 0), ==, -ENOBUFS);
	g_assert_cmpint(fd_store_forget(store, "n7"), ==, 0);
	g_assert_cmpint(fd_store_put(store, "more", 0), ==, 0);
}

static void test_replace_closes_the_old(void)
{
	FdStore *store = fd_store_new();
	int a = null_fd(), b = null_fd();

	g_assert_cmpint(fd_store_replace(store, "log", a), ==, 0);
	g_assert_cmpint(fd_store_replace(store, "log", a), ==, 0);
	g_assert_true(fd_is_open(a));
	g_assert_cmpint(fd_store_replace(store, "log", b), ==, 0);
	g_assert_false(fd_is_open(a));
	g_assert_cmpint(fd_store_get(store, "log"), ==, b);
	fd_store_close(store, "log");
}

static void test_entry_of_a_killed_process_stays(void)
{
	FdStore *store = fd_store_new();
	pid_t pid = process_clone_shared(NULL);
	const char *name;
	int fd, n = 0, status;

	if (pid == 0) {
		(void)fd_store_put(store, "born-elsewhere", null_fd());
		(void)raise(SIGKILL);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFSIGNALED(status));
	fd = fd_store_get(store, "born-elsewhere");
	g_assert_true(fd_is_open(fd));
	for (size_t i = 0; fd_store_next(store, &i, &name, &fd);)
		n++;
	g_assert_cmpint(n, ==, 1);
	fd_store_close(store, "born-elsewhere");
}

static void test_pipe(void)
{
	FdStore *store = fd_store_new();
	int r, w, again_r, again_w;
	char c = 'x';

	g_assert_cmpint(fd_store_pipe(store, "p", &r, &w), ==, 0);
	g_assert_cmpint(fd_store_pipe(store, "p", &again_r, &again_w), ==, 0);
	g_assert_cmpint(again_r, ==, r);
	g_assert_cmpint(again_w, ==, w);
	g_assert_cmpint(fd_store_get(store, "p.r"), ==, r);
	g_assert_cmpint(read(r, &c, 1), ==, -1);
	g_assert_cmpint(errno, ==, EAGAIN);
	g_assert_cmpint(write(w, &c, 1), ==, 1);
	g_assert_cmpint(read(r, &c, 1), ==, 1);
	fd_store_close(store, "p.r");
	fd_store_close(store, "p.w");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fd-store/put/get-and-forget", test_put_get_forget);
	g_test_add_func("/fd-store/put/bad-names-refused", test_bad_names);
	g_test_add_func("/fd-store/put/refused-when-full", test_full);
	g_test_add_func("/fd-store/replace/closes-the-old", test_replace_closes_the_old);
	g_test_add_func("/fd-store/pipe/made-once", test_pipe);
	g_test_add_func(
		"/fd-store/shared/entry-of-a-killed-process-stays", test_entry_of_a_killed_process_stays);
	return g_test_run();
}
