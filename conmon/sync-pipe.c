/*
 * Theory of operation. A message is written down in shared memory first, then into a pipe of our own (the stage), then moved from
 * there to the sync pipe with splice(2), which empties the stage exactly when the message was taken. So after a
 * SIGKILL the stage tells how far it had come:
 *
 *   NONE ── text written down ──▶ STAGING ── write(stage) ──▶ STAGED ── splice(stage, sync pipe) ──▶ SENT
 *
 * STAGING: the stage is empty, or has the message. STAGED: the stage has it, or it was sent.
 */
#include "config.h"

#include "conmon/sync-pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "conmon/diag.h"
#include "conmon/json-text.h"

#define FD_STAGE_R "sync-stage.r"
#define FD_STAGE_W "sync-stage.w"

enum { NONE, STAGING, STAGED, SENT };

int sync_pipe_init(FdStore *store)
{
	int ends[2], r;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	r = fd_store_put(store, FD_STAGE_R, ends[0]);
	return r < 0 ? r : fd_store_put(store, FD_STAGE_W, ends[1]);
}

static const char *message_key(const ConmonOptions *options)
{
	if (options->api_version)
		return "data";
	return options->mode == MODE_EXEC ? "exit_code" : "pid";
}

static int format(char *out, size_t room, const char *key, int value, const char *escaped)
{
	int size;

	if (!escaped || escaped[0] == '\0')
		return snprintf(out, room, "{\"%s\": %d}\n", key, value);
	size = snprintf(out, room, "{\"%s\": %d, \"message\": \"%s\"}\n", key, value, escaped);
	if (size < 0 || (size_t)size >= room) /* can't be: the text has a limit well below */
		return snprintf(out, room, "{\"%s\": %d}\n", key, value);
	return size;
}

/* Into the pipe in one piece; a socket gets it as one packet. */
static int move_staged(int stage, int fd, const SyncMessage *message)
{
	struct pollfd room = {.fd = fd, .events = POLLOUT};
	ssize_t n;

	/* The invoker's descriptor is blocking, and SPLICE_F_NONBLOCK does not reach a socket behind it. Nobody else writes to it. */
	if (poll(&room, 1, 0) == 0)
		return -EAGAIN;
	do {
		n = splice(stage, NULL, fd, NULL, message->size, SPLICE_F_NONBLOCK);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)message->size)
		return 0;
	if (n >= 0)
		return n == 0 ? -EPIPE : -EMSGSIZE;
	if (errno != EINVAL)
		return -errno;
	/* Something that can't be spliced to (a file in append mode, a terminal). */
	{
		char text[SYNC_MESSAGE_MAX];

		n = read(stage, text, sizeof(text));
		return n <= 0 ? 0 : fd_write_all(fd, text, (size_t)n);
	}
}

static void drop_staged(int stage)
{
	char scrap[SYNC_MESSAGE_MAX];

	while (read(stage, scrap, sizeof(scrap)) > 0)
		;
}

static int push(const Conmon *conmon, SyncMessage *message, int sync_fd)
{
	int r_end = fd_store_get(conmon->store, FD_STAGE_R), w_end = fd_store_get(conmon->store, FD_STAGE_W),
	    left = 0, r;

	if (ioctl(r_end, FIONREAD, &left) < 0)
		return -errno;
	if (atomic_load(&message->step) == STAGING) {
		r = left == 0 ? fd_write_all(w_end, message->text, message->size) : 0;
		if (r < 0)
			return r;
		left = (int)message->size;
		atomic_store(&message->step, STAGED);
	}
	r = left == 0 ? 0 : move_staged(r_end, sync_fd, message);
	if (r == -EAGAIN)
		return r;
	drop_staged(r_end);
	return r;
}

int sync_pipe_send(const Conmon *conmon, SyncMessage *message, int value, const char *escaped)
{
	int sync_fd = fd_store_get(conmon->store, FD_SYNC), r;

	if (atomic_load(&message->step) == SENT)
		return 0;
	if (sync_fd < 0) {
		atomic_store(&message->step, SENT);
		return 0;
	}
	if (atomic_load(&message->step) == NONE) {
		drop_staged(fd_store_get(conmon->store, FD_STAGE_R)); /* of one that was given up */
		message->size = (unsigned)format(
			message->text, sizeof(message->text), message_key(conmon->options), value, escaped);
		atomic_store(&message->step, STAGING);
	}
	r = push(conmon, message, sync_fd);
	if (r == -EAGAIN)
		return r;
	if (r == -EPIPE || r == -ECONNRESET)
		fd_store_close(conmon->store, FD_SYNC); /* nobody listens any more: C-59 */
	else if (r < 0)
		diag_error_errno(r, "Failed to write to the sync pipe:");
	atomic_store(&message->step, SENT);
	return 0;
}

int sync_pipe_attach_ready(int attach_fd)
{
	static const char ready[] = "{\"data\": 0}\n";

	return fd_write_all(attach_fd, ready, sizeof(ready) - 1);
}

void sync_pipe_fail_early(const ConmonOptions *options, int sync_fd, const char *text)
{
	char escaped[FAILURE_TEXT_MAX + 1], line[SYNC_MESSAGE_MAX];

	if (sync_fd < 0)
		return;
	json_text_escape(escaped, sizeof(escaped), text, strlen(text));
	(void)fd_write_all(
		sync_fd, line, (size_t)format(line, sizeof(line), message_key(options), -1, escaped));
}
