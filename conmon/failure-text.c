/* What the runtime wrote to stderr when it failed: C-83, C-86. */
#include "config.h"

#include "conmon/json-text.h"
#include "conmon/monitor-private.h"

void failure_text_make(Monitor *m)
{
	const Ring *ring = &m->st->rings[STREAM_ERR];
	uint64_t size = ring_head(ring);

	if (m->st->text_is_made)
		return;
	if (size > FAILURE_RAW_MAX)
		size = FAILURE_RAW_MAX;
	json_text_escape(m->conmon->shared->failure_text, sizeof(m->conmon->shared->failure_text), ring_at(ring, 0),
			(size_t)size);
	m->st->text_is_made = 1;
}
