#pragma once
/*
 * Registry of the descriptors that outlive a worker.
 *
 * The processes of one container share one descriptor table (see docs/design.md), so an entry only says what a
 * number is for; it carries nothing. The registry lives in shared memory and survives any of its users.
 * A long-lived descriptor that is neither in it nor in a table of its owner's is taken for the left-over of a killed process.
 */
#include <stdbool.h>
#include <stddef.h>

#define FD_STORE_MAX 512 /* entries; flows of the splice engine have a table of their own */
#define FD_STORE_NAME_MAX 64 /* bytes with the NUL */

typedef struct FdStore FdStore;

/** @return a new empty registry in shared memory, or NULL with errno. It is never freed: it lasts as long as its last process. */
FdStore *fd_store_new(void);

/**
 * Register @p fd under @p name. The descriptor stays open on failure.
 *
 * @param store  the registry
 * @param name   [A-Za-z0-9._-]+, shorter than FD_STORE_NAME_MAX
 * @param fd     an open descriptor
 * @return 0; -EEXIST (that name is taken), -ENOBUFS (full), -EINVAL (bad name or fd)
 */
int fd_store_put(FdStore *store, const char *name, int fd);

/** Register under @p name; what had that name before is closed (unless it is the same number). @return as fd_store_put(), never -EEXIST. */
int fd_store_replace(FdStore *store, const char *name, int fd);

/** @return the descriptor of that name or -ENOENT */
int fd_store_get(const FdStore *store, const char *name);

/**
 * The pipe of that name: "<name>.r" and "<name>.w" in the registry. If it is not there it is made, non-blocking.
 *
 * @return 0 or -errno
 */
int fd_store_pipe(FdStore *store, const char *name, int *ret_r, int *ret_w);

/** Take the entry out without closing. @return the descriptor or -ENOENT */
int fd_store_forget(FdStore *store, const char *name);

/** Take the entry out and close the descriptor; nothing if there is none. */
void fd_store_close(FdStore *store, const char *name);

bool fd_store_has_fd(const FdStore *store, int fd);

/**
 * Walk all entries: `for (size_t i = 0; fd_store_next(store, &i, &name, &fd);)`. Entries may be removed while walking.
 *
 * @param store     the registry
 * @param iter      position, 0 to begin with
 * @param ret_name  points into the registry
 * @param ret_fd    its descriptor
 */
bool fd_store_next(const FdStore *store, size_t *iter, const char **ret_name, int *ret_fd);
