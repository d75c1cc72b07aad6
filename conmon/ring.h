#pragma once
/*
 * A byte queue in shared memory: one producer, any number of readers with a position of their own. It is mapped twice in a
 * row, so that what lies between two positions is always contiguous. Positions count bytes from the beginning of the
 * stream and never wrap.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
	char *data;	/* first of the two mappings */
	size_t size;	/* bytes, a multiple of the page size */
	_Atomic uint64_t head;	/* position behind the last byte */
	_Atomic uint64_t shift;	/* where position p lies: (p + shift) % size */
} Ring;

/** Map @p size bytes before the first fork. @return 0 or -errno */
int ring_init(Ring *ring, size_t size);

static inline uint64_t ring_head(const Ring *ring)
{
	return atomic_load_explicit(&ring->head, memory_order_acquire);
}

/** Address of position @p pos; readable up to the head, writable (at the head) for what is free. */
static inline char *ring_at(const Ring *ring, uint64_t pos)
{
	return ring->data + (pos + atomic_load_explicit(&ring->shift, memory_order_relaxed)) % ring->size;
}

/** Free bytes if the slowest reader stands at @p tail. */
static inline size_t ring_free(const Ring *ring, uint64_t tail)
{
	return ring->size - (size_t)(ring_head(ring) - tail);
}

/** Publish that the stream now ends at @p head. */
static inline void ring_set_head(Ring *ring, uint64_t head)
{
	atomic_store_explicit(&ring->head, head, memory_order_release);
}

/** The ring is empty (every reader stands at the head): go on at its beginning, whose pages are warm in the cache. */
void ring_rewind(Ring *ring);

/** The ring is empty and will be for a while: give its pages back. */
void ring_discard(Ring *ring);
