#pragma once
/*
 * Memory that every later fork of this process shares, and that outlives each of them (mmap(2), MAP_SHARED|MAP_ANONYMOUS).
 */
#include <stddef.h>

/** @return @p size zeroed bytes, aligned to a cache line, or NULL with errno. Never given back. Untouched pages cost nothing. */
void *shared_memory_new(size_t size);

/**
 * A ring of @p size bytes that is mapped twice in a row, so that any range of at most @p size bytes is contiguous.
 *
 * The compiler does not know that two addresses are one byte: let only system calls write through one and read through the other.
 *
 * @param size  a multiple of the page size
 * @return address of the first mapping, or NULL with errno
 */
void *shared_memory_ring_new(size_t size);

/** Give the pages of a ring back to the system; its content is zeroes afterwards. */
void shared_memory_ring_discard(void *ring, size_t size);
