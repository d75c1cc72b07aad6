#pragma once
/*
 * How much a stream may log: a token bucket for bytes and one for lines. A stream may overdraw by what one read brought and then waits (or
 * loses) until it is out of debt.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conmon/options.h"

typedef struct {
	int64_t bytes, lines;	/* left, in thousandths; negative: debt */
	uint64_t filled_ms;	/* when that was true; 0: never filled */
} Rate;

/** Whether @p options limit anything. */
bool rate_is_limited(const ConmonOptions *options);

/**
 * Let time pass.
 *
 * @param rate     state of one stream, zeroed at first
 * @param options  limits
 * @param now_ms   monotonic clock
 * @return milliseconds until the stream is out of debt; 0: it may log now
 */
uint64_t rate_wait_ms(Rate *rate, const ConmonOptions *options, uint64_t now_ms);

/** Pay for what is logged. */
void rate_pay(Rate *rate, const ConmonOptions *options, const char *data, size_t size);
