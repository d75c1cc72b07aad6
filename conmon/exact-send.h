#pragma once
/*
 * A datagram to a unix socket, exactly once through any SIGKILL.
 *
 * Theory of operation. The datagram is written into a pipe that nobody else uses, then moved by splice(2) to the socket, which empties the
 * pipe exactly when the datagram has been queued there. What to do after success (the caller's ticket: whose
 * position moves where) is noted before. So a monitor that finds the phase FILLED and the pipe empty knows that the datagram
 * is out and commits the ticket; in every other case it was not sent, the pipe is emptied, and the datagram is made again
 * from the ring.
 *
 *   IDLE ── ticket noted ──▶ FILLING ── pipe written ──▶ FILLED ── splice ──▶ (committed by the caller) ──▶ IDLE
 *                               ▲                           │ refused: EAGAIN, EPIPE, …
 *                               └───────── emptied ◀────────┘
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "common/fd-store.h"

/** Largest datagram that is sent exactly once: sixteen pipe buffers. */
#define EXACT_SEND_MAX 65536

typedef struct {
	unsigned owner;		/* whose datagram, the caller's numbering */
	unsigned stream;	/* which of its positions moves */
	uint64_t to;		/* where to */
	uint64_t note;		/* anything else to be committed with it */
} ExactTicket;

typedef struct {
	_Atomic int phase;
	ExactTicket ticket;
	int r, w;		/* the pipe */
	_Atomic int no_splice;	/* this kernel can't splice into such a socket: plain send */
} ExactSend;	/* in shared memory */

/** Take the pipe from the registry, or make and register it as "<name>.r", "<name>.w". @return 0 or -errno */
int exact_send_open(ExactSend *x, FdStore *store, const char *name);

/**
 * After a restart: was there a datagram on its way?
 *
 * @param x           the sender
 * @param ret_ticket  set if so
 * @return whether that datagram was sent, but maybe not committed: commit it (once more does no harm), then call exact_send_done()
 */
bool exact_send_recover(ExactSend *x, ExactTicket *ret_ticket);

/**
 * Send without waiting. On success the caller commits the ticket and calls exact_send_done().
 *
 * @param x       the sender, idle
 * @param ticket  copied
 * @param sock    connected SEQPACKET or DGRAM unix socket, non-blocking, borrowed
 * @param iov     the datagram in pieces
 * @param n_iov   how many
 * @param size    bytes together, at most EXACT_SEND_MAX for exactly-once
 * @return 0 or -errno, then nothing was sent and the sender is idle again (-EAGAIN: the socket is full)
 */
int exact_send(ExactSend *x, const ExactTicket *ticket, int sock, const struct iovec *iov, int n_iov, size_t size);

void exact_send_done(ExactSend *x);
