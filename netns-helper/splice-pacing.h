#pragma once
/*
 * Congestion control of the host's sockets. What the host has chosen is for the way through the world. If that is an algorithm that paces what
 * it sends (BBR), connections to the host itself, where there is no way to measure, lose more than half of their speed to its
 * timers. These get plain Reno, which every kernel has.
 *
 * A socket keeps the timers of the algorithm that it was connected with, so the choice comes before connect(2), when it is not known yet
 * whether the peer is local; afterwards it is, and the host's choice is put back for all others before the first byte.
 */
#include "netns-helper/splice-table.h"

#define SPLICE_PACING_NAME_MAX 16 /* TCP_CA_NAME_MAX */

typedef struct {
	char usual[SPLICE_PACING_NAME_MAX]; /* the host's choice, if it paces and can be put back; else empty, and nothing is done */
} SplicePacing;

/** Find out what sockets begin with. */
void splice_pacing_init(SplicePacing *pacing);
/** Before connect(2) of @p fd; or for a listener, whose connections begin like itself. */
void splice_pacing_before(const SplicePacing *pacing, int fd);
/** After connect(2) or accept(2), before anything is sent. @p peer is what it is connected to. */
void splice_pacing_after(const SplicePacing *pacing, int fd, const SpliceAddr *peer);
/** For a listener that goes to somebody who does not know of all this. */
void splice_pacing_undo(const SplicePacing *pacing, int fd);

/** Whether an algorithm of this name paces. */
bool splice_pacing_is_pacing(const char *name);
