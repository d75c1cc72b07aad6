#pragma once
/*
 * The monitor process: every byte that the container or a client controls. See conmon/shared.h for its dealings with the
 * reaper and docs/design.md for why nothing is lost when it is killed.
 */
#include "conmon/shared.h"

/* MonitorState is shared memory: rings, cursors, sinks, clients. */

/** Before the first fork: shared memory and the log drivers of @p options (opened by options_validate()). Aborts only on out of memory. */
MonitorState *monitor_state_new(const ConmonOptions *options);

/** The whole life of the monitor process; the run callback of its SuperviseWorker. @return exit status */
int monitor_run(const Conmon *conmon, MonitorState *state, unsigned restarts, unsigned step);
