#include "config.h"

#include "netns-helper/seccomp-filter.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/confine.h"

/* N-196, for every process of the helper. */
static const char *const everybody[] = {
	"execve",
	"execveat",
	"process_vm_readv",
	"process_vm_writev",
	"pidfd_getfd",
	"pidfd_send_signal",
	"lookup_dcookie",
	"setns",
	"unshare",
	"mount",
	"umount",
	"umount2",
	"pivot_root",
	"chroot",
	"fsopen",
	"fsconfig",
	"fsmount",
	"fspick",
	"move_mount",
	"open_tree",
	"name_to_handle_at",
	"open_by_handle_at",
	"init_module",
	"finit_module",
	"delete_module",
	"kexec_load",
	"kexec_file_load",
	"reboot",
	NULL,
};

/*
 * The rest of N-196, for the worker, who may go on with the one trace that it has begun (of its keeper).
 */
static const char *const worker_too[] = {"prctl", "pidfd_open", CONFINE_NEW_TRACING, NULL};

/* Compiled before the first worker starts, for every worker. */
static ConfineFilter *worker_filter;

static int failed(const char *who, int r)
{
	fprintf(stderr,
		"cannot load the seccomp filter of the %s: %s (leave out --enable-seccomp to run without)\n",
		who, strerror(-r));
	return r;
}

int seccomp_filter_keeper(void)
{
	ConfineFilter *filter;
	unsigned skipped = 0, skipped_too = 0;
	int r = confine_filter_new(everybody, &filter, &skipped);

	if (r == 0)
		r = confine_filter_new(worker_too, &worker_filter, &skipped_too);
	if (r == 0)
		r = confine_filter_load(filter);
	if (r < 0)
		return failed("keeper", r);
	if (skipped + skipped_too)
		fprintf(stderr,
			"WARNING: seccomp: %u system calls are unknown to this libseccomp and stay allowed\n",
			skipped + skipped_too);
	return 0;
}

int seccomp_filter_worker(void)
{
	int r = confine_filter_load(worker_filter);

	return r < 0 ? failed("worker", r) : 0;
}

void seccomp_filter_print(void)
{
	printf("* seccomp: blocked calls:");
	for (size_t i = 0; everybody[i]; i++)
		printf(" %s", everybody[i]);
	printf("; in the worker also: prctl pidfd_open ptrace\n");
}
