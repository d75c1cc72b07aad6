/* common/process, and common/confine and common/shared-memory where they need a process of their own. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/confine.h"
#include "common/fd-util.h"
#include "common/process.h"
#include "common/shared-memory.h"

static int status_of(pid_t pid)
{
	int status;

	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	return status;
}

static void test_clone_shares_the_table(void)
{
	int *number = shared_memory_new(sizeof(int)), pidfd = -1;
	pid_t pid = process_clone_shared(&pidfd);

	if (pid == 0) {
		*number = open("/dev/null", O_RDONLY | O_CLOEXEC);
		_exit(3);
	}
	g_assert_cmpint(status_of(pid), ==, 3 << 8);
	g_assert_true(fd_is_open(*number));
	g_assert_true(process_pidfd_has_ended(pidfd));
	(void)close(*number);
	(void)close(pidfd);
}

static void test_exit_status_through_the_pidfd(void)
{
	int pidfd = -1, status = 0, r;
	pid_t pid = process_clone_shared(&pidfd);

	if (pid == 0)
		_exit(9);
	g_assert_cmpint(status_of(pid), ==, 9 << 8);
	r = process_pidfd_exit_status(pidfd, &status);
	(void)close(pidfd);
	if (r == -EOPNOTSUPP) {
		g_test_skip("kernel without PIDFD_INFO_EXIT (before Linux 6.15)");
		return;
	}
	g_assert_cmpint(r, ==, 0);
	g_assert_cmpint(WEXITSTATUS(status), ==, 9);
}

static void test_cause_in_words(void)
{
	g_assert_cmpstr(process_cause(CLD_KILLED, SIGKILL), ==, "killed by SIGKILL");
	g_assert_cmpstr(process_cause(CLD_EXITED, 3), ==, "exit status 3");
	g_assert_cmpstr(process_cause(0, 0), ==, "unknown cause");
}

static void test_capabilities_are_dropped(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		cap_value_t keep = CAP_NET_BIND_SERVICE;
		bool held = cap_get_bound(CAP_NET_BIND_SERVICE) == 1 && geteuid() == 0;
		char text[8192], *line;

		if (confine_capabilities(&keep, 1) < 0 || confine_no_new_privs() < 0)
			_exit(2);
		if (fd_read_file("/proc/self/status", text, sizeof(text)) < 0)
			_exit(3);
		line = strstr(text, "CapPrm:");
		if (!line || strtoull(line + 7, NULL, 16) != (held ? 0x400u : 0u))
			_exit(4);
		if (held && strtoull(strstr(text, "CapBnd:") + 7, NULL, 16) != 0x400u)
			_exit(5);
		if (!strstr(text, "NoNewPrivs:\t1"))
			_exit(6);
		_exit(0);
	}
	g_assert_cmpint(status_of(pid), ==, 0);
}

static void test_ring_is_contiguous_over_its_end(void)
{
	size_t size = 1 << 16;
	char *ring = shared_memory_ring_new(size);

	g_assert_nonnull(ring);
	memcpy(ring + size - 3, "abcdef", 6);
	g_assert_cmpint(memcmp(ring, "def", 3), ==, 0);
	g_assert_cmpint(ring[2 * size - 1], ==, ring[size - 1]);
	shared_memory_ring_discard(ring, size);
	g_assert_cmpint(ring[0], ==, 0);
	*(volatile char *)ring = 'x';
	g_assert_cmpint(*(volatile char *)(ring + size), ==,
		'x'); /* the compiler takes the two for different memory */
}

static void test_small_objects_of_parent_and_child_are_different(void)
{
	int *first = shared_memory_new(sizeof(int)), *seen = shared_memory_new(sizeof(int)), *second;
	pid_t pid;

	*first = 1;
	pid = fork();
	if (pid == 0) {
		int *own = shared_memory_new(sizeof(int));

		*seen = *own == 0 ? 7 : 8;
		*own = 2;
		_exit(0);
	}
	g_assert_cmpint(status_of(pid), ==, 0);
	second = shared_memory_new(sizeof(int));
	g_assert_cmpint(*first, ==, 1);
	g_assert_cmpint(*seen, ==, 7);
	g_assert_cmpint(*second, ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/process/clone/shares-the-descriptor-table", test_clone_shares_the_table);
	g_test_add_func("/process/pidfd/exit-status-of-a-reaped-process", test_exit_status_through_the_pidfd);
	g_test_add_func("/process/cause/in-words", test_cause_in_words);
	g_test_add_func("/confine/capabilities/dropped-but-kept-ones", test_capabilities_are_dropped);
	g_test_add_func("/shared-memory/new/objects-of-parent-and-child-are-different",
		test_small_objects_of_parent_and_child_are_different);
	g_test_add_func("/shared-memory/ring/contiguous-over-its-end", test_ring_is_contiguous_over_its_end);
	return g_test_run();
}
