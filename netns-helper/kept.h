#pragma once
/*
 * The helper as a unit of systemd (systemd/tandem-netns-helper@.service): what of it comes back when all its processes were killed and
 * systemd starts it again. That is the link, the gateway, the API's listener, the listeners of published ports, the shared
 * state, and spliced connections that are not all too young (splice-keep.h).
 *
 * All names that systemd gives back stand in one variable of the environment, which the kernel limits to 128 KiB: 8192 ports and what splice-keep.h
 * allows are 11,000 names, so these are short.
 */
#include "netns-helper/worker.h"

#define KEPT_FORWARD "-p" /* name in systemd's store; not in the registry, the shared state knows them */
#define KEPT_FAILURES_MAX 3 /* restored lives that ended before they were ready; then all is made anew */

/**
 * Before any descriptor is opened: the shared state, as it was left or new. Sets helper->shared and helper->is_restored, and if so
 * helper->splice, the link and the identity of the API's path; what was left half-made is thrown away.
 *
 * @return 0 or -errno
 */
int kept_open(Helper *helper);

/** The splice table, where it is needed and kept_open() has not found one: new. @return NULL with errno */
SpliceTable *kept_splice_table(const Helper *helper);

/** Link and API socket are there: have them kept. @return 0 or -errno */
int kept_save(const Helper *helper);

/** This life works. */
void kept_confirm(const Helper *helper);
