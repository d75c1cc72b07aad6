#pragma once
/*
 * The exit command: contract C-201 to C-206.
 */
#include "conmon/reaper-state.h"
#include "conmon/shared.h"

/** Start it exactly once. @return 0 or -errno */
int exit_command_start(const Conmon *conmon);
