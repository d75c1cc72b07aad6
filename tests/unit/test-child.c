/* conmon/child */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/shared-memory.h"
#include "conmon/child.h"
#include "kill-somewhere.h"

#define KILLS 150
#define SPAN_NS 500000
#define PIDFD "child.pidfd"

typedef struct {
	Conmon conmon;
	ReaperState *state;
	int out[2], gate[2];
} Fixture;

static Fixture *running; /* for the child, which gets no other argument */

static void child_main(const Conmon *conmon)
{
	char c;

	g_assert_cmpint((int)write(running->out[1], "x", 1), ==, 1);
	close(running->gate[1]);
	(void)!read(running->gate[0], &c, 1);
	_exit(7);
}

static void set_up(Fixture *f, gconstpointer data)
{
	running = f;
	f->state = shared_memory_new(sizeof(*f->state));
	f->conmon = (Conmon){.store = fd_store_new(), .reaper = f->state};
	g_assert_cmpint(pipe2(f->out, O_CLOEXEC), ==, 0);
	g_assert_cmpint(pipe2(f->gate, O_CLOEXEC), ==, 0);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	fd_store_close(f->conmon.store, PIDFD);
	for (int i = 0; i < 2; i++) {
		f->out[i] = fd_close(f->out[i]);
		f->gate[i] = fd_close(f->gate[i]);
	}
}

static void start(void *data)
{
	Fixture *f = data;

	g_assert_cmpint(child_start_once(&f->conmon, &f->state->runtime_pid, PIDFD, child_main), ==, 0);
}

/* Let it end, and wait for that without reaping. */
static int finish(Fixture *f)
{
	siginfo_t info;
	int status = -1;
	pid_t pid = atomic_load(&f->state->runtime_pid);

	g_assert_cmpint(child_status(&f->conmon, pid, PIDFD, &status), ==, 0);
	f->gate[1] = fd_close(f->gate[1]);
	g_assert_cmpint(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), ==, 0);
	g_assert_cmpint(child_status(&f->conmon, pid, PIDFD, &status), ==, 1);
	return status;
}

static void test_once(Fixture *f, gconstpointer data)
{
	char buf[8];

	start(f);
	start(f);
	g_assert_cmpint(finish(f), ==, 7 << 8);
	g_assert_cmpint((int)read(f->out[0], buf, sizeof(buf)), ==, 1);
	child_reap_all(f->state);
}

static void test_status_after_reaping(Fixture *f, gconstpointer data)
{
	int status = -1;

	start(f);
	(void)finish(f);
	child_reap_all(f->state);
	g_assert_cmpint(child_status(&f->conmon, atomic_load(&f->state->runtime_pid), PIDFD, &status), ==, 1);
	g_assert_cmpint(status, ==, 7 << 8);
}

/* A grandchild whose parent was killed is ours by PR_SET_CHILD_SUBREAPER, as the keeper gets the reaper's children. */
static void test_kills(Fixture *f, gconstpointer data)
{
	for (int i = 0; i < KILLS; i++) {
		char buf[8];

		kill_somewhere(start, f, g_test_rand_int_range(0, SPAN_NS));
		start(f);
		g_assert_cmpint(finish(f), ==, 7 << 8);
		while (waitpid(-1, NULL, 0) > 0)
			; /* the loser of the two, too */
		g_assert_cmpint((int)read(f->out[0], buf, sizeof(buf)), ==, 1);
		tear_down(f, NULL);
		set_up(f, NULL);
	}
}

static bool lose;

/* In the child of a fork, before it gets to the slot: somebody else was faster. */
static void be_too_late(void)
{
	if (lose)
		atomic_store(&running->state->runtime_pid, 1);
}

static void test_loser(Fixture *f, gconstpointer data)
{
	char buf[8];

	lose = true;
	(void)child_start_once(&f->conmon, &f->state->runtime_pid, PIDFD, child_main);
	lose = false;
	f->gate[1] = fd_close(f->gate[1]);
	while (waitpid(-1, NULL, 0) > 0)
		;
	f->out[1] = fd_close(f->out[1]);
	g_assert_cmpint((int)read(f->out[0], buf, sizeof(buf)), ==, 0);
}

static void test_not_ours(Fixture *f, gconstpointer data)
{
	int status = 0;

	/* nobody knows anything about it: never a status */
	g_assert_cmpint(child_status(&f->conmon, 999999999, PIDFD, &status), ==, -EAGAIN);
}

#define ADD(path, test) g_test_add(path, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
	g_assert_cmpint(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), ==, 0);
	g_assert_cmpint(pthread_atfork(NULL, NULL, be_too_late), ==, 0);
	g_test_init(&argc, &argv, NULL);
	ADD("/child/started-once", test_once);
	ADD("/child/status-after-reaping", test_status_after_reaping);
	ADD("/child/the-second-of-two-does-nothing", test_loser);
	ADD("/child/unknown-is-not-a-status", test_not_ours);
	ADD("/child/once-through-kills", test_kills);
	return g_test_run();
}
