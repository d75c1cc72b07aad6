#pragma once
/*
 * Watch the payload's memory cgroup for OOM kills, cgroup v1 and v2: contract section 11.
 */
#include "common/event-loop.h"
#include "conmon/reaper-state.h"
#include "conmon/shared.h"

/**
 * Find the cgroup of the payload and watch it (again, after a restart). Failure is a diagnostic at most (C-187).
 *
 * @param conmon  the container; reaper->payload_pid is known
 * @param loop    the reaper's
 */
void oom_watch(const Conmon *conmon, EventLoop *loop);

/** Last look, before exit files are written (C-183, C-189.1). */
void oom_check(const Conmon *conmon);
