#include "config.h"

#include "common/fd-keep.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd-pass.h"
#include "common/fd-util.h"
#include "common/notify.h"

#define LISTEN_FDS_START 3
#define KEPT_MAX 16384 /* descriptors that are taken back */
#define NUMBER_MAX (1 << 20)
#define SOCKET_NAME "systemd.notify"

bool fd_keep_is_wanted(void)
{
	const char *wanted = getenv("TANDEM_SYSTEMD");

	return wanted && strcmp(wanted, "1") == 0 && notify_is_wanted();
}

/* --- taking back --- */

typedef struct {
	int number, fd;
	const char *name;
} Kept;

/* What came back with only its number, until somebody has said what is known. */
static struct {
	Kept *kept;
	size_t n;
	char *names;
} unnamed;

static bool parse_name(char *text, Kept *ret)
{
	char *dot = text ? strchr(text, '.') : NULL;
	long number;

	if (!dot)
		return false;
	*dot = '\0';
	errno = 0;
	number = strtol(text, NULL, 10);
	if (errno || number <= 2 || number >= NUMBER_MAX)
		return false;
	ret->number = (int)number;
	ret->name = dot + 1;
	return true;
}

/* Out of the way first: the old number of one may be the present one of another. */
static size_t move_up(int n, char *names, Kept *kept)
{
	size_t n_kept = 0;
	int highest = LISTEN_FDS_START + n;

	for (int i = 0; i < n; i++) {
		Kept *k = &kept[n_kept];

		k->fd = LISTEN_FDS_START + i;
		if (!parse_name(strsep(&names, ":"), k)) {
			(void)fd_close(LISTEN_FDS_START + i);
			continue;
		}
		if (k->number > highest)
			highest = k->number;
		n_kept++;
	}
	for (size_t i = 0; i < n_kept; i++) {
		int up = fcntl(kept[i].fd, F_DUPFD_CLOEXEC, highest + 1);

		(void)fd_close(kept[i].fd);
		kept[i].fd = up;
	}
	return n_kept;
}

static int put_back(FdStore *store, Kept *kept, size_t n_kept)
{
	int taken = 0;

	for (size_t i = 0; i < n_kept; i++) {
		const Kept *k = &kept[i];

		if (k->fd < 0)
			continue;
		if (dup3(k->fd, k->number, O_CLOEXEC) == k->number &&
			(k->name[0] == '-' || fd_store_put(store, k->name, k->number) == 0))
			taken++;
		(void)fd_close(k->fd);
		if (k->name[0] == '-')
			unnamed.kept[unnamed.n++] = *k;
	}
	return taken;
}

static int take(FdStore *store)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"),
		   *names = getenv("LISTEN_FDNAMES");
	int n = count ? atoi(count) : 0, taken = 0;
	char *list = names ? strdup(names) : NULL;
	Kept *kept;

	if (!pid || atoi(pid) != (int)getpid() || n <= 0 || n > KEPT_MAX || !list) {
		free(list);
		return 0;
	}
	kept = calloc((size_t)n, sizeof(*kept));
	unnamed.kept = kept; /* the same array: what is written there was read before */
	unnamed.n = 0;
	if (kept)
		taken = put_back(store, kept, move_up(n, list, kept));
	unnamed.names = list;
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
	return taken;
}

void fd_keep_drop_unknown(const FdStore *store, bool (*is_known)(int fd, void *data), void *data)
{
	for (size_t i = 0; i < unnamed.n; i++) {
		const Kept *k = &unnamed.kept[i];

		if (is_known && is_known(k->number, data))
			continue;
		fd_keep_remove(store, k->name, k->number);
		(void)fd_close(k->number);
	}
	free(unnamed.kept);
	free(unnamed.names);
	memset(&unnamed, 0, sizeof(unnamed));
}

int fd_keep_take(FdStore *store)
{
	int taken = take(store), sock = notify_connect(), r;

	if (sock < 0)
		return sock;
	r = fd_store_put(store, SOCKET_NAME, sock);
	return r < 0 ? r : taken;
}

/* --- giving --- */

static int add(const FdStore *store, const char *how, const char *name, int fd)
{
	int sock = fd_store_get(store, SOCKET_NAME);
	char message[FD_STORE_NAME_MAX + 64];

	if (sock < 0)
		return 0;
	(void)snprintf(message, sizeof(message), "FDSTORE=1\n%sFDNAME=%d.%s", how, fd, name);
	return fd_pass_send(sock, message, strlen(message), &fd, 1);
}

int fd_keep_add(const FdStore *store, const char *name, int fd)
{
	/* a listener that was shut down or a pipe without a peer is not for systemd to judge */
	return add(store, "FDPOLL=0\n", name, fd);
}

int fd_keep_add_socket(const FdStore *store, const char *name, int fd)
{
	return add(store, "", name, fd);
}

bool fd_keep_is_taken(const FdStore *store)
{
	return fd_store_get(store, SOCKET_NAME) >= 0;
}

bool fd_keep_is_prompt(const FdStore *store)
{
	struct pollfd sock = {.fd = fd_store_get(store, SOCKET_NAME), .events = POLLOUT};

	return sock.fd >= 0 && poll(&sock, 1, 0) == 1 && (sock.revents & POLLOUT);
}

void fd_keep_remove(const FdStore *store, const char *name, int fd)
{
	int sock = fd_store_get(store, SOCKET_NAME);
	char message[FD_STORE_NAME_MAX + 64];

	if (sock < 0)
		return;
	(void)snprintf(message, sizeof(message), "FDSTOREREMOVE=1\nFDNAME=%d.%s", fd, name);
	(void)fd_pass_send(sock, message, strlen(message), NULL, 0); /* what stays is closed as an orphan later */
}

int fd_keep_add_all(const FdStore *store, const char *prefix)
{
	const char *name;
	int fd, result = 0;

	for (size_t i = 0; fd_store_next(store, &i, &name, &fd);) {
		int r = strncmp(name, prefix, strlen(prefix)) == 0 ? fd_keep_add(store, name, fd) : 0;

		if (result == 0)
			result = r;
	}
	return result;
}

void fd_keep_notify(const FdStore *store, const char *message)
{
	int sock = fd_store_get(store, SOCKET_NAME);

	if (sock >= 0)
		(void)fd_pass_send(sock, message, strlen(message), NULL, 0);
}

/* --- memory --- */

static void *map(int fd, size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

void *fd_keep_memory(FdStore *store, const char *name, size_t size, bool *ret_restored)
{
	int fd = fd_store_get(store, name), r;
	struct stat st;

	*ret_restored = fd >= 0 && fstat(fd, &st) == 0 && st.st_size == (off_t)size;
	if (*ret_restored)
		return map(fd, size);
	fd = memfd_create(name, MFD_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (ftruncate(fd, (off_t)size) < 0) {
		r = -errno;
		(void)fd_close(fd);
	} else {
		r = fd_store_replace(store, name, fd);
	}
	errno = -r;
	return r < 0 ? NULL : map(fd, size);
}

/* --- watchdog --- */

typedef struct {
	const FdStore *store;
	EventTimer *timer;
	uint64_t every_ms;
} Watchdog;

static void on_watchdog(void *data)
{
	Watchdog *watchdog = data;

	fd_keep_notify(watchdog->store, "WATCHDOG=1");
	event_timer_set(watchdog->timer, watchdog->every_ms);
}

int fd_keep_watchdog(const FdStore *store, EventLoop *loop)
{
	static Watchdog watchdog; /* one keeper per process; set up anew by each */
	uint64_t every_ms = notify_watchdog_ms();

	if (every_ms == 0 || fd_store_get(store, SOCKET_NAME) < 0)
		return 0;
	watchdog = (Watchdog){.store = store, .every_ms = every_ms};
	watchdog.timer = event_loop_add_timer(loop, 0, on_watchdog, &watchdog);
	return watchdog.timer ? 0 : -ENOMEM;
}
