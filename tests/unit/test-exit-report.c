/* conmon/exit-report */
#include "config.h"

#include <errno.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/shared-memory.h"
#include "conmon/diag.h"
#include "conmon/exit-report.h"
#include "kill-somewhere.h"

#define KILLS 300
#define SPAN_NS 400000

typedef struct {
	Conmon conmon;
	ReaperState *state;
	char *dir, *path;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
	f->state = shared_memory_new(sizeof(*f->state));
	f->state->published_pid = 42;
	f->conmon = (Conmon){.reaper = f->state};
	f->dir = g_dir_make_tmp("tandem-exit-XXXXXX", NULL);
	g_assert_nonnull(f->dir);
	f->path = g_build_filename(f->dir, "cid", NULL);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	(void)g_unlink(f->path);
	g_assert_cmpint(g_rmdir(f->dir), ==, 0); /* nothing else was left in it */
	g_free(f->path);
	g_free(f->dir);
}

static void assert_content(const Fixture *f, const char *wanted)
{
	g_autofree char *text = NULL;

	g_assert_true(g_file_get_contents(f->path, &text, NULL, NULL));
	g_assert_cmpstr(text, ==, wanted);
}

static void test_values(void)
{
	g_assert_cmpint(exit_report_value(0), ==, 0);
	g_assert_cmpint(exit_report_value(255 << 8), ==, 255);
	g_assert_cmpint(exit_report_value(SIGKILL), ==, 137);
	g_assert_cmpint(exit_report_value(SIGSEGV | 0x80), ==, 139); /* core dumped */
	g_assert_cmpint(exit_report_value(-1), ==, -1);
}

static void test_file(Fixture *f, gconstpointer data)
{
	struct stat st;

	g_assert_true(g_file_set_contents(f->path, "an older, longer text", -1, NULL));
	g_assert_cmpint(exit_report_write(&f->conmon, &f->state->exit_file, f->dir, "cid", -1), ==, 0);
	assert_content(f, "-1");
	g_assert_cmpint(g_stat(f->path, &st), ==, 0);
	g_assert_cmpint(st.st_mode & 07777, ==, 0644);
}

static void test_no_directory(Fixture *f, gconstpointer data)
{
	g_assert_cmpint(exit_report_write(&f->conmon, &f->state->exit_file, NULL, "cid", 1), ==, 0);
	g_assert_cmpint(exit_report_write(&f->conmon, &f->state->persist_file, "/nonexistent", "exit", 1), ==,
		-ENOENT);
	g_assert_cmpint(exit_report_write(&f->conmon, &f->state->persist_file, "/nonexistent", "exit", 1), ==,
		-ENOENT);
}

static void test_does_not_come_back(Fixture *f, gconstpointer data)
{
	g_assert_cmpint(exit_report_write(&f->conmon, &f->state->exit_file, f->dir, "cid", 3), ==, 0);
	g_assert_cmpint(g_unlink(f->path), ==, 0); /* the engine has taken it */
	g_assert_cmpint(exit_report_write(&f->conmon, &f->state->exit_file, f->dir, "cid", 3), ==, 0);
	g_assert_false(g_file_test(f->path, G_FILE_TEST_EXISTS));
}

static void write_file(void *data)
{
	Fixture *f = data;

	(void)exit_report_write(&f->conmon, &f->state->exit_file, f->dir, "cid", 3);
}

static void test_kills(Fixture *f, gconstpointer data)
{
	for (int i = 0; i < KILLS; i++) {
		bool was_there;

		memset(&f->state->exit_file, 0, sizeof(f->state->exit_file));
		kill_somewhere(write_file, f, g_test_rand_int_range(0, SPAN_NS));
		was_there = g_unlink(f->path) == 0;
		write_file(f);
		g_assert_cmpint(g_file_test(f->path, G_FILE_TEST_EXISTS), ==, !was_there);
		if (!was_there)
			assert_content(f, "3");
		(void)g_unlink(f->path);
	}
}

#define ADD(path, test) g_test_add(path, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
	(void)umask(0022);
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/exit-report/values", test_values);
	ADD("/exit-report/replaces-what-was-there", test_file);
	ADD("/exit-report/no-directory-wanted-or-none-there", test_no_directory);
	ADD("/exit-report/what-was-taken-does-not-come-back", test_does_not_come_back);
	ADD("/exit-report/once-through-kills", test_kills);
	return g_test_run();
}
