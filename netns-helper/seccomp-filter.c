#include "config.h"

#include "netns-helper/seccomp-filter.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/confine.h"

/* N-196, for every process of the helper. */
static const char *const everybody[] = {
	"execve", "execveat",
	"process_vm_readv", "process_vm_writev", "pidfd_getfd", "lookup_dcookie",
	"setns", "unshare",
	"mount", "umount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick", "move_mount",
	"open_tree",
	"name_to_handle_at", "open_by_handle_at",
	"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
	NULL,
};

/*
 * The rest of N-196, for the worker. pidfd_send_signal and the continuation of traces begun are what a worker needs that may
 * have to become the keeper; the first only works on the descriptors that it has, the second on the keeper alone.
 */
static const char *const worker_too[] = { "prctl", "pidfd_open", CONFINE_NEW_TRACING, NULL };

static int load(const char *const *names, const char *who)
{
	unsigned skipped = 0;
	int r = confine_seccomp_deny(names, &skipped);

	if (r < 0)
		fprintf(stderr, "cannot load the seccomp filter of the %s: %s (leave out --enable-seccomp to run without)\n", who,
			strerror(-r));
	else if (skipped)
		fprintf(stderr, "WARNING: seccomp: %u system calls are unknown to this libseccomp and stay allowed\n", skipped);
	return r;
}

int seccomp_filter_keeper(void)
{
	return load(everybody, "keeper");
}

int seccomp_filter_worker(void)
{
	return load(worker_too, "worker");
}

void seccomp_filter_print(void)
{
	printf("* seccomp: blocked calls:");
	for (size_t i = 0; everybody[i]; i++)
		printf(" %s", everybody[i]);
	printf("; in the worker also: prctl pidfd_open ptrace\n");
}
