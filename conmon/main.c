#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/confine.h"
#include "common/fd-util.h"
#include "common/process.h"
#include "common/shared-memory.h"
#include "conmon/diag.h"
#include "conmon/environment.h"
#include "conmon/front.h"
#include "conmon/keeper.h"
#include "conmon/monitor.h"
#include "conmon/objects.h"
#include "conmon/options.h"
#include "conmon/reaper.h"
#include "conmon/runtime.h"
#include "conmon/sync-pipe.h"
#include "conmon/validation.h"

/* What engines are told: the contract that all options of section 2 are there (C-3 to C-6). */
#define CONTRACT_VERSION "2.2.1"

#define DESCRIPTORS_NEEDED 48 /* besides what is open at start: objects, workers, a dozen clients */
#define DESCRIPTORS_AMPLE 200 /* a limit so far above what was open at start is not looked at more closely */

/* --- the workers, in the order in which they make a new keeper --- */

static int run_reaper(Supervisor *sv, void *data, unsigned restarts, unsigned step)
{
	return reaper_run(data, restarts);
}

/* Without it, the caller's rights would be gone when keeper and reaper are killed together: the monitor has none to hand on. */
static int run_heir(Supervisor *sv, void *data, unsigned restarts, unsigned step)
{
	for (const int *s = keeper_signals(); *s; s++)
		(void)signal(*s, SIG_IGN); /* meant for the keeper, also when a whole process group is signalled */
	supervise_ready(sv, "");
	supervise_stand_by(sv);
	return 1;
}

static int run_monitor(Supervisor *sv, void *data, unsigned restarts, unsigned step)
{
	const Conmon *conmon = data;
	int r;

	if (atomic_load(&conmon->reaper->monitor_given_up)) {
		supervise_retire(sv);
		return 0;
	}
	if ((r = confine_capabilities(NULL, 0)) < 0 || (r = confine_no_new_privs()) < 0) {
		diag_error_errno(r, "The monitor can't give up its rights:");
		return 1;
	}
	return monitor_run(conmon, conmon->monitor, restarts, step);
}

static const SuperviseWorker workers[] = {
	{.name = "reaper", .run = run_reaper, .has_heartbeat = true},
	{.name = "heir", .run = run_heir, .has_heartbeat = true},
	{.name = "monitor", .run = run_monitor, .max_step = 1, .has_heartbeat = true},
};

/* --- set-up of the keeper --- */

static int put_eventfd(FdStore *store, const char *name)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), r;

	if (fd < 0)
		return -errno;
	r = fd_store_put(store, name, fd);
	if (r < 0)
		close(fd);
	return r;
}

static int register_descriptors(Conmon *conmon, int null_fd, int front)
{
	FdStore *store = conmon->store;
	int r;

	diag_register(store);
	environment_register(conmon->environment, store);
	if ((r = fd_store_put(store, FD_DEVNULL, null_fd)) < 0 ||
		(r = put_eventfd(store, FD_KICK_REAPER)) < 0 ||
		(r = put_eventfd(store, FD_KICK_MONITOR)) < 0 ||
		(r = put_eventfd(store, FD_KICK_KEEPER)) < 0 || (r = sync_pipe_init(store)) < 0)
		return r;
	if (conmon->options->log_k8s_fd >= 0)
		r = fd_store_put(store, FD_LOG_FILE, conmon->options->log_k8s_fd);
	if (r >= 0 && front >= 0)
		r = fd_store_put(store, FD_FRONT, front);
	return r;
}

/* A container is known by its id, an exec session by its own; the sessions without one end too soon for anybody to look. */
static StateFile *open_state_file(const ConmonOptions *o)
{
	const char *id = o->mode == MODE_EXEC ? o->cuuid : o->cid;
	StateFile *state = id ? state_file_open("conmon", id) : NULL;

	state_file_set(state, "CID", "%s", o->cid);
	state_file_set(state, "NAME", "%s", o->name ? o->name : "");
	state_file_set(state, "BUNDLE", "%s", o->bundle ? o->bundle : "");
	state_file_set(state, "MODE", "%s", o->mode == MODE_EXEC ? "exec" : "container");
	return state;
}

static int conmon_init(Conmon *conmon, int null_fd, int front)
{
	const SuperviseConfig config = {
		.workers = workers,
		.n_workers = sizeof(workers) / sizeof(workers[0]),
		.data = conmon,
		.on_event = keeper_on_event,
		.on_keeper_start = keeper_on_start,
		.on_signal = keeper_on_signal,
		.on_stray_child = keeper_on_stray_child,
		.keeper_signals = keeper_signals(),
		.reap_strays = true,
	};

	conmon->shared = shared_memory_new(sizeof(*conmon->shared));
	conmon->reaper = shared_memory_new(sizeof(*conmon->reaper));
	conmon->sv = supervise_new(&config);
	if (!conmon->shared || !conmon->reaper || !conmon->sv)
		return -errno;
	conmon->store = supervise_store(conmon->sv);
	conmon->reaper->published_pid = getpid();
	conmon->monitor = monitor_state_new(conmon->options);
	conmon->events = event_log_new("conmon", conmon->options->cid, conmon->options->name);
	return register_descriptors(conmon, null_fd, front);
}

/* C-33, C-34: the invoker waits for the ends of these. */
static void release_invoker(const Conmon *conmon, int null_fd)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO && !conmon->options->log_passthrough; fd++)
		(void)dup2(null_fd, fd);
	(void)setsid(); /* already leader of a group, with --sync: stays so */
	conmon->reaper->session_group = getpgrp();
}

static int check_attach_pipe(const Conmon *conmon, char error[OBJECTS_ERROR_MAX])
{
	if (!conmon->options->exec_attach || conmon->environment->attach_fd >= 0)
		return 0;
	snprintf(error, OBJECTS_ERROR_MAX, "--attach specified but _OCI_ATTACHPIPE was not");
	return -EINVAL;
}

/* How many more descriptors may be opened, as far as that matters. */
static int count_spare_descriptors(int null_fd)
{
	int spare[DESCRIPTORS_NEEDED], n = 0;

	while (n < DESCRIPTORS_NEEDED && (spare[n] = fcntl(null_fd, F_DUPFD_CLOEXEC, 0)) >= 0)
		n++;
	for (int i = 0; i < n; i++)
		(void)fd_close(spare[i]);
	return n;
}

/* Better told now than met by a worker that could then only be started again and again. */
static int check_descriptor_limit(const ConmonEnvironment *env, int null_fd, char error[OBJECTS_ERROR_MAX])
{
	struct rlimit limit = {0};
	int n;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > env->n_inherited + DESCRIPTORS_AMPLE)
		return 0;
	n = count_spare_descriptors(null_fd);
	if (n == DESCRIPTORS_NEEDED)
		return 0;
	snprintf(error, OBJECTS_ERROR_MAX,
		"the limit of open files is %llu, which leaves only %d: conmon needs at least %d (ulimit -n)",
		(unsigned long long)limit.rlim_cur, n, DESCRIPTORS_NEEDED);
	return -EMFILE;
}

static int set_up_container(Conmon *conmon, int null_fd, char error[OBJECTS_ERROR_MAX])
{
	int r;

	if ((r = objects_create_notify(conmon, error)) < 0 || (r = check_attach_pipe(conmon, error)) < 0) {
		diag_error("%s", error); /* the invoker still hears us */
		return r;
	}
	release_invoker(conmon, null_fd);
	r = check_descriptor_limit(conmon->environment, null_fd, error);
	if (r >= 0)
		r = objects_create(conmon, error);
	if (r < 0) {
		diag_error("%s", error);
		return r;
	}
	runtime_note_stale_pid_file(conmon);
	conmon->state = open_state_file(conmon->options);
	if (conmon->options->exec_attach) {
		r = sync_pipe_attach_ready(conmon->environment->attach_fd);
		snprintf(error, OBJECTS_ERROR_MAX, "Failed to write to the attach pipe: %s", strerror(-r));
	}
	return r;
}

static void remove_objects(const Conmon *conmon)
{
	if (!conmon->reaper)
		return;
	objects_remove_symlink(conmon);
	state_file_remove(conmon->state);
}

/* The front process has said why, or was killed: nothing was started, and nothing stays. */
static int give_up(const Conmon *conmon)
{
	objects_remove_attach(conmon);
	objects_remove_fifos(conmon);
	objects_remove_console(conmon);
	remove_objects(conmon);
	return 1;
}

/* The life of the process with the published pid. @front: to the front process, -1 if that is us. @return its exit status */
static int keep(const ConmonOptions *options, const ConmonEnvironment *environment, int null_fd, int front)
{
	Conmon conmon = {.options = options, .environment = environment};
	char error[OBJECTS_ERROR_MAX] = "out of memory or descriptors";
	int r = conmon_init(&conmon, null_fd, front);

	if (r >= 0)
		r = set_up_container(&conmon, null_fd, error);
	if (r < 0) {
		sync_pipe_fail_early(options, environment->sync_fd, error);
		if (front >= 0)
			(void)fd_write_all(front, "f", 1); /* told: the front process need not */
		remove_objects(&conmon);
		return 1;
	}
	if (front >= 0 && front_wait_published(front) < 0)
		return give_up(&conmon);
	r = supervise_keeper_run(conmon.sv);
	if (r < 0) {
		sync_pipe_fail_early(options, environment->sync_fd, strerror(-r));
		front_dismiss(conmon.store);
	}
	/* Nothing to do after a reaper's orderly end; a signal before the runtime was started ends us without one. */
	if (reaper_phase(conmon.reaper) < PHASE_RUNNING)
		objects_remove_console(&conmon);
	remove_objects(&conmon);
	return r < 0 ? 1 : r & 255;
}

/* --- the front process --- */

static bool is_ascii(const char *text)
{
	while (*text != '\0' && (unsigned char)*text < 0x80)
		text++;
	return *text == '\0';
}

/*
 * The environment's locale decides which values are valid (C-16) and the language of the system's error texts (C-24). It is not
 * loaded if it could make no difference: that takes a dozen files, and memory for the container's life.
 */
static void take_locale(char **argv)
{
	static const char *const names[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
	const char *language = NULL;
	bool wanted = false;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && (!language || !language[0]); i++)
		language = getenv(names[i]);
	if (language && language[0] && strcmp(language, "C") != 0 && strcmp(language, "POSIX") != 0 &&
		strncmp(language, "C.", 2) != 0)
		wanted = true;
	for (char **word = argv; *word && !wanted; word++)
		wanted = !is_ascii(*word);
	if (!wanted)
		return;
	(void)setlocale(LC_CTYPE, "");
	(void)setlocale(LC_MESSAGES, "");
}

static ConmonOptions *take_options(int argc, char **argv)
{
	char *reason = NULL;
	ConmonOptions *options = options_parse(argc, argv, &reason);

	if (!options) {
		fprintf(stderr, "conmon: option parsing failed: %s\n", reason);
		return NULL;
	}
	if (options->show_version) {
		printf("conmon version " CONTRACT_VERSION "\ncommit: " GIT_COMMIT "\n");
		exit(fflush(stdout) == 0 ? 0 : 1);
	}
	return options_validate(options) < 0 ? NULL : options;
}

int main(int argc, char **argv, char **envp)
{
	static ConmonEnvironment environment;
	ConmonOptions *options;
	int null_fd, front = -1, r;

	(void)umask(0022);
	process_title_init(argc, argv, envp);
	r = environment_take_descriptors(&environment);
	if (r < 0) {
		fprintf(stderr, "conmon: can't look at my descriptors: %s\n", strerror(-r));
		return 1;
	}
	take_locale(argv);
	options = take_options(argc, argv);
	if (!options) {
		front_refuse();
		return 1;
	}
	if (environment_take_pipes(&environment, options->exec_attach) < 0)
		return 1;
	environment_protect_from_oom(&environment);
	front_set_signals();

	r = environment.start_fd >= 0 ? front_wait_start(environment.start_fd) : 0;
	if (r < 0) {
		diag_error_errno(r, "Failed to read from the start pipe:");
		return 1;
	}
	if (environment.start_fd >= 0 && !options->exec_attach)
		environment.start_fd = fd_close(environment.start_fd);

	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0) {
		diag_error_errno(errno, "Failed to open /dev/null:");
		return 1;
	}
	r = options->sync ? 0 : front_daemonize(options, environment.sync_fd, &front);
	if (r < 0) {
		diag_error_errno(r, "Failed to fork:");
		return 1;
	}
	return keep(options, &environment, null_fd, front);
}
