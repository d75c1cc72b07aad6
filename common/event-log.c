#include "config.h"

#include "common/event-log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

/* systemd's native journal protocol: one datagram of FIELD=value lines (systemd.io/JOURNAL_NATIVE_PROTOCOL). */
#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define SYSLOG_SOCKET "/dev/log"
#define EVENT_MAX 4096 /* bytes of one entry; what is longer is cut between fields */

struct EventLog {
	int fd; /* unconnected datagram socket, -1: no such thing here */
	int is_journal;
	char *identifier, *cid, *name;
};

static int connect_to(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	strcpy(un.sun_path, path);
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

static void open_socket(EventLog *log)
{
	log->fd = connect_to(JOURNAL_SOCKET);
	log->is_journal = log->fd >= 0;
	if (log->fd < 0)
		log->fd = connect_to(SYSLOG_SOCKET);
}

static char *copy_or_null(const char *s)
{
	return s && *s ? strdup(s) : NULL;
}

EventLog *event_log_new(const char *identifier, const char *cid, const char *name)
{
	EventLog *log = calloc(1, sizeof(*log));

	if (!log)
		abort();
	log->identifier = strdup(identifier);
	log->cid = copy_or_null(cid);
	log->name = copy_or_null(name);
	open_socket(log);
	return log;
}

int event_log_fd(const EventLog *log)
{
	return log->fd;
}

/* One field; a line end in the value would need the binary form, so it becomes a blank. */
static size_t add_field(char *out, size_t used, const char *name, const char *value)
{
	int n = snprintf(out + used, EVENT_MAX - used, "%s%s%s\n", name ? name : "", name ? "=" : "", value);

	if (n < 0 || (size_t)n >= EVENT_MAX - used)
		return used;
	for (size_t i = used; i < used + (size_t)n - 1; i++)
		if (out[i] == '\n')
			out[i] = ' ';
	return used + (size_t)n;
}

static size_t compose_journal(
	EventLog *log, char *out, const char *id, int priority, const char *message, va_list args)
{
	char digit[2] = {(char)('0' + (priority & 7)), '\0'};
	size_t used = add_field(out, 0, "MESSAGE", message);
	const char *field;

	if (id)
		used = add_field(out, used, "MESSAGE_ID", id);
	used = add_field(out, used, "PRIORITY", digit);
	used = add_field(out, used, "SYSLOG_IDENTIFIER", log->identifier);
	if (log->cid) {
		char shortened[13];

		(void)snprintf(shortened, sizeof(shortened), "%s", log->cid);
		used = add_field(out, used, "CONTAINER_ID_FULL", log->cid);
		used = add_field(out, used, "CONTAINER_ID", shortened);
	}
	if (log->name)
		used = add_field(out, used, "CONTAINER_NAME", log->name);
	while ((field = va_arg(args, const char *)))
		used = add_field(out, used, NULL, field);
	return used;
}

void event_log_emit(EventLog *log, const char *id, int priority, const char *message, ...)
{
	char out[EVENT_MAX];
	va_list args;
	size_t used;
	ssize_t n;

	if (log->fd < 0)
		return;
	if (log->is_journal) {
		va_start(args, message);
		used = compose_journal(log, out, id, priority, message, args);
		va_end(args);
	} else {
		int len = snprintf(out, sizeof(out), "<%d>%s[%d]: %.12s%s%s", LOG_DAEMON | (priority & 7),
			log->identifier, (int)getpid(), log->cid ? log->cid : "", log->cid ? ": " : "",
			message);

		used = len < (int)sizeof(out) ? (size_t)len : sizeof(out) - 1;
	}
	do
		n = send(log->fd, out, used, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
}
