#include "config.h"

#include "conmon/fresh-start.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd-util.h"

#define HANDOVER_NAME "conmon-options"
#define HANDOVER_MAGIC 0x74646d6f70743031u
#define HANDOVER_MAX (8u << 20) /* bytes; more than the kernel allows for arguments */
#define HANDOVER_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* Every pointer of ConmonOptions; in the handed-over block they are offsets from its beginning, 0 for none. */
static const size_t string_fields[] = {
	offsetof(ConmonOptions, bundle),
	offsetof(ConmonOptions, cid),
	offsetof(ConmonOptions, cuuid),
	offsetof(ConmonOptions, name),
	offsetof(ConmonOptions, runtime),
	offsetof(ConmonOptions, container_pidfile),
	offsetof(ConmonOptions, conmon_pidfile),
	offsetof(ConmonOptions, exec_process_spec),
	offsetof(ConmonOptions, restore_path),
	offsetof(ConmonOptions, log_k8s_path),
	offsetof(ConmonOptions, log_json_path),
	offsetof(ConmonOptions, log_syslog_address),
	offsetof(ConmonOptions, log_on_error),
	offsetof(ConmonOptions, attach_policy),
	offsetof(ConmonOptions, log_rate_policy),
	offsetof(ConmonOptions, log_tag),
	offsetof(ConmonOptions, log_level),
	offsetof(ConmonOptions, exit_dir),
	offsetof(ConmonOptions, persist_dir),
	offsetof(ConmonOptions, exit_command),
	offsetof(ConmonOptions, socket_dir_path),
	offsetof(ConmonOptions, sdnotify_socket),
	offsetof(ConmonOptions, network_helper),
	offsetof(ConmonOptions, on_worker_failure),
};

static const size_t list_fields[] = {
	offsetof(ConmonOptions, runtime_args),
	offsetof(ConmonOptions, runtime_opts),
	offsetof(ConmonOptions, log_paths),
	offsetof(ConmonOptions, log_allowlist_dirs),
	offsetof(ConmonOptions, log_labels),
	offsetof(ConmonOptions, exit_command_args),
	offsetof(ConmonOptions, network_helper_args),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

typedef struct {
	uint64_t magic;
	uint64_t size; /* of the whole block */
	ConmonOptions options;
} Handover;

static char **string_at(ConmonOptions *options, size_t offset)
{
	return (char **)(void *)((char *)options + offset);
}

static char ***list_at(ConmonOptions *options, size_t offset)
{
	return (char ***)(void *)((char *)options + offset);
}

static size_t list_length(char **list)
{
	size_t n = 0;

	while (list[n])
		n++;
	return n;
}

/* --- first life --- */

static size_t block_size(ConmonOptions *options)
{
	size_t size = sizeof(Handover);

	for (size_t i = 0; i < COUNT(list_fields); i++) {
		char **list = *list_at(options, list_fields[i]);

		size += (list_length(list) + 1) * sizeof(char *);
		for (; *list; list++)
			size += strlen(*list) + 1;
	}
	for (size_t i = 0; i < COUNT(string_fields); i++) {
		const char *string = *string_at(options, string_fields[i]);

		size += string ? strlen(string) + 1 : 0;
	}
	return size;
}

/* Copy behind what is there already; what becomes of the pointer is the offset. */
static char *put(char *block, size_t *at, const void *data, size_t size)
{
	size_t offset = *at;

	memcpy(block + offset, data, size);
	*at += size;
	return (char *)(uintptr_t)offset;
}

static void fill_block(char *block, const ConmonOptions *options, size_t size)
{
	Handover *handover = (Handover *)(void *)block;
	size_t at = sizeof(*handover);

	handover->magic = HANDOVER_MAGIC;
	handover->size = size;
	handover->options = *options;
	/* the lists first: they want alignment, the strings do not */
	for (size_t i = 0; i < COUNT(list_fields); i++) {
		char ***list = list_at(&handover->options, list_fields[i]);

		*list = (char **)(void *)put(block, &at, *list, (list_length(*list) + 1) * sizeof(char *));
	}
	for (size_t i = 0; i < COUNT(list_fields); i++) {
		char **list =
			(char **)(void *)(block + (uintptr_t)*list_at(&handover->options, list_fields[i]));

		for (; *list; list++)
			*list = put(block, &at, *list, strlen(*list) + 1);
	}
	for (size_t i = 0; i < COUNT(string_fields); i++) {
		char **string = string_at(&handover->options, string_fields[i]);

		if (*string)
			*string = put(block, &at, *string, strlen(*string) + 1);
	}
}

static int make_handover(const ConmonOptions *options)
{
	size_t size = block_size((ConmonOptions *)options);
	cleanup_close int fd = memfd_create(HANDOVER_NAME, MFD_ALLOW_SEALING);
	char *block;

	if (fd < 0 || size > HANDOVER_MAX || ftruncate(fd, (off_t)size) < 0)
		return -1;
	block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (block == MAP_FAILED)
		return -1;
	fill_block(block, options, size);
	(void)munmap(block, size);
	if (fcntl(fd, F_ADD_SEALS, HANDOVER_SEALS) < 0)
		return -1;
	return fd_steal(&fd);
}

void fresh_start_exec(const ConmonOptions *options, char **argv)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	cleanup_close int fd = -1;

	if (n <= 0)
		return;
	path[n] = '\0';
	fd = make_handover(options);
	if (fd < 0 || (options->log_k8s_fd >= 0 && fd_set_cloexec(options->log_k8s_fd, false) < 0))
		return;
	(void)execv(path, argv); /* by its path, so that /proc/PID/comm is what it was (C-1) */
	if (options->log_k8s_fd >= 0)
		(void)fd_set_cloexec(options->log_k8s_fd, true);
}

/* --- second life --- */

static void forget(ConmonEnvironment *env, int fd)
{
	for (size_t i = 0; i < env->n_inherited; i++)
		if (env->inherited[i] == fd) {
			env->inherited[i] = env->inherited[--env->n_inherited];
			return;
		}
}

static int find_handover(const ConmonEnvironment *env)
{
	for (size_t i = 0; i < env->n_inherited; i++) {
		char link[64], target[64];
		ssize_t n;

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", env->inherited[i]);
		n = readlink(link, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		if (strncmp(target, "/memfd:" HANDOVER_NAME, strlen("/memfd:" HANDOVER_NAME)) == 0 &&
			fcntl(env->inherited[i], F_GET_SEALS) == HANDOVER_SEALS)
			return env->inherited[i];
	}
	return -1;
}

static char *read_block(int fd)
{
	struct stat st;
	char *block;

	if (fstat(fd, &st) < 0 || (size_t)st.st_size < sizeof(Handover) || (size_t)st.st_size > HANDOVER_MAX)
		return NULL;
	block = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (block == MAP_FAILED)
		return NULL;
	if (pread(fd, block, (size_t)st.st_size, 0) == st.st_size &&
		((Handover *)(void *)block)->magic == HANDOVER_MAGIC &&
		((Handover *)(void *)block)->size == (uint64_t)st.st_size)
		return block;
	(void)munmap(block, (size_t)st.st_size);
	return NULL;
}

static void relocate(char *block, ConmonOptions *options)
{
	for (size_t i = 0; i < COUNT(list_fields); i++) {
		char ***list = list_at(options, list_fields[i]);

		*list = (char **)(void *)(block + (uintptr_t)*list);
		for (char **s = *list; *s; s++)
			*s = block + (uintptr_t)*s;
	}
	for (size_t i = 0; i < COUNT(string_fields); i++) {
		char **string = string_at(options, string_fields[i]);

		if (*string)
			*string = block + (uintptr_t)*string;
	}
}

ConmonOptions *fresh_start_take(ConmonEnvironment *env)
{
	int fd = find_handover(env);
	ConmonOptions *options;
	char *block;

	if (fd < 0)
		return NULL;
	block = read_block(fd);
	forget(env, fd);
	(void)fd_close(fd);
	if (!block)
		return NULL;
	options = &((Handover *)(void *)block)->options;
	relocate(block, options);
	if (options->log_k8s_fd >= 0) {
		forget(env, options->log_k8s_fd);
		(void)fd_set_cloexec(options->log_k8s_fd, true);
	}
	return options;
}
