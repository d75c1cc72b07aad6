#pragma once
/*
 * Bytes from a pipe, FIFO or pty master into a ring, exactly once through any SIGKILL.
 *
 * Theory of operation. splice(2) moves bytes from the source into the stage, a pipe that nobody else writes; read(2) copies
 * them from there into the ring behind its head. Either call has happened or not, and FIONREAD of the stage tells
 * which: the stage is empty between two fills, so whatever is in it when a monitor starts came from the source and has not been read; and with
 * the amount noted before the read, what is missing from the stage is in the ring already, although the head has not moved.
 *
 * One stage serves all sources of a monitor; `owner` says whose bytes are in it. It is named before the splice.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/fd-store.h"

#include "conmon/ring.h"

#define STAGE_OWNERS_MAX 8

typedef struct {
	_Atomic int reading;	/* 1 from when base and expect are noted until the head is published */
	unsigned owner;		/* whose bytes are in the pipe */
	uint64_t base;		/* head of the ring before the read */
	uint64_t expect;	/* bytes that were in the pipe before the read */
	int r, w;		/* the pipe; numbers are the same in every process */
	int no_splice;		/* this kernel can't splice from that kind of source: plain read, which a SIGKILL may lose */
} Stage;	/* in shared memory */

/**
 * Take the pipe from the registry, or make and register it.
 *
 * @param stage  zeroed shared memory at the first start
 * @param store  registry
 * @param name   prefix of the two registry names
 * @return 0 or -errno
 */
int stage_open(Stage *stage, FdStore *store, const char *name);

/**
 * Finish what a killed predecessor had begun. Call once after stage_open().
 *
 * @param stage    the stage
 * @param rings    ring of each owner
 * @param n_rings  how many
 * @return bytes that came into a ring, or -errno
 */
ssize_t stage_recover(Stage *stage, Ring *const *rings, size_t n_rings);

/**
 * Move what is there, at most @p max bytes, without waiting.
 *
 * @param stage  the stage, empty
 * @param owner  number of this source, below STAGE_OWNERS_MAX
 * @param fd     source, borrowed
 * @param ring   where the bytes go
 * @param max    at most that many; not more than the ring has free
 * @return bytes moved; 0 at the end of the stream; -EAGAIN: nothing there; -EIO: pty without a slave; other -errno
 */
ssize_t stage_fill(Stage *stage, unsigned owner, int fd, Ring *ring, size_t max);

/** Change the size of the stage's pipe as far as allowed. @return its size in bytes or -errno */
int stage_resize(Stage *stage, size_t size);
