/* common/supervise: deaths of workers and keepers, one and both, and what is left afterwards. */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/process.h"
#include "common/supervise-private.h"
#include "tests/unit/supervise-rig.h"

typedef struct {
	_Atomic int events[8]; /* counts by SuperviseEventKind */
	_Atomic int last_cause_status;
	_Atomic int starts, max_step;
	_Atomic int crash; /* workers abort at once */
	_Atomic int hang; /* workers stop beating */
	_Atomic int slow; /* workers do not become ready */
	_Atomic int listen_fd;
	int port;
} Seen;

static Seen *seen;

static int run_worker(Supervisor *sv, void *data, unsigned restarts, unsigned step)
{
	EventLoop *loop = event_loop_new(supervise_store(sv), "worker");

	atomic_fetch_add(&seen->starts, 1);
	if ((int)step > atomic_load(&seen->max_step))
		atomic_store(&seen->max_step, (int)step);
	if (atomic_load(&seen->crash))
		return 7;
	while (atomic_load(&seen->slow))
		(void)usleep(500);
	if (restarts == 0) {
		/* born in the worker: outlives it without any message */
		struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		socklen_t len = sizeof(in);
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		g_assert_cmpint(bind(fd, (struct sockaddr *)&in, sizeof(in)), ==, 0);
		g_assert_cmpint(listen(fd, 64), ==, 0);
		g_assert_cmpint(getsockname(fd, (struct sockaddr *)&in, &len), ==, 0);
		seen->port = ntohs(in.sin_port);
		g_assert_cmpint(fd_store_put(supervise_store(sv), "listener", fd), ==, 0);
	}
	g_assert_cmpint(fd_store_get(supervise_store(sv), "listener"), >=, 0);
	g_assert_cmpint(supervise_attach_loop(sv, loop), ==, 0);
	rig_look_at_wishes(loop);
	supervise_ready(sv, "listener");
	(void)event_loop_run(loop);
	return 0;
}

static void on_event(Supervisor *sv, void *data, const SuperviseEvent *event)
{
	atomic_fetch_add(&seen->events[event->kind], 1);
	if (event->kind == SUPERVISE_DIED)
		atomic_store(&seen->last_cause_status, event->status);
}

static void on_signal(Supervisor *sv, void *data, int signal)
{
	supervise_keeper_quit(sv, 100 + signal);
}

static int run_other(Supervisor *sv, void *data, unsigned restarts, unsigned step)
{
	EventLoop *loop = event_loop_new(supervise_store(sv), "other");

	g_assert_cmpint(supervise_attach_loop(sv, loop), ==, 0);
	supervise_ready(sv, "");
	(void)event_loop_run(loop);
	return 0;
}

static const SuperviseWorker workers[] = {
	{.name = "worker", .run = run_worker, .max_step = 2, .has_heartbeat = true},
	{.name = "other", .run = run_other, .has_heartbeat = true},
};
static const int signals[] = {SIGTERM, 0};

static unsigned n_workers = 1;

static pid_t start_keeper(bool survive)
{
	SuperviseConfig config = {
		.workers = workers,
		.n_workers = n_workers,
		.on_event = on_event,
		.on_keeper_start = rig_on_keeper_start,
		.on_signal = on_signal,
		.keeper_signals = signals,
	};

	memset(seen, 0, sizeof(*seen));
	return rig_start_keeper(&config, survive);
}

static int wait_status(pid_t pid)
{
	int status;

	WAIT_UNTIL(waitpid(pid, &status, WNOHANG) == pid);
	return status;
}

static int connect_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
		.sin_port = htons((uint16_t)seen->port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0 ? -errno : 0;

	(void)close(fd);
	return r;
}

static bool worker_is_new(pid_t old)
{
	pid_t pid = supervise_pid(rig->sv, "worker");

	return pid > 0 && pid != old && supervise_is_ready(rig->sv, "worker");
}

static void assert_nobody_left(void)
{
	int status;

	/* everything that was started ends up as our child */
	WAIT_UNTIL(waitpid(-1, &status, WNOHANG) < 0 && errno == ECHILD);
}

static void test_killed_worker_restarts_and_port_stays(void)
{
	pid_t keeper = start_keeper(true), old = 0;

	for (int i = 0; i < 30; i++) {
		WAIT_UNTIL(worker_is_new(old));
		old = supervise_pid(rig->sv, "worker");
		g_assert_cmpint(connect_port(), ==, 0);
		g_assert_cmpint(kill(old, SIGKILL), ==, 0);
		g_assert_cmpint(connect_port(), ==, 0);
	}
	WAIT_UNTIL(worker_is_new(old));
	g_assert_cmpint(atomic_load(&seen->events[SUPERVISE_DIED]), ==, 30);
	g_assert_cmpint(atomic_load(&seen->last_cause_status), ==, SIGKILL);
	WAIT_UNTIL(atomic_load(&seen->events[SUPERVISE_RESTARTED]) >= 1);
	g_assert_cmpint(kill(keeper, SIGTERM), ==, 0);
	g_assert_cmpint(wait_status(keeper), ==, (100 + SIGTERM) << 8);
	g_assert_cmpint(connect_port(), ==, -ECONNREFUSED);
	assert_nobody_left();
}

static void test_stopped_worker_is_replaced(void)
{
	pid_t keeper = start_keeper(true), old;

	WAIT_UNTIL(worker_is_new(0));
	old = supervise_pid(rig->sv, "worker");
	g_assert_cmpint(kill(old, SIGSTOP), ==, 0);
	WAIT_UNTIL(worker_is_new(old));
	g_assert_cmpint(atomic_load(&seen->events[SUPERVISE_HUNG]), ==, 1);
	(void)kill(keeper, SIGTERM);
	(void)wait_status(keeper);
	assert_nobody_left();
}

static void test_killed_keeper_is_replaced(void)
{
	pid_t keeper = start_keeper(true), next, old;

	WAIT_UNTIL(worker_is_new(0));
	old = supervise_pid(rig->sv, "worker");
	for (int i = 0; i < 10; i++) {
		g_assert_cmpint(kill(keeper, SIGKILL), ==, 0);
		/* The report comes last: a keeper killed before it never reports. */
		WAIT_UNTIL((next = supervise_pid(rig->sv, "keeper")) != keeper &&
			   atomic_load(&rig->keeper_starts) == i + 2 &&
			   atomic_load(&seen->events[SUPERVISE_NEW_KEEPER]) == i + 1);
		g_assert_cmpint(supervise_pid(rig->sv, "worker"), ==, old);
		g_assert_cmpint(connect_port(), ==, 0);
		keeper = next;
	}
	/* the new keeper looks after the worker that it did not start */
	g_assert_cmpint(kill(old, SIGKILL), ==, 0);
	WAIT_UNTIL(worker_is_new(old));
	g_assert_cmpint(connect_port(), ==, 0);
	atomic_store(&rig->finish, 1);
	WAIT_UNTIL(kill(keeper, 0) < 0 || (waitpid(keeper, NULL, WNOHANG) == keeper));
	assert_nobody_left();
	g_assert_cmpint(connect_port(), ==, -ECONNREFUSED);
}

/* Whichever worker made the present keeper, the other one must make the next. */
static void test_each_worker_sees_each_keeper_die(void)
{
	const char *const names[] = {"worker", "other"};
	pid_t keeper, next;
	int dies;

	n_workers = 2;
	keeper = start_keeper(true);
	n_workers = 1;
	WAIT_UNTIL(worker_is_new(0) && supervise_is_ready(rig->sv, "other"));
	for (int i = 0; i < 4; i++) {
		g_assert_cmpint(kill(keeper, SIGKILL), ==, 0);
		WAIT_UNTIL((next = supervise_pid(rig->sv, "keeper")) != keeper &&
			   atomic_load(&rig->keeper_starts) == 2 * i + 2);
		keeper = next;
		g_usleep((SUPERVISE_HEARTBEAT_MS + 200) *
			 1000); /* one heartbeat, by which both have seen the new one */
		dies = supervise_pid(rig->sv, names[i % 2]);
		g_assert_cmpint(kill(dies, SIGSTOP), ==, 0);
		g_assert_cmpint(kill(keeper, SIGKILL), ==, 0);
		WAIT_UNTIL((next = supervise_pid(rig->sv, "keeper")) != keeper &&
			   atomic_load(&rig->keeper_starts) == 2 * i + 3);
		keeper = next;
		g_assert_cmpint(kill(dies, SIGKILL), ==, 0);
		WAIT_UNTIL(supervise_pid(rig->sv, names[i % 2]) > 0 &&
			   supervise_pid(rig->sv, names[i % 2]) != dies &&
			   supervise_is_ready(rig->sv, names[i % 2]));
	}
	atomic_store(&rig->finish, 1);
	assert_nobody_left();
}

/* Two clones were made to follow the same keeper: the machine was busy, and a second worker did not know of the first's. */
static void test_of_two_successors_one_succeeds(void)
{
	SuperviseConfig config = {.workers = workers, .n_workers = 1};
	Supervisor *sv = supervise_new(&config);
	int first = fcntl(0, F_DUPFD_CLOEXEC, 0), second = fcntl(0, F_DUPFD_CLOEXEC, 0), third = fcntl(0, F_DUPFD_CLOEXEC, 0);
	uint64_t before;

	g_assert_cmpint(supervise_reign_begin(sv, 0, first), ==, 0);
	before = supervise_reign(sv).word;
	g_assert_cmpint(supervise_reign(sv).pid, ==, getpid());
	g_assert_cmpint(supervise_reign(sv).pidfd, ==, first);
	g_assert_cmpint(supervise_reign_begin(sv, before, second), ==, 0);
	g_assert_cmpint(fcntl(first, F_GETFD), <, 0);
	g_assert_cmpint(supervise_reign_begin(sv, before, third), ==, -EEXIST);
	g_assert_cmpint(fcntl(third, F_GETFD), <, 0);
	g_assert_cmpint(supervise_reign(sv).pidfd, ==, second);
	g_assert_cmpuint(supervise_reign(sv).number, ==, 2);
	/* after the last number comes the first, and never the word of "no keeper yet" */
	atomic_store(&sv->shared->reign, UINT64_MAX << 44);
	g_assert_cmpint(supervise_reign_begin(sv, supervise_reign(sv).word, second), ==, 0);
	g_assert_cmpuint(supervise_reign(sv).number, ==, 0);
	g_assert_true(supervise_reign(sv).word != 0);
	(void)close(second);
}

/* A clone that hangs before it is keeper is replaced, and when it wakes up it goes away. */
static void test_hanging_successor_is_replaced(void)
{
	const SuperviseShared *shared;
	pid_t keeper = start_keeper(true), successor = 0;
	unsigned made;

	shared = rig->sv->shared;
	WAIT_UNTIL(worker_is_new(0));
	for (int i = 0; i < 5; i++) {
		made = atomic_load(&shared->successors_made);
		g_assert_cmpint(kill(keeper, SIGKILL), ==, 0);
		for (uint64_t end = event_now_ms() + DEADLINE_MS; event_now_ms() < end;)
			if (atomic_load(&shared->successors_made) != made &&
				(successor = atomic_load(&shared->successors[made % SUPERVISE_SUCCESSORS].pid)) > 0)
				break;
		g_assert_cmpint(kill(successor, SIGSTOP), ==, 0);
		if (supervise_reign(rig->sv).pid == successor) { /* it was faster than the signal */
			(void)kill(successor, SIGCONT);
		} else {
			WAIT_UNTIL(supervise_reign(rig->sv).pid != keeper);
			g_assert_cmpint(supervise_reign(rig->sv).pid, !=, successor);
		}
		keeper = supervise_reign(rig->sv).pid;
		g_assert_cmpint(connect_port(), ==, 0);
	}
	atomic_store(&rig->finish, 1);
	assert_nobody_left();
}

static void test_finish_gives_the_status(void)
{
	pid_t keeper = start_keeper(true);

	WAIT_UNTIL(worker_is_new(0));
	atomic_store(&rig->finish, 1);
	g_assert_cmpint(wait_status(keeper), ==, RIG_FINISH_VALUE << 8);
	assert_nobody_left();
}

/* N-6, N-243: what the started pid had is gone when it can be reaped. */
static void test_kill_is_a_stop_and_nothing_is_left_at_the_reap(void)
{
	for (int i = 0; i < 50; i++) {
		pid_t keeper = start_keeper(false), worker;

		WAIT_UNTIL(worker_is_new(0));
		worker = supervise_pid(rig->sv, "worker");
		g_assert_cmpint(kill(keeper, SIGKILL), ==, 0);
		g_assert_cmpint(waitpid(keeper, NULL, 0), ==, keeper);
		g_assert_cmpint(connect_port(), ==, -ECONNREFUSED);
		WAIT_UNTIL(waitpid(worker, NULL, WNOHANG) == worker || kill(worker, 0) < 0);
	}
	assert_nobody_left();
}

static void test_traced_keeper_can_be_stopped_and_continued(void)
{
	pid_t keeper = start_keeper(false);

	WAIT_UNTIL(worker_is_new(0));
	g_assert_cmpint(kill(keeper, SIGSTOP), ==, 0);
	g_assert_cmpint(kill(keeper, SIGCONT), ==, 0);
	g_assert_cmpint(kill(keeper, SIGWINCH), ==, 0);
	g_assert_cmpint(kill(keeper, SIGTERM), ==, 0);
	g_assert_cmpint(wait_status(keeper), ==, (100 + SIGTERM) << 8);
	assert_nobody_left();
}

/* Somebody who kills workers says nothing about what they do: they are slower to come back, but with everything. */
static void test_killed_before_ready_is_no_crash(void)
{
	pid_t keeper = start_keeper(true), old;

	WAIT_UNTIL(worker_is_new(0));
	atomic_store(&seen->slow, 1);
	for (int i = 0; i < 4; i++) {
		old = supervise_pid(rig->sv, "worker");
		g_assert_cmpint(kill(old, SIGKILL), ==, 0);
		WAIT_UNTIL(supervise_pid(rig->sv, "worker") > 0 && supervise_pid(rig->sv, "worker") != old);
	}
	atomic_store(&seen->slow, 0);
	WAIT_UNTIL(worker_is_new(0));
	g_assert_cmpint(atomic_load(&seen->max_step), ==, 0);
	g_assert_cmpint(atomic_load(&seen->events[SUPERVISE_STEP]), ==, 0);
	(void)kill(keeper, SIGTERM);
	(void)wait_status(keeper);
	assert_nobody_left();
}

static void test_crash_loop_backs_off_and_degrades(void)
{
	pid_t keeper;

	keeper = start_keeper(true);
	WAIT_UNTIL(worker_is_new(0));
	atomic_store(&seen->crash, 1);
	g_assert_cmpint(kill(supervise_pid(rig->sv, "worker"), SIGABRT), ==, 0);
	WAIT_UNTIL(atomic_load(&seen->max_step) == 2);
	g_assert_cmpint(atomic_load(&seen->starts), <, 20); /* not a storm */
	atomic_store(&seen->crash, 0);
	WAIT_UNTIL(worker_is_new(0));
	(void)kill(keeper, SIGTERM);
	(void)wait_status(keeper);
	assert_nobody_left();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	rig_init();
	seen = shared_memory_new(sizeof(*seen));
	g_test_add_func("/supervise/worker/killed-restarts-and-port-stays",
		test_killed_worker_restarts_and_port_stays);
	g_test_add_func("/supervise/worker/stopped-is-replaced", test_stopped_worker_is_replaced);
	g_test_add_func("/supervise/worker/killed-before-it-is-ready-is-no-crash",
		test_killed_before_ready_is_no_crash);
	g_test_add_func("/supervise/worker/crash-loop-backs-off-and-degrades",
		test_crash_loop_backs_off_and_degrades);
	g_test_add_func("/supervise/keeper/killed-is-replaced", test_killed_keeper_is_replaced);
	g_test_add_func(
		"/supervise/keeper/each-worker-sees-each-keeper-die", test_each_worker_sees_each_keeper_die);
	g_test_add_func("/supervise/keeper/of-two-successors-one-succeeds", test_of_two_successors_one_succeeds);
	g_test_add_func("/supervise/keeper/hanging-successor-is-replaced", test_hanging_successor_is_replaced);
	g_test_add_func("/supervise/keeper/returns-the-finish-value", test_finish_gives_the_status);
	g_test_add_func("/supervise/keeper/kill-is-a-stop-and-nothing-is-left-at-the-reap",
		test_kill_is_a_stop_and_nothing_is_left_at_the_reap);
	g_test_add_func("/supervise/keeper/traced-can-be-stopped-and-continued",
		test_traced_keeper_can_be_stopped_and_continued);
	return g_test_run();
}
