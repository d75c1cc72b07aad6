#pragma once
/*
 * systemd as the keeper of last resort. Where a whole unit is killed, no process is left that holds the descriptor table; what was given to
 * systemd's descriptor store (FDSTORE=1) comes back when it starts the unit again.
 *
 * Theory of operation. A descriptor is stored as "<number>.<name>". fd_keep_take() gives each the number that it had, so that
 * shared memory that speaks of numbers stays true; such memory is a memfd and stored like the rest. Switched on by TANDEM_SYSTEMD=1
 * beside $NOTIFY_SOCKET: that variable alone may have been inherited from an engine's own unit.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event-loop.h"
#include "fd-store.h"

/** This process is the main process of a unit with a descriptor store of ours. */
bool fd_keep_is_wanted(void);

/**
 * First thing, before anything else is opened: take what systemd has kept, at the old numbers, and register it in @p store, but for
 * the names that begin with '-': they only get their numbers back. Then connect to systemd; the socket is registered, so it works in
 * every later process and in a sandbox.
 *
 * @return how many came back, or -errno
 */
int fd_keep_take(FdStore *store);

/** fd_keep_take() was called. */
bool fd_keep_is_taken(const FdStore *store);

/**
 * Then, still before anything else is opened: close what came back with only its number and is known to nobody, and have systemd let go of it.
 *
 * @param store     the registry
 * @param is_known  asked for each number; NULL: none is
 * @param data      for @p is_known
 */
void fd_keep_drop_unknown(const FdStore *store, bool (*is_known)(int fd, void *data), void *data);

/** Have systemd keep @p fd. Nothing happens if fd_keep_take() was not called. @return 0 or -errno */
int fd_keep_add(const FdStore *store, const char *name, int fd);
/** The same for a socket that systemd lets go of by itself when it hangs up. */
int fd_keep_add_socket(const FdStore *store, const char *name, int fd);
/** Whether systemd takes a message at once: its queue is not full. */
bool fd_keep_is_prompt(const FdStore *store);
/** No longer; before @p fd is closed. */
void fd_keep_remove(const FdStore *store, const char *name, int fd);
/** Everything in the registry whose name begins with @p prefix. @return 0 or the first -errno */
int fd_keep_add_all(const FdStore *store, const char *prefix);

/**
 * Memory that outlives the unit's processes: what was kept under @p name if it has this size, or fresh zeroes, registered under it.
 *
 * @param store         the registry
 * @param name          registry name; should change with the layout
 * @param size          bytes
 * @param ret_restored  whether it is the old one
 * @return NULL with errno on failure
 */
void *fd_keep_memory(FdStore *store, const char *name, size_t size, bool *ret_restored);

/** Send "READY=1\n…" and the like, if fd_keep_take() was called. */
void fd_keep_notify(const FdStore *store, const char *message);

/** In the keeper: WATCHDOG=1 from @p loop, as often as the unit wants it. @return 0 or -errno */
int fd_keep_watchdog(const FdStore *store, EventLoop *loop);
