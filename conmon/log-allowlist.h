#pragma once
/*
 * --log-allowlist-dir: contract C-140.
 */
#include <stdbool.h>

/**
 * Whether a log file at @p path, existing or not, lies in one of the directories or below, symbolic links resolved.
 *
 * @param path  as given
 * @param dirs  NULL-terminated; an empty list allows everything
 */
bool log_allowlist_permits(const char *path, char *const *dirs);
