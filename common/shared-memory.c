#include "config.h"

#include "common/shared-memory.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define ARENA_SIZE (256 * 1024) /* bytes of address space; what is not touched costs nothing */
#define ARENA_OBJECT_MAX (64 * 1024)
#define ARENA_ALIGN 64 /* a cache line: different processes write to different objects */

/* Small objects share pages: a container has about ten, and three or more processes that each count for every page. */
static char *arena;
static size_t arena_used;
static pid_t arena_owner;	/* a child must not give out what its parent gives out, too */

static void *map_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void *shared_memory_new(size_t size)
{
	void *p;

	size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	if (size > ARENA_OBJECT_MAX)
		return map_shared(size);
	if (!arena || arena_owner != getpid() || size > ARENA_SIZE - arena_used) {
		arena = map_shared(ARENA_SIZE);
		arena_used = 0;
		arena_owner = getpid();
		if (!arena)
			return NULL;
	}
	p = arena + arena_used;
	arena_used += size;
	return p;
}

void *shared_memory_ring_new(size_t size)
{
	int fd = memfd_create("ring", MFD_CLOEXEC);
	void *p = MAP_FAILED;
	int saved;

	if (fd < 0)
		return NULL;
	if (ftruncate(fd, (off_t)size) == 0)
		p = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p != MAP_FAILED &&
		(mmap(p, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
			mmap((char *)p + size, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
				MAP_FAILED)) {
		saved = errno;
		(void)munmap(p, 2 * size);
		errno = saved;
		p = MAP_FAILED;
	}
	saved = errno;
	(void)close(fd); /* the mappings keep it alive */
	errno = saved;
	return p == MAP_FAILED ? NULL : p;
}

void shared_memory_ring_discard(void *ring, size_t size)
{
	/* Best effort: a kernel that can't punch a hole only keeps the memory. */
	(void)madvise(ring, size, MADV_REMOVE);
}
