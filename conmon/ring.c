#include "config.h"

#include <errno.h>

#include "common/shared-memory.h"

#include "conmon/ring.h"

int ring_init(Ring *ring, size_t size)
{
	char *data = shared_memory_ring_new(size);

	if (!data)
		return -errno;
	ring->data = data;
	ring->size = size;
	return 0;
}

void ring_rewind(Ring *ring)
{
	uint64_t rest = ring_head(ring) % ring->size;

	/* One store; whoever is killed around it finds an empty ring either way. */
	atomic_store_explicit(&ring->shift, ring->size - rest, memory_order_relaxed);
}

void ring_discard(Ring *ring)
{
	shared_memory_ring_discard(ring->data, ring->size);
	ring_rewind(ring);
}
