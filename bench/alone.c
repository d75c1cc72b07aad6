/*
 * For bench/supervision: a daemon of ours without its supervision. It has the daemon's own objects, and this function in the place of
 * supervise_keeper_run() (ld --wrap): each worker is started once, the first one in this very process. Nobody waits for deaths, nobody
 * stands by, and nothing is told to journal and state file.
 */
#include "config.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "common/process.h"
#include "common/supervise-private.h"

int __wrap_supervise_keeper_run(Supervisor *sv); /* ld's name for it */

static void start(Supervisor *sv, unsigned i)
{
	WorkerSlot *slot = &sv->shared->workers[i];

	atomic_store(&slot->phase, WORKER_STARTING);
	atomic_store(&slot->starts, 1);
	if (i == 0)
		atomic_store(&slot->pid, getpid());
	else if (process_clone_recorded(&slot->pid, &slot->pidfd) == 0)
		supervise_become_worker(sv, i, 0);
}

int __wrap_supervise_keeper_run(Supervisor *sv)
{
	const SuperviseConfig *config = &sv->config;
	int r = supervise_reign_begin(sv, 0, process_pidfd_open(getpid()));

	if (r < 0)
		return r;
	for (unsigned i = 0; i < config->n_workers; i++)
		if (strcmp(config->workers[i].name, "heir") != 0) /* who would only make a keeper */
			start(sv, i);
	sv->self = 0;
	r = config->workers[0].run(sv, config->data, 0, 0);
	for (unsigned i = 1; i < config->n_workers; i++)
		if (atomic_load(&sv->shared->workers[i].pid) > 0)
			(void)process_pidfd_signal(atomic_load(&sv->shared->workers[i].pidfd), SIGKILL);
	return atomic_load(&sv->shared->finishing) ? atomic_load(&sv->shared->finish_value) : r;
}
