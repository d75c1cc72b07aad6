#pragma once
/*
 * Exit files: contract C-192, C-193.
 */
#include "conmon/reaper-state.h"
#include "conmon/shared.h"

/**
 * Write @p value as file @p name in @p dir, exactly once, however often it is called for the same @p file and by whichever process:
 * once a caller may have read and removed it, it must not come back.
 *
 * @param conmon  the container
 * @param file    its record
 * @param dir     directory; NULL: nothing to do
 * @param name    file name
 * @param value   the status, decimal without a newline
 * @return 0, or -errno after a diagnostic
 */
int exit_report_write(const Conmon *conmon, ExitFile *file, const char *dir, const char *name, int value);

/** Value of C-196 for a wait status; -1 for -1 (unknown). */
int exit_report_value(int wait_status);
