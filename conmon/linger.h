#pragma once
/*
 * Clients that had not read everything when the container ended: they get the rest from the reaper, while it goes on with the exit sequence.
 * The monitor has ended by then, as it has to (no process that parses foreign bytes may be there when exit files are written); here is only sent.
 */
#include <stdbool.h>

#include "conmon/shared.h"

typedef struct Linger Linger;

/**
 * Begin or, after a kill, go on.
 *
 * @param conmon  the container; its monitor has ended
 * @param loop    of this process
 * @param wake    called when it is over
 * @param data    for @p wake
 * @return NULL if there is nobody to be served; it is never freed
 */
Linger *linger_new(const Conmon *conmon, EventLoop *loop, void (*wake)(void *data), void *data);

/** Everybody has everything, has gone, or was given up. */
bool linger_is_over(const Linger *linger);
