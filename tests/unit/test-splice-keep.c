/* netns-helper/splice-keep: what of the table is left when systemd has given back some of what it names. */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netns-helper/splice-keep.h"

#define KEPT_ALL 2 /* SpliceFlow.kept: both messages are out */
#define NOT_OPEN 900 /* a number that no descriptor has */

/* A TCP connection: [0] for the table, [1] its peer. */
static void tcp_pair(int fds[2])
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(in);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(bind(listener, (struct sockaddr *)&in, sizeof(in)), ==, 0);
	g_assert_cmpint(listen(listener, 1), ==, 0);
	g_assert_cmpint(getsockname(listener, (struct sockaddr *)&in, &size), ==, 0);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(connect(fds[0], (struct sockaddr *)&in, sizeof(in)), ==, 0);
	fds[1] = accept(listener, NULL, NULL);
	g_assert_cmpint(fds[1], >=, 0);
	(void)close(listener);
}

typedef struct {
	SpliceTable *table;
	SpliceFlow *flow;
	int peer[2];
} Fixture;

/* One connection that is whole, with a pipe in use. */
static void set_up(Fixture *f, const void *data)
{
	int fds[2];

	f->table = splice_table_new();
	g_assert_nonnull(f->table);
	f->table->flows_top = f->table->pipes_top = 1;
	f->flow = &f->table->flows[0];
	for (int side = 0; side < 2; side++) {
		tcp_pair(fds);
		f->flow->fd[side] = fds[0];
		f->peer[side] = fds[1];
	}
	g_assert_cmpint(pipe2(fds, O_NONBLOCK | O_CLOEXEC), ==, 0);
	f->table->pipes[0].read_fd = fds[0] + 1;
	f->table->pipes[0].write_fd = fds[1] + 1;
	f->flow->half[SPLICE_GUEST].pipe = 1;
	f->flow->kept = KEPT_ALL;
	f->flow->phase = SPLICE_OPEN;
	f->table->nursery[0][3] = NOT_OPEN + 1;
}

static void tear_down(Fixture *f, const void *data)
{
	for (int side = 0; side < 2; side++)
		(void)close(f->peer[side]);
	f->table->nursery[0][3] = 0;
	splice_table_clear(f->table);
}

static void assert_gone(Fixture *f)
{
	g_assert_cmpuint(f->flow->phase, ==, SPLICE_FREE);
	g_assert_cmpint(f->flow->fd[SPLICE_GUEST], ==, -1);
}

static void assert_reset(int peer)
{
	char byte;

	g_assert_cmpint(recv(peer, &byte, 1, 0), ==, -1);
	g_assert_cmpint(errno, ==, ECONNRESET);
}

static void test_whole(Fixture *f, const void *data)
{
	int guest = f->flow->fd[SPLICE_GUEST];

	splice_keep_repair(f->table);
	g_assert_cmpuint(f->flow->phase, ==, SPLICE_OPEN);
	g_assert_cmpint(f->flow->fd[SPLICE_GUEST], ==, guest);
	g_assert_cmpint(f->table->pipes[0].read_fd, !=, 0);
	g_assert_cmpint(f->table->nursery[0][3], ==, 0);
	g_assert_cmpint(recv(f->peer[0], (char[1]){0}, 1, MSG_DONTWAIT), ==, -1);
	g_assert_cmpint(errno, ==, EAGAIN);
}

static void test_one_side(Fixture *f, const void *data)
{
	int guest = f->flow->fd[SPLICE_GUEST];

	(void)close(f->flow->fd[SPLICE_HOST]);
	splice_keep_repair(f->table);
	assert_gone(f);
	assert_reset(f->peer[SPLICE_GUEST]);
	(void)close(guest);
}

/* Its number is there, but it is something else. */
static void test_other_kind(Fixture *f, const void *data)
{
	int guest = f->flow->fd[SPLICE_GUEST], host = f->flow->fd[SPLICE_HOST], null = open("/dev/null", O_RDWR | O_CLOEXEC);

	g_assert_cmpint(dup3(null, host, O_CLOEXEC), ==, host);
	splice_keep_repair(f->table);
	assert_gone(f);
	assert_reset(f->peer[SPLICE_GUEST]);
	g_assert_cmpint(fcntl(host, F_GETFD), >=, 0);
	(void)close(null);
	(void)close(guest);
	(void)close(host);
}

static void test_pipe(Fixture *f, const void *data)
{
	int guest = f->flow->fd[SPLICE_GUEST], host = f->flow->fd[SPLICE_HOST], read_fd = f->table->pipes[0].read_fd - 1;

	(void)close(f->table->pipes[0].write_fd - 1);
	splice_keep_repair(f->table);
	assert_gone(f);
	g_assert_cmpint(f->table->pipes[0].read_fd, ==, 0);
	assert_reset(f->peer[SPLICE_GUEST]);
	assert_reset(f->peer[SPLICE_HOST]);
	(void)close(guest);
	(void)close(host);
	(void)close(read_fd);
}

static void test_half_given(Fixture *f, const void *data)
{
	int guest = f->flow->fd[SPLICE_GUEST], host = f->flow->fd[SPLICE_HOST];

	f->flow->kept = KEPT_ALL - 1;
	splice_keep_repair(f->table);
	assert_gone(f);
	assert_reset(f->peer[SPLICE_HOST]);
	(void)close(guest);
	(void)close(host);
}

/* What was ending in good order still does: its descriptors are closed, not reset. */
static void test_ending(Fixture *f, const void *data)
{
	int guest = f->flow->fd[SPLICE_GUEST], host = f->flow->fd[SPLICE_HOST];
	char byte;

	f->flow->phase = SPLICE_ENDING;
	splice_keep_repair(f->table);
	assert_gone(f);
	(void)close(guest);
	(void)close(host);
	g_assert_cmpint(recv(f->peer[SPLICE_HOST], &byte, 1, 0), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add("/splice-keep/repair/whole-is-left-alone", Fixture, NULL, set_up, test_whole, tear_down);
	g_test_add("/splice-keep/repair/one-side-is-reset", Fixture, NULL, set_up, test_one_side, tear_down);
	g_test_add("/splice-keep/repair/number-of-something-else", Fixture, NULL, set_up, test_other_kind, tear_down);
	g_test_add("/splice-keep/repair/lost-pipe-resets-both-sides", Fixture, NULL, set_up, test_pipe, tear_down);
	g_test_add("/splice-keep/repair/half-given-is-reset", Fixture, NULL, set_up, test_half_given, tear_down);
	g_test_add("/splice-keep/repair/orderly-end-stays-one", Fixture, NULL, set_up, test_ending, tear_down);
	return g_test_run();
}
