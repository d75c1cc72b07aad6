#pragma once
/*
 * The stack opens real sockets for what it is fed: never on this host. The fuzz targets run in a network namespace of their own,
 * in which there is nothing.
 */
#include <stdbool.h>

/** @return false if this user may not make namespaces */
bool fuzz_isolate(void);

/** Whether to go on: isolated, at the first call; later calls remember. */
bool fuzz_is_isolated(void);
