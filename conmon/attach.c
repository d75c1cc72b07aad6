/*
 * Attach clients: contract section 8.
 *
 * Every client has its own position in each ring; packets go out by exact-send, so that a client gets every byte once
 * whatever happens to the monitor. A client that reads is waited for (C-121): the ring fills and the container with it. One that
 * has taken nothing for --attach-stall seconds while it holds up a stream is left behind: what the ring can't keep for it goes to a file
 * (backlog.h). What does not fit there either is lost; it is told how much that was where it is missing. It is waited for again once it has
 * taken as much as a ring holds.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <linux/sockios.h>

#include "common/fd-util.h"
#include "conmon/diag.h"
#include "conmon/monitor-private.h"

#define OWNER_FIRST LOG_SINKS_MAX	/* in tickets: owners below are sinks */
#define ACCEPT_MAX 1024			/* per look; a bound */
#define CHUNKS_PER_WAKE_UP 256		/* for one client; a file of them must not keep the container waiting */

static const char *const backlog_names[STREAMS] = { "backlog.stdout", "backlog.stderr" };

static void client_name(char name[static FD_STORE_NAME_MAX], unsigned index)
{
	snprintf(name, FD_STORE_NAME_MAX, "client.%u", index);
}

/* --- coming and going --- */

void attach_watch(Monitor *m, unsigned index)
{
	const Client *client = &m->st->clients[index];
	ClientView *view = &m->views[index];
	uint32_t events = 0;

	if (!view->source)
		return;
	if (!client->has_eof && !view->is_ready)
		events |= EPOLLIN | EPOLLRDHUP;
	if (!view->can_write)
		events |= EPOLLOUT;
	(void)event_source_set_events(view->source, events);
}

static void on_client(void *data, uint32_t events)
{
	ClientView *view = data;
	Monitor *m = view->m;
	unsigned index = (unsigned)(view - m->views);

	if (events & (EPOLLHUP | EPOLLERR)) {
		/* Both directions are closed: what it had sent is still there to be taken (C-114). */
		if (m->st->clients[index].has_eof) {
			attach_drop(m, index);
			return;
		}
		(void)event_source_mute(view->source);
		view->is_ready = true;
		return;
	}
	if (events & EPOLLOUT)
		view->can_write = true;
	if (events & (EPOLLIN | EPOLLRDHUP))
		view->is_ready = true;
	attach_watch(m, index);
}

static int client_serve(Monitor *m, unsigned index)
{
	ClientView *view = &m->views[index];
	int r;

	view->m = m;
	view->can_write = true;
	view->is_ready = !m->st->clients[index].has_eof;	/* look once */
	r = event_loop_add_fd(m->loop, m->st->clients[index].fd, 0, on_client, view, &view->source);
	if (r < 0)
		return r;
	attach_watch(m, index);
	return 0;
}

static unsigned client_free_slot(const Monitor *m)
{
	unsigned index = 0;

	while (index < CLIENTS_MAX && m->st->clients[index].is_used)
		index++;
	return index;
}

static int client_add(Monitor *m, int fd)
{
	char name[FD_STORE_NAME_MAX];
	unsigned index = client_free_slot(m);
	Client *client;
	int r;

	if (index == CLIENTS_MAX)
		return -ENOBUFS;
	client = &m->st->clients[index];
	memset(client, 0, sizeof(*client));
	client->fd = fd;
	for (unsigned s = 0; s < STREAMS; s++)
		client->pos[s] = m->st->released ? ring_head(&m->st->rings[s]) : m->st->hold_pos[s];
	if ((int)index >= m->st->n_clients_high)
		atomic_store(&m->st->n_clients_high, (int)index + 1);
	atomic_store_explicit(&client->is_used, 1, memory_order_release);
	client_name(name, index);
	r = fd_store_replace(m->store, name, fd);
	if (r >= 0)
		r = client_serve(m, index);
	if (r < 0) {
		atomic_store(&client->is_used, 0);
		(void)fd_store_forget(m->store, name);
	}
	return r;
}

void attach_drop(Monitor *m, unsigned index)
{
	char name[FD_STORE_NAME_MAX];

	event_source_remove(m->views[index].source);
	m->views[index].source = NULL;
	m->views[index].is_ready = false;
	atomic_store_explicit(&m->st->clients[index].is_used, 0, memory_order_release);
	client_name(name, index);
	fd_store_close(m->store, name);
	if (m->listen_muted && event_source_set_events(m->listen_source, EPOLLIN) == 0)
		m->listen_muted = false;
	m->again = true;	/* room in the rings */
}

/* accept(2) makes the new socket before it finds that nobody is waiting, which is dear; poll(2) is not. */
static bool someone_waits(int listen_fd)
{
	struct pollfd listener = { .fd = listen_fd, .events = POLLIN };

	return poll(&listener, 1, 0) > 0;
}

void attach_accept(Monitor *m)
{
	if (m->listen_fd < 0 || !someone_waits(m->listen_fd))
		return;
	for (int i = 0; m->listen_fd >= 0 && !m->listen_muted && i < ACCEPT_MAX; i++) {
		int fd;

		if (client_free_slot(m) == CLIENTS_MAX) {
			m->listen_muted = event_source_mute(m->listen_source) == 0;
			return;
		}
		fd = accept4(m->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0)
			return;
		int r = client_add(m, fd);
		if (r < 0) {
			diag_warn_errno(r, "Failed to serve an attach client:");
			fd_close(fd);
		}
	}
}

static void on_listener(void *data, uint32_t events)
{
	(void)events;
	attach_accept(data);
}

/* --- after a restart --- */

static bool same_name(int fd, const struct sockaddr_un *name, socklen_t name_size)
{
	struct sockaddr_un addr;
	socklen_t size = sizeof(addr), type_size = sizeof(int);
	int type = 0;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 && type == SOCK_SEQPACKET &&
		getsockname(fd, (struct sockaddr *)&addr, &size) == 0 && size == name_size &&
		memcmp(&addr, name, size) == 0;
}

/* Connections that were accepted, but whose monitor was killed before it wrote them down: they bear the listener's name. */
static void adopt_unregistered(Monitor *m)
{
	struct sockaddr_un name;
	socklen_t size = sizeof(name);
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;

	if (!dir || getsockname(m->listen_fd, (struct sockaddr *)&name, &size) < 0) {
		if (dir)
			closedir(dir);
		return;
	}
	while ((entry = readdir(dir))) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] == '.' || fd == m->listen_fd || fd_store_has_fd(m->store, fd) ||
				!same_name(fd, &name, size))
			continue;
		if (client_add(m, fd) < 0)
			fd_close(fd);
	}
	closedir(dir);
}

static void adopt_registered(Monitor *m)
{
	char name[FD_STORE_NAME_MAX];

	for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++) {
		Client *client = &m->st->clients[i];

		client_name(name, i);
		if (!client->is_used) {
			fd_store_close(m->store, name);	/* nothing, unless a drop was interrupted */
			continue;
		}
		if (fd_store_replace(m->store, name, client->fd) < 0 || client_serve(m, i) < 0)
			attach_drop(m, i);
	}
}

int attach_open(Monitor *m)
{
	int r;

	m->listen_fd = fd_store_get(m->store, FD_ATTACH);
	if (m->listen_fd < 0)
		return 0;
	adopt_registered(m);
	r = event_loop_add_fd(m->loop, m->listen_fd, EPOLLIN, on_listener, m, &m->listen_source);
	if (r < 0)
		return r;
	if (m->restarts > 0)
		adopt_unregistered(m);
	return 0;
}

/* --- output --- */

void attach_commit(Monitor *m, const ExactTicket *ticket)
{
	Client *client = &m->st->clients[ticket->owner - OWNER_FIRST];

	atomic_store_explicit(&client->pos[ticket->stream], ticket->to, memory_order_release);
}

static int packet_send(Monitor *m, unsigned index, ExactTicket *ticket, char type, const char *data, size_t size)
{
	Client *client = &m->st->clients[index];
	struct iovec iov[2] = {
		{ .iov_base = &type, .iov_len = 1 },
		{ .iov_base = (char *)data, .iov_len = size },
	};
	int r;

	ticket->owner = OWNER_FIRST + index;
	r = exact_send(&m->st->send, ticket, client->fd, iov, 2, size + 1);
	if (r < 0)
		return r;
	attach_commit(m, ticket);
	exact_send_done(&m->st->send);
	client->progress_ms = 0;
	return 0;
}

/* Tell a client where the gap is that it has come to. */
static int gap_send(Monitor *m, unsigned index, ExactTicket *ticket, uint64_t lost)
{
	char text[128];
	int size = snprintf(text, sizeof(text), "\r\n[conmon: %llu bytes of output dropped, this client did not read]\r\n",
			(unsigned long long)lost);

	return packet_send(m, index, ticket, 2 + STREAM_ERR, text, (size_t)size);
}

static int chunk_send(Monitor *m, unsigned index, unsigned stream)
{
	Client *client = &m->st->clients[index];
	uint64_t pos = client->pos[stream];
	ExactTicket ticket = { .stream = stream };
	char copy[ATTACH_CHUNK_MAX];
	const char *data;
	int r;

	if (!backlog_find(&m->st->backlogs[stream], m->store, backlog_names[stream], &m->st->rings[stream], pos, copy, sizeof(copy), &data,
			    &ticket.to))
		return gap_send(m, index, &ticket, ticket.to - pos);
	r = packet_send(m, index, &ticket, (char)(2 + stream), data, (size_t)(ticket.to - pos));
	if (r < 0)
		return r;
	if (client->is_behind && (client->caught_up += ticket.to - pos) >= STREAM_RING_SIZE)
		client->is_behind = 0;
	return 0;
}

bool attach_has_output(const Monitor *m, const Client *client)
{
	for (unsigned s = 0; s < STREAMS && !client->is_deaf; s++)
		if (client->pos[s] != ring_head(&m->st->rings[s]))
			return true;
	return false;
}

static int client_send(Monitor *m, unsigned index)
{
	Client *client = &m->st->clients[index];
	int r = 0, chunks = 0;

	for (unsigned s = 0; s < STREAMS && r >= 0; s++)
		while (r >= 0 && client->pos[s] != ring_head(&m->st->rings[s])) {
			if (chunks++ == CHUNKS_PER_WAKE_UP) {
				m->again = true;
				return 0;
			}
			r = chunk_send(m, index, s);
		}
	if (r >= 0)
		client->is_behind = 0;
	return r;
}

/* It takes no more output. What it has sent before is still taken, then it is dropped (C-114). */
static void client_is_deaf(Monitor *m, unsigned index)
{
	if (m->st->clients[index].has_eof) {
		attach_drop(m, index);
		return;
	}
	m->st->clients[index].is_deaf = 1;
	m->views[index].is_ready = true;
	m->again = true;
}

static bool takes_output(const Client *client)
{
	return client->is_used && !client->is_deaf;
}

/* The position of the client that is farthest behind. */
static uint64_t lowest_position(const Monitor *m, unsigned stream)
{
	uint64_t lowest = ring_head(&m->st->rings[stream]);

	for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++)
		if (takes_output(&m->st->clients[i]) && m->st->clients[i].pos[stream] < lowest)
			lowest = m->st->clients[i].pos[stream];
	return lowest;
}

static void backlogs_release(Monitor *m)
{
	for (unsigned s = 0; s < STREAMS; s++)
		if (m->st->backlogs[s].base < m->st->backlogs[s].to)
			backlog_release(&m->st->backlogs[s], m->store, backlog_names[s], lowest_position(m, s));
}

bool attach_send(Monitor *m)
{
	bool waits = false;

	if (!m->st->released)
		return false;
	for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++) {
		Client *client = &m->st->clients[i];
		ClientView *view = &m->views[i];
		int r;

		if (!client->is_used || !attach_has_output(m, client))
			continue;
		if (view->can_write) {
			r = client_send(m, i);
			if (r == 0)
				continue;
			if (r != -EAGAIN && r != -ENOBUFS) {
				client_is_deaf(m, i);	/* C-118 */
				continue;
			}
			view->can_write = false;
			attach_watch(m, i);
		}
		if (!client->progress_ms)
			client->progress_ms = event_now_ms();
		waits = true;
	}
	backlogs_release(m);
	return waits;
}

/* --- policy --- */

/* From here on the ring has to keep what a client at @pos has not taken. */
static uint64_t ring_position(const Monitor *m, uint64_t pos, unsigned stream)
{
	uint64_t floor = m->st->backlogs[stream].floor;

	return pos > floor ? pos : floor;
}

uint64_t attach_tail(const Monitor *m, unsigned stream)
{
	return ring_position(m, lowest_position(m, stream), stream);
}

void attach_make_room(Monitor *m, unsigned stream, uint64_t tail)
{
	const Ring *ring = &m->st->rings[stream];
	uint64_t to = tail + ring->size / 2;

	if (attach_tail(m, stream) > tail)
		return;	/* it is not for us that it is full */
	if (to > ring_head(ring))
		to = ring_head(ring);
	for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++) {
		const Client *client = &m->st->clients[i];

		if (takes_output(client) && !client->is_behind && ring_position(m, client->pos[stream], stream) < to)
			to = ring_position(m, client->pos[stream], stream);
	}
	if (to > tail)
		backlog_take(&m->st->backlogs[stream], m->store, backlog_names[stream], ring, lowest_position(m, stream), tail, to,
			(uint64_t)m->conmon->options->attach_backlog);
}

bool attach_look_for_stalls(Monitor *m, uint64_t now_ms)
{
	uint64_t limit = m->is_draining ? ATTACH_DRAIN_STALL_MS : (uint64_t)m->conmon->options->attach_stall * 1000;
	bool found = false;

	if (!m->is_draining && !m->streams[0].is_muted && !m->streams[1].is_muted)
		return false;	/* nobody waits for anybody */
	for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++) {
		Client *client = &m->st->clients[i];

		if (!client->is_used || client->is_deaf || client->is_behind || !client->progress_ms || now_ms - client->progress_ms < limit)
			continue;
		diag_warn("Attach client %u has not read for %u ms, no longer waiting for it", i, (unsigned)limit);
		client->caught_up = 0;
		client->is_behind = 1;
		if (m->conmon->options->attach_detaches)
			attach_drop(m, i);
		found = true;
	}
	return found;
}

bool attach_is_drained(const Monitor *m)
{
	for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++) {
		const Client *client = &m->st->clients[i];

		if (client->is_used && !client->is_behind && attach_has_output(m, client))
			return false;
	}
	return true;
}

/* It keeps its connection until it has read the rest: the reaper sees to that. */
static bool may_linger(const Monitor *m, const Client *client)
{
	const ConmonOptions *o = m->conmon->options;

	return m->st->released && o->attach_backlog > 0 && !o->attach_detaches && attach_has_output(m, client);
}

void attach_close_all(Monitor *m)
{
	for (unsigned i = 0; i < (unsigned)m->st->n_clients_high; i++) {
		Client *client = &m->st->clients[i];

		if (client->is_used && may_linger(m, client))
			client->has_eof = 1;	/* what it sends interests nobody any more */
		else if (client->is_used)
			attach_drop(m, i);
	}
	event_source_remove(m->listen_source);
	m->listen_source = NULL;
	fd_store_close(m->store, FD_ATTACH);
	m->listen_fd = -1;
}
