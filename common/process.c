#include "config.h"

#include "common/process.h"

#include <errno.h>
#include <link.h>
#include <linux/sched.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd-util.h"

pid_t process_clone_shared(int *ret_pidfd)
{
	unsigned long flags = CLONE_FILES | SIGCHLD;
	int pidfd = -1;
	long pid;

	if (ret_pidfd)
		flags |= CLONE_PIDFD;
	(void)fflush(NULL); /* what is buffered is printed once, by us */
	pid = syscall(SYS_clone, flags, NULL, &pidfd, NULL, 0);
	if (pid < 0)
		return -errno;
	if (pid > 0 && ret_pidfd)
		*ret_pidfd = pidfd;
	return (pid_t)pid;
}

pid_t process_clone_recorded(_Atomic pid_t *slot, _Atomic int *pidfd_slot)
{
	struct clone_args args = {
		.flags = CLONE_FILES | CLONE_PIDFD | CLONE_PARENT_SETTID,
		.pidfd = (uint64_t)(uintptr_t)pidfd_slot,
		.parent_tid = (uint64_t)(uintptr_t)slot,
		.exit_signal = SIGCHLD,
	};
	int pidfd = -1;
	long pid;

	(void)fflush(NULL);
	pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid >= 0)
		return (pid_t)pid;
	*slot = 0;
	*pidfd_slot = -1;
	if (errno != ENOSYS && errno != EPERM) /* an outer filter that does not know clone3(2) */
		return -errno;
	pid = process_clone_shared(&pidfd);
	if (pid > 0) {
		*pidfd_slot = pidfd;
		*slot = (pid_t)pid;
	}
	return (pid_t)pid;
}

int process_pidfd_open(pid_t pid)
{
	long fd = syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : (int)fd;
}

int process_pidfd_signal(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

bool process_pidfd_has_ended(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLIN | POLLHUP));
}

/* linux/pidfd.h of Linux 6.15; Debian 12's headers are older. */
struct pidfd_info_v1 {
	uint64_t mask;
	uint64_t cgroupid;
	uint32_t pid, tgid, ppid;
	uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
	int32_t exit_code;
};
#define TANDEM_PIDFD_INFO_EXIT (1u << 3)
#define TANDEM_PIDFD_GET_INFO _IOWR(0xFF, 11, struct pidfd_info_v1)

int process_pidfd_exit_status(int pidfd, int *ret_status)
{
	struct pidfd_info_v1 info = {.mask = TANDEM_PIDFD_INFO_EXIT};

	if (ioctl(pidfd, TANDEM_PIDFD_GET_INFO, &info) < 0)
		return errno == ESRCH ? -EAGAIN : -EOPNOTSUPP;
	if (!(info.mask & TANDEM_PIDFD_INFO_EXIT))
		return -EAGAIN;
	*ret_status = info.exit_code;
	return 0;
}

const char *process_cause(int code, int status)
{
	static char text[64];
	const char *name;

	switch (code) {
	case CLD_EXITED:
		(void)snprintf(text, sizeof(text), "exit status %d", status);
		break;
	case CLD_KILLED:
	case CLD_DUMPED:
		name = sigabbrev_np(status);
		(void)snprintf(text, sizeof(text), "killed by SIG%s", name ? name : "?");
		break;
	default:
		return "unknown cause";
	}
	return text;
}

static struct {
	char *area; /* argv strings as the kernel laid them out, contiguous */
	size_t size;
	char name[32]; /* last part of argv[0] */
} title;

/* The title is written over the arguments; whoever parses them from here on keeps pointers into copies. */
static bool copy_arguments(int argc, char **argv)
{
	char **copies = calloc((size_t)argc, sizeof(*copies));
	bool complete = copies != NULL;

	for (int i = 0; complete && i < argc; i++)
		complete = (copies[i] = strdup(argv[i])) != NULL;
	for (int i = 0; copies && i < argc; i++) {
		if (complete)
			argv[i] = copies[i]; /* for the life of the process */
		else
			free(copies[i]);
	}
	free(copies);
	return complete;
}

void process_title_init(int argc, char **argv, char **envp)
{
	char *area, *end;

	if (argc < 1)
		return;
	area = end = argv[0];
	for (int i = 0; i < argc; i++) {
		if (argv[i] != end)
			return; /* not one block: leave it alone */
		end = argv[i] + strlen(argv[i]) + 1;
	}
	if (!copy_arguments(argc, argv))
		return;
	title.area = area;
	title.size = (size_t)(end - area);
	end = strrchr(argv[0], '/');
	(void)snprintf(title.name, sizeof(title.name), "%s", end ? end + 1 : argv[0]);
}

/*
 * In the place of the program's name if it fits there, filled up with spaces: then no other page of the arguments becomes a copy. Else what
 * follows is moved.
 */
void process_set_title(const char *role)
{
	char first[96];
	size_t program, len, rest, n;

	if (!title.area)
		return;
	program = strlen(title.area) + 1; /* what stands there for argv[0] */
	len = (size_t)snprintf(first, sizeof(first), "%s: %s", title.name, role) + 1;
	if (len > sizeof(first) || len > title.size)
		return;
	if (len <= program) {
		memcpy(title.area, first, len - 1);
		memset(title.area + len - 1, ' ', program - len);
		return;
	}
	rest = title.size - program;
	n = rest < title.size - len ? rest : title.size - len;
	memmove(title.area + len, title.area + program, n);
	memset(title.area + len + n, 0, title.size - len - n);
	memcpy(title.area, first, len);
	title.area[title.size - 1] = '\0';
}

#define SEGMENTS_MAX 64 /* three or four for each library */
#define RSEQ_REGISTERED_SIZE 32 /* what the C library registers, the first version's size; newer ones may have more */
#define STACK_TRIM_MAX 262144 /* how far down a busy start may have reached */

/*
 * Give the stack pages below the caller's frame back. The kernel maps the stack only as far as it was used, and keeps more than this free
 * below it: what is not mapped is passed over, with ENOMEM when the rest is done.
 */
__attribute__((noinline)) static void trim_stack(void)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	uintptr_t end = (here - 512) & ~(page - 1); /* below this function's own frame and what it calls */

	(void)madvise((void *)(end - STACK_TRIM_MAX), STACK_TRIM_MAX, MADV_DONTNEED);
}

/* Segments that are never written: what is in them comes back from the page cache when it is needed. */
static struct {
	struct {
		uintptr_t start, size;
	} segments[SEGMENTS_MAX];
	unsigned n;
} text;

static int note_text(struct dl_phdr_info *info, size_t size, void *data)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	if (strncmp(info->dlpi_name, "linux-", 6) == 0)
		return 0; /* the vdso is no file */
	for (int i = 0; i < info->dlpi_phnum && text.n < SEGMENTS_MAX; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t start = (info->dlpi_addr + segment->p_vaddr) & ~(page - 1);
		uintptr_t end = info->dlpi_addr + segment->p_vaddr + segment->p_memsz;

		if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W))
			continue;
		text.segments[text.n].start = start;
		text.segments[text.n++].size = end - start;
	}
	return 0;
}

#ifdef RSEQ_SIG
/* The kernel writes the number of the processor into it whenever that changes: a page of its own for every process that is just there. */
static void leave_rseq(void)
{
	void *area = (char *)__builtin_thread_pointer() + __rseq_offset;

	if (__rseq_size > 0 && syscall(SYS_rseq, area, RSEQ_REGISTERED_SIZE, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) < 0)
		(void)syscall(SYS_rseq, area, __rseq_size, RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
}
#else
static void leave_rseq(void)
{
}
#endif

void process_prepare_clones(void)
{
	text.n = 0;
	(void)dl_iterate_phdr(note_text, NULL); /* it takes a lock: in each process it would copy a page of the linker's data */
	leave_rseq();
}

void process_settle_memory(void)
{
	(void)malloc_trim(0);
	trim_stack();
}

void process_rest(void)
{
	process_settle_memory();
	if (text.n == 0)
		(void)dl_iterate_phdr(note_text, NULL);
	for (unsigned i = 0; i < text.n; i++)
		(void)madvise((void *)text.segments[i].start, text.segments[i].size, MADV_DONTNEED);
}
