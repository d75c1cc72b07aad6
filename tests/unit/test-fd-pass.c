/* common/fd-pass: what is refused is also closed. */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd-pass.h"
#include "common/fd-util.h"

static int open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}

static void make_pair(int sv[2])
{
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), ==, 0);
}

static void test_exact(void)
{
	int sv[2], fds[2] = {0, 1}, got[2], before;
	char buf[8];

	make_pair(sv);
	before = open_fds();
	g_assert_cmpint(fd_pass_send(sv[0], "hello", 5, fds, 2), ==, 0);
	g_assert_cmpint((int)fd_pass_recv(sv[1], buf, sizeof(buf), got, 2), ==, 5);
	g_assert_cmpint(memcmp(buf, "hello", 5), ==, 0);
	g_assert_cmpint(open_fds(), ==, before + 2);
	g_assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
	(void)close(got[0]);
	(void)close(got[1]);
	(void)close(sv[0]);
	g_assert_cmpint((int)fd_pass_recv(sv[1], buf, sizeof(buf), got, 2), ==, 0);
	(void)close(sv[1]);
}

static void test_descriptors_alone(void)
{
	int sv[2], fds[1] = {0}, got[1];
	size_t n = 1;
	char buf[8];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, sv), ==, 0);
	g_assert_cmpint(fd_pass_send(sv[0], "", 0, NULL, 0), ==, -EINVAL);
	g_assert_cmpint(fd_pass_send(sv[0], "", 0, fds, 1), ==, 0); /* as the journal takes large entries */
	g_assert_cmpint((int)fd_pass_recv_any(sv[1], buf, sizeof(buf), got, &n), ==, 0);
	g_assert_cmpuint(n, ==, 1);
	(void)close(got[0]);
	(void)close(sv[0]);
	(void)close(sv[1]);
}

static void test_wrong_number_is_closed_again(void)
{
	int sv[2], fds[3] = {0, 1, 2}, got[1], before;
	char buf[8];

	make_pair(sv);
	before = open_fds();
	g_assert_cmpint(fd_pass_send(sv[0], "x", 1, fds, 3), ==, 0);
	g_assert_cmpint((int)fd_pass_recv(sv[1], buf, sizeof(buf), got, 1), ==, -EPROTO);
	g_assert_cmpint(open_fds(), ==, before);
	g_assert_cmpint(fd_pass_send(sv[0], "x", 1, NULL, 0), ==, 0);
	g_assert_cmpint((int)fd_pass_recv(sv[1], buf, sizeof(buf), got, 1), ==, -EPROTO);
	(void)close(sv[0]);
	(void)close(sv[1]);
}

static void test_cut_payload_is_refused(void)
{
	int sv[2], fds[1] = {0}, got[1], before;
	char buf[4];

	make_pair(sv);
	before = open_fds();
	g_assert_cmpint(fd_pass_send(sv[0], "too long", 8, fds, 1), ==, 0);
	g_assert_cmpint((int)fd_pass_recv(sv[1], buf, sizeof(buf), got, 1), ==, -EMSGSIZE);
	g_assert_cmpint(open_fds(), ==, before);
	g_assert_cmpint((int)fd_pass_recv(sv[1], buf, sizeof(buf), got, 1), ==, -EAGAIN);
	(void)close(sv[0]);
	(void)close(sv[1]);
}

static void test_dead_peer_and_bad_arguments(void)
{
	int sv[2], fds[1] = {0};

	make_pair(sv);
	g_assert_cmpint(fd_pass_send(sv[0], "", 0, NULL, 0), ==, -EINVAL);
	g_assert_cmpint(fd_pass_send(sv[0], "x", 1, fds, FD_PASS_MAX + 1), ==, -EINVAL);
	(void)close(sv[1]);
	g_assert_cmpint(fd_pass_send(sv[0], "x", 1, fds, 1), ==, -EPIPE); /* and no SIGPIPE */
	(void)close(sv[0]);
}

static void test_full_message(void)
{
	int sv[2], fds[FD_PASS_MAX], got[FD_PASS_MAX], before;
	char buf[4];

	make_pair(sv);
	for (int i = 0; i < FD_PASS_MAX; i++)
		fds[i] = 0;
	before = open_fds();
	g_assert_cmpint(fd_pass_send(sv[0], "x", 1, fds, FD_PASS_MAX), ==, 0);
	g_assert_cmpint((int)fd_pass_recv(sv[1], buf, sizeof(buf), got, FD_PASS_MAX), ==, 1);
	g_assert_cmpint(open_fds(), ==, before + FD_PASS_MAX);
	for (int i = 0; i < FD_PASS_MAX; i++)
		(void)close(got[i]);
	(void)close(sv[0]);
	(void)close(sv[1]);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/fd-pass/descriptors-without-payload", test_descriptors_alone);
	g_test_add_func("/fd-pass/recv/exact-number-close-on-exec", test_exact);
	g_test_add_func("/fd-pass/recv/wrong-number-refused-and-closed", test_wrong_number_is_closed_again);
	g_test_add_func("/fd-pass/recv/cut-payload-refused-and-closed", test_cut_payload_is_refused);
	g_test_add_func("/fd-pass/recv/largest-message", test_full_message);
	g_test_add_func("/fd-pass/send/dead-peer-and-bad-arguments", test_dead_peer_and_bad_arguments);
	return g_test_run();
}
