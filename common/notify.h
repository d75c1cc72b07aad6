#pragma once
/*
 * The vocabulary of sd_notify(3) and sd_listen_fds(3), both sides, for where systemd is the keeper (unit templates in
 * systemd/) and for daemons that are started by another keeper of ours.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fd-store.h"

#define NOTIFY_MESSAGE_MAX 4096 /* bytes of one message, either way */

/** $NOTIFY_SOCKET is set. */
bool notify_is_wanted(void);

/**
 * Send @p message ("READY=1\nSTATUS=…") to $NOTIFY_SOCKET.
 *
 * @param message  assignments, one a line
 * @param fds      descriptors to go with it (FDSTORE=1), borrowed; NULL if none
 * @param n_fds    how many
 * @return 0, -ENOTCONN if nobody asked for it, or another -errno
 */
int notify_send(const char *message, const int *fds, size_t n_fds);

/** A socket connected to $NOTIFY_SOCKET, close-on-exec: for where its path will be out of reach. @return descriptor, -ENOTCONN if nobody asked, or another -errno */
int notify_connect(void);

/** Ask the keeper to hold @p fd as @p name (FDSTORE=1, FDNAME=). @return as notify_send() */
int notify_store_fd(const char *name, int fd);
/** FDSTOREREMOVE=1 for @p name. @return as notify_send() */
int notify_remove_fd(const char *name);

/**
 * Take over what sd_listen_fds(3) describes: descriptors from 3 up, registered in @p store under their $LISTEN_FDNAMES and made
 * close-on-exec. Names that are taken or bad are closed. Only if $LISTEN_PID is this process; the variables are unset.
 *
 * @return number of descriptors registered, or -errno
 */
int notify_take_listen_fds(FdStore *store);

/** Half of $WATCHDOG_USEC in milliseconds, 0 if no watchdog is wanted. */
uint64_t notify_watchdog_ms(void);

/** What a message says; unknown lines are skipped. */
typedef struct {
	bool ready, stopping, watchdog, fdstore, fdstore_remove;
	char fdname[FD_STORE_NAME_MAX];
	char status[128];
} NotifyMessage;

/** Parse @p size bytes of @p text (not NUL-terminated). @return 0 or -EINVAL (a NUL byte, or a name that is not valid) */
int notify_parse(const char *text, size_t size, NotifyMessage *ret);
