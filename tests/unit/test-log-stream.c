/* conmon/log/stream, syslog over TCP: every message once and whole, killed at any system call. */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/tcp.h>

#include "common/fd-util.h"
#include "common/shared-memory.h"
#include "conmon/diag.h"
#include "conmon/log/stream.h"
#include "kill-steps.h"

#define RING_SIZE (256 * 1024)
#define LINES 400

typedef struct {
	LogSink sink;
	Ring rings[LOG_STREAMS];
	FdStore *store;
	ConmonOptions options;
	int listener;
	char address[64];
} World;

static void no_watch(LogSink *sink, LogContext *ctx)
{
}

static World *world_new(void)
{
	static char *no_labels[] = { NULL };
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(addr);
	World *world = shared_memory_new(sizeof(*world));
	int small = 4096;

	world->store = fd_store_new();
	for (int s = 0; s < LOG_STREAMS; s++)
		g_assert_cmpint(ring_init(&world->rings[s], RING_SIZE), ==, 0);
	world->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	g_assert_cmpint(setsockopt(world->listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), ==, 0);
	g_assert_cmpint(bind(world->listener, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
	g_assert_cmpint(listen(world->listener, 16), ==, 0);
	g_assert_cmpint(getsockname(world->listener, (struct sockaddr *)&addr, &size), ==, 0);
	g_snprintf(world->address, sizeof(world->address), "tcp:127.0.0.1:%d", ntohs(addr.sin_port));
	world->options.cid = (char *)"0123456789abcdef";
	world->options.log_labels = no_labels;
	world->options.log_syslog_address = world->address;
	world->sink.driver = &log_syslog_tcp;
	world->sink.socket.fd = -1;
	log_syslog_tcp.prepare(&world->sink, &world->options);
	return world;
}

static void world_free(World *world)
{
	fd_store_close(world->store, world->sink.socket.fd_name);
	fd_close(world->listener);
	free((char *)world->sink.fixed);
}

static void put_lines(World *world, int n)
{
	for (int i = 0; i < n; i++) {
		uint64_t head = ring_head(&world->rings[0]);
		int size = snprintf(ring_at(&world->rings[0], head), 64, "line %d\n", i);

		ring_set_head(&world->rings[0], head + (uint64_t)size);
	}
}

/* The life of one process: until everything is sent or the receiver takes no more. */
static void send_all(void *data)
{
	static char out[LOG_OUT_SIZE];
	World *world = data;
	LogContext ctx = { .options = &world->options, .store = world->store, .out = out, .watch = no_watch };
	ssize_t n;

	for (int s = 0; s < LOG_STREAMS; s++)
		ctx.rings[s] = &world->rings[s];
	if (log_stream_transport.open(&world->sink, &ctx, 0) < 0)
		_exit(3);
	for (int i = 0; i < 1000; i++) {
		n = log_stream_transport.pump(&world->sink, &ctx, 0, LOG_SHOW);
		if (n == -EAGAIN && world->sink.socket.stream->phase == LOG_STREAM_CONNECTING) {
			struct pollfd p = { .fd = world->sink.socket.fd, .events = POLLOUT };

			(void)poll(&p, 1, 1000);
		} else if (n <= 0) {
			return;
		}
	}
}

/* Read what is there (@wait: until the end), append the texts of whole messages; a message that is cut at the end stays out. */
static void receive(int fd, GString *raw, bool peek)
{
	char buf[65536];
	ssize_t n = recv(fd, buf, sizeof(buf), (peek ? MSG_PEEK : 0) | MSG_DONTWAIT);

	if (n > 0)
		g_string_append_len(raw, buf, n);
}

static void take_messages(GString *raw, GString *texts)
{
	char *p = raw->str, *end = raw->str + raw->len;

	while (p < end) {
		char *message;
		unsigned long size = strtoul(p, &message, 10);

		if (message == p || message >= end || message + 1 + size > end)
			break;
		g_assert_cmpint(*message, ==, ' ');
		message++;
		g_assert_cmpint(message[0], ==, '<');
		g_string_append_len(texts, strstr(message, "] ") + 2, message + size - strstr(message, "] ") - 2);
		g_string_append_c(texts, '\n');
		p = message + size;
	}
	g_string_erase(raw, 0, p - raw->str);
}

static void assert_lines(const GString *texts, int n)
{
	g_autoptr(GString) wanted = g_string_new(NULL);

	for (int i = 0; i < n; i++)
		g_string_append_printf(wanted, "line %d\n", i);
	g_assert_cmpstr(texts->str, ==, wanted->str);
}

static bool is_done(const World *world)
{
	return log_mark_pos(world->sink.mark[0]) == ring_head(&world->rings[0]);
}

static void test_killed(void)
{
	bool ended = false;

	for (long step = 1; !ended; step++) {
		g_autoptr(GString) raw = g_string_new(NULL), texts = g_string_new(NULL);
		World *world = world_new();
		int fd = -1;

		put_lines(world, LINES);
		ended = kill_at_step(send_all, world, KILL_AT_SYSCALL, step);
		for (int i = 0; i < 10000 && !is_done(world); i++) {
			run_to_end(send_all, world);
			if (fd < 0) {
				struct pollfd p = { .fd = world->listener, .events = POLLIN };

				if (poll(&p, 1, 0) > 0)
					fd = accept4(world->listener, NULL, NULL, SOCK_CLOEXEC);
				continue;
			}
			receive(fd, raw, false);
			if (raw->len == 0 && texts->len == 0 && poll(&(struct pollfd){ .fd = world->listener, .events = POLLIN }, 1, 0) > 0) {
				fd_close(fd);	/* a connection whose maker was killed before it was noted */
				fd = accept4(world->listener, NULL, NULL, SOCK_CLOEXEC);
			}
			take_messages(raw, texts);
		}
		g_assert_true(is_done(world));
		receive(fd, raw, false);
		take_messages(raw, texts);
		g_assert_cmpuint(raw->len, ==, 0);
		assert_lines(texts, LINES);
		fd_close(fd);
		world_free(world);
	}
}

static uint64_t acknowledged(const World *world)
{
	struct tcp_info info = { 0 };
	socklen_t size = sizeof(info);

	g_assert_cmpint(getsockopt(world->sink.socket.fd, IPPROTO_TCP, TCP_INFO, &info, &size), ==, 0);
	return info.tcpi_bytes_acked - world->sink.socket.stream->base;
}

/* What was acknowledged, and nothing else, is what a receiver that takes nothing has in its buffer. */
static void test_broken_and_killed(void)
{
	bool ended = false;

	for (long step = 1; !ended; step++) {
		g_autoptr(GString) raw = g_string_new(NULL), texts = g_string_new(NULL);
		const struct linger reset = { .l_onoff = 1 };
		World *world = world_new();
		int fd;

		put_lines(world, LINES);
		run_to_end(send_all, world);
		fd = accept4(world->listener, NULL, NULL, SOCK_CLOEXEC);
		for (int i = 0; i < 10000 && (raw->len == 0 || acknowledged(world) != raw->len); i++) {
			g_string_truncate(raw, 0);
			(void)poll(NULL, 0, 1);	/* between looks */
			receive(fd, raw, true);
		}
		g_assert_cmpuint(raw->len, ==, acknowledged(world));
		take_messages(raw, texts);
		g_string_truncate(raw, 0);
		g_assert_cmpint(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), ==, 0);
		fd_close(fd);
		ended = kill_at_step(send_all, world, KILL_AT_SYSCALL, step);
		fd = -1;
		for (int i = 0; i < 10000 && !is_done(world); i++) {
			struct pollfd p = { .fd = world->listener, .events = POLLIN };

			run_to_end(send_all, world);
			if (poll(&p, 1, 0) > 0) {
				g_assert_cmpuint(raw->len, ==, 0);
				fd_close(fd);
				fd = accept4(world->listener, NULL, NULL, SOCK_CLOEXEC);
			}
			if (fd >= 0)
				receive(fd, raw, false);
			take_messages(raw, texts);
		}
		g_assert_true(is_done(world));
		receive(fd, raw, false);
		take_messages(raw, texts);
		assert_lines(texts, LINES);
		fd_close(fd);
		world_free(world);
	}
}

static void test_format_keeps_to_its_room(void)
{
	LogSink sink = { .fixed = " h a - - - ", .fixed_size = 11 };
	LogStamp stamp;
	char out[512];
	LogBatch batch = { .data = "<4>ab\ncd\n", .size = 9, .stamp = &stamp, .out = out, .room = sizeof(out) };
	size_t whole;

	log_stamp_take(&stamp);
	log_syslog_tcp.format(&sink, &batch);
	g_assert_cmpuint(batch.used, ==, 9);
	whole = batch.made;
	g_assert_cmpuint(whole, ==, 2 * (3 + 38 + 11 + 2));
	g_assert_cmpint(memcmp(out, "51 <28>1 20", 11), ==, 0);
	batch.room = whole - 1;
	log_syslog_tcp.format(&sink, &batch);
	g_assert_cmpuint(batch.used, ==, 6);
	g_assert_true(batch.is_full);
	batch.room = whole / 2 - 1;
	log_syslog_tcp.format(&sink, &batch);
	g_assert_cmpuint(batch.used, ==, 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/log-stream/messages-keep-to-their-room", test_format_keeps_to_its_room);
	g_test_add_func("/log-stream/killed-at-every-system-call", test_killed);
	g_test_add_func("/log-stream/connection-broken-and-killed-at-every-system-call", test_broken_and_killed);
	return g_test_run();
}
