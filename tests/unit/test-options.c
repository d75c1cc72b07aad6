/* conmon/options, conmon/validation: what has no clause-by-clause test against a running conmon */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#include "conmon/log/driver.h"
#include "conmon/options.h"
#include "conmon/validation.h"

static char *dir;

/* The file driver has tests of its own; here only whether and for which path it is called. */
int log_k8s_open(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);

	return fd < 0 ? -errno : fd;
}

static ConmonOptions *parse(const char *line)
{
	char **words = g_strsplit(line, "|", -1); /* for the life of the options, which point into them */
	char *reason = NULL;
	ConmonOptions *o = options_parse((int)g_strv_length(words), words, &reason);

	g_assert_cmpstr(reason, ==, NULL);
	return o;
}

static void test_lists_and_scalars(void)
{
	ConmonOptions *o = parse(
		"conmon|-c|a|-c|b|--runtime-arg|--root|--runtime-opt|--|--restore-arg|x|word|-ti|--|-s");

	g_assert_cmpstr(o->cid, ==, "b");
	g_assert_cmpstr(o->runtime_args[0], ==, "--root");
	g_assert_cmpstr(o->runtime_opts[0], ==, "--");
	g_assert_cmpstr(o->runtime_opts[1], ==, "x");
	g_assert_null(o->runtime_opts[2]);
	g_assert_true(o->terminal && o->stdin_open);
	g_assert_false(o->systemd_cgroup);
	g_assert_cmpstr(o->socket_dir_path, ==, "/var/run/crio");
	g_assert_cmpint(o->log_size_max, ==, -1);
	g_assert_cmpint(o->log_max_files, ==, 1);
}

static void test_argv_is_left_alone(void)
{
	char one[] = "conmon", two[] = "-c", three[] = "x", four[] = "word";
	char *argv[] = {one, two, three, four, NULL};
	char *reason = NULL;

	g_assert_nonnull(options_parse(4, argv, &reason));
	g_assert_true(argv[0] == one && argv[1] == two && argv[2] == three && argv[3] == four);
	g_assert_cmpstr(three, ==, "x");
}

static ConmonOptions *validated(const char *log_path)
{
	g_autofree char *line = g_strdup_printf("conmon|-c|0123456789abc|-u|u|-r|/bin/sh|-l|%s", log_path);
	ConmonOptions *o = parse(line);

	if (options_validate(o) < 0)
		return NULL;
	if (o->log_k8s_fd >= 0)
		(void)close(o->log_k8s_fd);
	return o;
}

static void assert_file(const char *log_path, const char *file)
{
	ConmonOptions *o = validated(log_path);

	g_assert_nonnull(o);
	g_assert_true(o->log_k8s && !o->log_journald && !o->log_passthrough);
	g_assert_cmpstr(o->log_k8s_path, ==, file);
	g_assert_cmpint(g_unlink(file), ==, 0);
}

static void test_log_path_grammar(void)
{
	ConmonOptions *o;

	g_assert_cmpint(g_chdir(dir), ==, 0);
	assert_file("k8s-file:plain", "plain");
	assert_file("plain", "plain");
	assert_file(":none", "none");
	assert_file("k8s-file:with:colons", "with:colons");
	assert_file("./with:colons", "./with:colons");
	assert_file("k8s-file:a|-l|k8s-file:b", "b");
	g_assert_false(g_file_test("a", G_FILE_TEST_EXISTS)); /* C-138 */
	o = validated("journald:rest");
	g_assert_true(o->log_journald && !o->log_k8s);
	o = validated("none:x");
	g_assert_true(!o->log_journald && !o->log_k8s && !o->log_passthrough);
	o = validated("passthrough:");
	g_assert_true(o->log_passthrough);
}

int main(int argc, char **argv)
{
	int r;

	(void)setlocale(LC_ALL, "C");
	g_test_init(&argc, &argv, NULL);
	dir = g_dir_make_tmp("tandem-options-XXXXXX", NULL);
	g_test_add_func("/options/lists-scalars-and-words", test_lists_and_scalars);
	g_test_add_func("/options/argv-is-left-alone", test_argv_is_left_alone);
	g_test_add_func("/options/log-path-grammar", test_log_path_grammar);
	r = g_test_run();
	g_assert_cmpint(g_chdir("/"), ==, 0);
	g_assert_cmpint(g_rmdir(dir), ==, 0);
	return r;
}
