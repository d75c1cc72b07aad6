/* conmon/source, conmon/ring: bytes come into the ring once, whatever dies in between. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "common/shared-memory.h"
#include "conmon/source.h"
#include "kill-steps.h"

#define RING_SIZE 65536

typedef struct {
	Stage stage;
	Ring ring;
	FdStore *store;
	int r, w;	/* the source */
	size_t max;	/* bytes per fill */
} World;

static World *world_new(size_t max)
{
	World *world = shared_memory_new(sizeof(*world));
	int ends[2];

	g_assert_nonnull(world);
	g_assert_cmpint(ring_init(&world->ring, RING_SIZE), ==, 0);
	world->store = fd_store_new();
	g_assert_cmpint(pipe2(ends, O_CLOEXEC | O_NONBLOCK), ==, 0);
	world->r = ends[0];
	world->w = ends[1];
	world->max = max;
	g_assert_cmpint(stage_open(&world->stage, world->store, "stage"), ==, 0);
	return world;
}

static void world_free(World *world)
{
	close(world->r);
	if (world->w >= 0)
		close(world->w);
	fd_store_close(world->store, "stage.r");
	fd_store_close(world->store, "stage.w");
}

static void pattern(char *buf, size_t size, size_t from)
{
	for (size_t i = 0; i < size; i++)
		buf[i] = (char)((from + i) * 2654435761u >> 13);
}

/* The life of one process: finish what was begun, then read all there is. */
static void read_all(void *data)
{
	World *world = data;
	Ring *rings[] = { &world->ring };

	if (stage_recover(&world->stage, rings, 1) < 0)
		_exit(1);
	for (;;) {
		size_t room = ring_free(&world->ring, 0);
		ssize_t n = stage_fill(&world->stage, 0, world->r, &world->ring, room < world->max ? room : world->max);

		if (n == -EAGAIN || n == 0)
			return;
		if (n < 0)
			_exit(2);
	}
}

static void assert_content(const World *world, size_t size)
{
	g_autofree char *want = g_malloc(size);

	pattern(want, size, 0);
	g_assert_cmpuint(ring_head(&world->ring), ==, size);
	g_assert_true(memcmp(ring_at(&world->ring, 0), want, size) == 0);
}

static void kill_everywhere(KillUnit unit, size_t size, size_t max, long stride)
{
	g_autofree char *buf = g_malloc(size);
	bool ended = false;

	pattern(buf, size, 0);
	for (long step = 1; !ended; step += stride) {
		World *world = world_new(max);

		g_assert_cmpint(write(world->w, buf, size), ==, size);
		ended = kill_at_step(read_all, world, unit, step);
		run_to_end(read_all, world);
		assert_content(world, size);
		world_free(world);
	}
}

static void test_kill_at_syscalls(void)
{
	kill_everywhere(KILL_AT_SYSCALL, 50000, 7000, 1);
}

static void test_kill_at_instructions(void)
{
	kill_everywhere(KILL_AT_INSTRUCTION, 3000, 2000, 7);
}

static void test_kill_again_and_again(void)
{
	char buf[50000];
	World *world = world_new(3000);

	pattern(buf, sizeof(buf), 0);
	g_assert_cmpint(write(world->w, buf, sizeof(buf)), ==, sizeof(buf));
	for (long step = 9; !kill_at_step(read_all, world, KILL_AT_SYSCALL, step); step = 9 + (step + 1) % 11)
		;
	assert_content(world, sizeof(buf));
	world_free(world);
}

static void test_end_and_empty(void)
{
	World *world = world_new(1000);

	g_assert_cmpint(stage_fill(&world->stage, 0, world->r, &world->ring, 100), ==, -EAGAIN);
	g_assert_cmpint(write(world->w, "abc", 3), ==, 3);
	close(world->w);
	world->w = -1;
	g_assert_cmpint(stage_fill(&world->stage, 0, world->r, &world->ring, 2), ==, 2);
	g_assert_cmpint(stage_fill(&world->stage, 0, world->r, &world->ring, 100), ==, 1);
	g_assert_cmpint(stage_fill(&world->stage, 0, world->r, &world->ring, 100), ==, 0);
	g_assert_true(memcmp(ring_at(&world->ring, 0), "abc", 3) == 0);
	world_free(world);
}

static void test_terminal(void)
{
	World *world = world_new(1000);
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), slave;

	g_assert_cmpint(master, >=, 0);
	g_assert_cmpint(grantpt(master) | unlockpt(master), ==, 0);
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	g_assert_cmpint(slave, >=, 0);
	g_assert_cmpint(stage_fill(&world->stage, 0, master, &world->ring, 100), ==, -EAGAIN);
	g_assert_cmpint(write(slave, "hello\n", 6), ==, 6);
	g_assert_cmpint(stage_fill(&world->stage, 0, master, &world->ring, 100), ==, 7);
	g_assert_true(memcmp(ring_at(&world->ring, 0), "hello\r\n", 7) == 0);
	close(slave);
	g_assert_cmpint(stage_fill(&world->stage, 0, master, &world->ring, 100), ==, -EIO);
	close(master);
	world_free(world);
}

static void test_ring_wraps(void)
{
	World *world = world_new(1000);
	Ring *ring = &world->ring;

	ring_set_head(ring, RING_SIZE - 10);
	memcpy(ring_at(ring, RING_SIZE - 10), "0123456789abcdefghij", 20);
	ring_set_head(ring, RING_SIZE + 10);
	g_assert_true(memcmp(ring_at(ring, RING_SIZE), "abcdefghij", 10) == 0);
	g_assert_true(memcmp(ring->data, "abcdefghij", 10) == 0);
	g_assert_cmpuint(ring_free(ring, RING_SIZE - 10), ==, RING_SIZE - 20);
	ring_rewind(ring);
	g_assert_true(ring_at(ring, ring_head(ring)) == ring->data);
	ring_discard(ring);
	g_assert_cmpint(ring->data[0], ==, 0);
	world_free(world);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/ring/a-range-over-the-end-is-contiguous", test_ring_wraps);
	g_test_add_func("/source/empty-and-ended-are-told-apart", test_end_and_empty);
	g_test_add_func("/source/terminal", test_terminal);
	g_test_add_func("/source/killed-at-every-system-call", test_kill_at_syscalls);
	g_test_add_func("/source/killed-at-every-seventh-instruction", test_kill_at_instructions);
	g_test_add_func("/source/killed-again-and-again", test_kill_again_and_again);
	return g_test_run();
}
