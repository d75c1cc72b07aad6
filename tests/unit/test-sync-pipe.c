/* conmon/sync-pipe */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/shared-memory.h"
#include "conmon/sync-pipe.h"
#include "kill-somewhere.h"

#define KILLS 400
#define SPAN_NS 300000 /* a little more than clone and send take */

typedef struct {
	ConmonOptions options;
	Conmon conmon;
	ReaperState *state;
	int peer;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
	int pair[2];

	f->state = shared_memory_new(sizeof(*f->state));
	f->conmon = (Conmon){.options = &f->options, .store = fd_store_new(), .reaper = f->state};
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), ==, 0);
	g_assert_cmpint(fd_store_put(f->conmon.store, FD_SYNC, pair[0]), ==, 0);
	f->peer = pair[1];
	g_assert_cmpint(sync_pipe_init(f->conmon.store), ==, 0);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	const char *name;
	int fd;

	for (size_t i = 0; fd_store_next(f->conmon.store, &i, &name, &fd);)
		fd_store_close(f->conmon.store, name);
	f->peer = fd_close(f->peer);
}

static void assert_received(Fixture *f, const char *wanted)
{
	char buf[SYNC_MESSAGE_MAX + 1] = "";

	g_assert_cmpint((int)recv(f->peer, buf, sizeof(buf) - 1, MSG_DONTWAIT), ==, (int)strlen(wanted));
	g_assert_cmpstr(buf, ==, wanted);
}

static void assert_nothing_more(Fixture *f)
{
	char buf[16];

	g_assert_cmpint((int)recv(f->peer, buf, sizeof(buf), MSG_DONTWAIT), ==, -1);
	g_assert_cmpint(errno, ==, EAGAIN);
}

static void test_bytes(Fixture *f, gconstpointer data)
{
	SyncMessage *m = &f->state->first_message;
	const struct {
		ConmonMode mode;
		bool v1;
		int value;
		const char *text, *wanted;
	} cases[] = {
		{MODE_CREATE, true, 77, NULL, "{\"data\": 77}\n"},
		{MODE_CREATE, false, 77, "", "{\"pid\": 77}\n"},
		{MODE_RESTORE, false, -1, "no\\n", "{\"pid\": -1, \"message\": \"no\\n\"}\n"},
		{MODE_EXEC, false, 3, NULL, "{\"exit_code\": 3}\n"},
		{MODE_EXEC, true, 3, NULL, "{\"data\": 3}\n"},
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		memset(m, 0, sizeof(*m));
		f->options.mode = cases[i].mode;
		f->options.api_version = cases[i].v1;
		g_assert_cmpint(sync_pipe_send(&f->conmon, m, cases[i].value, cases[i].text), ==, 0);
		assert_received(f, cases[i].wanted);
	}
}

static void test_longest(Fixture *f, gconstpointer data)
{
	g_autofree char *text = g_strnfill(FAILURE_TEXT_MAX, 'x');
	g_autofree char *wanted = g_strdup_printf("{\"exit_code\": -1, \"message\": \"%s\"}\n", text);

	f->options.mode = MODE_EXEC;
	g_assert_cmpuint(strlen(wanted), <=, 4096);
	g_assert_cmpint(sync_pipe_send(&f->conmon, &f->state->first_message, -1, text), ==, 0);
	assert_received(f, wanted);
}

static void test_once(Fixture *f, gconstpointer data)
{
	for (int i = 0; i < 3; i++)
		g_assert_cmpint(sync_pipe_send(&f->conmon, &f->state->first_message, 5 + i, NULL), ==, 0);
	assert_received(f, "{\"pid\": 5}\n");
	assert_nothing_more(f);
}

static void test_peer_gone(Fixture *f, gconstpointer data)
{
	f->peer = fd_close(f->peer);
	g_assert_cmpint(sync_pipe_send(&f->conmon, &f->state->first_message, 5, NULL), ==, 0);
	g_assert_cmpint(fd_store_get(f->conmon.store, FD_SYNC), ==, -ENOENT);
	/* and what was staged for it does not go with the next message */
	g_assert_cmpint(sync_pipe_send(&f->conmon, &f->state->exit_message, 6, NULL), ==, 0);
}

static void test_full(Fixture *f, gconstpointer data)
{
	int fd = fd_store_get(f->conmon.store, FD_SYNC), filled = 0;
	char buf[64];

	while (send(fd, "x", 1, MSG_DONTWAIT) == 1)
		filled++;
	g_assert_cmpint(sync_pipe_send(&f->conmon, &f->state->first_message, 5, NULL), ==, -EAGAIN);
	while (filled-- > 0)
		g_assert_cmpint((int)recv(f->peer, buf, sizeof(buf), MSG_DONTWAIT), ==, 1);
	g_assert_cmpint(sync_pipe_send(&f->conmon, &f->state->first_message, 5, NULL), ==, 0);
	assert_received(f, "{\"pid\": 5}\n");
	assert_nothing_more(f);
}

static void test_given_up(Fixture *f, gconstpointer data)
{
	int fd = fd_store_get(f->conmon.store, FD_SYNC), filled = 0;
	char buf[64];

	while (send(fd, "x", 1, MSG_DONTWAIT) == 1)
		filled++;
	g_assert_cmpint(sync_pipe_send(&f->conmon, &f->state->first_message, 5, NULL), ==, -EAGAIN);
	while (filled-- > 0)
		g_assert_cmpint((int)recv(f->peer, buf, sizeof(buf), MSG_DONTWAIT), ==, 1);
	g_assert_cmpint(sync_pipe_send(&f->conmon, &f->state->exit_message, 6, NULL), ==, 0);
	assert_received(f, "{\"pid\": 6}\n");
	assert_nothing_more(f);
}

static void send_first(void *data)
{
	Fixture *f = data;

	(void)sync_pipe_send(&f->conmon, &f->state->first_message, 5, NULL);
}

static void test_kills(Fixture *f, gconstpointer data)
{
	for (int i = 0; i < KILLS; i++) {
		memset(&f->state->first_message, 0, sizeof(f->state->first_message));
		kill_somewhere(send_first, f, g_test_rand_int_range(0, SPAN_NS));
		send_first(f);
		assert_received(f, "{\"pid\": 5}\n");
		assert_nothing_more(f);
	}
}

#define ADD(path, test) g_test_add(path, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
	(void)signal(SIGPIPE, SIG_IGN);
	g_test_init(&argc, &argv, NULL);
	ADD("/sync-pipe/bytes-of-each-mode", test_bytes);
	ADD("/sync-pipe/the-longest-fits-in-4096", test_longest);
	ADD("/sync-pipe/sent-once", test_once);
	ADD("/sync-pipe/nobody-listens", test_peer_gone);
	ADD("/sync-pipe/full-is-told-and-tried-again", test_full);
	ADD("/sync-pipe/one-that-was-given-up-is-not-sent-later", test_given_up);
	ADD("/sync-pipe/once-through-kills", test_kills);
	return g_test_run();
}
