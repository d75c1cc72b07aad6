#pragma once
/*
 * --enable-sandbox (N-186 to N-194): a root with nothing but /etc and /run, and one capability.
 */
#include <stdbool.h>

#include "netns-helper/options.h"

/**
 * An ordinary user becomes root of the target's user namespace, in which the sandbox can be built (N-187, N-188). Nothing to
 * do for effective uid 0.
 *
 * @return 0, or -errno with the reason on stderr
 */
int sandbox_enter_userns(const Options *options);

/**
 * Build the sandbox around this process. Steps that are not permitted here (nested containers) are replaced by the next best
 * and said in one line each on stderr, unless --sandbox=strict; it never returns 0 unconfined (N-193).
 *
 * @return 0, or -errno with the reason on stderr
 */
int sandbox_enter(const Options *options);

/** Keep CAP_NET_BIND_SERVICE (and, with @p raw, CAP_NET_RAW for ping); set no_new_privs. @return 0 or -errno */
int sandbox_drop_capabilities(bool raw);
