#include "config.h"

#include "common/supervise-private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/process.h"
#include "common/shared-memory.h"

Supervisor *supervise_new(const SuperviseConfig *config)
{
	Supervisor *sv;

	if (config->n_workers == 0 || config->n_workers > SUPERVISE_WORKERS_MAX) {
		errno = EINVAL;
		return NULL;
	}
	sv = calloc(1, sizeof(*sv));
	if (!sv)
		return NULL;
	sv->config = *config;
	sv->self = -1;
	sv->shared = shared_memory_new(sizeof(*sv->shared));
	sv->store = sv->shared ? fd_store_new() : NULL;
	if (!sv->store) {
		free(sv);
		return NULL;
	}
	process_prepare_clones();
	(void)sigprocmask(SIG_SETMASK, NULL, &sv->original_mask);
	atomic_store(&sv->shared->survive, 1);
	atomic_store(&sv->shared->keeper_pidfd, -1);
	for (unsigned i = 0; i < SUPERVISE_WORKERS_MAX; i++)
		atomic_store(&sv->shared->workers[i].pidfd, -1);
	return sv;
}

FdStore *supervise_store(Supervisor *sv)
{
	return sv->store;
}

void supervise_set_survive_keeper(Supervisor *sv, bool survive)
{
	atomic_store(&sv->shared->survive, survive);
}

void supervise_set_filtered(Supervisor *sv)
{
	sv->filtered = true;
}

bool supervise_is_filtered(const Supervisor *sv)
{
	return sv->filtered;
}

void supervise_pidfd_name(char *out, size_t size, const char *worker)
{
	(void)snprintf(out, size, "%s.pidfd", worker);
}

static const WorkerSlot *slot_of(const Supervisor *sv, const char *name)
{
	for (unsigned i = 0; i < sv->config.n_workers; i++)
		if (strcmp(sv->config.workers[i].name, name) == 0)
			return &sv->shared->workers[i];
	return NULL;
}

pid_t supervise_pid(const Supervisor *sv, const char *name)
{
	const WorkerSlot *slot;

	if (strcmp(name, "keeper") == 0)
		return atomic_load(&sv->shared->keeper_pid);
	slot = slot_of(sv, name);
	return slot ? atomic_load(&slot->pid) : 0;
}

bool supervise_is_ready(const Supervisor *sv, const char *name)
{
	const WorkerSlot *slot = slot_of(sv, name);

	return slot && atomic_load(&slot->phase) == WORKER_READY;
}

unsigned supervise_restarts(const Supervisor *sv, const char *name)
{
	const WorkerSlot *slot = slot_of(sv, name);
	unsigned starts = slot ? atomic_load(&slot->starts) : 0;

	return starts ? starts - 1 : 0;
}

bool supervise_is_retired(const Supervisor *sv, const char *name)
{
	const WorkerSlot *slot = slot_of(sv, name);

	return slot && atomic_load(&slot->phase) == WORKER_RETIRED;
}
