#pragma once
/*
 * Messages that a guest can cause: a burst is said, the rest is counted (N-91, N-145, N-205).
 */
#include <stdint.h>

#define RATE_LIMIT_BURST 5
#define RATE_LIMIT_WINDOW_MS 60000

typedef struct {
	uint64_t window_ms; /* start of the present window, monotonic */
	unsigned said;
	unsigned dropped;
} RateLimit;

/**
 * Say "<what>: <text>" on stderr unless too much was said lately; the first line of a new window tells how much was not.
 */
void rate_limit_say(RateLimit *limit, uint64_t now_ms, const char *what, const char *text);
