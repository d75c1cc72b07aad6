#pragma once
/*
 * The pipes that spliced bytes pass through, borrowed for as long as bytes are in them.
 *
 * A user's pipes are limited in all (pipe(7), pipe-user-pages-soft), over all his containers. So a helper without traffic keeps a few
 * small ones, a pipe is enlarged only when bulk data comes its way, and what was not needed for a while is given back.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/event-loop.h"
#include "netns-helper/splice-keep.h"
#include "netns-helper/splice-table.h"

typedef struct SplicePipes SplicePipes;

/** @return NULL with errno */
SplicePipes *splice_pipes_new(SpliceTable *table, SpliceKeep *keep, EventLoop *loop);
void splice_pipes_free(SplicePipes *pipes);
/** Take over from a predecessor: what no half of a flow uses is emptied and free. Call once, before the first splice_pipes_borrow(). */
void splice_pipes_adopt(SplicePipes *pipes);

/** Name a pipe in @p half. @return false if there is none (splice_pipes_is_shortage_over() remembers) */
bool splice_pipes_borrow(SplicePipes *pipes, SpliceHalf *half);
/** Give the pipe of @p half back, if it has one. It must be empty. */
void splice_pipes_return(SplicePipes *pipes, SpliceHalf *half);
/** @p bytes came into the pipe at once: it may be worth a larger one. */
void splice_pipes_saw(SplicePipes *pipes, uint32_t pipe, size_t bytes);
/** Throw away what is in it. */
void splice_pipes_empty(const SplicePipes *pipes, uint32_t pipe);

int splice_pipes_read_fd(const SplicePipes *pipes, uint32_t pipe);
int splice_pipes_write_fd(const SplicePipes *pipes, uint32_t pipe);

/** Whether somebody found none, and now there is one; asking clears it. */
bool splice_pipes_is_shortage_over(SplicePipes *pipes);
