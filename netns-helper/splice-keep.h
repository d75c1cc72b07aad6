#pragma once
/*
 * Connections that outlive even a kill of all processes, where systemd's descriptor store holds what ours can't (common/fd-keep.h).
 *
 * Theory of operation. The splice table is then a kept memfd, and a descriptor comes back under its old number: so what is needed is only
 * that both sockets of a connection, and the pipes that bytes are in, are in the store at that moment. Pipes are few and are given when
 * they are made. A connection is given when it is SPLICE_KEEP_AGE_MS old: most never are. Of what is not there afterwards the entry goes,
 * and the other end is reset.
 *
 * As long as systemd has a socket too, close() tells the peer nothing. So a connection that was given away is ended by shutdown() or a
 * disconnection, and systemd lets go by itself of a socket that hangs up, even if our message does not reach it: nobody waits for systemd when its
 * queue is full.
 */
#include <stdbool.h>

#include "common/event-log.h"
#include "common/event-loop.h"
#include "common/fd-store.h"
#include "netns-helper/splice-table.h"

#define SPLICE_KEEP_AGE_MS 1000
#define SPLICE_KEEP_FLOWS_MAX 1024 /* systemd compares each new descriptor with all that it has */
#define SPLICE_KEEP_PIPES_MAX 256

typedef struct SpliceKeep SpliceKeep; /* every function takes NULL for "no systemd" */

/**
 * @param table   shared
 * @param store   the registry
 * @param loop    borrowed; its timer looks for connections that have become old enough
 * @param events  told when there are more than fit
 * @return NULL if systemd keeps nothing of ours
 */
SpliceKeep *splice_keep_new(SpliceTable *table, const FdStore *store, EventLoop *loop, EventLog *events);
void splice_keep_free(SpliceKeep *keep);

/** A pipe is in the table and still empty. */
void splice_keep_pipe(SpliceKeep *keep, SplicePipe *pipe);
/** Whether pipes can be closed now: systemd takes messages. */
bool splice_keep_is_prompt(const SpliceKeep *keep);
/** Before the pipe is closed. */
void splice_keep_drop_pipe(SpliceKeep *keep, SplicePipe *pipe);
/** Before the descriptors of @p flow are closed: its peers are told what close() would tell. */
void splice_keep_end(SpliceKeep *keep, SpliceFlow *flow, bool reset);
/** All of the table is going to be closed. */
void splice_keep_clear(SpliceKeep *keep);

/**
 * When systemd has given back what it had, and nothing else is open yet: leave in the table what is whole.
 */
void splice_keep_repair(SpliceTable *table);
