#include "config.h"

#include "netns-helper/shared-state.h"

#include "common/shared-memory.h"

SharedState *shared_state_new(void)
{
	SharedState *shared = shared_memory_new(sizeof(*shared));

	/* Zero is the starting value of everything: untouched pages cost nothing. */
	return shared;
}

Forward *shared_state_next_forward(SharedState *shared, size_t *iter)
{
	while (*iter < atomic_load(&shared->n_forwards)) {
		Forward *forward = &shared->forwards[(*iter)++];

		if (atomic_load(&forward->in_use))
			return forward;
	}
	return NULL;
}

bool shared_state_is_inherited(const SharedState *shared, int fd)
{
	return fd < SHARED_INHERITED_MAX && (shared->inherited[fd / 8] & 1 << fd % 8);
}

bool shared_state_is_forward_fd(SharedState *shared, int fd)
{
	const Forward *forward;

	for (size_t i = 0; (forward = shared_state_next_forward(shared, &i));)
		if (forward->fd == fd)
			return true;
	return false;
}
