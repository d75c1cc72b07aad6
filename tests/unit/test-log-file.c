/* conmon/log/file, file-rotate, k8s-file: records are whole and there once, whatever dies, fills up or is taken away. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/shared-memory.h"
#include "conmon/diag.h"
#include "common/fd-pass.h"
#include "conmon/log/driver.h"
#include "conmon/log/file-compress.h"
#include "conmon/log/file-rotate.h"
#include "conmon/shared.h"
#include "kill-steps.h"

#define RING_SIZE (256 * 1024)

typedef struct {
	LogSink sink;
	Ring rings[LOG_STREAMS];
	FdStore *store;
	ConmonOptions options;
	char dir[64], path[96];
	rlim_t limit;	/* RLIMIT_FSIZE of the writers; 0: none */
	LogUrgency urgency;
} World;

static World *world_new(void)
{
	World *world = shared_memory_new(sizeof(*world));
	int fd;

	g_assert_nonnull(world);
	strcpy(world->dir, "/tmp/test-log-file.XXXXXX");
	g_assert_nonnull(mkdtemp(world->dir));
	snprintf(world->path, sizeof(world->path), "%s/log", world->dir);
	world->store = fd_store_new();
	for (int s = 0; s < LOG_STREAMS; s++)
		g_assert_cmpint(ring_init(&world->rings[s], RING_SIZE), ==, 0);
	world->options.log_k8s = true;
	world->options.log_k8s_path = world->path;
	world->options.log_size_max = world->options.log_global_size_max = -1;
	world->options.log_max_files = 1;
	world->urgency = LOG_SHOW;
	world->sink.driver = &log_k8s_file;
	fd = log_k8s_open(world->path);
	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(fd_store_put(world->store, FD_LOG_FILE, fd), ==, 0);
	return world;
}

static void world_free(World *world)
{
	for (int i = -1; i < 20; i++) {
		g_autofree char *name = i < 0 ? g_strdup(world->path) : g_strdup_printf("%s.%d", world->path, i);

		(void)unlink(name);
	}
	fd_store_close(world->store, FD_LOG_FILE);
	g_assert_cmpint(rmdir(world->dir), ==, 0);
}

static void put(World *world, int stream, const char *data, size_t size)
{
	uint64_t head = ring_head(&world->rings[stream]);

	memcpy(ring_at(&world->rings[stream], head), data, size);
	ring_set_head(&world->rings[stream], head + size);
}

static void context_init(World *world, LogContext *ctx)
{
	static char out[LOG_OUT_SIZE];

	memset(ctx, 0, sizeof(*ctx));
	ctx->options = &world->options;
	ctx->store = world->store;
	ctx->out = out;
	for (int s = 0; s < LOG_STREAMS; s++)
		ctx->rings[s] = &world->rings[s];
}

/* The life of one process. @return the first error */
static int write_all(World *world)
{
	LogContext ctx;
	ssize_t n = 0;

	context_init(world, &ctx);
	log_sink_drop_recover(&world->sink);
	if (log_file_transport.open(&world->sink, &ctx, 0) < 0)
		_exit(3);
	for (unsigned s = 0; s < LOG_STREAMS && n >= 0; s++) {
		do {
			n = log_file_transport.pump(&world->sink, &ctx, s, world->urgency);
		} while (n > 0);
	}
	return (int)n;
}

static void write_all_child(void *data)
{
	World *world = data;
	struct rlimit limit = { world->limit, world->limit };

	(void)signal(SIGXFSZ, SIG_IGN);
	if (world->limit && setrlimit(RLIMIT_FSIZE, &limit) < 0)
		_exit(4);
	if (write_all(world) < 0 && !world->limit)
		_exit(5);
}

/* All files of the log, oldest first: strictly records. Puts P and F content together. */
static char *read_back(const World *world, size_t *ret_size, int n_backups, const char *only)
{
	GString *all = g_string_new(NULL);

	for (int i = n_backups; i >= 0; i--) {
		g_autofree char *name = i ? g_strdup_printf("%s.%d", world->path, i) : g_strdup(world->path);
		g_autofree char *text = NULL;
		gsize size = 0;

		if (!g_file_get_contents(name, &text, &size, NULL))
			continue;
		for (char *p = text; p < text + size;) {
			char *eol = memchr(p, '\n', (size_t)(text + size - p));

			g_assert_nonnull(eol);	/* a torn record */
			g_assert_cmpint(eol - p, >=, 45);
			g_assert_cmpint(eol - p, <=, 45 + LOG_PIECE_MAX);
			g_assert_true(p[4] == '-' && p[10] == 'T' && p[35] == ' ' && p[42] == ' ' && p[44] == ' ');
			if (memcmp(p + 36, only, 6) == 0) {
				g_string_append_len(all, p + 45, eol - p - 45);
				if (p[43] == 'F')
					g_string_append_c(all, '\n');
			}
			p = eol + 1;
		}
	}
	*ret_size = all->len;
	return g_string_free(all, FALSE);
}

static void assert_log(const World *world, int n_backups, const char *stream, const char *want, size_t want_size)
{
	size_t size;
	g_autofree char *got = read_back(world, &size, n_backups, stream);

	g_assert_cmpuint(size, ==, want_size);
	g_assert_true(memcmp(got, want, size) == 0);
}

static GString *some_lines(int n)
{
	GString *text = g_string_new(NULL);

	for (int i = 0; i < n; i++) {
		g_string_append_printf(text, "line %d ", i);
		for (int k = 0; k < i * 37 % 150; k++)
			g_string_append_c(text, (char)('a' + k % 26));
		g_string_append_c(text, '\n');
	}
	return text;
}

static void kill_everywhere(KillUnit unit, int lines, long stride, int64_t size_max, bool rotate)
{
	g_autoptr(GString) text = some_lines(lines);
	bool ended = false;

	for (long step = 1; !ended; step += stride) {
		World *world = world_new();

		world->options.log_size_max = size_max;
		world->options.log_rotate = rotate;
		world->options.log_max_files = 8;	/* exactly what the text needs: a rotation done twice would push the oldest out */
		log_k8s_file.prepare(&world->sink, &world->options);
		put(world, 0, text->str, text->len);
		put(world, 1, "unfinished", 10);
		ended = kill_at_step(write_all_child, world, unit, step);
		run_to_end(write_all_child, world);
		assert_log(world, 16, "stdout", text->str, text->len);
		assert_log(world, 16, "stderr", "unfinished", 10);
		world_free(world);
	}
}

static void test_kill_at_syscalls(void)
{
	kill_everywhere(KILL_AT_SYSCALL, 3000, 1, -1, false);
}

static void test_kill_at_instructions(void)
{
	kill_everywhere(KILL_AT_INSTRUCTION, 4, 211, -1, false);
}

static void test_kill_in_rotation(void)
{
	kill_everywhere(KILL_AT_SYSCALL, 60, 1, 1000, true);
}

static void test_torn_record(void)
{
	g_autoptr(GString) text = some_lines(50);

	for (rlim_t limit = 0; limit < 700; limit += 13) {
		World *world = world_new();
		size_t size, first;
		g_autofree char *got = NULL, *again = NULL;

		log_k8s_file.prepare(&world->sink, &world->options);
		put(world, 0, text->str, text->len);
		world->limit = limit + 1;
		run_to_end(write_all_child, world);	/* EFBIG, as a full disk */
		got = read_back(world, &first, 0, "stdout");
		g_assert_cmpuint(first, <, text->len);
		g_assert_true(memcmp(got, text->str, first) == 0);
		world->limit = 0;
		run_to_end(write_all_child, world);
		again = read_back(world, &size, 0, "stdout");
		g_assert_cmpuint(size, ==, text->len);
		g_assert_true(memcmp(again, text->str, size) == 0);
		world_free(world);
	}
}

static void test_torn_and_killed(void)
{
	g_autoptr(GString) text = some_lines(30);
	bool ended = false;

	for (long step = 1; !ended; step++) {
		World *world = world_new();

		log_k8s_file.prepare(&world->sink, &world->options);
		put(world, 0, text->str, text->len);
		world->limit = 500;
		ended = kill_at_step(write_all_child, world, KILL_AT_SYSCALL, step);
		world->limit = 0;
		run_to_end(write_all_child, world);
		assert_log(world, 0, "stdout", text->str, text->len);
		world_free(world);
	}
}

static void test_drop_is_counted_and_told(void)
{
	World *world = world_new();
	LogContext ctx;

	log_k8s_file.prepare(&world->sink, &world->options);
	put(world, 0, "one\ntwo\nthree\nfour\n", 19);
	log_sink_drop(&world->sink, &world->rings[0], 0, 6);	/* in the middle of "two": the whole line goes */
	g_assert_cmpint(write_all(world), ==, 0);
	context_init(world, &ctx);
	g_assert_cmpint(log_file_transport.note(&world->sink, &ctx), ==, 0);
	g_assert_cmpint(log_file_transport.note(&world->sink, &ctx), ==, 0);	/* told once */
	assert_log(world, 0, "stdout", "three\nfour\n", 11);
	assert_log(world, 0, "stderr", "conmon: 8 bytes (2 lines) of output are missing here\n", 53);
	world_free(world);
}

static void test_truncating_limit(void)
{
	World *world = world_new();

	world->options.log_size_max = 150;
	log_k8s_file.prepare(&world->sink, &world->options);
	for (int i = 0; i < 5; i++)
		put(world, 0, "12345\n", 6);	/* records of 51 bytes (C-156) */
	g_assert_cmpint(write_all(world), ==, 0);
	assert_log(world, 0, "stdout", "12345\n", 6);
	world_free(world);

	world = world_new();
	world->options.log_size_max = 10;
	log_k8s_file.prepare(&world->sink, &world->options);
	put(world, 0, "first\nlast\n", 11);
	g_assert_cmpint(write_all(world), ==, 0);
	assert_log(world, 0, "stdout", "last\n", 5);
	world_free(world);
}

static void test_global_limit(void)
{
	World *world = world_new();

	world->options.log_global_size_max = 100;
	log_k8s_file.prepare(&world->sink, &world->options);
	for (int i = 0; i < 5; i++)
		put(world, 0, "12345\n", 6);
	g_assert_cmpint(write_all(world), ==, 0);
	assert_log(world, 0, "stdout", "12345\n12345\n", 12);	/* the one that crosses the limit is whole (C-158) */
	world_free(world);
}

static void test_max_files(void)
{
	World *world = world_new();
	g_autofree char *third = g_strdup_printf("%s.3", world->path);

	world->options.log_size_max = 60;
	world->options.log_rotate = true;
	world->options.log_max_files = 2;
	log_k8s_file.prepare(&world->sink, &world->options);
	put(world, 0, "1\n2\n3\n4\n5\n", 10);
	g_assert_cmpint(write_all(world), ==, 0);
	assert_log(world, 2, "stdout", "3\n4\n5\n", 6);
	g_assert_false(g_file_test(third, G_FILE_TEST_EXISTS));
	world_free(world);
}

static void test_backups_size(void)
{
	World *world = world_new();

	world->options.log_size_max = 60;
	world->options.log_rotate = true;
	world->options.log_max_files = 8;
	world->options.log_backups_max = 100;	/* two of 47 bytes */
	log_k8s_file.prepare(&world->sink, &world->options);
	put(world, 0, "1\n2\n3\n4\n5\n6\n", 12);
	g_assert_cmpint(write_all(world), ==, 0);
	assert_log(world, 8, "stdout", "4\n5\n6\n", 6);
	world_free(world);
}

static void test_age(void)
{
	World *world = world_new();

	world->options.log_rotate = true;
	world->options.log_rotate_age = 100;
	log_k8s_file.prepare(&world->sink, &world->options);
	put(world, 0, "old\n", 4);
	g_assert_cmpint(write_all(world), ==, 0);
	put(world, 0, "same file\n", 10);
	g_assert_cmpint(write_all(world), ==, 0);
	assert_log(world, 0, "stdout", "old\nsame file\n", 14);
	world->sink.file.born -= 101;
	put(world, 0, "new\n", 4);
	g_assert_cmpint(write_all(world), ==, 0);
	assert_log(world, 0, "stdout", "new\n", 4);
	assert_log(world, 1, "stdout", "old\nsame file\nnew\n", 18);
	world_free(world);
}

static void test_removed_directory(void)
{
	World *world = world_new();
	LogContext ctx;

	log_k8s_file.prepare(&world->sink, &world->options);
	put(world, 0, "old\n", 4);
	g_assert_cmpint(write_all(world), ==, 0);
	g_assert_cmpint(unlink(world->path), ==, 0);
	g_assert_cmpint(rmdir(world->dir), ==, 0);
	context_init(world, &ctx);
	g_assert_cmpint(log_file_transport.reopen(&world->sink, &ctx), ==, 0);
	put(world, 0, "new\n", 4);
	g_assert_cmpint(write_all(world), ==, 0);
	assert_log(world, 0, "stdout", "new\n", 4);
	world_free(world);
}

static void test_pieces(void)
{
	World *world = world_new();
	g_autofree char *line = g_malloc(20001);
	g_autofree char *text = NULL;
	gsize size;

	memset(line, 'x', 20000);
	line[20000] = '\n';
	log_k8s_file.prepare(&world->sink, &world->options);
	world->urgency = LOG_HOLD;
	put(world, 0, line, 8000);
	g_assert_cmpint(write_all(world), ==, 0);
	assert_log(world, 0, "stdout", "", 0);	/* held: more is on its way */
	put(world, 0, line + 8000, 12001);
	g_assert_cmpint(write_all(world), ==, 0);
	assert_log(world, 0, "stdout", line, 20001);
	g_assert_true(g_file_get_contents(world->path, &text, &size, NULL));
	g_assert_cmpuint(size, ==, 20000 + 3 * 46);
	world_free(world);
}

static void write_file(const World *world, const char *suffix, const char *text)
{
	g_autofree char *name = g_strconcat(world->path, suffix, NULL);

	g_assert_true(g_file_set_contents(name, text, -1, NULL));
}

static bool has_file(const World *world, const char *suffix)
{
	g_autofree char *name = g_strconcat(world->path, suffix, NULL);

	return g_file_test(name, G_FILE_TEST_EXISTS);
}

static void remove_file(const World *world, const char *suffix)
{
	g_autofree char *name = g_strconcat(world->path, suffix, NULL);

	(void)unlink(name);
}

/* A backup and its complete copy, as the compressor's child leaves them. */
static void put_compressed(World *world)
{
	g_autofree char *backup = g_strconcat(world->path, ".2", NULL), *copy = g_strconcat(world->path, ".gz.tmp", NULL);
	struct timespec times[2];
	struct stat st;

	world->options.log_rotate = true;
	world->options.log_max_files = 3;
	world->options.log_compress_program = (char *)"/bin/false";
	world->options.log_compress_gzip = true;
	log_k8s_file.prepare(&world->sink, &world->options);
	world->sink.file.is_regular = true;
	write_file(world, ".2", "original");
	write_file(world, ".gz.tmp", "copy");
	g_assert_cmpint(stat(backup, &st), ==, 0);
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	g_assert_cmpint(utimensat(AT_FDCWD, copy, times, 0), ==, 0);
	world->sink.file.compress_dev = st.st_dev;
	world->sink.file.compress_ino = st.st_ino;
	world->sink.file.compress_size = st.st_size;
}

static void commit_child(void *data)
{
	World *world = data;

	(void)log_file_compress_commit(&world->sink, world->path);
}

static void test_compress_commit_killed(void)
{
	bool ended = false;

	for (long step = 1; !ended; step++) {
		World *world = world_new();
		LogContext ctx;

		put_compressed(world);
		ended = kill_at_step(commit_child, world, KILL_AT_SYSCALL, step);
		context_init(world, &ctx);
		log_file_compress_recover(&world->sink, &ctx);
		g_assert_true(has_file(world, ".2") != has_file(world, ".2.gz"));	/* one of them, never both or none */
		g_assert_true(has_file(world, ".2.gz") || !ended);
		g_assert_false(has_file(world, ".gz.tmp"));
		remove_file(world, ".2.gz");
		world_free(world);
	}
}

static void test_compress_commit_refused(void)
{
	World *world = world_new();

	put_compressed(world);
	write_file(world, ".2", "someone wrote to it");
	g_assert_cmpint(log_file_compress_commit(&world->sink, world->path), ==, -ESTALE);
	g_assert_true(has_file(world, ".2") && !has_file(world, ".2.gz") && !has_file(world, ".gz.tmp"));

	put_compressed(world);
	remove_file(world, ".2");
	g_assert_cmpint(log_file_compress_commit(&world->sink, world->path), ==, -ESTALE);
	g_assert_true(!has_file(world, ".2.gz") && !has_file(world, ".gz.tmp"));
	world_free(world);
}

static void test_backups_of_any_form_move(void)
{
	World *world = world_new();

	write_file(world, ".1.gz", "1");
	write_file(world, ".2.zst", "2");
	write_file(world, ".3.gz", "3");
	backups_shift(world->path, 3);
	g_assert_true(has_file(world, ".2.gz") && has_file(world, ".3.zst"));
	g_assert_false(has_file(world, ".3.gz") || has_file(world, ".1.gz") || has_file(world, ".2.zst"));
	backups_shift(world->path, 3);	/* there is a gap: as after a kill */
	g_assert_true(has_file(world, ".2.gz") && has_file(world, ".3.zst"));
	backups_trim(world->path, 3, 1);
	g_assert_true(has_file(world, ".2.gz") && !has_file(world, ".3.zst"));
	remove_file(world, ".2.gz");
	world_free(world);
}

/* An entry that fits into no datagram goes to the journal by reference. */
static void test_large_entry(void)
{
	World *world = world_new();
	LogSink *sink = &world->sink;
	g_autofree char *label = g_strnfill(150000, 'x');
	g_autofree char *field = g_strconcat("BIG=", label, NULL), *text = NULL;
	char *labels[] = { field, NULL };
	int pair[2], fd, small = 4096;
	size_t n = 1;
	char buf[8];
	LogContext ctx;
	gsize size;

	world->options.cid = (char *)"0123456789abcdef";
	world->options.log_labels = labels;
	memset(sink, 0, sizeof(*sink));
	sink->driver = &log_journald;
	log_journald.prepare(sink, &world->options);
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), ==, 0);
	g_assert_cmpint(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), ==, 0);
	context_init(world, &ctx);
	ctx.send = shared_memory_new(sizeof(*ctx.send));
	g_assert_cmpint(exact_send_open(ctx.send, world->store, "send"), ==, 0);
	sink->socket.fd = pair[0];
	put(world, 0, "line\n", 5);
	g_assert_cmpint((int)log_datagram_transport.pump(sink, &ctx, 0, LOG_SHOW), ==, 5);
	g_assert_cmpint((int)fd_pass_recv_any(pair[1], buf, sizeof(buf), &fd, &n), ==, 0);
	g_assert_cmpuint(n, ==, 1);
	text = g_malloc(200000);
	size = (gsize)pread(fd, text, 200000, 0);
	g_assert_cmpuint(size, >, 150000);
	g_assert_true(memmem(text, size, field, strlen(field)) != NULL);
	g_assert_cmpint(memcmp(text, "MESSAGE\n\5\0\0\0\0\0\0\0line\n\n", 22), ==, 0);
	(void)close(fd);
	(void)close(pair[0]);
	(void)close(pair[1]);
	fd_store_close(world->store, "send.r");
	fd_store_close(world->store, "send.w");
	free((char *)sink->fixed);
	world_free(world);
}

static void json(const char *input, size_t size, LogUrgency urgency, size_t room, const char *want, size_t want_used)
{
	LogSink sink = { .fixed = "\"attrs\":{\"tag\":\"T\"},", .fixed_size = 20 };
	LogStamp stamp = { .sec = 86399, .nsec = 7000 };
	char out[4096];
	LogBatch batch = { .data = input, .size = size, .urgency = urgency, .stamp = &stamp, .out = out, .room = room };

	log_json_file.format(&sink, &batch);
	g_assert_cmpuint(batch.used, ==, want_used);
	g_assert_cmpuint(batch.made, ==, strlen(want));
	g_assert_true(memcmp(out, want, batch.made) == 0);
}

#define JSON_TAIL "\",\"stream\":\"stdout\",\"attrs\":{\"tag\":\"T\"},\"time\":\"1970-01-01T23:59:59.000007000Z\"}\n"

static void test_json_escapes(void)
{
	json("a\"\\\t\x01\xff\x7f\n", 8, LOG_SHOW, 4096, "{\"log\":\"a\\\"\\\\\\t\\u0001\xef\xbf\xbd\\u007f\\n" JSON_TAIL, 8);
	json("caf\xc3\xa9", 5, LOG_SHOW, 4096, "{\"log\":\"caf\xc3\xa9" JSON_TAIL, 5);
}

static void test_json_cuts_no_character(void)
{
	json("caf\xc3", 4, LOG_SHOW, 4096, "{\"log\":\"caf" JSON_TAIL, 3);
	json("caf\xc3", 4, LOG_HOLD, 4096, "", 0);
	json("caf\xc3", 4, LOG_FINISH, 4096, "{\"log\":\"caf\xef\xbf\xbd" JSON_TAIL, 4);
}

static void test_json_keeps_to_its_room(void)
{
	const char *record = "{\"log\":\"ab\\n" JSON_TAIL;

	json("ab\nab\n", 6, LOG_SHOW, 2 * strlen(record) - 1, record, 3);
	json("ab\n", 3, LOG_SHOW, strlen(record), record, 3);
	json("ab\n", 3, LOG_SHOW, strlen(record) - 1, "", 0);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/log-file/long-lines-come-in-pieces-of-8192", test_pieces);
	g_test_add_func("/log-file/truncating-limit", test_truncating_limit);
	g_test_add_func("/log-file/global-limit", test_global_limit);
	g_test_add_func("/log-file/no-more-backups-than-asked", test_max_files);
	g_test_add_func("/log-file/no-more-bytes-of-backups-than-asked", test_backups_size);
	g_test_add_func("/log-file/a-file-of-age-is-rotated", test_age);
	g_test_add_func("/log-file/reopened-though-the-directory-was-removed", test_removed_directory);
	g_test_add_func("/log-file/a-drop-is-counted-and-told-once", test_drop_is_counted_and_told);
	g_test_add_func("/log-file/full-disk-leaves-no-torn-record", test_torn_record);
	g_test_add_func("/log-file/full-disk-and-killed-at-every-system-call", test_torn_and_killed);
	g_test_add_func("/log-file/killed-at-every-system-call", test_kill_at_syscalls);
	g_test_add_func("/log-file/killed-at-every-211th-instruction", test_kill_at_instructions);
	g_test_add_func("/log-file/killed-at-every-system-call-of-rotation", test_kill_in_rotation);
	g_test_add_func("/log-file/compressed/killed-at-every-system-call", test_compress_commit_killed);
	g_test_add_func("/log-file/compressed/not-if-the-backup-was-changed-or-has-gone", test_compress_commit_refused);
	g_test_add_func("/log-file/compressed/backups-of-any-form-move-and-count", test_backups_of_any_form_move);
	g_test_add_func("/journald/an-entry-too-large-for-a-datagram", test_large_entry);
	g_test_add_func("/json-file/escapes", test_json_escapes);
	g_test_add_func("/json-file/cuts-no-character", test_json_cuts_no_character);
	g_test_add_func("/json-file/keeps-to-its-room", test_json_keeps_to_its_room);
	return g_test_run();
}
