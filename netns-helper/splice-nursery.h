#pragma once
/*
 * Transparent sockets of the gateway namespace, for a worker that has no right to make them.
 *
 * Theory of operation. A socket belongs to the namespace that it was made in; one that accept() gives belongs to that of its listener, and
 * inherits IP_TRANSPARENT. So a listener and a connector that were made with the gateway connect to each other over its loopback, as often as
 * wanted; both ends are then disconnected (connect(2) with AF_UNSPEC), and the accepted one is a fresh, unbound, transparent
 * socket. A few are kept ready, their numbers in the shared table.
 */
#include "common/fd-store.h"
#include "netns-helper/splice-table.h"

typedef struct SpliceNursery SpliceNursery;

/** @return NULL with errno; -ENOENT if the store has no gateway */
SpliceNursery *splice_nursery_new(SpliceTable *table, FdStore *store);
void splice_nursery_free(SpliceNursery *nursery);

/**
 * @param nursery  the nursery
 * @param family   AF_INET or AF_INET6
 * @return a stream socket, non-blocking, close-on-exec, transparent, unbound; the caller's. Or -errno: -EAFNOSUPPORT without IPv6
 */
int splice_nursery_take(SpliceNursery *nursery, int family);
/** Fill up the stock, by at most @p max sockets. @return whether it is full */
bool splice_nursery_fill(SpliceNursery *nursery, unsigned max);
