#pragma once
/*
 * What must be right about the options together, in the contract's order and words (C-19 to C-23, C-136 to C-140).
 */
#include "conmon/options.h"

/**
 * Check @p options, complete them (bundle, container pid file, log drivers), set up the diagnostics as they ask, and open the log file.
 *
 * @return 0, or -EINVAL after the one line about what is wrong was printed
 */
int options_validate(ConmonOptions *options);

/** Only the diagnostics, for options that were checked before. @return 0, or -EINVAL after a line about it */
int options_start_diagnostics(const ConmonOptions *options);
