#include "config.h"

#include "netns-helper/rate-limit.h"

#include <stdio.h>
#include <string.h>

void rate_limit_say(RateLimit *limit, uint64_t now_ms, const char *what, const char *text)
{
	size_t len = strlen(text);

	if (now_ms - limit->window_ms >= RATE_LIMIT_WINDOW_MS) {
		if (limit->dropped)
			fprintf(stderr, "%s: %u more messages in the last minute were left out\n", what,
				limit->dropped);
		*limit = (RateLimit){.window_ms = now_ms};
	}
	if (limit->said >= RATE_LIMIT_BURST) {
		limit->dropped++;
		return;
	}
	limit->said++;
	while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	fprintf(stderr, "%s: %.*s\n", what, (int)len, text);
}
