/*
 * logload: the load inside the container of bench/logs. Statically linked; block-wise writes of prepared text, so that
 * the generator is never what limits the run.
 *
 *   logload flood LINE BYTES STREAMS   BYTES in all, in lines of LINE bytes with their newline (0: no newline at
 *                                      all), spread over STREAMS (1 or 2) streams; then END-OF-LOAD
 *   logload stamps COUNT GAP_US        COUNT lines that carry the time at which they were written, GAP_US apart
 *   logload paced MB_PER_S SECONDS     80-byte lines in 8000-byte writes at that rate; the time of each write() is kept
 *
 * /out/started and /out/done get the monotonic time (ns); paced leaves p50, p99, max (ns), count, bytes in
 * /out/latency. Then it waits for /out/leave to appear, so that the monitor can be looked at while it lives.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 65536, PACED_WRITE = 8000, PACED_LINE = 80 };
#define END_MARK "END-OF-LOAD\n"
#define NS 1000000000ULL

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS + ts.tv_nsec;
}

static void note(const char *path, const char *text)
{
	char temporary[64];
	int fd;

	snprintf(temporary, sizeof(temporary), "%s.new", path);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0 || rename(temporary, path) < 0)
		exit(3);
	close(fd);
}

static void note_time(const char *path)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu\n", (unsigned long long)now());
	note(path, text);
}

static void wait_for_leave(void)
{
	int fd = inotify_init1(IN_CLOEXEC);
	char buf[4096];

	inotify_add_watch(fd, "/out", IN_CREATE | IN_MOVED_TO);
	while (access("/out/leave", F_OK) < 0)
		if (read(fd, buf, sizeof(buf)) < 0 && errno != EINTR)
			break;
}

static void write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			exit(4);
		data += n;
		len -= n;
	}
}

/* A whole number of lines, about BLOCK bytes; long lines get a block of their own. */
static char *lines_make(size_t line, size_t *ret_len)
{
	size_t len = line == 0 ? BLOCK : line >= BLOCK ? line : BLOCK / line * line;
	char *text = malloc(len);

	for (size_t i = 0; i < len; i++)
		text[i] = line > 0 && i % line == line - 1 ? '\n' : 'a' + i % 26;
	*ret_len = len;
	return text;
}

static void flood(int fd, size_t line, uint64_t bytes)
{
	size_t len;
	char *text = lines_make(line, &len);

	for (; bytes >= len; bytes -= len)
		write_all(fd, text, len);
	if (line > 0)
		bytes -= bytes % line;
	write_all(fd, text, bytes);
	write_all(fd, END_MARK, strlen(END_MARK));
	free(text);
}

static int flood_streams(size_t line, uint64_t bytes, int streams)
{
	pid_t second = -1;

	if (streams == 2 && (second = fork()) == 0) {
		flood(STDERR_FILENO, line, bytes / 2);
		_exit(0);
	}
	flood(STDOUT_FILENO, line, bytes / streams);
	if (second > 0)
		waitpid(second, NULL, 0);
	return 0;
}

static int stamps(unsigned count, unsigned gap_us)
{
	for (unsigned i = 0; i < count; i++) {
		char line[64];
		int len = snprintf(line, sizeof(line), "stamp %llu\n", (unsigned long long)now());

		write_all(STDOUT_FILENO, line, len);
		usleep(gap_us);
	}
	return 0;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int paced(unsigned mb_per_s, unsigned seconds)
{
	uint64_t step = (uint64_t)PACED_WRITE * NS / ((uint64_t)mb_per_s * 1000000), start = now(), next = start, n = 0;
	size_t max = (size_t)(seconds * NS / step) + 1;
	uint64_t *took = calloc(max, sizeof(*took));
	char text[PACED_WRITE], result[160];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % PACED_LINE == PACED_LINE - 1 ? '\n' : 'a' + i % 26;
	while (n < max && now() - start < seconds * NS) {
		uint64_t begin = now();

		write_all(STDOUT_FILENO, text, sizeof(text));
		took[n++] = now() - begin;
		next += step;
		/* Finer than a timer's slack would be a busy loop: sleep only when a millisecond ahead. */
		if (next > now() + NS / 1000) {
			struct timespec until = { .tv_sec = next / NS, .tv_nsec = next % NS };
			clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
		}
	}
	qsort(took, n, sizeof(*took), by_value);
	snprintf(result, sizeof(result), "%llu %llu %llu %llu %llu\n", (unsigned long long)took[n / 2],
		(unsigned long long)took[n * 99 / 100], (unsigned long long)took[n - 1], (unsigned long long)n,
		(unsigned long long)(n * PACED_WRITE));
	note("/out/latency", result);
	return 0;
}

int main(int argc, char **argv)
{
	int rc = 2;

	if (argc < 4)
		return rc;
	note_time("/out/started");
	if (strcmp(argv[1], "flood") == 0 && argc == 5)
		rc = flood_streams(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10), atoi(argv[4]));
	else if (strcmp(argv[1], "stamps") == 0)
		rc = stamps(atoi(argv[2]), atoi(argv[3]));
	else if (strcmp(argv[1], "paced") == 0)
		rc = paced(atoi(argv[2]), atoi(argv[3]));
	note_time("/out/done");
	wait_for_leave();
	return rc;
}
