/* conmon/rate: buckets fill with time, overdraw by one read, and stay within their burst. */
#include "config.h"

#include <glib.h>

#include "conmon/rate.h"

static void test_bytes(void)
{
	const ConmonOptions options = { .log_rate_bytes = 1000, .log_rate_burst = 2 };
	Rate rate = { 0 };
	char data[5000] = { 0 };

	g_assert_true(rate_is_limited(&options));
	g_assert_cmpuint(rate_wait_ms(&rate, &options, 10), ==, 0);
	rate_pay(&rate, &options, data, 2000);	/* the burst */
	g_assert_cmpuint(rate_wait_ms(&rate, &options, 10), ==, 0);
	rate_pay(&rate, &options, data, 500);
	g_assert_cmpuint(rate_wait_ms(&rate, &options, 10), ==, 500);
	g_assert_cmpuint(rate_wait_ms(&rate, &options, 409), ==, 101);
	g_assert_cmpuint(rate_wait_ms(&rate, &options, 510), ==, 0);
	g_assert_cmpuint(rate_wait_ms(&rate, &options, 100000), ==, 0);
	rate_pay(&rate, &options, data, 5000);	/* 2000 were there, however long the pause */
	g_assert_cmpuint(rate_wait_ms(&rate, &options, 100000), ==, 3000);
}

static void test_lines(void)
{
	const ConmonOptions options = { .log_rate_lines = 10, .log_rate_burst = 1 };
	Rate rate = { 0 };

	g_assert_cmpuint(rate_wait_ms(&rate, &options, 1), ==, 0);
	for (int i = 0; i < 6; i++)
		rate_pay(&rate, &options, "a\nb\nc", 5);
	g_assert_cmpuint(rate_wait_ms(&rate, &options, 1), ==, 200);
}

static void test_none(void)
{
	const ConmonOptions options = { .log_rate_burst = 1 };
	Rate rate = { 0 };

	g_assert_false(rate_is_limited(&options));
	rate_pay(&rate, &options, "a\n", 2);
	g_assert_cmpuint(rate_wait_ms(&rate, &options, 1), ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/rate/bytes", test_bytes);
	g_test_add_func("/rate/lines", test_lines);
	g_test_add_func("/rate/no-limit", test_none);
	return g_test_run();
}
