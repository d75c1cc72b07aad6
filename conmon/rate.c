#include "config.h"

#include <string.h>

#include "conmon/rate.h"

#define SCALE 1000	/* thousandths, so that each millisecond counts */
#define FILL_MAX_MS 3600000	/* no longer pause is counted: no overflow */

bool rate_is_limited(const ConmonOptions *options)
{
	return options->log_rate_bytes > 0 || options->log_rate_lines > 0;
}

static void fill(int64_t *tokens, int64_t per_second, int64_t burst_seconds, uint64_t passed_ms)
{
	int64_t most = per_second * SCALE * burst_seconds;

	*tokens += per_second * (int64_t)passed_ms;
	if (*tokens > most)
		*tokens = most;
}

static uint64_t debt_ms(int64_t tokens, int64_t per_second)
{
	return per_second > 0 && tokens < 0 ? (uint64_t)((-tokens + per_second - 1) / per_second) : 0;
}

uint64_t rate_wait_ms(Rate *rate, const ConmonOptions *options, uint64_t now_ms)
{
	uint64_t passed_ms = rate->filled_ms ? now_ms - rate->filled_ms : FILL_MAX_MS;
	uint64_t bytes_ms, lines_ms;

	if (passed_ms > FILL_MAX_MS)
		passed_ms = FILL_MAX_MS;
	fill(&rate->bytes, options->log_rate_bytes, options->log_rate_burst, passed_ms);
	fill(&rate->lines, options->log_rate_lines, options->log_rate_burst, passed_ms);
	rate->filled_ms = now_ms;
	bytes_ms = debt_ms(rate->bytes, options->log_rate_bytes);
	lines_ms = debt_ms(rate->lines, options->log_rate_lines);
	return bytes_ms > lines_ms ? bytes_ms : lines_ms;
}

void rate_pay(Rate *rate, const ConmonOptions *options, const char *data, size_t size)
{
	const char *end = data + size;

	if (options->log_rate_bytes > 0)
		rate->bytes -= (int64_t)size * SCALE;
	for (; options->log_rate_lines > 0 && data < end && (data = memchr(data, '\n', (size_t)(end - data))); data++)
		rate->lines -= SCALE;
}
