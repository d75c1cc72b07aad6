#pragma once
/*
 * What can be asked over the control socket (N-157 to N-178; PROTOCOL.md).
 */
#include <stddef.h>

#include "netns-helper/worker.h"

typedef enum {
	API_INCOMPLETE, /* more bytes may make it a JSON value */
	API_HOPELESS, /* they cannot (as far as one sees) */
	API_COMPLETE,
} ApiState;

/** Whether @p text begins with one complete JSON value. */
ApiState api_request_state(const char *text, size_t size);

/**
 * Carry the request out.
 *
 * @param worker     whose ports and flows
 * @param text       bytes received so far
 * @param size       how many
 * @param client_fd  who asks
 * @return the answer: JSON without a newline, to be freed by free(); never NULL
 */
char *api_request_answer(Worker *worker, const char *text, size_t size, int client_fd);

/** The answer to a request that is too long (N-161). */
char *api_request_too_large(void);
