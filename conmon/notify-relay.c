/*
 * sd_notify relay: contract section 13. A datagram is looked at, forwarded, and only then consumed: a SIGKILL in between makes it go out
 * twice, which readers of sd_notify don't mind, but never not at all. It is received without room for control data, so
 * the kernel closes descriptors that came with it at once (C-209).
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd-pass.h"
#include "common/fd-util.h"
#include "conmon/diag.h"
#include "conmon/monitor-private.h"

#define DATAGRAM_MAX 32768	/* bytes: C-210 */
#define DATAGRAMS_PER_WAKE_UP 32

static const char *const allowed_exactly[] = {
	"READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1", "WATCHDOG=trigger",
};
static const char *const allowed_prefixes[] = { "STATUS=", "ERRNO=", "BUSERROR=", "MONOTONIC_USEC=" };

static bool line_is_allowed(const char *line, size_t size)
{
	for (size_t i = 0; i < sizeof(allowed_exactly) / sizeof(allowed_exactly[0]); i++)
		if (size == strlen(allowed_exactly[i]) && memcmp(line, allowed_exactly[i], size) == 0)
			return true;
	for (size_t i = 0; i < sizeof(allowed_prefixes) / sizeof(allowed_prefixes[0]); i++)
		if (size >= strlen(allowed_prefixes[i]) && memcmp(line, allowed_prefixes[i], strlen(allowed_prefixes[i])) == 0)
			return true;
	return false;
}

/* Keep the allowed lines, in place. @return bytes left */
static size_t filter(char *text, size_t size)
{
	const char *p = text, *end = text + strnlen(text, size);
	char *out = text;

	while (p < end) {
		size_t length = 0;

		while (p + length < end && p[length] != '\n' && p[length] != '\r')
			length++;
		if (length > 0 && line_is_allowed(p, length)) {
			if (out > text)
				*out++ = '\n';
			memmove(out, p, length);
			out += length;
		}
		p += length + 1;
	}
	return (size_t)(out - text);
}

static void forward(const char *address, const char *text, size_t size)
{
	cleanup_close int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = sock < 0 ? -errno : fd_pass_send_to(sock, address, text, size, NULL, 0);

	if (r < 0)
		diag_warn_errno(r, "Failed to forward a notification to %s:", address);	/* this one only: C-212 */
}

static void on_notify(void *data, uint32_t events)
{
	Monitor *m = data;
	static char text[DATAGRAM_MAX];
	int fd = fd_store_get(m->store, FD_NOTIFY);

	(void)events;
	for (int i = 0; i < DATAGRAMS_PER_WAKE_UP; i++) {
		ssize_t n = recv(fd, text, sizeof(text), MSG_PEEK | MSG_DONTWAIT);

		if (n < 0)
			return;
		n = (ssize_t)filter(text, (size_t)n);
		if (n > 0)
			forward(m->conmon->options->sdnotify_socket, text, (size_t)n);
		(void)recv(fd, text, 1, MSG_DONTWAIT);
	}
}

int notify_relay_open(Monitor *m)
{
	int fd = fd_store_get(m->store, FD_NOTIFY);

	if (fd < 0 || m->notify_source || !m->conmon->options->sdnotify_socket)
		return 0;
	return event_loop_add_fd(m->loop, fd, EPOLLIN, on_notify, m, &m->notify_source);
}
