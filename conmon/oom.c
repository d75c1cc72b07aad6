#include "config.h"

#include "conmon/oom.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/process.h"
#include "conmon/diag.h"
#include "conmon/text.h"

#define EVENTS_MAX 1024 /* bytes of memory.events: half a dozen counters */
#define CGROUP_ROOT "/sys/fs/cgroup"
#define FD_OOM_EVENT "oom.event" /* v1: eventfd */
#define FD_OOM_CONTROL "oom.control" /* v1: memory.oom_control, open as long as the eventfd is to work */
#define FD_OOM_INOTIFY "oom.inotify" /* v2 */

/* --- the note --- */

static void touch_oom_file(const char *dir)
{
	text_auto char *path = dir ? text_format("%s/oom", dir) : NULL;
	cleanup_close int fd =
		path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666) : -1;

	if (path && fd < 0)
		diag_error_errno(errno, "Failed to write oom file %s:", path);
}

static void oom_happened(const Conmon *conmon)
{
	const ConmonOptions *o = conmon->options;

	diag_info("OOM received");
	touch_oom_file(o->persist_dir);
	touch_oom_file(o->bundle); /* the cwd of create mode is the bundle: C-182 */
	atomic_store(&conmon->shared->oom_seen, 1);
}

/* --- where the cgroup is --- */

/* Whether @name is one of the words of @list, which are separated by commas. */
static bool has_word(const char *list, const char *name)
{
	size_t size = strlen(name);

	for (const char *word = list; word; word = strchr(word, ',')) {
		word += *word == ',';
		if (strncmp(word, name, size) == 0 && (word[size] == ',' || word[size] == '\0'))
			return true;
	}
	return false;
}

/* @line: id, controllers, path; @controller: "" for cgroup v2. @return the path if it is the one */
static const char *path_in_line(char *line, const char *controller)
{
	char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path)
		return NULL;
	*controllers++ = '\0';
	*path++ = '\0';
	path[strcspn(path, "\n")] = '\0';
	if (controller[0] == '\0')
		return strcmp(line, "0") == 0 && controllers[0] == '\0' ? path : NULL;
	return has_word(controllers, controller) ? path : NULL;
}

/* Path in the hierarchy of @controller of a process, or NULL. */
static char *cgroup_path_of(pid_t pid, const char *controller)
{
	text_auto char *name = text_format("/proc/%d/cgroup", (int)pid);
	FILE *file = fopen(name, "re");
	char *line = NULL, *found = NULL;
	size_t room = 0;

	while (file && !found && getline(&line, &room, file) > 0) {
		const char *path = path_in_line(line, controller);

		found = path ? text_copy(path, strlen(path)) : NULL;
	}
	free(line);
	if (file)
		(void)fclose(file);
	return found;
}

#define MOUNT_FIELDS 5 /* id parent dev root mountpoint … */

/* Directory of @path if @line of mountinfo is that of the v1 memory hierarchy. */
static char *v1_directory_of_line(char *line, const char *path)
{
	const char *dash = strstr(line, " - cgroup "), *last = dash ? strrchr(dash, ' ') : NULL;
	char *field[MOUNT_FIELDS], *rest = line;
	size_t root;

	if (!last || !has_word(last + 1, "memory"))
		return NULL;
	for (int i = 0; i < MOUNT_FIELDS; i++) {
		field[i] = strsep(&rest, " ");
		if (!rest)
			return NULL;
	}
	root = strcmp(field[3], "/") == 0 ? 0 : strlen(field[3]);
	if (strncmp(path, field[3], root) != 0)
		root = 0;
	return text_format("%s%s", field[4], path + root);
}

/* Wherever that is mounted. Line by line: a host with many containers has a long table, and the pages would stay ours. */
static char *v1_directory(const char *path)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *directory = NULL;
	size_t room = 0;

	while (mounts && !directory && getline(&line, &room, mounts) > 0) {
		line[strcspn(line, "\n")] = '\0';
		directory = v1_directory_of_line(line, path);
	}
	free(line);
	if (mounts)
		(void)fclose(mounts);
	return directory;
}

static int find_cgroup(const Conmon *conmon)
{
	ReaperState *state = conmon->reaper;
	struct statfs fs;
	bool v2 = statfs(CGROUP_ROOT, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
	text_auto char *path = cgroup_path_of(atomic_load(&state->payload_pid), v2 ? "" : "memory");
	text_auto char *dir = NULL;

	if (!path)
		return -ENOENT;
	dir = v2 ? text_format("%s%s", CGROUP_ROOT, path) : v1_directory(path);
	if (!dir)
		return -ENOENT;
	if (strlen(dir) >= sizeof(state->oom_dir))
		return -ENAMETOOLONG;
	strcpy(state->oom_dir, dir);
	atomic_store(&state->oom_is_v2, v2);
	return 0;
}

/* --- cgroup v2 --- */

static void parse_counter(const char *line, const char *name, uint64_t *value)
{
	size_t size = strlen(name);

	if (strncmp(line, name, size) == 0 && line[size] == ' ')
		(void)sscanf(line + size + 1, "%" SCNu64, value); /* cgroup v2's own, always a number */
}

static bool v2_read(const ReaperState *state, uint64_t *ret_oom, uint64_t *ret_oom_kill)
{
	text_auto char *file = text_format("%s/memory.events", state->oom_dir);
	char text[EVENTS_MAX];

	if (fd_read_file(file, text, sizeof(text)) < 0)
		return false;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		parse_counter(line, "oom", ret_oom);
		parse_counter(line, "oom_kill", ret_oom_kill);
	}
	return true;
}

static void v2_look(const Conmon *conmon)
{
	ReaperState *state = conmon->reaper;
	uint64_t oom = atomic_load(&state->oom_count), oom_kill = atomic_load(&state->oom_kill_count);
	bool happened;

	if (!v2_read(state, &oom, &oom_kill))
		return;
	happened = (oom && oom != atomic_load(&state->oom_count)) ||
		   (oom_kill && oom_kill != atomic_load(&state->oom_kill_count));
	if (happened)
		oom_happened(conmon); /* first the file, then the counters: a kill in between repeats it */
	atomic_store(&state->oom_count, oom);
	atomic_store(&state->oom_kill_count, oom_kill);
}

static void on_v2_event(void *data, uint32_t events)
{
	const Conmon *conmon = data;
	char buf[4096];

	while (read(fd_store_get(conmon->store, FD_OOM_INOTIFY), buf, sizeof(buf)) > 0)
		;
	v2_look(conmon);
}

/* @fresh: an exec'd process joins a cgroup with a history, which is not its own (C-183). */
static int v2_start(const Conmon *conmon, bool fresh)
{
	text_auto char *file = text_format("%s/memory.events", conmon->reaper->oom_dir);
	int fd = fd_store_get(conmon->store, FD_OOM_INOTIFY);
	uint64_t oom = 0, oom_kill = 0;

	if (fd < 0) {
		fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		if (fd < 0)
			return -errno;
		if (fd_store_replace(conmon->store, FD_OOM_INOTIFY, fd) < 0) {
			close(fd);
			return -ENOBUFS;
		}
	}
	if (fresh && conmon->options->mode == MODE_EXEC &&
		!process_pidfd_has_ended(fd_store_get(conmon->store, FD_PAYLOAD)) &&
		v2_read(conmon->reaper, &oom, &oom_kill)) {
		atomic_store(&conmon->reaper->oom_count, oom);
		atomic_store(&conmon->reaper->oom_kill_count, oom_kill);
	}
	return inotify_add_watch(fd, file, IN_MODIFY) < 0 ? -errno : 0;
}

/* --- cgroup v1 --- */

static void v1_look(const Conmon *conmon)
{
	text_auto char *file = text_format("%s/cgroup.event_control", conmon->reaper->oom_dir);
	int fd = fd_store_get(conmon->store, FD_OOM_EVENT);
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	uint64_t count;

	if (fd < 0 || poll(&ready, 1, 0) <= 0)
		return;
	if (access(file, F_OK) == 0) {
		oom_happened(conmon); /* before the event is consumed: a kill in between repeats it */
		(void)!read(fd, &count, sizeof(count));
		return;
	}
	/* The removal of the cgroup is told by one event, too: C-185. */
	if (read(fd, &count, sizeof(count)) == sizeof(count) && count > 1)
		oom_happened(conmon);
}

static void on_v1_event(void *data, uint32_t events)
{
	v1_look(data);
}

static int v1_register(const char *dir, int event_fd, int control_fd)
{
	text_auto char *file = text_format("%s/cgroup.event_control", dir);
	cleanup_close int fd = open(file, O_WRONLY | O_CLOEXEC);
	char text[32];
	int size = snprintf(text, sizeof(text), "%d %d", event_fd, control_fd);

	if (fd < 0)
		return -errno;
	return fd_write_all(fd, text, (size_t)size);
}

static int v1_start(const Conmon *conmon)
{
	const char *dir = conmon->reaper->oom_dir;
	text_auto char *file = text_format("%s/memory.oom_control", dir);
	cleanup_close int control = -1, event = -1;
	int r;

	if (fd_store_get(conmon->store, FD_OOM_EVENT) >= 0)
		return 0; /* registered by a predecessor: the eventfd goes on counting */
	control = open(file, O_RDONLY | O_CLOEXEC);
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (control < 0 || event < 0)
		return -errno;
	r = v1_register(dir, event, control);
	if (r < 0 || (r = fd_store_replace(conmon->store, FD_OOM_CONTROL, control)) < 0)
		return r;
	(void)fd_steal(&control);
	r = fd_store_replace(conmon->store, FD_OOM_EVENT, event);
	if (r >= 0)
		(void)fd_steal(&event);
	return r;
}

/* --- both --- */

void oom_watch(const Conmon *conmon, EventLoop *loop)
{
	ReaperState *state = conmon->reaper;
	bool fresh = !atomic_load(&state->oom_ready), v2;
	EventSource *source;
	int r = fresh ? find_cgroup(conmon) : 0;

	if (r >= 0) {
		v2 = atomic_load(&state->oom_is_v2);
		r = v2 ? v2_start(conmon, fresh) : v1_start(conmon);
	}
	if (r == -ENOENT) {
		diag_debug("no memory cgroup to watch for OOM");
		return;
	}
	if (r < 0) {
		diag_warn_errno(r, "Failed to watch %s for OOM:", state->oom_dir);
		return;
	}
	atomic_store(&state->oom_ready, 1);
	r = event_loop_add_fd(loop, fd_store_get(conmon->store, v2 ? FD_OOM_INOTIFY : FD_OOM_EVENT), EPOLLIN,
		v2 ? on_v2_event : on_v1_event, (void *)conmon, &source);
	if (r < 0)
		diag_warn_errno(r, "Failed to watch for OOM:");
	if (v2)
		v2_look(conmon); /* what happened before the watch, or while nobody looked */
}

void oom_check(const Conmon *conmon)
{
	if (!atomic_load(&conmon->reaper->oom_ready))
		return;
	if (atomic_load(&conmon->reaper->oom_is_v2))
		v2_look(conmon);
	else
		v1_look(conmon);
}
