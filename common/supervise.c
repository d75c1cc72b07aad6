#include "config.h"

#include "common/supervise-private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd-util.h"
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
	for (unsigned i = 0; i < SUPERVISE_WORKERS_MAX; i++)
		atomic_store(&sv->shared->workers[i].pidfd, -1);
	return sv;
}

/* The word: number, pidfd + 1, pid. Linux has at most 2^22 processes (PID_MAX_LIMIT). */
#define REIGN_PID_BITS 22
#define REIGN_PIDFD_BITS 22
#define REIGN_NUMBER_BITS 20
#define LOW_BITS(word, n) ((word) & ((UINT64_C(1) << (n)) - 1))

static SuperviseReign reign_unpack(uint64_t word)
{
	return (SuperviseReign){
		.pid = (pid_t)LOW_BITS(word, REIGN_PID_BITS),
		.pidfd = (int)LOW_BITS(word >> REIGN_PID_BITS, REIGN_PIDFD_BITS) - 1,
		.number = (unsigned)(word >> (REIGN_PID_BITS + REIGN_PIDFD_BITS)),
		.word = word,
	};
}

SuperviseReign supervise_reign(const Supervisor *sv)
{
	return reign_unpack(atomic_load(&sv->shared->reign));
}

int supervise_reign_begin(Supervisor *sv, uint64_t before, int pidfd)
{
	SuperviseReign old = reign_unpack(before);
	uint64_t number = LOW_BITS((uint64_t)old.number + 1, REIGN_NUMBER_BITS), word;

	if (pidfd >= (1 << REIGN_PIDFD_BITS) - 1)
		(void)fd_close(pidfd); /* a number beyond the word's: workers look for the pid instead */
	if (pidfd < 0 || pidfd >= (1 << REIGN_PIDFD_BITS) - 1)
		pidfd = -1;
	word = number << (REIGN_PID_BITS + REIGN_PIDFD_BITS) | (uint64_t)(pidfd + 1) << REIGN_PID_BITS | (uint64_t)getpid();
	if (!atomic_compare_exchange_strong(&sv->shared->reign, &before, word)) {
		if (pidfd >= 0)
			(void)fd_close(pidfd);
		return -EEXIST;
	}
	if (old.pidfd >= 0)
		(void)fd_close(old.pidfd);
	return 0;
}

FdStore *supervise_store(Supervisor *sv)
{
	return sv->store;
}

void supervise_set_survive_keeper(Supervisor *sv, bool survive)
{
	atomic_store(&sv->shared->survive, survive);
}

void supervise_no_last_act(Supervisor *sv)
{
	sv->config.last_act = NULL;
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

const _Atomic pid_t *supervise_pid_place(const Supervisor *sv, const char *name)
{
	const WorkerSlot *slot = slot_of(sv, name);

	return slot ? &slot->pid : NULL;
}

pid_t supervise_pid(const Supervisor *sv, const char *name)
{
	const WorkerSlot *slot;

	if (strcmp(name, "keeper") == 0)
		return supervise_reign(sv).pid;
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
