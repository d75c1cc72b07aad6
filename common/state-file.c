#include "config.h"

#include "common/state-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/shared-memory.h"

#define TEXT_MAX 2700 /* bytes of all KEY=value lines; with the events this is one page */
#define EVENTS_MAX 8
#define EVENT_MAX 170

/*
 * The content is in shared memory, so that whichever process goes on after a death knows it; writers are few and the
 * file is only a view.
 */
typedef struct {
	char text[TEXT_MAX]; /* KEY=value lines, NUL-terminated */
	char events[EVENTS_MAX][EVENT_MAX];
	unsigned n_events;
} Content;

struct StateFile {
	int dir_fd, fd;
	char name[160];
	Content *content;
};

static int open_directory(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char path[512];
	int fd, dir;

	if (!runtime || !*runtime)
		runtime = "/run";
	dir = open(runtime, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -1;
	(void)snprintf(path, sizeof(path), "tandem");
	(void)mkdirat(dir, path, 0755); /* EEXIST, or the open tells */
	fd = openat(dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	(void)fd_close(dir);
	return fd;
}

StateFile *state_file_open(const char *daemon, const char *id)
{
	StateFile *file = calloc(1, sizeof(*file));
	int n;

	if (!file)
		abort();
	n = snprintf(file->name, sizeof(file->name), "%s-%s.state", daemon, id);
	file->content = shared_memory_new(sizeof(Content));
	file->dir_fd = n > 0 && (size_t)n < sizeof(file->name) && !strchr(id, '/') && file->content
			       ? open_directory()
			       : -1;
	file->fd = file->dir_fd < 0 ? -1
				    : openat(file->dir_fd, file->name,
					      O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (file->fd < 0) {
		(void)fd_close(file->dir_fd);
		free(file);
		return NULL;
	}
	return file;
}

void state_file_fds(const StateFile *file, int *ret_dir_fd, int *ret_fd)
{
	*ret_dir_fd = file ? file->dir_fd : -1;
	*ret_fd = file ? file->fd : -1;
}

static void __attribute__((format(printf, 3, 0)))
format_into(char *out, size_t size, const char *format, va_list args)
{
	(void)vsnprintf(out, size, format, args);
	for (; *out; out++)
		if (*out == '\n')
			*out = ' ';
}

/* The line of this key, or NULL. */
static char *find_line(char *text, const char *key)
{
	size_t len = strlen(key);

	while (*text) {
		if (strncmp(text, key, len) == 0 && text[len] == '=')
			return text;
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	return NULL;
}

void state_file_set(StateFile *file, const char *key, const char *format, ...)
{
	char line[STATE_FILE_LINE_MAX], *old;
	size_t used, len;
	va_list args;

	if (!file)
		return;
	len = (size_t)snprintf(line, sizeof(line), "%s=", key);
	va_start(args, format);
	format_into(line + len, sizeof(line) - len - 1, format, args);
	va_end(args);
	len = strlen(line);
	line[len++] = '\n';
	old = find_line(file->content->text, key);
	if (old) {
		char *rest = old + strcspn(old, "\n") + 1;

		memmove(old, rest, strlen(rest) + 1);
	}
	used = strlen(file->content->text);
	if (used + len >= sizeof(file->content->text))
		return;
	memcpy(file->content->text + used, line, len);
	file->content->text[used + len] = '\0';
}

void state_file_event(StateFile *file, const char *format, ...)
{
	time_t now = time(NULL);
	struct tm tm;
	char *out;
	size_t n;
	va_list args;

	if (!file)
		return;
	out = file->content->events[file->content->n_events % EVENTS_MAX];
	n = gmtime_r(&now, &tm) ? strftime(out, 64, "%Y-%m-%dT%H:%M:%SZ ", &tm) : 0;
	va_start(args, format);
	format_into(out + n, sizeof(file->content->events[0]) - n, format, args);
	va_end(args);
	file->content->n_events++;
}

void state_file_flush(StateFile *file)
{
	char out[sizeof(Content) + EVENTS_MAX * 24];
	size_t used;
	unsigned n, first;

	if (!file)
		return;
	used = (size_t)snprintf(out, sizeof(out), "%s", file->content->text);
	n = file->content->n_events;
	first = n > EVENTS_MAX ? n - EVENTS_MAX : 0;
	for (unsigned i = first; i < n; i++)
		used += (size_t)snprintf(out + used, sizeof(out) - used, "EVENT.%u=%s\n", i + 1,
			file->content->events[i % EVENTS_MAX]);
	/* Best effort: a full file system costs people a view, not the container anything. */
	if (pwrite(file->fd, out, used, 0) == (ssize_t)used)
		(void)!ftruncate(file->fd, (off_t)used);
}

void state_file_remove(StateFile *file)
{
	struct stat ours, there;

	if (!file)
		return;
	/* only our own: a container with the same id may have started again */
	if (fstat(file->fd, &ours) == 0 &&
		fstatat(file->dir_fd, file->name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
		ours.st_ino == there.st_ino && ours.st_dev == there.st_dev)
		(void)unlinkat(file->dir_fd, file->name, 0);
}
