#include "config.h"

#include "conmon/shared.h"

#include <stdint.h>
#include <unistd.h>

void conmon_kick(const Conmon *conmon, const char *name)
{
	int fd = fd_store_get(conmon->store, name);
	uint64_t one = 1;

	if (fd >= 0)
		(void)!write(fd, &one, sizeof(one)); /* full: it is awake */
}
