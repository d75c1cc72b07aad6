#pragma once
/*
 * The reaper process: the container's parent. Runs the OCI runtime, reports to the invoker, waits for the container, writes exit files, runs
 * the exit command.
 */
#include "conmon/reaper-state.h"
#include "conmon/shared.h"

/** The whole life of the reaper process; the run callback of its SuperviseWorker. @return exit status */
int reaper_run(const Conmon *conmon, unsigned restarts);
