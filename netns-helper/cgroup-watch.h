#pragma once
/*
 * Engines move one pid of ours to another cgroup, the one that they know (N-230), so that it lives on when the unit that happened to start it is
 * stopped. Whatever else belongs to us has to follow (N-244). The keeper looks at its own cgroup now and then; the
 * worker is then replaced by one that is born where the keeper is. No right over any cgroup is needed for that, and none is
 * kept in the sandbox.
 */
#include "common/event-loop.h"
#include "common/fd-store.h"

/**
 * Open what tells the cgroup of this process, while there is a /proc; without one nothing is watched.
 *
 * @param store  where the descriptor is registered
 */
void cgroup_watch_open(FdStore *store);

/**
 * Watch from now on, in the process that called cgroup_watch_open(); in any other this does nothing.
 *
 * @param store  borrowed
 * @param loop   borrowed
 * @param moved  called once after each move
 * @param data   for @p moved
 * @return 0 or -errno
 */
int cgroup_watch_start(const FdStore *store, EventLoop *loop, void (*moved)(void *data), void *data);
