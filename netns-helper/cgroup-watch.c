#include "config.h"

#include "netns-helper/cgroup-watch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define CGROUP_FD "keeper.cgroup"
#define CGROUP_LOOK_MS 2000
#define CGROUP_TEXT_MAX 2048 /* bytes; of a longer text the beginning is compared */

static struct {
	int fd;
	EventTimer *timer;
	char text[CGROUP_TEXT_MAX];
	size_t size;
	void (*moved)(void *data);
	void *data;
} watch; /* one keeper per process */

void cgroup_watch_open(FdStore *store)
{
	int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)fd_store_put(store, CGROUP_FD, fd);
}

/* 0 when the process that opened it is gone, or nothing can be read. */
static size_t look(char *text)
{
	ssize_t n = pread(watch.fd, text, CGROUP_TEXT_MAX, 0);

	return n > 0 ? (size_t)n : 0;
}

static void on_look(void *data)
{
	char text[CGROUP_TEXT_MAX];
	size_t size = look(text);

	if (size == 0)
		return; /* and no next time */
	if (size != watch.size || memcmp(text, watch.text, size) != 0) {
		memcpy(watch.text, text, size);
		watch.size = size;
		watch.moved(watch.data);
	}
	event_timer_set(watch.timer, CGROUP_LOOK_MS);
}

int cgroup_watch_start(const FdStore *store, EventLoop *loop, void (*moved)(void *data), void *data)
{
	watch.fd = fd_store_get(store, CGROUP_FD);
	watch.moved = moved;
	watch.data = data;
	if (watch.fd < 0)
		return 0;
	watch.size = look(watch.text);
	if (watch.size == 0)
		return 0;
	watch.timer = event_loop_add_timer(loop, CGROUP_LOOK_MS, on_look, NULL);
	return watch.timer ? 0 : -ENOMEM;
}
