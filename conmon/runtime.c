#include "config.h"

#include "conmon/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "conmon/child.h"
#include "conmon/death-wire.h"
#include "conmon/diag.h"
#include "conmon/environment.h"
#include "conmon/front.h"
#include "conmon/text.h"

#define TRACE_LINE_MAX 8192 /* bytes of the command line at trace level; a diagnostic is no longer */
#define LISTEN_PID_QUOTE 10 /* characters of a wrong LISTEN_PID that are shown (C-28) */

/* --- command line --- */

static void add_pair(char ***argv, const char *option, const char *value)
{
	words_add(argv, option);
	words_add(argv, value);
}

static void add_list(char ***argv, char *const *words)
{
	for (; *words; words++)
		words_add(argv, *words);
}

static void add_create(char ***argv, const ConmonOptions *o)
{
	words_add(argv, o->mode == MODE_RESTORE ? "restore" : "create");
	add_pair(argv, "--bundle", o->bundle);
	add_pair(argv, "--pid-file", o->container_pidfile);
	if (o->no_pivot)
		words_add(argv, "--no-pivot");
	if (o->no_new_keyring)
		words_add(argv, "--no-new-keyring");
	if (o->mode == MODE_RESTORE) {
		words_add(argv, "--detach");
		add_pair(argv, "--image-path", o->restore_path);
		add_pair(argv, "--work-path", o->bundle);
	}
}

static void add_exec(char ***argv, const ConmonOptions *o)
{
	words_add(argv, "exec");
	add_pair(argv, "--pid-file", o->container_pidfile);
	add_pair(argv, "--process", o->exec_process_spec);
	words_add(argv, "--detach");
}

char **runtime_command_line(const ConmonOptions *options, const char *console_path)
{
	char **argv = NULL;

	words_add(&argv, options->runtime);
	if (options->systemd_cgroup && options->mode != MODE_EXEC)
		words_add(&argv, "--systemd-cgroup");
	add_list(&argv, options->runtime_args);
	if (options->mode == MODE_EXEC)
		add_exec(&argv, options);
	else
		add_create(&argv, options);
	add_list(&argv, options->runtime_opts);
	if (options->terminal)
		add_pair(&argv, "--console-socket", console_path);
	words_add(&argv, options->cid);
	return argv;
}

/* --- the child, up to exec --- */

/* What the child needs from the registry, looked up before the fork: its parent clears the entries as soon as it is there. */
static struct {
	int stdio[3], start_fd, sync_fd;
	DeathWire wire;
} launch;

static int stdio_or_null(const Conmon *conmon, const char *name)
{
	int fd = fd_store_get(conmon->store, name);

	return fd >= 0 ? fd : fd_store_get(conmon->store, FD_DEVNULL);
}

static int prepare_launch(const Conmon *conmon)
{
	launch.stdio[0] = stdio_or_null(conmon, FD_CHILD_STDIN);
	launch.stdio[1] = stdio_or_null(conmon, FD_CHILD_STDOUT);
	launch.stdio[2] = stdio_or_null(conmon, FD_CHILD_STDERR);
	launch.start_fd = conmon->options->exec_attach ? fd_store_get(conmon->store, FD_START) : -1;
	launch.sync_fd = fd_store_get(conmon->store, FD_SYNC);
	return death_wire_open(&launch.wire, conmon->store);
}

static int set_stdio(const Conmon *conmon)
{
	if (conmon->options->log_passthrough)
		return 0; /* conmon's own, still in place: C-179 */
	for (int i = 0; i < 3; i++)
		if (dup2(launch.stdio[i], i) < 0)
			return -errno;
	return 0;
}

/* C-28. @return 0, or -EINVAL after the line about it was printed */
static int set_listen_pid(const Conmon *conmon)
{
	const char *value = getenv("LISTEN_PID");
	char ours[16];
	long pid;

	if (!value)
		return 0;
	errno = 0;
	pid = strtol(value, NULL, 10);
	if (errno || pid <= 0 || pid > INT_MAX) {
		diag_error("Invalid LISTEN_PID %.*s: it must be a process id", LISTEN_PID_QUOTE, value);
		return -EINVAL;
	}
	if (!conmon->options->replace_listen_pid && pid != conmon->reaper->published_pid)
		return 0;
	snprintf(ours, sizeof(ours), "%d", (int)getpid());
	return setenv("LISTEN_PID", ours, 1) < 0 ? -errno : 0;
}

static void runtime_child(const Conmon *conmon)
{
	const ConmonOptions *o = conmon->options;
	char **argv = runtime_command_line(o, conmon->shared->console_path);
	int r;

	environment_restore_for_exec(conmon->environment);
	r = death_wire_arm(&launch.wire);
	if (launch.sync_fd >= 0)
		(void)close(
			launch.sync_fd); /* while we wait, its end must tell the invoker that conmon is gone */
	if (r >= 0)
		r = set_stdio(conmon);
	if (r >= 0 && launch.start_fd >= 0)
		r = front_wait_start(launch.start_fd);
	if (r < 0) {
		diag_error_errno(r, "Failed to prepare the runtime:");
		_exit(1);
	}
	if (set_listen_pid(conmon) < 0)
		_exit(1);
	(void)execv(o->runtime, argv);
	diag_error_errno(errno, "Failed to execute runtime %s:", o->runtime);
	_exit(127);
}

static void trace_command_line(const Conmon *conmon)
{
	char **argv = runtime_command_line(conmon->options, conmon->shared->console_path);
	char line[TRACE_LINE_MAX] = "";
	size_t used = 0;

	for (char **word = argv; *word && used < sizeof(line); word++)
		used += (size_t)snprintf(line + used, sizeof(line) - used, "%s%s", word == argv ? "" : " ", *word);
	diag_trace("calling runtime: %s", line);
	free(argv);
}

int runtime_start(const Conmon *conmon)
{
	int r;

	if (atomic_load(&conmon->reaper->runtime_pid) == 0 && diag_has_level(DIAG_TRACE))
		trace_command_line(conmon);
	r = prepare_launch(conmon);
	if (r < 0)
		return r;
	return child_start_once(conmon, &conmon->reaper->runtime_pid, FD_RUNTIME, runtime_child);
}

/* --- pid file --- */

void runtime_note_stale_pid_file(const Conmon *conmon)
{
	struct stat st;

	if (stat(conmon->options->container_pidfile, &st) < 0)
		return;
	conmon->reaper->stale_ino = st.st_ino;
	conmon->reaper->stale_ctime = st.st_ctim;
}

static bool is_stale(const ReaperState *state, const struct stat *st)
{
	return st->st_ino == state->stale_ino && st->st_ctim.tv_sec == state->stale_ctime.tv_sec &&
	       st->st_ctim.tv_nsec == state->stale_ctime.tv_nsec;
}

pid_t runtime_read_pid_file(const Conmon *conmon)
{
	cleanup_close int fd = open(conmon->options->container_pidfile, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char text[32];
	struct stat st;
	ssize_t n;
	long pid;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0 || fstat(fd, &st) < 0)
		return -errno;
	text[n] = '\0';
	if (is_stale(conmon->reaper, &st))
		return -ENODATA;
	errno = 0;
	pid = strtol(text, NULL, 10);
	if (errno || pid <= 0 || pid > INT_MAX)
		return -ENODATA;
	return (pid_t)pid;
}
