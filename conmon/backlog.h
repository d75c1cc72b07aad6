#pragma once
/*
 * Output that a ring can't keep for attached clients that have fallen behind: its oldest bytes go into an unlinked file, which is there only
 * while somebody needs it.
 *
 * Theory of operation. There is one file for each stream, whoever is behind: it continues the ring into the past.
 *
 *        base            to          floor               head
 *   ──────┼──── file ─────┼─── lost ───┼────── ring ───────┼──▶ positions of the stream
 *
 * When the ring needs room, what is given up is written to the file first, then `to` moves, then `floor`: after a kill between any two of these the
 * same bytes are written to the same place once more. When the file has reached its limit, or can't be written, only `floor` moves. Nothing goes
 * behind a gap, so the file is used again when nobody needs what is in it. What a client has missed is found when it comes
 * to the gap: nobody counts beforehand, and nothing is counted twice.
 */
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "common/fd-store.h"

#include "conmon/ring.h"

typedef struct {
	_Atomic uint64_t base, to;	/* what is in the file: base <= position < to; position p is at offset p - base */
	_Atomic uint64_t floor;		/* from here on it is in the ring, for everybody */
} Backlog;	/* in shared memory, zeroed at first */

/**
 * Give up what a ring holds from @p from to @p to.
 *
 * @param b       state of the stream
 * @param store   registry, which keeps the file
 * @param name    of the file there
 * @param ring    the ring
 * @param lowest  position of the client that is farthest behind
 * @param from    tail of the ring
 * @param to      its next tail, at most its head
 * @param max     bytes that the file may hold; 0: no file
 */
void backlog_take(
	Backlog *b, FdStore *store, const char *name, const Ring *ring, uint64_t lowest, uint64_t from, uint64_t to, uint64_t max);

/**
 * Find what stands at @p pos.
 *
 * @param b         state of the stream
 * @param store     registry
 * @param name      of the file there
 * @param ring      the ring
 * @param pos       position of a client, below the head
 * @param copy      room for @p max bytes, used if they come from the file
 * @param max       most bytes wanted, not 0
 * @param ret_data  set to where they are, valid until the ring or @p copy changes
 * @param ret_next  set to the position behind them or, if they are lost, behind the gap
 * @return whether they are there; false: everything up to *ret_next is lost
 */
bool backlog_find(const Backlog *b, const FdStore *store, const char *name, const Ring *ring, uint64_t pos, char *copy, size_t max,
	const char **ret_data, uint64_t *ret_next);

/** Nobody needs what is below @p lowest any more: the file is closed if that is all of it. */
void backlog_release(Backlog *b, FdStore *store, const char *name, uint64_t lowest);
