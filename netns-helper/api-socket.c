#include "config.h"

#include "netns-helper/api-socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "netns-helper/api-requests.h"
#include "netns-helper/ports.h"

#define ACCEPTS_PER_TURN 16
#define ACCEPT_PAUSE_MS 100 /* out of descriptors */
#define DRAIN_MAX                                                                                            \
	65536 /* bytes of a too long request that are read away, so that the answer is not cut by a reset */

typedef struct Client {
	ApiSocket *api;
	int fd;
	EventSource *source;
	EventTimer *timer;
	char *answer; /* NULL while the request is awaited */
	size_t size, sent;
	struct Client *next, **at;
} Client;

struct ApiSocket {
	Worker *worker;
	FdStore *store;
	int listener;
	EventSource *source;
	EventTimer *pause;
	Client *clients;
	unsigned n_clients;
	bool paused;
};

/* --- the path --- */

int api_socket_bind(const char *path, FdStore *store, ApiPath *ret_identity)
{
	struct stat st;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int fd = -1;
	int r;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		fprintf(stderr, "API socket %s: the path has %zu bytes, at most %zu are possible\n", path,
			strlen(path), sizeof(addr.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(addr.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	(void)unlink(path); /* bind tells if that mattered */
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, API_BACKLOG) < 0) {
		r = -errno;
		fprintf(stderr, "API socket %s: %s\n", path, strerror(-r));
		return r;
	}
	if (lstat(path, &st) == 0)
		*ret_identity = (ApiPath){.dev = st.st_dev, .ino = st.st_ino, .mtime = st.st_mtim};
	r = fd_store_put(store, API_LISTENER, fd);
	if (r == 0)
		(void)fd_steal(&fd);
	return r;
}

void api_socket_unlink(const char *path, const ApiPath *identity)
{
	struct stat st;

	/* Another helper may have taken the path over (N-147). */
	if (lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode) || st.st_dev != identity->dev ||
		st.st_ino != identity->ino || st.st_mtim.tv_sec != identity->mtime.tv_sec ||
		st.st_mtim.tv_nsec != identity->mtime.tv_nsec)
		return;
	(void)unlink(path); /* a sandboxed helper may not; the contract has it so */
}

/* --- clients --- */

static void client_free(Client *client)
{
	ApiSocket *api = client->api;
	char name[FD_STORE_NAME_MAX];

	event_source_remove(client->source);
	event_timer_free(client->timer);
	*client->at = client->next;
	if (client->next)
		client->next->at = client->at;
	api->n_clients--;
	snprintf(name, sizeof(name), "api.client.%d", client->fd);
	(void)fd_store_forget(api->store, name);
	close(client->fd);
	free(client->answer);
	free(client);
	if (api->paused && api->n_clients < API_CLIENTS_MAX && !event_timer_is_armed(api->pause))
		event_timer_set(api->pause, 0);
}

/* Unread bytes would turn the close into a reset. */
static void drain(int fd)
{
	char buf[4096];
	size_t total = 0;
	ssize_t n;

	while (total < DRAIN_MAX && (n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
		total += (size_t)n;
}

static void client_write(Client *client)
{
	while (client->sent < client->size) {
		ssize_t n = send(client->fd, client->answer + client->sent, client->size - client->sent,
			MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && event_source_set_events(client->source, EPOLLOUT) == 0)
			return;
		if (n < 0)
			break; /* it has left: N-156 */
		client->sent += (size_t)n;
	}
	ports_answered(client->api->worker->ports, client->fd);
	(void)shutdown(client->fd, SHUT_WR);
	drain(client->fd);
	client_free(client);
}

static void client_answer(Client *client, char *answer)
{
	client->answer = answer;
	client->size = strlen(answer);
	event_timer_set(client->timer, API_ANSWER_TIMEOUT_MS);
	client_write(client);
}

static void client_judge(Client *client, const char *text, size_t size)
{
	client_answer(client, api_request_answer(client->api->worker, text, size, client->fd));
}

/* Everything that the client has sent so far. @p ret_eof: nothing more will come. */
static ssize_t client_peek(Client *client, char *buf, bool *ret_eof)
{
	ssize_t n = recv(client->fd, buf, API_REQUEST_MAX, MSG_PEEK | MSG_DONTWAIT);

	*ret_eof = n == 0;
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	return n;
}

static void client_read(Client *client, bool hung_up)
{
	char buf[API_REQUEST_MAX];
	bool eof;
	ssize_t n = client_peek(client, buf, &eof);

	if (n < 0) {
		client_free(client);
		return;
	}
	if (n == API_REQUEST_MAX) {
		client_answer(client, api_request_too_large());
		return;
	}
	switch (eof || hung_up ? API_COMPLETE : api_request_state(buf, (size_t)n)) {
	case API_COMPLETE:
		client_judge(client, buf, (size_t)n);
		return;
	case API_HOPELESS:
		event_timer_set(client->timer, API_GRACE_MS);
		return;
	case API_INCOMPLETE:
		return;
	}
}

static void on_client(void *data, uint32_t events)
{
	Client *client = data;

	if (client->answer)
		client_write(client);
	else
		client_read(client, events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
}

static void on_client_timer(void *data)
{
	Client *client = data;
	char buf[API_REQUEST_MAX];
	bool eof;
	ssize_t n;

	if (client->answer) {
		client_free(client);
		return;
	}
	n = client_peek(client, buf, &eof);
	if (n > 0)
		client_judge(client, buf, (size_t)n);
	else
		client_free(client);
}

/* @p fd is registered already. */
static void client_new(ApiSocket *api, int fd)
{
	Client *client = calloc(1, sizeof(*client));

	if (!client)
		abort();
	client->api = api;
	client->fd = fd;
	client->next = api->clients;
	client->at = &api->clients;
	if (client->next)
		client->next->at = &client->next;
	api->clients = client;
	api->n_clients++;
	client->timer = event_loop_add_timer(api->worker->loop, API_TIMEOUT_MS, on_client_timer, client);
	if (event_loop_add_fd(api->worker->loop, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, on_client, client,
		    &client->source) < 0)
		client_free(client);
}

/* --- the listener --- */

static void pause_listening(ApiSocket *api, bool timed)
{
	api->paused = true;
	(void)event_source_mute(api->source);
	if (timed)
		event_timer_set(api->pause, ACCEPT_PAUSE_MS);
}

static void on_pause_over(void *data)
{
	ApiSocket *api = data;

	api->paused = false;
	(void)event_source_set_events(api->source, EPOLLIN);
}

static void on_listener(void *data, uint32_t events)
{
	ApiSocket *api = data;

	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		char name[FD_STORE_NAME_MAX];
		int fd;

		if (api->n_clients >= API_CLIENTS_MAX) {
			pause_listening(api, false);
			return;
		}
		fd = accept4(api->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0) {
			if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
				pause_listening(
					api, true); /* EMFILE and the like: it would wake us at once */
			return;
		}
		snprintf(name, sizeof(name), "api.client.%d", fd);
		if (fd_store_replace(api->store, name, fd) < 0)
			close(fd);
		else
			client_new(api, fd);
	}
}

static void adopt_clients(ApiSocket *api)
{
	int fds[API_CLIENTS_MAX], fd, n = 0;
	const char *name;

	for (size_t i = 0; n < API_CLIENTS_MAX && fd_store_next(api->store, &i, &name, &fd);)
		if (strncmp(name, "api.client.", 11) == 0)
			fds[n++] = fd;
	for (int i = 0; i < n; i++)
		client_new(api, fds[i]);
}

ApiSocket *api_socket_new(Worker *worker)
{
	ApiSocket *api = calloc(1, sizeof(*api));
	int r;

	if (!api)
		abort();
	api->worker = worker;
	api->store = worker->helper->store;
	api->listener = fd_store_get(api->store, API_LISTENER);
	api->pause = event_loop_add_timer(worker->loop, 0, on_pause_over, api);
	event_timer_stop(api->pause);
	r = event_loop_add_fd(worker->loop, api->listener, EPOLLIN, on_listener, api, &api->source);
	if (r < 0) {
		api_socket_free(api);
		errno = -r;
		return NULL;
	}
	adopt_clients(api);
	return api;
}

void api_socket_free(ApiSocket *api)
{
	if (!api)
		return;
	while (api->clients)
		client_free(api->clients);
	event_source_remove(api->source);
	event_timer_free(api->pause);
	free(api);
}
