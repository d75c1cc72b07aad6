#pragma once
/*
 * What is published and what is connected, as JSON (N-176; PROTOCOL.md).
 */
#include <jansson.h>

#include "netns-helper/worker.h"

/** The answer to list_hostfwd. @return new reference */
json_t *api_list_forwards(const Worker *worker);

/** The answer to list: forwards with the engine that serves them, and live flows of both engines. @return new reference */
json_t *api_list_everything(const Worker *worker);
