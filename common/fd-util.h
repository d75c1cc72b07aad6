#pragma once
/*
 * Small helpers around file descriptors. -1 means "none"; 0 is a descriptor.
 */
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/** Close @p *fd if it is one; for cleanup_close. Keeps errno. */
void fd_close_p(int *fd);

/** A local that owns a descriptor: closed when it goes out of scope. */
#define cleanup_close __attribute__((cleanup(fd_close_p)))

/** Close @p fd if it is not -1, keeping errno, and return -1: `fd = fd_close(fd);`. Not retried on EINTR. */
int fd_close(int fd);

/** Take the descriptor out of @p *fd, leaving -1. */
static inline int fd_steal(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/** @return 0 or -errno. */
int fd_set_nonblock(int fd, bool on);

/** @return 0 or -errno. */
int fd_set_cloexec(int fd, bool on);

bool fd_is_open(int fd);

/**
 * Write all of it, over short writes and EINTR. For blocking descriptors and for small messages; a full
 * non-blocking descriptor is an error.
 *
 * @return 0 or -errno; on error an unknown part was written
 */
int fd_write_all(int fd, const void *buf, size_t size);

/**
 * Read a whole small file into @p buf, NUL-terminated.
 *
 * @param path      file to read
 * @param buf       where it goes
 * @param size      room in @p buf, at least 1; a longer file is cut
 * @return bytes read (without the NUL) or -errno
 */
ssize_t fd_read_file(const char *path, char *buf, size_t size);

/**
 * Replace @p name in directory @p dir_fd by a file with this content: temporary name in the same directory, then rename(2).
 *
 * @param dir_fd    directory, borrowed; AT_FDCWD allowed
 * @param name      file name relative to @p dir_fd
 * @param buf       content
 * @param size      bytes of it
 * @param mode      creation mode before umask
 * @return 0 or -errno; on failure no temporary file is left
 */
int fd_replace_file(int dir_fd, const char *name, const void *buf, size_t size, mode_t mode);
