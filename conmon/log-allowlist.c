#include "config.h"

#include "conmon/log-allowlist.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "conmon/text.h"

static bool is_below(const char *path, const char *dir)
{
	size_t size = strlen(dir);

	if (size == 1)
		return true; /* "/" */
	return strncmp(path, dir, size) == 0 && (path[size] == '/' || path[size] == '\0');
}

bool log_allowlist_permits(const char *path, char *const *dirs)
{
	text_auto char *parent = NULL;
	char real[PATH_MAX], real_dir[PATH_MAX];

	if (!dirs || !dirs[0])
		return true;
	parent = text_dirname(path);
	if (!realpath(path, real) && !realpath(parent, real))
		return false;
	for (; *dirs; dirs++)
		if (realpath(*dirs, real_dir) && is_below(real, real_dir))
			return true;
	return false;
}
