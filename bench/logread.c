/*
 * logread: the readers of bench/logs, outside the container.
 *
 *   logread attach PATH count      read an attach socket to its end or to END-OF-LOAD; print the bytes
 *   logread attach PATH stamps     print p50 and p99 (ns) between "stamp T" being written and being read here
 *   logread attach PATH stall      connect and read nothing, until killed
 *   logread file PATH stamps N     the same for N stamps that appear in a growing file, woken by inotify
 *
 * Says "ready" on stdout when it is connected or watching.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { STAMPS_MAX = 1000000, PACKET = 1 << 16 };

static uint64_t took[STAMPS_MAX];
static size_t n_took;

static void die(const char *what)
{
	fprintf(stderr, "logread: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

/* Every complete "stamp T" in text of len bytes was read at time at. */
static void stamps_take(const char *text, size_t len, uint64_t at)
{
	const char *p = text, *end = text + len;

	while ((p = memmem(p, end - p, "stamp ", 6)) && n_took < STAMPS_MAX) {
		p += 6;
		took[n_took++] = at - strtoull(p, NULL, 10);
	}
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int stamps_print(void)
{
	if (n_took == 0)
		return 1;
	qsort(took, n_took, sizeof(*took), by_value);
	printf("%llu %llu %zu\n", (unsigned long long)took[n_took / 2], (unsigned long long)took[n_took * 99 / 100], n_took);
	return 0;
}

/* The path of an attach socket may be longer than an address can be: go to its directory. */
static int attach_connect(char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char *copy = strdup(path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 || chdir(dirname(copy)) < 0)
		die(path);
	free(copy);
	strncpy(addr.sun_path, basename(path), sizeof(addr.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die(path);
	return fd;
}

static int attach(char *path, const char *mode)
{
	static char packet[PACKET + 1];
	bool with_stamps = strcmp(mode, "stamps") == 0;
	int fd = attach_connect(path);
	uint64_t bytes = 0;
	ssize_t n;

	ready();
	if (strcmp(mode, "stall") == 0)
		for (;;)
			pause();
	while ((n = recv(fd, packet, PACKET, 0)) > 0) {
		if (with_stamps) {
			uint64_t at = now();
			packet[n] = '\0';
			stamps_take(packet, n, at);
		}
		bytes += n - 1;	/* the first byte names the stream */
		if (n >= 12 && memcmp(packet + n - 12, "END-OF-LOAD\n", 12) == 0 && !with_stamps)
			break;
	}
	if (with_stamps)
		return stamps_print();
	printf("%llu\n", (unsigned long long)bytes);
	return 0;
}

static int follow(const char *path, size_t count)
{
	static char text[PACKET + 1], events[4096];
	int watch = inotify_init1(IN_CLOEXEC), fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t kept = 0;
	ssize_t n;

	if (fd < 0 || inotify_add_watch(watch, path, IN_MODIFY) < 0)
		die(path);
	ready();
	while (n_took < count) {
		n = read(fd, text + kept, PACKET - kept);
		if (n < 0)
			die("read");
		if (n == 0) {
			if (read(watch, events, sizeof(events)) < 0 && errno != EINTR)
				die("inotify");
			continue;
		}
		uint64_t at = now();
		char *last = memrchr(text, '\n', kept + n);
		size_t whole = last ? (size_t)(last - text) + 1 : 0;
		stamps_take(text, whole, at);
		kept = kept + n - whole;
		memmove(text, text + whole, kept);
	}
	return stamps_print();
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "attach") == 0)
		return attach(argv[2], argv[3]);
	if (argc == 5 && strcmp(argv[1], "file") == 0)
		return follow(argv[2], strtoull(argv[4], NULL, 10));
	fputs("usage: logread attach PATH count|stamps|stall, logread file PATH stamps N\n", stderr);
	return 2;
}
