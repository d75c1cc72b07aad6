/* common/event-loop: order, removal in callbacks, timers, signals. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common/event-loop.h"
#include "common/fd-util.h"

typedef struct {
	EventLoop *loop;
	EventSource *a, *b;
	int calls_a, calls_b, pipe_a[2], pipe_b[2];
} Pair;

static void on_a(void *data, uint32_t events)
{
	Pair *pair = data;

	pair->calls_a++;
	event_source_remove(pair->b); /* b is ready in the same wake-up: it must not be called any more */
	pair->b = NULL;
	event_source_remove(pair->a);
	pair->a = NULL;
}

static void on_b(void *data, uint32_t events)
{
	Pair *pair = data;

	pair->calls_b++;
	event_source_remove(pair->a);
	pair->a = NULL;
	event_source_remove(pair->b);
	pair->b = NULL;
}

static void test_removal_in_the_same_wake_up(void)
{
	Pair pair = {.loop = event_loop_new(NULL, "test")};

	g_assert_cmpint(pipe(pair.pipe_a), ==, 0);
	g_assert_cmpint(pipe(pair.pipe_b), ==, 0);
	g_assert_cmpint(fd_write_all(pair.pipe_a[1], "x", 1), ==, 0);
	g_assert_cmpint(fd_write_all(pair.pipe_b[1], "x", 1), ==, 0);
	g_assert_cmpint(event_loop_add_fd(pair.loop, pair.pipe_a[0], EPOLLIN, on_a, &pair, &pair.a), ==, 0);
	g_assert_cmpint(event_loop_add_fd(pair.loop, pair.pipe_b[0], EPOLLIN, on_b, &pair, &pair.b), ==, 0);
	g_assert_cmpint(event_loop_step(pair.loop, 0), ==, 1);
	g_assert_cmpint(pair.calls_a + pair.calls_b, ==, 1);
	g_assert_cmpint(event_loop_step(pair.loop, 0), ==, 0);
	event_loop_free(pair.loop);
	for (int i = 0; i < 2; i++) {
		(void)close(pair.pipe_a[i]);
		(void)close(pair.pipe_b[i]);
	}
}

static void test_mute_hides_a_hang_up(void)
{
	Pair pair = {.loop = event_loop_new(NULL, "test")};

	g_assert_cmpint(pipe(pair.pipe_a), ==, 0);
	(void)close(pair.pipe_a[1]);
	g_assert_cmpint(event_loop_add_fd(pair.loop, pair.pipe_a[0], EPOLLIN, on_a, &pair, &pair.a), ==, 0);
	g_assert_cmpint(event_source_mute(pair.a), ==, 0);
	g_assert_cmpint(event_loop_step(pair.loop, 0), ==, 0);
	g_assert_cmpint(event_source_set_events(pair.a, 0), ==, 0);
	g_assert_cmpint(event_loop_step(pair.loop, 0), ==, 1);
	event_loop_free(pair.loop);
	(void)close(pair.pipe_a[0]);
}

static void test_regular_file_is_refused(void)
{
	EventLoop *loop = event_loop_new(NULL, "test");
	cleanup_close int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	g_assert_cmpint(event_loop_add_fd(loop, fd, EPOLLIN, on_a, NULL, NULL), ==, -EPERM);
	event_loop_free(loop);
}

static GString *order;

static void on_timer(void *data)
{
	g_string_append(order, data);
}

static void on_last(void *data)
{
	g_string_append_c(order, 'z');
	event_loop_quit(data, 7);
}

static void test_timers_run_in_order(void)
{
	EventLoop *loop = event_loop_new(NULL, "test");
	EventTimer *c = event_loop_add_timer(loop, 12, on_timer, "c"),
		   *a = event_loop_add_timer(loop, 2, on_timer, "a");
	EventTimer *never = event_loop_add_timer(loop, 5, on_timer, "!"),
		   *b = event_loop_add_timer(loop, 500, on_timer, "b");
	EventTimer *z = event_loop_add_timer(loop, 20, on_last, loop);

	order = g_string_new(NULL);
	event_timer_set(b, 7);
	event_timer_stop(never);
	g_assert_false(event_timer_is_armed(never));
	g_assert_true(event_timer_is_armed(b));
	g_assert_cmpint(event_loop_run(loop), ==, 7);
	g_assert_cmpstr(order->str, ==, "abcz");
	g_assert_cmpint(event_loop_timeout(loop), ==, -1);
	event_timer_free(a);
	event_timer_free(b);
	event_timer_free(c);
	event_timer_free(z);
	event_timer_free(never);
	event_loop_free(loop);
	g_string_free(order, TRUE);
}

static void test_many_timers_stay_a_heap(void)
{
	EventLoop *loop = event_loop_new(NULL, "test");
	EventTimer *timers[500];
	int last = -1;

	order = g_string_new(NULL);
	for (int i = 0; i < 500; i++)
		timers[i] = event_loop_add_timer(loop, 1000 + (uint64_t)((i * 7919) % 500), on_timer, "");
	for (int i = 0; i < 500; i += 3)
		event_timer_stop(timers[i]);
	for (int n = 0; n < 333; n++) {
		int wait = event_loop_timeout(loop), at = -1;

		g_assert_cmpint(wait, >=, last - 500);
		last = wait;
		for (int i = 0; i < 500 && at < 0; i++)
			if (event_timer_is_armed(timers[i]))
				at = i;
		if (at >= 0)
			event_timer_stop(timers[at]);
	}
	g_assert_cmpint(event_loop_timeout(loop), ==, -1);
	for (int i = 0; i < 500; i++)
		event_timer_free(timers[i]);
	event_loop_free(loop);
	g_string_free(order, TRUE);
}

static int signal_seen;

static void on_signal(void *data, uint32_t signal)
{
	signal_seen = (int)signal;
	event_loop_quit(data, 0);
}

static void test_signals_arrive(void)
{
	EventLoop *loop = event_loop_new(NULL, "test");

	g_assert_cmpint(
		event_loop_add_signals(loop, (const int[]){SIGUSR1, SIGTERM, 0}, on_signal, loop, NULL), ==,
		0);
	g_assert_cmpint(kill(getpid(), SIGTERM), ==, 0);
	g_assert_cmpint(event_loop_run(loop), ==, 0);
	g_assert_cmpint(signal_seen, ==, SIGTERM);
	event_loop_free(loop);
}

typedef struct {
	int calls, ends;
	uint32_t key, events;
	bool before_source; /* a keyed descriptor had its turn before a source of the same wait */
	int *source_calls;
} Keyed;

static void on_keyed(void *data, uint32_t key, uint32_t events)
{
	Keyed *keyed = data;

	keyed->calls++;
	keyed->key = key;
	keyed->events = events;
	keyed->before_source |= *keyed->source_calls == 0;
}

static void on_keyed_end(void *data)
{
	((Keyed *)data)->ends++;
}

static void on_counted(void *data, uint32_t events)
{
	(void)events;
	++*(int *)data;
}

static void test_keyed_descriptors(void)
{
	EventLoop *loop = event_loop_new(NULL, "test");
	int source_calls = 0, first[2], second[2];
	Keyed keyed = {.source_calls = &source_calls};
	const uint32_t key = UINT32_MAX - 1;

	event_loop_set_keyed(loop, on_keyed, on_keyed_end, &keyed);
	g_assert_cmpint(pipe(first), ==, 0);
	g_assert_cmpint(pipe(second), ==, 0);
	g_assert_cmpint(fd_write_all(first[1], "x", 1), ==, 0);
	g_assert_cmpint(fd_write_all(second[1], "x", 1), ==, 0);
	g_assert_cmpint(event_loop_watch_key(loop, first[0], EPOLLIN | EPOLLET, key, false), ==, 0);
	g_assert_cmpint(event_loop_add_fd(loop, second[0], EPOLLIN, on_counted, &source_calls, NULL), ==, 0);
	g_assert_cmpint(event_loop_step(loop, 0), ==, 2);
	g_assert_cmpint(keyed.calls, ==, 1);
	g_assert_cmpint(keyed.ends, ==, 1);
	g_assert_cmpuint(keyed.key, ==, key);
	g_assert_cmpuint(keyed.events, ==, EPOLLIN);
	g_assert_false(keyed.before_source);

	/* An edge is told once; watched again, what is there still is told again. */
	g_assert_cmpint(event_loop_step(loop, 0), ==, 1);
	g_assert_cmpint(keyed.calls, ==, 1);
	g_assert_cmpint(event_loop_watch_key(loop, first[0], EPOLLIN | EPOLLET, key, true), ==, 0);
	g_assert_cmpint(event_loop_step(loop, 0), ==, 2);
	g_assert_cmpint(keyed.calls, ==, 2);
	g_assert_cmpint(keyed.ends, ==, 2);

	(void)close(first[0]); /* that is all it takes to leave the loop */
	g_assert_cmpint(event_loop_step(loop, 0), ==, 1);
	g_assert_cmpint(event_loop_watch_key(loop, first[0], EPOLLIN, key, false), ==, -EBADF);
	event_loop_free(loop);
	(void)close(first[1]);
	(void)close(second[0]);
	(void)close(second[1]);
}

static void test_successor_replaces_the_epoll_set(void)
{
	FdStore *store = fd_store_new();
	EventLoop *first = event_loop_new(store, "worker"), *second;
	int number = event_loop_fd(first);

	g_assert_cmpint(fd_store_get(store, "worker.epoll"), ==, number);
	second = event_loop_new(store, "worker"); /* as after the first one's process was killed */
	g_assert_false(fd_is_open(number));
	g_assert_cmpint(fd_store_get(store, "worker.epoll"), ==, event_loop_fd(second));
	event_loop_free(second);
	g_assert_cmpint(fd_store_get(store, "worker.epoll"), ==, -ENOENT);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/event-loop/remove/in-the-same-wake-up", test_removal_in_the_same_wake_up);
	g_test_add_func("/event-loop/mute/hides-a-hang-up", test_mute_hides_a_hang_up);
	g_test_add_func("/event-loop/add/regular-file-refused", test_regular_file_is_refused);
	g_test_add_func("/event-loop/timers/run-in-order", test_timers_run_in_order);
	g_test_add_func("/event-loop/timers/many-stay-a-heap", test_many_timers_stay_a_heap);
	g_test_add_func("/event-loop/signals/arrive", test_signals_arrive);
	g_test_add_func("/event-loop/keyed/edges-after-sources", test_keyed_descriptors);
	g_test_add_func("/event-loop/registry/successor-replaces-the-epoll-set",
		test_successor_replaces_the_epoll_set);
	return g_test_run();
}
