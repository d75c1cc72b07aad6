#pragma once
/*
 * The container's network helper, when conmon runs it itself (--network-helper).
 *
 * Theory of operation. Once the runtime has created the container, the reaper starts PROGRAM -e FD -r FD ARG… PID tap0, as engines do
 * (network contract N-12, N-128), and tells the engine that the container is created only when the ready byte is there. The
 * helper looks after its own worker. Three descriptors of ours speak of it as a whole, whichever of its processes lives: the ready
 * socket; the write end of its exit pipe, whose closing ends it with the container; and the read end of its output, whose
 * end of file says that all of it is gone. A helper that is gone before its time is started again, with the back-off of
 * common/supervise.
 */
#include <stdbool.h>

#include "common/event-loop.h"
#include "conmon/reaper-state.h"

typedef struct Network Network;

/** For one life of the reaper; @p wake is called when network_turn() should be. @return NULL if out of memory */
Network *network_new(const Conmon *conmon, EventLoop *loop, void (*wake)(void *data), void *data);

typedef enum {
	NETWORK_WAITING,
	NETWORK_READY, /* or there is no --network-helper */
	NETWORK_FAILED, /* NetworkState.text says why */
} NetworkProgress;

/** Before the engine is told: start it and see how far it is. May be called again at any time, by any reaper. */
NetworkProgress network_bring_up(Network *network);

/** While the container runs: start it again if it is gone. */
void network_keep_up(Network *network);

/** The container has ended. @return whether the helper has, too */
bool network_bring_down(Network *network);
