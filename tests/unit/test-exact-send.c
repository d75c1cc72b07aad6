/* conmon/exact-send: each datagram arrives once, whatever dies in between. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/shared-memory.h"
#include "conmon/exact-send.h"
#include "kill-steps.h"

#define DATAGRAMS 12

typedef struct {
	ExactSend send;
	FdStore *store;
	uint64_t next;		/* number of the datagram to be sent */
	int ours, theirs;
	size_t size;
} World;

static World *world_new(int type, size_t size)
{
	World *world = shared_memory_new(sizeof(*world));
	int ends[2];

	g_assert_nonnull(world);
	world->store = fd_store_new();
	world->size = size;
	g_assert_cmpint(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), ==, 0);
	world->ours = ends[0];
	world->theirs = ends[1];
	g_assert_cmpint(exact_send_open(&world->send, world->store, "send"), ==, 0);
	return world;
}

static void world_free(World *world)
{
	close(world->ours);
	if (world->theirs >= 0)
		close(world->theirs);
	fd_store_close(world->store, "send.r");
	fd_store_close(world->store, "send.w");
}

static int send_next(World *world)
{
	g_autofree char *body = g_malloc(world->size);
	char head = (char)world->next;
	struct iovec iov[2] = { { &head, 1 }, { body, world->size - 1 } };
	ExactTicket ticket = { .to = world->next + 1 };
	int r;

	memset(body, (int)world->next, world->size);
	r = exact_send(&world->send, &ticket, world->ours, iov, 2, world->size);
	if (r < 0)
		return r;
	world->next = ticket.to;
	exact_send_done(&world->send);
	return 0;
}

static void send_all(void *data)
{
	World *world = data;
	ExactTicket ticket;

	if (exact_send_recover(&world->send, &ticket)) {
		world->next = ticket.to;
		exact_send_done(&world->send);
	}
	while (world->next < DATAGRAMS)
		if (send_next(world) < 0)
			_exit(1);
}

static void assert_received(World *world)
{
	g_autofree char *buf = g_malloc(world->size + 1);

	for (int i = 0; i < DATAGRAMS; i++) {
		g_assert_cmpint(recv(world->theirs, buf, world->size + 1, 0), ==, world->size);
		for (size_t k = 0; k < world->size; k++)
			g_assert_cmpint(buf[k], ==, (char)i);
	}
	g_assert_cmpint(recv(world->theirs, buf, 1, 0), ==, -1);
	g_assert_cmpint(errno, ==, EAGAIN);
}

static void kill_everywhere(int type, size_t size, KillUnit unit, long stride)
{
	bool ended = false;

	for (long step = 1; !ended; step += stride) {
		World *world = world_new(type, size);

		ended = kill_at_step(send_all, world, unit, step);
		run_to_end(send_all, world);
		assert_received(world);
		world_free(world);
	}
}

static void test_seqpacket(void)
{
	kill_everywhere(SOCK_SEQPACKET, 8193, KILL_AT_SYSCALL, 1);
}

static void test_datagram(void)
{
	kill_everywhere(SOCK_DGRAM, 3000, KILL_AT_SYSCALL, 1);
}

static void test_instructions(void)
{
	kill_everywhere(SOCK_SEQPACKET, 5, KILL_AT_INSTRUCTION, 131);
}

static void test_largest(void)
{
	World *world = world_new(SOCK_SEQPACKET, EXACT_SEND_MAX);
	g_autofree char *buf = g_malloc(EXACT_SEND_MAX + 1);

	g_assert_cmpint(send_next(world), ==, 0);
	g_assert_cmpint(recv(world->theirs, buf, EXACT_SEND_MAX + 1, 0), ==, EXACT_SEND_MAX);
	world_free(world);
}

static void test_full(void)
{
	World *world = world_new(SOCK_SEQPACKET, 8193);
	char buf[8193];
	uint64_t sent;
	int r;

	while ((r = send_next(world)) == 0)
		;
	g_assert_cmpint(r, ==, -EAGAIN);
	sent = world->next;
	g_assert_cmpint(send_next(world), ==, -EAGAIN);
	g_assert_cmpuint(world->next, ==, sent);
	while (recv(world->theirs, buf, sizeof(buf), 0) > 0)
		;
	g_assert_cmpint(send_next(world), ==, 0);
	g_assert_cmpint(recv(world->theirs, buf, sizeof(buf), 0), ==, 8193);
	g_assert_cmpint(buf[0], ==, (char)sent);
	world_free(world);
}

static void test_gone(void)
{
	World *world = world_new(SOCK_SEQPACKET, 100);

	(void)signal(SIGPIPE, SIG_IGN);
	close(world->theirs);
	world->theirs = -1;
	g_assert_cmpint(send_next(world), ==, -EPIPE);
	g_assert_cmpuint(world->next, ==, 0);
	world_free(world);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/exact-send/killed-at-every-system-call/seqpacket", test_seqpacket);
	g_test_add_func("/exact-send/killed-at-every-system-call/datagram", test_datagram);
	g_test_add_func("/exact-send/killed-at-every-131st-instruction", test_instructions);
	g_test_add_func("/exact-send/largest-datagram-is-one-datagram", test_largest);
	g_test_add_func("/exact-send/full-socket-takes-nothing-and-forgets-nothing", test_full);
	g_test_add_func("/exact-send/peer-gone", test_gone);
	return g_test_run();
}
