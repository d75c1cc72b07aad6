#include "config.h"

#include "common/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd-pass.h"
#include "common/fd-util.h"

#define LISTEN_FDS_START 3

bool notify_is_wanted(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	return path && (path[0] == '/' || path[0] == '@') && path[1];
}

int notify_send(const char *message, const int *fds, size_t n_fds)
{
	cleanup_close int sock = -1;

	if (!notify_is_wanted())
		return -ENOTCONN;
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	return fd_pass_send_to(sock, getenv("NOTIFY_SOCKET"), message, strlen(message), fds, n_fds);
}

int notify_connect(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	cleanup_close int sock = -1;
	size_t len;

	if (!notify_is_wanted())
		return -ENOTCONN;
	len = strlen(path);
	if (len > sizeof(un.sun_path) - 1)
		return -ENAMETOOLONG;
	memcpy(un.sun_path, path, len);
	if (path[0] == '@')
		un.sun_path[0] = '\0';
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || connect(sock, (struct sockaddr *)&un,
				(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (path[0] != '@'))) < 0)
		return -errno;
	return fd_steal(&sock);
}

int notify_store_fd(const char *name, int fd)
{
	char message[FD_STORE_NAME_MAX + 32];

	(void)snprintf(message, sizeof(message), "FDSTORE=1\nFDNAME=%s", name);
	return notify_send(message, &fd, 1);
}

int notify_remove_fd(const char *name)
{
	char message[FD_STORE_NAME_MAX + 32];

	(void)snprintf(message, sizeof(message), "FDSTOREREMOVE=1\nFDNAME=%s", name);
	return notify_send(message, NULL, 0);
}

int notify_take_listen_fds(FdStore *store)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"),
		   *names = getenv("LISTEN_FDNAMES");
	char *list, *at;
	int n, taken = 0;

	if (!pid || !count || atoi(pid) != (int)getpid())
		return 0;
	n = atoi(count);
	list = strdup(names ? names : "");
	if (!list)
		return -ENOMEM;
	at = list;
	for (int i = 0; i < n; i++) {
		char *name = strsep(&at, ":");

		(void)fd_set_cloexec(LISTEN_FDS_START + i, true);
		if (name && fd_store_put(store, name, LISTEN_FDS_START + i) == 0)
			taken++;
		else
			(void)fd_close(LISTEN_FDS_START + i);
	}
	free(list);
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
	return taken;
}

uint64_t notify_watchdog_ms(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (!usec || (pid && atoi(pid) != (int)getpid()))
		return 0;
	return strtoull(usec, NULL, 10) / 2000;
}

static bool take_value(const char *line, size_t len, const char *key, char *out, size_t room)
{
	size_t key_len = strlen(key);

	if (len < key_len || memcmp(line, key, key_len) != 0)
		return false;
	(void)snprintf(out, room, "%.*s", (int)(len - key_len), line + key_len);
	return true;
}

static bool is_line(const char *line, size_t len, const char *text)
{
	return len == strlen(text) && memcmp(line, text, len) == 0;
}

int notify_parse(const char *text, size_t size, NotifyMessage *ret)
{
	NotifyMessage message = {0};
	size_t at = 0;

	if (memchr(text, '\0', size))
		return -EINVAL;
	while (at < size) {
		const char *line = text + at, *end = memchr(line, '\n', size - at);
		size_t len = end ? (size_t)(end - line) : size - at;

		at += len + 1;
		message.ready |= is_line(line, len, "READY=1");
		message.stopping |= is_line(line, len, "STOPPING=1");
		message.watchdog |= is_line(line, len, "WATCHDOG=1");
		message.fdstore |= is_line(line, len, "FDSTORE=1");
		message.fdstore_remove |= is_line(line, len, "FDSTOREREMOVE=1");
		if (len >= 7 && memcmp(line, "FDNAME=", 7) == 0 && len - 7 >= sizeof(message.fdname))
			return -EINVAL;
		if (!take_value(line, len, "FDNAME=", message.fdname, sizeof(message.fdname)))
			(void)take_value(line, len, "STATUS=", message.status, sizeof(message.status));
	}
	*ret = message;
	return 0;
}
