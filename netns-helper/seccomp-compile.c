/*
 * Run by make: compiles the system call filters of --enable-seccomp by libseccomp and prints them as C (seccomp-table.h). So a start of the
 * helper only loads them; compiling took it two children, and longer than all the rest of its confinement.
 */
#include "config.h"

#include <errno.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

#define API_KILL_PROCESS                                                                                     \
	3 /* libseccomp's level; kernels that do not know the action take it for "kill the thread" (N-197) */
#define NEW_TRACING "ptrace"

/* N-196, for every process of the helper. */
static const char *const keeper[] = {
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

/* The rest of N-196, for the worker, who may go on with the one trace that it has begun (of its keeper). */
static const char *const worker_too[] = {"prctl", "pidfd_open", NEW_TRACING, NULL};

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
static int deny_new_tracing(scmp_filter_ctx filter)
{
	const uint32_t kill = SCMP_ACT_KILL_PROCESS;
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

static int deny_all(scmp_filter_ctx filter, const char *const *names)
{
	int r = add_compatible_architectures(filter);

	for (; r == 0 && *names; names++) {
		int nr = seccomp_syscall_resolve_name(*names);

		if (strcmp(*names, NEW_TRACING) == 0)
			r = deny_new_tracing(filter);
		else if (nr != __NR_SCMP_ERROR)
			r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, nr, 0);
		else
			fprintf(stderr, "WARNING: %s is unknown to this libseccomp and stays allowed\n",
				*names);
	}
	return r;
}

static int print_code(const char *name, FILE *binary)
{
	struct sock_filter op;

	rewind(binary);
	printf("static const struct sock_filter %s[] = {\n", name);
	while (fread(&op, sizeof(op), 1, binary) == 1)
		printf("\t{0x%x, %u, %u, 0x%x},\n", op.code, op.jt, op.jf, op.k);
	printf("};\n");
	return ferror(binary) ? -EIO : 0;
}

static void print_names(const char *name, const char *const *names)
{
	printf("#define %s \"", name);
	for (; *names; names++)
		printf(" %s", *names);
	printf("\"\n");
}

static int compile(const char *name, const char *const *names)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	FILE *binary = tmpfile();
	int r = filter && binary ? deny_all(filter, names) : -ENOMEM;

	if (r == 0)
		r = seccomp_export_bpf(filter, fileno(binary));
	if (r == 0)
		r = print_code(name, binary);
	if (binary)
		(void)fclose(binary);
	seccomp_release(filter);
	if (r < 0)
		fprintf(stderr, "cannot compile the filter %s: %s\n", name, strerror(-r));
	return r;
}

int main(void)
{
	const struct scmp_version *version = seccomp_version();

	(void)seccomp_api_set(API_KILL_PROCESS); /* whatever the kernel of the machine that builds it */
	printf("/* Made by seccomp-compile. */\n");
	printf("#define SECCOMP_TABLE_VERSION \"%u.%u.%u\"\n", version->major, version->minor,
		version->micro);
	print_names("SECCOMP_TABLE_CALLS", keeper);
	print_names("SECCOMP_TABLE_CALLS_TOO", worker_too);
	if (compile("keeper_code", keeper) < 0 || compile("worker_code", worker_too) < 0)
		return EXIT_FAILURE;
	return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
