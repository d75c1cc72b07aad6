#include "config.h"

#include "conmon/environment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "conmon/diag.h"

#define OOM_SCORE_PATH "/proc/self/oom_score_adj"
#define OOM_SCORE_OURS "-1000"
#define DIRECTORY_READ 2048 /* bytes: some 80 descriptors at a time */
#define INHERITED_STEP 16 /* descriptors by which their list grows */

static int fill_standard_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR); /* lowest free number first; inheritable like any stdio */
		if (fd < 0)
			return -errno;
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

static void add_inherited(ConmonEnvironment *env, int fd)
{
	if (env->n_inherited % INHERITED_STEP == 0)
		env->inherited = reallocarray(env->inherited, env->n_inherited + INHERITED_STEP, sizeof(int));
	if (!env->inherited)
		abort();
	env->inherited[env->n_inherited++] = fd;
}

int environment_take_descriptors(ConmonEnvironment *env)
{
	cleanup_close int dir_fd = -1;
	_Alignas(struct dirent64) char buf[DIRECTORY_READ];
	ssize_t size;
	int r;

	env->sync_fd = env->start_fd = env->attach_fd = -1;
	(void)sigprocmask(SIG_SETMASK, NULL, &env->mask);
	r = fill_standard_descriptors();
	if (r < 0)
		return r;
	dir_fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	/* not by opendir(3): the hole that its 32 KiB leave in the heap tears apart what is allocated before and after */
	while ((size = getdents64(dir_fd, buf, sizeof(buf))) > 0)
		for (ssize_t at = 0; at < size;) {
			const struct dirent64 *entry = (const void *)(buf + at);
			int fd = atoi(entry->d_name);

			if (fd > STDERR_FILENO && fd != dir_fd)
				add_inherited(env, fd);
			at += entry->d_reclen;
		}
	return size < 0 ? -errno : 0;
}

static void forget_inherited(ConmonEnvironment *env, int fd)
{
	for (size_t i = 0; i < env->n_inherited; i++) {
		if (env->inherited[i] != fd)
			continue;
		env->inherited[i] = env->inherited[--env->n_inherited];
		return;
	}
}

static int take_pipe(ConmonEnvironment *env, const char *name, int *ret_fd)
{
	const char *value = getenv(name);
	char *end;
	long fd;
	int r;

	if (!value || value[0] == '\0')
		return 0;
	errno = 0;
	fd = strtol(value, &end, 10);
	if (errno || *end != '\0' || value[0] < '0' || value[0] > '9' || fd <= 0 || fd > INT_MAX) {
		diag_error("unable to parse %s: '%s' is not the number of a descriptor", name, value);
		return -EINVAL;
	}
	r = fd_set_cloexec((int)fd, true);
	if (r < 0) {
		diag_error_errno(r, "unable to make %s CLOEXEC: descriptor %ld:", name, fd);
		return -EBADF;
	}
	forget_inherited(env, (int)fd);
	*ret_fd = (int)fd;
	return 0;
}

int environment_take_pipes(ConmonEnvironment *env, bool exec_attach)
{
	int r;

	if ((r = take_pipe(env, "_OCI_SYNCPIPE", &env->sync_fd)) < 0 ||
		(r = take_pipe(env, "_OCI_STARTPIPE", &env->start_fd)) < 0)
		return r;
	return exec_attach ? take_pipe(env, "_OCI_ATTACHPIPE", &env->attach_fd) : 0;
}

static void put(FdStore *store, const char *name, int fd)
{
	if (fd >= 0 && !fd_store_has_fd(store, fd))
		(void)fd_store_put(store, name, fd); /* full: works all the same, nothing sweeps here */
}

void environment_register(const ConmonEnvironment *env, FdStore *store)
{
	put(store, FD_SYNC, env->sync_fd);
	put(store, FD_START, env->start_fd);
	put(store, FD_ATTACH_PIPE, env->attach_fd);
	for (size_t i = 0; i < env->n_inherited && i < FD_STORE_MAX / 2; i++) {
		char name[FD_STORE_NAME_MAX];

		snprintf(name, sizeof(name), "inherited.%d", env->inherited[i]);
		put(store, name, env->inherited[i]);
	}
}

/*
 * A number that the registry does not know as inherited may by now be somebody else's: that is why a repetition after a kill
 * looks there first. Beyond the registry's room the list alone decides, which is right for the first time.
 */
void environment_close_inherited(const ConmonEnvironment *env, FdStore *store)
{
	fd_store_close(store, FD_START);
	fd_store_close(store, FD_ATTACH_PIPE);
	for (size_t i = 0; i < env->n_inherited; i++) {
		char name[FD_STORE_NAME_MAX];

		snprintf(name, sizeof(name), "inherited.%d", env->inherited[i]);
		if (fd_store_get(store, name) == env->inherited[i])
			fd_store_close(store, name);
		else if (i >= FD_STORE_MAX / 2 && !fd_store_has_fd(store, env->inherited[i]))
			(void)close(env->inherited[i]);
	}
}

static int write_oom_score(const char *value)
{
	cleanup_close int fd = open(OOM_SCORE_PATH, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fd_write_all(fd, value, strlen(value));
}

void environment_protect_from_oom(ConmonEnvironment *env)
{
	char previous[sizeof(env->oom_score_adj)];
	ssize_t size = fd_read_file(OOM_SCORE_PATH, previous, sizeof(previous));
	int r = size < 0 ? (int)size : write_oom_score(OOM_SCORE_OURS);

	if (r < 0) {
		diag_log(DIAG_DEBUG, -r, "failed to write to %s:", OOM_SCORE_PATH);
		return;
	}
	memcpy(env->oom_score_adj, previous, sizeof(previous));
}

void environment_restore_for_exec(const ConmonEnvironment *env)
{
	if (env->oom_score_adj[0])
		(void)write_oom_score(env->oom_score_adj); /* raising it is always allowed */
	for (int sig = 1; sig < NSIG; sig++)
		(void)signal(sig, SIG_DFL);
	(void)sigprocmask(SIG_SETMASK, &env->mask, NULL);
	(void)umask(0022);
}
