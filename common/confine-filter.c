/*
 * System call filters. Linked into the programs that use one, not into the library: libseccomp's data would be in every
 * process of a daemon that has no filter.
 */
#include "config.h"

#include "common/confine.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/shared-memory.h"

/* Foreign ABIs through which the same calls could be reached on this machine. */
static int add_compatible_architectures(scmp_filter_ctx filter)
{
	static const uint32_t pairs[][2] = {
		{SCMP_ARCH_X86_64, SCMP_ARCH_X86},
		{SCMP_ARCH_X86_64, SCMP_ARCH_X32},
		{SCMP_ARCH_AARCH64, SCMP_ARCH_ARM},
		{SCMP_ARCH_MIPS64, SCMP_ARCH_MIPS},
		{SCMP_ARCH_MIPSEL64, SCMP_ARCH_MIPSEL},
		{SCMP_ARCH_PPC64, SCMP_ARCH_PPC},
		{SCMP_ARCH_S390X, SCMP_ARCH_S390},
	};
	uint32_t native = seccomp_arch_native();

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		int r = pairs[i][0] == native ? seccomp_arch_add(filter, pairs[i][1]) : 0;

		if (r < 0 && r != -EEXIST)
			return r;
	}
	return 0;
}

/*
 * ptrace(2) but for PTRACE_CONT and PTRACE_LISTEN, which only work on a process traced already. libseccomp takes one comparison
 * per argument and rule, so the requests between and around these two are listed.
 */
static int deny_new_tracing(scmp_filter_ctx filter, uint32_t kill)
{
	int nr = SCMP_SYS(ptrace);
	int r = seccomp_rule_add(filter, kill, nr, 1, SCMP_A0(SCMP_CMP_LT, PTRACE_CONT));

	for (unsigned request = PTRACE_CONT + 1; r == 0 && request < 64; request++)
		r = seccomp_rule_add(filter, kill, nr, 1, SCMP_A0(SCMP_CMP_EQ, request));
	for (unsigned request = 0x4200; r == 0 && request < PTRACE_LISTEN; request++)
		r = seccomp_rule_add(filter, kill, nr, 1, SCMP_A0(SCMP_CMP_EQ, request));
	if (r == 0)
		r = seccomp_rule_add(filter, kill, nr, 1, SCMP_A0(SCMP_CMP_GT, PTRACE_LISTEN));
	return r;
}

static int compile(const char *const *deny, int out_fd, unsigned *skipped)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	uint32_t kill = seccomp_api_get() >= 3 ? SCMP_ACT_KILL_PROCESS : SCMP_ACT_KILL;
	int r;

	if (!filter)
		return -ENOMEM;
	r = add_compatible_architectures(filter);
	for (; r == 0 && *deny; deny++) {
		int nr;

		if (strcmp(*deny, CONFINE_NEW_TRACING) == 0) {
			r = deny_new_tracing(filter, kill);
			continue;
		}
		nr = seccomp_syscall_resolve_name(*deny);
		if (nr == __NR_SCMP_ERROR)
			(*skipped)++;
		else
			r = seccomp_rule_add(filter, kill, nr, 0);
	}
	if (r == 0)
		r = seccomp_export_bpf(filter, out_fd);
	seccomp_release(filter);
	return r;
}

#define FILTER_MAX 4096 /* BPF_MAXINSNS */

struct ConfineFilter {
	struct sock_fprog program;
	struct sock_filter code[];
};

typedef struct {
	int result;
	unsigned skipped;
} Compiled;

static int read_program(int fd, ConfineFilter **ret_filter)
{
	struct stat st;
	ConfineFilter *filter;
	size_t n;

	if (fstat(fd, &st) < 0)
		return -errno;
	n = (size_t)st.st_size / sizeof(struct sock_filter);
	if (n == 0 || n > FILTER_MAX)
		return -EFBIG;
	filter = malloc(sizeof(*filter) + n * sizeof(struct sock_filter));
	if (!filter)
		return -ENOMEM;
	if (pread(fd, filter->code, n * sizeof(struct sock_filter), 0) !=
		(ssize_t)(n * sizeof(struct sock_filter))) {
		free(filter);
		return -EIO;
	}
	filter->program = (struct sock_fprog){.len = (unsigned short)n, .filter = filter->code};
	*ret_filter = filter;
	return 0;
}

int confine_filter_new(const char *const *deny, ConfineFilter **ret_filter, unsigned *ret_skipped)
{
	cleanup_close int fd = memfd_create("filter", MFD_CLOEXEC);
	Compiled *compiled = shared_memory_new(sizeof(*compiled));
	int r = -ECANCELED;
	pid_t pid;

	if (fd < 0 || !compiled)
		return -errno;
	(void)fflush(NULL);
	compiled->result = -ECANCELED; /* the child was killed */
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		compiled->result = compile(deny, fd, &compiled->skipped);
		_exit(0);
	}
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	r = compiled->result;
	if (ret_skipped)
		*ret_skipped = compiled->skipped;
	return r < 0 ? r : read_program(fd, ret_filter);
}

int confine_filter_load(const ConfineFilter *filter)
{
	int r = confine_no_new_privs();

	if (r < 0)
		return r;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter->program) < 0 ? -errno : 0;
}
