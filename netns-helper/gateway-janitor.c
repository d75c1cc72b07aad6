#include "config.h"

#include "netns-helper/gateway-janitor.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/confine.h"
#include "common/fd-util.h"
#include "common/process.h"
#include "netns-helper/gateway.h"

/* Whoever started the helper may end its whole process group; the janitor ends by end of file, after the others. */
static void ignore_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		(void)signal(signals[i], SIG_IGN);
}

static void close_all_but(int fd)
{
	if (fd > 0)
		(void)close_range(0, (unsigned)fd - 1, 0);
	(void)close_range((unsigned)fd + 1, ~0U, 0);
}

/* The one thing that it is there for, ready to be sent: RTM_DELLINK (rtnetlink(7)). */
typedef struct {
	struct nlmsghdr header;
	struct ifinfomsg link;
} DelLink;

#define WORKER_ENDS_MS 500 /* after its keeper; it takes some milliseconds */
#define RANGES_MAX 96 /* writable private mappings of a program with its libraries */

typedef struct {
	uintptr_t start, size;
} Range;

/* Who is looked after, if anybody. */
typedef struct {
	pid_t keeper;
	int keeper_pidfd; /* in the janitor; -1: nobody is */
	const _Atomic pid_t *worker;
} Ward;

static Ward ward = {.keeper_pidfd = -1};

void gateway_janitor_look_after(const _Atomic pid_t *worker)
{
	ward.keeper = getpid();
	ward.worker = worker;
}

/* Every private writable mapping but the stack: heap, data and thread-local storage of all libraries. */
static size_t find_data(Range *ranges)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], mode[5];
	unsigned long start, end;
	size_t n = 0;

	while (maps && n < RANGES_MAX && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &start, &end, mode) == 3 && strcmp(mode, "rw-p") == 0 && !strstr(line, "[stack]")) {
			ranges[n].start = start;
			ranges[n++].size = end - start;
		}
	if (maps)
		(void)fclose(maps);
	return n;
}

/*
 * From here on there is no C library: the janitor sits through the container's life, and gives back all memory but its stack. What it
 * still needs, it does by system calls with what stands on the stack; syscall(2) itself is code only.
 */
__attribute__((noinline, no_stack_protector)) static _Noreturn void wait_and_delete(int fd, int netlink_fd,
	const DelLink *message, const Range *ranges, size_t n, Ward looked_after)
{
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
	} answer = {.error.error = -EIO};
	struct pollfd wait[2] = {
		{.fd = fd, .events = POLLIN},
		{.fd = looked_after.keeper_pidfd, .events = POLLIN}, /* -1 is left out */
	};
	struct timespec worker_ends = {.tv_nsec = WORKER_ENDS_MS * 1000000L};
	pid_t worker;
	char byte;
	long r;

	for (size_t i = 0; i < n; i++)
		(void)syscall(SYS_madvise, ranges[i].start, ranges[i].size, MADV_DONTNEED);
	do
		r = syscall(SYS_ppoll, wait, 2, NULL, NULL, 8);
	while (r <= 0); /* signals are ignored; whatever else interrupts is no reason */
	if (!wait[0].revents)
		r = syscall(SYS_ppoll, wait, 1, &worker_ends, NULL, 8);
	if (syscall(SYS_sendto, netlink_fd, message, sizeof(*message), 0, NULL, 0) == (long)sizeof(*message))
		(void)syscall(SYS_recvfrom, netlink_fd, &answer, sizeof(answer), 0, NULL, NULL);
	byte = (char)-answer.error.error;
	/* Nobody has asked, and our socket has not ended: so the worker holds it still, and its pid is its own. */
	if (r <= 0 && !wait[0].revents && (worker = *looked_after.worker) > 0)
		(void)syscall(SYS_kill, worker, SIGKILL);
	(void)syscall(SYS_sendto, fd, &byte, 1, MSG_NOSIGNAL, NULL, 0); /* nobody may be there any more */
	for (;;)
		(void)syscall(SYS_exit_group, byte != 0);
}

static _Noreturn void janitor_run(unsigned ifindex, int fd)
{
	static const cap_value_t needed[] = {CAP_NET_ADMIN};
	DelLink message = {
		.header = {.nlmsg_len = sizeof(message), .nlmsg_type = RTM_DELLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.link = {.ifi_family = AF_UNSPEC, .ifi_index = (int)ifindex},
	};
	Range ranges[RANGES_MAX];
	size_t n;
	int netlink_fd;

	close_all_but(fd);
	if (ward.worker) /* 0 (not in the namespace that we see): nobody */
		ward.keeper_pidfd = process_pidfd_open(ward.keeper);
	ignore_signals();
	(void)!chdir("/");
	(void)prctl(PR_SET_DUMPABLE, 0);
	process_set_title("janitor");
	n = find_data(ranges); /* while /proc is still ours to read */
	(void)confine_capabilities(needed, 1);
	(void)confine_no_new_privs();
	netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (netlink_fd < 0)
		_exit(1);
	process_rest();
#ifdef __SANITIZE_ADDRESS__
	n = 0; /* its shadow is not ours to clear */
#endif
	wait_and_delete(fd, netlink_fd, &message, ranges, n, ward);
}

int gateway_janitor_start(unsigned ifindex, int *ret_fd)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		fd_close(pair[0]);
		fd_close(pair[1]);
		return r;
	}
	if (pid == 0)
		janitor_run(ifindex, pair[1]);
	fd_close(pair[1]);
	*ret_fd = pair[0];
	return 0;
}

int gateway_janitor_stop(int janitor_fd, int timeout_ms)
{
	struct pollfd pfd = {.fd = janitor_fd, .events = POLLIN};
	char byte = 0;
	int r;

	if (send(janitor_fd, &byte, 1, MSG_NOSIGNAL) < 0)
		return -errno;
	do
		r = poll(&pfd, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r < 0 ? -errno : -ETIMEDOUT;
	if (recv(janitor_fd, &byte, 1, 0) != 1)
		return -EPIPE;
	return -byte;
}
