#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/fd-util.h"

#include "conmon/backlog.h"

#define DIRECTORY "/var/tmp"	/* for large files; TMPDIR comes first */

static void store_release(_Atomic uint64_t *place, uint64_t value)
{
	atomic_store_explicit(place, value, memory_order_release);
}

static bool is_empty(const Backlog *b)
{
	return b->base >= b->to;
}

/* @return the file, or -1 */
static int file_get(FdStore *store, const char *name)
{
	int fd = fd_store_get(store, name);
	const char *dir = getenv("TMPDIR");

	if (fd >= 0)
		return fd;
	fd = open(dir && dir[0] ? dir : DIRECTORY, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0 && fd_store_put(store, name, fd) < 0) {
		fd_close(fd);
		return -1;
	}
	return fd;
}

/* @return how many of @size bytes are in the file now */
static size_t file_write(int fd, const char *data, size_t size, uint64_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pwrite(fd, data + done, size - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

void backlog_take(
	Backlog *b, FdStore *store, const char *name, const Ring *ring, uint64_t lowest, uint64_t from, uint64_t to, uint64_t max)
{
	uint64_t end;

	if (is_empty(b) || lowest >= b->to) {	/* nobody needs what is in it; base first: it is empty in between */
		store_release(&b->base, from);
		store_release(&b->to, from);
	}
	end = b->base + max < to ? b->base + max : to;
	if (b->to >= b->floor && end > b->to) {
		int fd = file_get(store, name);

		if (fd >= 0)
			store_release(&b->to, b->to + file_write(fd, ring_at(ring, b->to), (size_t)(end - b->to), b->to - b->base));
	}
	store_release(&b->floor, to);
}

static ssize_t file_read(int fd, char *copy, size_t size, uint64_t offset)
{
	ssize_t n;

	do {
		n = pread(fd, copy, size, (off_t)offset);
	} while (n < 0 && errno == EINTR);
	return n;
}

bool backlog_find(const Backlog *b, const FdStore *store, const char *name, const Ring *ring, uint64_t pos, char *copy, size_t max,
	const char **ret_data, uint64_t *ret_next)
{
	uint64_t end = pos >= b->floor ? ring_head(ring) : b->to;
	ssize_t n;

	*ret_data = copy;
	if (pos < b->floor && (is_empty(b) || pos >= b->to)) {
		*ret_next = b->floor;
		return false;
	}
	if (pos < b->floor && pos < b->base) {
		*ret_next = b->base;
		return false;
	}
	if (end - pos < max)
		max = (size_t)(end - pos);
	*ret_next = pos + max;
	if (pos >= b->floor) {
		*ret_data = ring_at(ring, pos);
		return true;
	}
	n = file_read(fd_store_get(store, name), copy, max, pos - b->base);
	*ret_next = n > 0 ? pos + (uint64_t)n : b->to;
	return n > 0;
}

void backlog_release(Backlog *b, FdStore *store, const char *name, uint64_t lowest)
{
	if (is_empty(b) || lowest < b->to)
		return;
	store_release(&b->base, b->to);
	fd_store_close(store, name);
}
