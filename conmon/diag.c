#include "config.h"

#include "conmon/diag.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "common/fd-util.h"

#define DIAG_TEXT_MAX 8192 /* bytes of one diagnostic; the runtime's argv at trace level is the longest */
#define SYSLOG_ID_SIZE 21 /* C-218: at most 20 characters of "cid: tag" */
#define SYSLOG_PATH "/dev/log"

static struct {
	DiagLevel level;
	bool use_syslog;
	int syslog_fd;
	char syslog_id[SYSLOG_ID_SIZE];
	FdStore *store;
} diag = {.level = DIAG_WARN, .syslog_fd = -1};

static const struct {
	char letter;
	int priority;
	const char *marker, *errno_marker;
} kinds[] = {
	[DIAG_ERROR] = {'e', LOG_ERR, "<error>", "<error>"},
	[DIAG_WARN] = {'w', LOG_INFO, "<nwarn>", "<pwarn>"},
	[DIAG_INFO] = {'i', LOG_INFO, "<ninfo>", "<ninfo>"},
	[DIAG_DEBUG] = {'d', LOG_INFO, "<ndebug>", "<ndebug>"},
	[DIAG_TRACE] = {'d', LOG_INFO, "<ntrace>", "<ntrace>"},
};

int diag_level_parse(const char *name, DiagLevel *ret_level)
{
	static const struct {
		const char *name;
		DiagLevel level;
	} levels[] = {
		{"error", DIAG_ERROR},
		{"fatal", DIAG_ERROR},
		{"panic", DIAG_ERROR},
		{"warn", DIAG_WARN},
		{"warning", DIAG_WARN},
		{"info", DIAG_INFO},
		{"debug", DIAG_DEBUG},
		{"trace", DIAG_TRACE},
	};

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcasecmp(name, levels[i].name) == 0) {
			*ret_level = levels[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

void diag_set_level(DiagLevel level)
{
	diag.level = level;
}

static void syslog_connect(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = SYSLOG_PATH};
	cleanup_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return;
	diag.syslog_fd = fd_steal(&fd);
	if (diag.store)
		(void)fd_store_replace(diag.store, "syslog", diag.syslog_fd);
}

void diag_use_syslog(const char *cid, const char *tag)
{
	diag.use_syslog = true;
	if (tag)
		snprintf(diag.syslog_id, sizeof(diag.syslog_id), "%s: %s", cid, tag);
	else
		snprintf(diag.syslog_id, sizeof(diag.syslog_id), "%s", cid);
	syslog_connect();
}

void diag_register(FdStore *store)
{
	diag.store = store;
	if (diag.syslog_fd >= 0)
		(void)fd_store_replace(store, "syslog", diag.syslog_fd);
}

/* Not syslog(3): its descriptor and its idea of it would differ between processes that share one table. */
static void syslog_send(DiagLevel level, int error, const char *text)
{
	char line[DIAG_TEXT_MAX + 128], stamp[32];
	time_t now = time(NULL);
	struct tm tm;
	int size;

	if (!localtime_r(&now, &tm) || strftime(stamp, sizeof(stamp), "%b %e %T", &tm) == 0)
		stamp[0] = '\0';
	size = snprintf(line, sizeof(line), "<%d>%s conmon: conmon %s %s: %s",
		LOG_USER | kinds[level].priority, stamp, diag.syslog_id,
		error ? kinds[level].errno_marker : kinds[level].marker, text);
	if ((size_t)size >= sizeof(line))
		size = sizeof(line) - 1;
	if (diag.store)
		diag.syslog_fd = fd_store_get(diag.store, "syslog"); /* a sibling may have replaced it */
	if (diag.syslog_fd >= 0 && send(diag.syslog_fd, line, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return;
	if (diag.syslog_fd >= 0 && errno == EAGAIN)
		return; /* full: a diagnostic must not hold anything up */
	if (diag.store && diag.syslog_fd >= 0)
		fd_store_close(diag.store, "syslog");
	else if (diag.syslog_fd >= 0)
		close(diag.syslog_fd);
	diag.syslog_fd = -1;
	syslog_connect();
	if (diag.syslog_fd >= 0)
		(void)send(diag.syslog_fd, line, (size_t)size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool diag_has_level(DiagLevel level)
{
	return level <= diag.level || level == DIAG_ERROR;
}

void diag_log(DiagLevel level, int error, const char *format, ...)
{
	char text[DIAG_TEXT_MAX], line[DIAG_TEXT_MAX + 16];
	int saved_errno = errno, size;
	va_list args;

	if (!diag_has_level(level))
		return;
	va_start(args, format);
	size = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (size < 0)
		size = 0;
	if ((size_t)size >= sizeof(text))
		size = sizeof(text) - 1;
	if (error)
		snprintf(text + size, sizeof(text) - (size_t)size, " %s", strerror(error));

	size = snprintf(line, sizeof(line), "[conmon:%c]: %s\n", kinds[level].letter, text);
	(void)fd_write_all(STDERR_FILENO, line, (size_t)size); /* nobody to tell if it fails */
	if (diag.use_syslog)
		syslog_send(level, error, text);
	errno = saved_errno;
}
