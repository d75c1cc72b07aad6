/* conmon/backlog: what a ring gives up is read later byte for byte, or known to be lost, whatever dies in between. */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/shared-memory.h"
#include "conmon/backlog.h"
#include "kill-steps.h"

#define RING_SIZE (64 * 1024)
#define FILE_NAME "backlog.test"

typedef struct {
	Backlog b;
	Ring ring;
	FdStore *store;
	uint64_t next, max;	/* what is to be taken until, the limit */
} World;

/* What stands at a position of the stream. */
static char letter(uint64_t pos)
{
	return (char)(pos * 2654435761u >> 13);
}

static World *world_new(uint64_t max)
{
	World *world = shared_memory_new(sizeof(*world));

	g_assert_nonnull(world);
	g_assert_cmpint(ring_init(&world->ring, RING_SIZE), ==, 0);
	world->store = fd_store_new();
	world->max = max;
	return world;
}

static void world_free(World *world)
{
	fd_store_close(world->store, FILE_NAME);
}

/* The container writes up to @p to. */
static void put(World *world, uint64_t to)
{
	for (uint64_t pos = ring_head(&world->ring); pos < to; pos++)
		*ring_at(&world->ring, pos) = letter(pos);
	ring_set_head(&world->ring, to);
}

/* The ring gives up everything up to world->next, for a client at 0. */
static void take(void *data)
{
	World *world = data;
	uint64_t from = world->b.floor;

	if (from < world->next)
		backlog_take(&world->b, world->store, FILE_NAME, &world->ring, 0, from, world->next, world->max);
}

/* Read everything from @p pos on, as a client does. @return how much was lost */
static uint64_t read_all(World *world, uint64_t pos)
{
	uint64_t lost = 0, next;

	for (; pos < ring_head(&world->ring); pos = next) {
		char copy[1000];
		const char *data;

		if (!backlog_find(&world->b, world->store, FILE_NAME, &world->ring, pos, copy, sizeof(copy), &data, &next)) {
			g_assert_cmpuint(next, >, pos);
			lost += next - pos;
			continue;
		}
		g_assert_cmpuint(next, >, pos);
		for (uint64_t p = pos; p < next; p++)
			g_assert_cmpint(data[p - pos], ==, letter(p));
	}
	return lost;
}

static void test_kept(void)
{
	World *world = world_new(1 << 20);

	for (uint64_t head = 40000; head < 600000; head += 30000) {
		put(world, head);
		world->next = head - 10000;
		take(world);
	}
	g_assert_cmpuint(read_all(world, 0), ==, 0);
	g_assert_cmpint(fd_store_get(world->store, FILE_NAME), >=, 0);
	backlog_release(&world->b, world->store, FILE_NAME, 300000);
	g_assert_cmpuint(read_all(world, 300000), ==, 0);
	backlog_release(&world->b, world->store, FILE_NAME, world->b.to);
	g_assert_cmpint(fd_store_get(world->store, FILE_NAME), ==, -ENOENT);
	world_free(world);
}

static void test_limit(void)
{
	World *world = world_new(100000);

	for (uint64_t head = 40000; head < 600000; head += 30000) {
		put(world, head);
		world->next = head - 10000;
		take(world);
	}
	g_assert_cmpuint(read_all(world, 0), ==, world->next - 100000);
	g_assert_cmpuint(read_all(world, 100000), ==, world->next - 100000);
	g_assert_cmpuint(read_all(world, 150000), ==, world->next - 150000);
	world_free(world);
}

/* Who was in the gap when the file began anew has lost what was before its beginning, no more. */
static void test_anew(void)
{
	World *world = world_new(20000);
	uint64_t second;

	for (uint64_t head = 40000; head <= 100000; head += 30000) {
		put(world, head);
		world->next = head - 10000;
		take(world);
	}
	second = world->next;
	put(world, 130000);
	/* the first client has gone; this one stands in the gap */
	backlog_take(&world->b, world->store, FILE_NAME, &world->ring, 30000, second, second + 10000, world->max);
	g_assert_cmpuint(read_all(world, 30000), ==, second - 30000);
	g_assert_cmpuint(read_all(world, second), ==, 0);
	world_free(world);
}

static void test_no_directory(void)
{
	World *world = world_new(1 << 20);

	g_assert_cmpint(setenv("TMPDIR", "/nonexistent", 1), ==, 0);
	put(world, 50000);
	world->next = 40000;
	take(world);
	g_assert_cmpint(unsetenv("TMPDIR"), ==, 0);
	g_assert_cmpuint(read_all(world, 0), ==, 40000);
	/* with nothing in it yet the file may begin behind the gap */
	put(world, 80000);
	world->next = 60000;
	take(world);
	g_assert_cmpuint(read_all(world, 0), ==, 40000);
	world_free(world);
}

static void kill_everywhere(KillUnit unit, long stride, uint64_t max)
{
	bool ended = false;

	for (long step = 1; !ended; step += stride) {
		World *world = world_new(max);

		put(world, 40000);
		world->next = 30000;
		take(world);
		put(world, 80000);
		world->next = 70000;
		ended = kill_at_step(take, world, unit, step);
		g_assert_cmpuint(read_all(world, 0), ==, world->b.to < world->b.floor ? world->b.floor - world->b.to : 0);
		run_to_end(take, world);
		g_assert_cmpuint(read_all(world, 0), ==, max < 70000 ? 70000 - max : 0);
		world_free(world);
	}
}

static void test_killed_at_syscalls(void)
{
	kill_everywhere(KILL_AT_SYSCALL, 1, 1 << 20);
	kill_everywhere(KILL_AT_SYSCALL, 1, 50000);
}

static void test_killed_at_instructions(void)
{
	kill_everywhere(KILL_AT_INSTRUCTION, 7, 1 << 20);
	kill_everywhere(KILL_AT_INSTRUCTION, 7, 50000);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/backlog/kept-until-it-is-read", test_kept);
	g_test_add_func("/backlog/beyond-its-limit-the-gap-is-known", test_limit);
	g_test_add_func("/backlog/begins-anew-when-nobody-needs-it", test_anew);
	g_test_add_func("/backlog/without-a-directory", test_no_directory);
	g_test_add_func("/backlog/killed-at-every-system-call", test_killed_at_syscalls);
	g_test_add_func("/backlog/killed-at-every-7th-instruction", test_killed_at_instructions);
	return g_test_run();
}
