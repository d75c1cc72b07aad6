/* What systemd gives back: numbers, names, memory. The other side is tested in a booted systemd (tests/system/systemd-units.py). */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd-keep.h"
#include "common/fd-pass.h"
#include "common/fd-util.h"

typedef struct {
	char dir[64], path[108];
	int sock;
} Fixture;

static void set_up(Fixture *f, const void *data)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	strcpy(f->dir, "/tmp/test-fd-keep-XXXXXX");
	g_assert_nonnull(g_mkdtemp(f->dir));
	(void)snprintf(f->path, sizeof(f->path), "%s/notify", f->dir);
	strcpy(un.sun_path, f->path);
	f->sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(bind(f->sock, (struct sockaddr *)&un, sizeof(un)), ==, 0);
	g_setenv("NOTIFY_SOCKET", f->path, TRUE);
	g_setenv("TANDEM_SYSTEMD", "1", TRUE);
}

static void tear_down(Fixture *f, const void *data)
{
	close(f->sock);
	unlink(f->path);
	rmdir(f->dir);
	g_unsetenv("NOTIFY_SOCKET");
	g_unsetenv("TANDEM_SYSTEMD");
}

static void test_wanted(Fixture *f, const void *data)
{
	g_assert_true(fd_keep_is_wanted());
	g_unsetenv("TANDEM_SYSTEMD");
	g_assert_false(fd_keep_is_wanted());
}

static void test_add(Fixture *f, const void *data)
{
	FdStore *store = fd_store_new();
	char text[256];
	struct stat sent, came;
	size_t n_fds = 4;
	int fds[4], fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	char want[128];
	ssize_t n;

	g_assert_cmpint(fd_keep_take(store), ==, 0);
	g_assert_cmpint(fd_keep_add(store, "link.tap", fd), ==, 0);
	n = fd_pass_recv_any(f->sock, text, sizeof(text) - 1, fds, &n_fds);
	g_assert_cmpint(n, >, 0);
	text[n] = '\0';
	(void)snprintf(want, sizeof(want), "FDSTORE=1\nFDPOLL=0\nFDNAME=%d.link.tap", fd);
	g_assert_cmpstr(text, ==, want);
	g_assert_cmpint(n_fds, ==, 1);
	g_assert_cmpint(fstat(fd, &sent), ==, 0);
	g_assert_cmpint(fstat(fds[0], &came), ==, 0);
	g_assert_cmpint(sent.st_rdev, ==, came.st_rdev);
	close(fds[0]);
	close(fd);
}

static void test_silent_without_socket(Fixture *f, const void *data)
{
	FdStore *store = fd_store_new();

	g_assert_cmpint(fd_keep_add(store, "link.tap", 0), ==, 0);
	fd_keep_remove(store, "link.tap", 0);
	fd_keep_notify(store, "READY=1");
	g_assert_cmpint(recv(f->sock, (char[8]){0}, 8, MSG_DONTWAIT), ==, -1);
	g_assert_cmpint(errno, ==, EAGAIN);
}

static bool is_fifty(int fd, void *data)
{
	++*(int *)data;
	return fd == 50;
}

/* In a child, whose descriptors 3 to 7 are what systemd passed. */
static void take_in_child(void)
{
	FdStore *store = fd_store_new();
	struct stat a, b;
	char pid[16], text[64];
	int asked = 0;
	ssize_t n;

	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	g_setenv("LISTEN_PID", pid, TRUE);
	g_setenv("LISTEN_FDS", "5", TRUE);
	g_setenv("LISTEN_FDNAMES", "4.a:3.b:50.-p:nonsense:51.-c", TRUE);
	g_assert_cmpint(fd_keep_take(store), ==, 4);
	/* 3 and 4 have changed places */
	g_assert_cmpint(fd_store_get(store, "a"), ==, 4);
	g_assert_cmpint(fd_store_get(store, "b"), ==, 3);
	g_assert_cmpint(fstat(4, &a), ==, 0);
	g_assert_cmpint(fstat(3, &b), ==, 0);
	g_assert_true(S_ISCHR(a.st_mode));
	g_assert_true(S_ISDIR(b.st_mode));
	g_assert_cmpint(fstat(50, &a), ==, 0);
	g_assert_true(S_ISREG(a.st_mode));
	g_assert_cmpint(fd_store_get(store, "-p"), ==, -ENOENT);
	g_assert_cmpint(fcntl(6, F_GETFD), ==, -1); /* a name that is none of ours: closed */
	g_assert_cmpint(fcntl(4, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
	g_assert_null(g_getenv("LISTEN_FDS"));
	/* of those without a name in the registry only 50 is still of use */
	fd_keep_drop_unknown(store, is_fifty, &asked);
	g_assert_cmpint(asked, ==, 2);
	g_assert_cmpint(fcntl(50, F_GETFD), >=, 0);
	g_assert_cmpint(fcntl(51, F_GETFD), ==, -1);
	g_assert_cmpint(fcntl(3, F_GETFD), >=, 0);
	n = recv(60, text, sizeof(text) - 1, MSG_DONTWAIT);
	g_assert_cmpint(n, >, 0);
	text[n] = '\0';
	g_assert_cmpstr(text, ==, "FDSTOREREMOVE=1\nFDNAME=51.-c");
	_exit(0);
}

static void place(int number, const char *path)
{
	int fd = open(path, O_RDONLY);

	g_assert_cmpint(dup2(fd, number), ==, number);
	if (fd != number)
		close(fd);
}

static void test_take(Fixture *f, const void *data)
{
	if (g_test_subprocess()) {
		g_assert_cmpint(dup2(f->sock, 60), ==, 60); /* systemd's end, out of the way */
		place(3, "/dev/null");
		place(4, "/tmp");
		place(5, "/proc/self/status");
		place(6, "/dev/zero");
		place(7, "/dev/full");
		(void)close_range(8, 59, 0);
		take_in_child();
	}
	g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_INHERIT_STDERR);
	g_test_trap_assert_passed();
}

static void test_memory(Fixture *f, const void *data)
{
	FdStore *store = fd_store_new();
	bool restored = true;
	char *first = fd_keep_memory(store, "memory.x", 4096, &restored), *second, *third;

	g_assert_nonnull(first);
	g_assert_false(restored);
	first[100] = 'k';
	second = fd_keep_memory(store, "memory.x", 4096, &restored);
	g_assert_true(restored);
	g_assert_cmpint(second[100], ==, 'k');
	third = fd_keep_memory(store, "memory.x", 8192, &restored); /* another layout */
	g_assert_false(restored);
	g_assert_cmpint(third[100], ==, 0);
	fd_store_close(store, "memory.x");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add("/fd-keep/only-wanted-when-the-unit-says-so", Fixture, NULL, set_up, test_wanted, tear_down);
	g_test_add("/fd-keep/add/number-and-name-and-descriptor-sent", Fixture, NULL, set_up, test_add, tear_down);
	g_test_add("/fd-keep/silent-without-a-socket", Fixture, NULL, set_up, test_silent_without_socket, tear_down);
	g_test_add("/fd-keep/take/every-descriptor-gets-its-number-back", Fixture, NULL, set_up, test_take, tear_down);
	g_test_add("/fd-keep/memory/restored-if-the-size-is-the-same", Fixture, NULL, set_up, test_memory, tear_down);
	return g_test_run();
}
