/*
 * From the clients to the container: contract C-110, C-113 to C-121. The bytes never come into our memory:
 * splice(client → input pipe), splice(input pipe → container), one packet at a time. Both calls have happened or not, and the pipe
 * holds what is in between, so a SIGKILL loses and doubles nothing. While the container takes nothing, nothing is taken from any client.
 *
 * A packet of zero bytes means end of input, as a closed sending side does (C-114). It is only looked at (MSG_PEEK), never
 * consumed, until its meaning has been written down.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "conmon/diag.h"
#include "conmon/monitor-private.h"

#define PACKETS_PER_WAKE_UP 64	/* then others have their turn */
#define INPUT_RETRY_MS 100	/* a terminal that no slave has opened, or whose queue wakes nobody */
#define PACKET_MAX (16 * 1024 * 1024)	/* bytes; no socket buffer of ours lets a larger one through */

static bool is_terminal(const Monitor *m)
{
	return m->conmon->options->terminal;
}

/* The container takes input, now or once its console is there. */
static bool input_is_open(const Monitor *m)
{
	return !m->st->input_closed && (is_terminal(m) || m->input_fd >= 0);
}

static void input_close(Monitor *m)
{
	char scrap[4096];

	atomic_store(&m->st->input_closed, 1);
	event_source_remove(m->input_source);
	m->input_source = NULL;
	m->input_fd = -1;
	m->input_blocked = false;
	fd_store_close(m->store, is_terminal(m) ? FD_CONSOLE_IN : FD_STDIN);
	free(m->spill);
	m->spill = NULL;
	while (m->input_r >= 0 && read(m->input_r, scrap, sizeof(scrap)) > 0)
		;	/* C-120 */
}

static void on_input_writable(void *data, uint32_t events)
{
	Monitor *m = data;

	(void)events;
	m->input_blocked = false;
	(void)event_source_mute(m->input_source);
	event_timer_stop(m->input_timer);
}

static void on_input_timer(void *data)
{
	on_input_writable(data, 0);
}

static void input_wait(Monitor *m, bool poll)
{
	m->input_blocked = true;
	if (poll)
		(void)event_source_set_events(m->input_source, EPOLLOUT);
	if (is_terminal(m) || !poll)
		event_timer_set(m->input_timer, INPUT_RETRY_MS);
}

int input_open(Monitor *m)
{
	int fd = fd_store_get(m->store, is_terminal(m) ? FD_CONSOLE_IN : FD_STDIN);
	int r;

	if (!m->input_timer) {
		m->input_timer = event_loop_add_timer(m->loop, INPUT_RETRY_MS, on_input_timer, m);
		event_timer_stop(m->input_timer);
	}
	if (m->st->input_closed) {
		fd_store_close(m->store, is_terminal(m) ? FD_CONSOLE_IN : FD_STDIN);
		return 0;
	}
	if (fd < 0 || m->input_source)
		return 0;
	r = event_loop_add_fd(m->loop, fd, 0, on_input_writable, m, &m->input_source);
	if (r < 0)
		return r;
	(void)event_source_mute(m->input_source);
	m->input_fd = fd;
	return 0;
}

/* Errors of the container's side: wait, or give it up. @return whether to go on with other work of this kind */
static void input_refused(Monitor *m, int error)
{
	if (error == EAGAIN)
		input_wait(m, true);
	else if (error == EIO && is_terminal(m))
		input_wait(m, false);	/* no slave open: C-95 */
	else
		input_close(m);	/* EPIPE: the container has closed its input (C-120) */
}

/* @return whether nothing is left between clients and container */
static bool deliver_spill(Monitor *m)
{
	while (m->spill && m->spill_done < m->spill_size) {
		ssize_t n = write(m->input_fd, m->spill + m->spill_done, m->spill_size - m->spill_done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			input_refused(m, errno);
			return false;
		}
		m->spill_done += (size_t)n;
	}
	free(m->spill);
	m->spill = NULL;
	return true;
}

static bool deliver(Monitor *m)
{
	int left = 0;

	if (!deliver_spill(m))
		return false;
	while (m->input_r >= 0 && ioctl(m->input_r, FIONREAD, &left) == 0 && left > 0) {
		ssize_t n = splice(m->input_r, NULL, m->input_fd, NULL, (size_t)left, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL) {	/* a terminal before Linux 5.12: through memory, then */
			m->spill = malloc((size_t)left);
			n = m->spill ? read(m->input_r, m->spill, (size_t)left) : 0;
			m->spill_size = n > 0 ? (size_t)n : 0;
			m->spill_done = 0;
			if (!deliver_spill(m))
				return false;
			continue;
		}
		if (n <= 0) {
			input_refused(m, n < 0 ? errno : EAGAIN);
			return false;
		}
	}
	return true;
}

/* --- taking packets --- */

/* A client has ended its input: so ends the container's, if that is wanted, after what others had sent until now (C-114, W-27). */
static void client_has_ended(Monitor *m, unsigned index)
{
	const ConmonOptions *o = m->conmon->options;
	bool ends_input = o->stdin_open && !o->leave_stdin_open && input_is_open(m);

	if (ends_input && !m->st->input_eof) {
		for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++) {
			int queued = 0;

			if (i != index && m->st->clients[i].is_used && !m->st->clients[i].has_eof)
				(void)ioctl(m->st->clients[i].fd, FIONREAD, &queued);
			m->st->clients[i].grace = (uint64_t)queued;
			if (queued > 0)
				m->views[i].is_ready = true;
		}
		atomic_store(&m->st->input_eof, 1);
	}
	m->st->clients[index].has_eof = 1;
	m->views[index].is_ready = false;
	if (m->st->clients[index].is_deaf)
		attach_drop(m, index);
	else
		attach_watch(m, index);
}

/* A packet that the pipe can't hold, or a kernel that can't splice from such a socket. */
static int take_by_copy(Monitor *m, int fd, size_t size)
{
	ssize_t n;

	m->spill = malloc(size);
	if (!m->spill)
		return -ENOMEM;
	n = recv(fd, m->spill, size, MSG_DONTWAIT);
	m->spill_size = n > 0 ? (size_t)n : 0;
	m->spill_done = 0;
	return n < 0 ? -errno : 0;
}

static bool pipe_can_hold(Monitor *m, size_t size)
{
	int room = fcntl(m->input_w, F_GETPIPE_SZ);

	return room >= 0 && ((size_t)room >= size || fcntl(m->input_w, F_SETPIPE_SZ, (int)size) >= (int)size);
}

static int packet_take(Monitor *m, int fd, size_t size)
{
	ssize_t n;

	if (m->input_r < 0) {
		int r = fd_store_pipe(m->store, "input", &m->input_r, &m->input_w);

		if (r < 0)
			return r;
	}
	if (size > PACKET_MAX)
		size = PACKET_MAX;
	if (!pipe_can_hold(m, size))
		return take_by_copy(m, fd, size);
	do {
		n = splice(fd, NULL, m->input_w, NULL, size, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EINVAL)
		return take_by_copy(m, fd, size);
	return n < 0 ? -errno : 0;
}

static int packet_discard(int fd)
{
	char scrap;

	return recv(fd, &scrap, 1, MSG_DONTWAIT | MSG_TRUNC) < 0 ? -errno : 0;
}

/* @return whether a packet was taken (or discarded) */
static bool client_take(Monitor *m, unsigned index)
{
	Client *client = &m->st->clients[index];
	char scrap;
	ssize_t size = recv(client->fd, &scrap, 1, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
	int r;

	if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
		client->grace = 0;
		m->views[index].is_ready = false;
		attach_watch(m, index);
		return false;
	}
	if (size <= 0) {
		client_has_ended(m, index);
		return false;
	}
	if (!input_is_open(m)) {
		r = packet_discard(client->fd);	/* C-101, C-116 */
	} else if (m->st->input_eof && client->grace == 0) {
		r = packet_discard(client->fd);	/* sent after the end */
	} else {
		client->grace -= client->grace < (uint64_t)size ? client->grace : (uint64_t)size;
		r = packet_take(m, client->fd, (size_t)size);
	}
	if (r < 0 && r != -EAGAIN) {
		diag_warn_errno(r, "Failed to take input of an attach client:");
		client_has_ended(m, index);
	}
	return r >= 0;
}

static bool grace_is_left(const Monitor *m)
{
	for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++)
		if (m->st->clients[i].is_used && m->st->clients[i].grace > 0)
			return true;
	return false;
}

/* One packet of the next client that has one. */
static bool take_next(Monitor *m)
{
	unsigned n = (unsigned)m->st->n_clients_high;

	for (unsigned k = 0; k < n; k++) {
		unsigned i = (m->input_next + k) % n;

		if (!m->st->clients[i].is_used || !m->views[i].is_ready || m->st->clients[i].has_eof)
			continue;
		if (client_take(m, i)) {
			m->input_next = i + 1;
			return true;
		}
	}
	return false;
}

void input_serve(Monitor *m)
{
	if (m->input_blocked || (input_is_open(m) && m->input_fd < 0))
		return;	/* C-93: it stays with the clients until the console has come */
	for (int i = 0; i < PACKETS_PER_WAKE_UP; i++) {
		if (m->input_fd >= 0 && !deliver(m) && input_is_open(m))
			return;
		if (m->st->input_eof && !m->st->input_closed && !grace_is_left(m))
			input_close(m);
		if (!take_next(m)) {
			if (m->st->input_eof && !m->st->input_closed && !grace_is_left(m))
				input_close(m);
			return;
		}
	}
	m->again = true;
}
