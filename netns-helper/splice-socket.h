#pragma once
/*
 * What the splice engine does with, and asks of, one TCP socket. Descriptors are borrowed but where it is said otherwise.
 */
#include <stdbool.h>
#include <stdint.h>

#include "netns-helper/splice-table.h"

/**
 * connect(2), once or again: what an earlier call by whomever has begun or achieved counts.
 *
 * @param fd  non-blocking TCP socket
 * @return 0: connected; -EINPROGRESS; -ECONNABORTED: it had failed, and the cause was asked for before; other -errno
 */
int splice_connect(int fd, const SpliceAddr *to);
/** bind(2), which a predecessor may have done if @p again. @return 0 or -errno */
int splice_bind(int fd, const void *addr, socklen_t size, bool again);
/** Close a socket such that its peer sees a reset; nothing if @p fd is negative. */
void splice_reset_close(int fd);

/** Whether the peer has acknowledged all that was sent. */
bool splice_has_taken_everything(int fd);
/** How many bytes were ever sent on it, acknowledged or not. */
uint64_t splice_bytes_given_to(int fd);
bool splice_is_connected(int fd);
/** Whether the connection is over in both directions, for the kernel too. */
bool splice_is_closed(int fd);
