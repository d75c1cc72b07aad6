#include "config.h"

#include "common/fd-store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "common/shared-memory.h"

/*
 * A slot is free, in use, or being filled by the process whose pid it holds. A process killed while filling leaves its
 * pid; the next one that looks for a free slot takes such a slot over.
 */
#define SLOT_FREE 0
#define SLOT_USED (-1)

typedef struct {
	_Atomic int state;
	_Atomic int fd;
	char name[FD_STORE_NAME_MAX];
} Slot;

struct FdStore {
	_Atomic unsigned
		high; /* slots from here on have never been used: not looked at, so their pages cost nothing */
	Slot slots[FD_STORE_MAX];
};

FdStore *fd_store_new(void)
{
	return shared_memory_new(sizeof(FdStore));
}

static bool name_is_valid(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len < FD_STORE_NAME_MAX &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

static Slot *find(const FdStore *store, const char *name)
{
	for (size_t i = 0; i < atomic_load(&store->high); i++) {
		const Slot *slot = &store->slots[i];

		if (atomic_load(&slot->state) == SLOT_USED && strcmp(slot->name, name) == 0)
			return (Slot *)slot;
	}
	return NULL;
}

static Slot *claim_slot(FdStore *store)
{
	int self = getpid();

	for (size_t i = 0; i < FD_STORE_MAX; i++) {
		Slot *slot = &store->slots[i];
		int state = atomic_load(&slot->state);

		if (state == SLOT_USED ||
			(state > 0 && (state == self || kill(state, 0) == 0 || errno != ESRCH)))
			continue;
		if (!atomic_compare_exchange_strong(&slot->state, &state, self))
			continue;
		for (unsigned high = atomic_load(&store->high); high < i + 1;)
			if (atomic_compare_exchange_weak(&store->high, &high, (unsigned)i + 1))
				break;
		return slot;
	}
	return NULL;
}

int fd_store_put(FdStore *store, const char *name, int fd)
{
	Slot *slot;

	if (fd < 0 || !name_is_valid(name))
		return -EINVAL;
	if (find(store, name))
		return -EEXIST;
	slot = claim_slot(store);
	if (!slot)
		return -ENOBUFS;
	strcpy(slot->name, name);
	atomic_store(&slot->fd, fd);
	atomic_store(&slot->state, SLOT_USED);
	return 0;
}

int fd_store_replace(FdStore *store, const char *name, int fd)
{
	Slot *slot = find(store, name);
	int old;

	if (fd < 0)
		return -EINVAL;
	if (!slot)
		return fd_store_put(store, name, fd);
	old = atomic_exchange(&slot->fd, fd);
	if (old != fd)
		(void)fd_close(old);
	return 0;
}

int fd_store_get(const FdStore *store, const char *name)
{
	const Slot *slot = find(store, name);

	return slot ? atomic_load(&slot->fd) : -ENOENT;
}

int fd_store_pipe(FdStore *store, const char *name, int *ret_r, int *ret_w)
{
	char name_r[FD_STORE_NAME_MAX], name_w[FD_STORE_NAME_MAX];
	int ends[2], r;

	(void)snprintf(name_r, sizeof(name_r), "%s.r", name);
	(void)snprintf(name_w, sizeof(name_w), "%s.w", name);
	*ret_r = fd_store_get(store, name_r);
	*ret_w = fd_store_get(store, name_w);
	if (*ret_r >= 0 && *ret_w >= 0)
		return 0;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	*ret_r = ends[0];
	*ret_w = ends[1];
	r = fd_store_replace(store, name_r, ends[0]);
	if (r >= 0)
		r = fd_store_replace(store, name_w, ends[1]);
	return r < 0 ? r : 0;
}

int fd_store_forget(FdStore *store, const char *name)
{
	Slot *slot = find(store, name);
	int fd;

	if (!slot)
		return -ENOENT;
	fd = atomic_load(&slot->fd);
	atomic_store(&slot->state, SLOT_FREE);
	return fd;
}

void fd_store_close(FdStore *store, const char *name)
{
	int fd = fd_store_forget(store, name);

	if (fd >= 0)
		(void)fd_close(fd);
}

bool fd_store_has_fd(const FdStore *store, int fd)
{
	for (size_t i = 0; i < atomic_load(&store->high); i++)
		if (atomic_load(&store->slots[i].state) == SLOT_USED &&
			atomic_load(&store->slots[i].fd) == fd)
			return true;
	return false;
}

bool fd_store_next(const FdStore *store, size_t *iter, const char **ret_name, int *ret_fd)
{
	while (*iter < atomic_load(&store->high)) {
		const Slot *slot = &store->slots[(*iter)++];

		if (atomic_load(&slot->state) != SLOT_USED)
			continue;
		*ret_name = slot->name;
		*ret_fd = atomic_load(&slot->fd);
		return true;
	}
	return false;
}
