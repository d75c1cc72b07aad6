#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "conmon/source.h"

int stage_open(Stage *stage, FdStore *store, const char *name)
{
	return fd_store_pipe(store, name, &stage->r, &stage->w);
}

/* The read, and the publication of what it brought. Everything needed to repeat it is noted first. */
static ssize_t stage_take(Stage *stage, Ring *ring, uint64_t amount)
{
	uint64_t done = 0;

	stage->base = ring_head(ring);
	stage->expect = amount;
	atomic_store_explicit(&stage->reading, 1, memory_order_release);
	while (done < amount) {
		ssize_t n = read(stage->r, ring_at(ring, stage->base + done), amount - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;	/* can't be: the bytes are there and nobody else reads them */
		done += (uint64_t)n;
	}
	ring_set_head(ring, stage->base + done);
	atomic_store_explicit(&stage->reading, 0, memory_order_release);
	return (ssize_t)done;
}

ssize_t stage_recover(Stage *stage, Ring *const *rings, size_t n_rings)
{
	int left = 0;
	ssize_t taken = 0;
	Ring *ring;

	if (ioctl(stage->r, FIONREAD, &left) < 0)
		return -errno;
	if (stage->owner >= n_rings)
		return -EINVAL;
	ring = rings[stage->owner];

	if (atomic_load_explicit(&stage->reading, memory_order_acquire)) {
		uint64_t head = stage->base + stage->expect - (uint64_t)left;

		taken = (ssize_t)(head - ring_head(ring));
		ring_set_head(ring, head);
		atomic_store_explicit(&stage->reading, 0, memory_order_release);
	}
	if (left > 0)
		taken += stage_take(stage, ring, (uint64_t)left);
	return taken;
}

static ssize_t stage_fill_plainly(int fd, Ring *ring, size_t max)
{
	ssize_t n;

	do {
		n = read(fd, ring_at(ring, ring_head(ring)), max);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	ring_set_head(ring, ring_head(ring) + (uint64_t)n);
	return n;
}

ssize_t stage_fill(Stage *stage, unsigned owner, int fd, Ring *ring, size_t max)
{
	ssize_t n;

	if (stage->no_splice & (1 << owner))
		return stage_fill_plainly(fd, ring, max);

	stage->owner = owner;
	atomic_signal_fence(memory_order_seq_cst);	/* a SIGKILL sees the program order of one thread */
	do {
		n = splice(fd, NULL, stage->w, NULL, max, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EINVAL) {
		stage->no_splice |= 1 << owner;	/* a pty before Linux 6.5, for instance */
		return stage_fill_plainly(fd, ring, max);
	}
	if (n <= 0)
		return n < 0 ? -errno : 0;
	return stage_take(stage, ring, (uint64_t)n);
}

int stage_resize(Stage *stage, size_t size)
{
	int r = fcntl(stage->w, F_SETPIPE_SZ, (int)size);

	if (r < 0)
		r = fcntl(stage->w, F_GETPIPE_SZ);
	return r < 0 ? -errno : r;
}
