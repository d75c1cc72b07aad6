#include "config.h"

#include "netns-helper/seccomp-filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/confine.h"
#include "netns-helper/seccomp-table.h"

static int load(const struct sock_filter *code, size_t size, const char *who)
{
	/* the kernel's structure lacks a const */
	struct sock_fprog program = {
		.len = (unsigned short)(size / sizeof(*code)), .filter = (struct sock_filter *)code};
	int r = confine_no_new_privs();

	if (r == 0 && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0)
		r = -errno;
	if (r < 0)
		fprintf(stderr,
			"cannot load the seccomp filter of the %s: %s (leave out --enable-seccomp to run "
			"without)\n",
			who, strerror(-r));
	return r;
}

int seccomp_filter_keeper(void)
{
	return load(keeper_code, sizeof(keeper_code), "keeper");
}

int seccomp_filter_worker(void)
{
	return load(worker_code, sizeof(worker_code), "worker");
}

void seccomp_filter_print(void)
{
	printf("* seccomp: blocked calls:" SECCOMP_TABLE_CALLS "; in the worker also:" SECCOMP_TABLE_CALLS_TOO
	       "\n");
}

const char *seccomp_filter_library(void)
{
	return SECCOMP_TABLE_VERSION;
}
