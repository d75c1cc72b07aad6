/* Runs a fuzz target over the files of a corpus directory, each of which was worth keeping. Prints TAP. */
#include "config.h"

#include <glib.h>
#include <stdint.h>
#include <stdio.h>

#include "tests/fuzz/isolate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	g_autofree char *program = g_path_get_basename(argv[0]);
	g_autofree char *folder =
		g_strdup_printf("corpus-%s", g_str_has_prefix(program, "lt-") ? program + 8 : program + 5);
	g_autofree char *path =
		argc > 1 ? g_strdup(argv[1])
			 : g_build_filename(g_getenv("TANDEM_SRCDIR") ?: ".", "tests/fuzz", folder, NULL);
	GDir *dir = g_dir_open(path, 0, NULL);
	const char *name;
	int n = 0;

	if (!dir) {
		printf("1..0 # SKIP no corpus at %s\n", path);
		return 0;
	}
	if (!fuzz_is_isolated()) {
		printf("1..0 # SKIP this user may not make a network namespace\n");
		return 0;
	}
	while ((name = g_dir_read_name(dir))) {
		g_autofree char *file = g_build_filename(path, name, NULL), *data = NULL;
		gsize size;

		if (!g_file_get_contents(file, &data, &size, NULL))
			continue;
		LLVMFuzzerTestOneInput((const uint8_t *)data, size);
		printf("ok %d - %s\n", ++n, name);
	}
	g_dir_close(dir);
	printf("1..%d\n", n);
	return n ? 0 : 1;
}
