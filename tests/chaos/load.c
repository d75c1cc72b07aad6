/*
 * load: what the containers of the chaos run do, and the check of what is left of it. Linked statically: the same program
 * runs on the host, in a bare bundle and in an image.
 *
 *   load run [lines=SEED] [pause=US] [echo] [raw] [port=N] [code=N]
 *       Until SIGTERM (or, with echo, end of input): write numbered lines of SEED to stdout and stderr, pausing after each
 *       burst; copy stdin to stdout; echo TCP and UDP on port N. Then write the end lines and exit with the code.
 *   load once SEED COUNT CODE      COUNT lines to each stream, then the end; for exec storms
 *   load check-k8s SEED FILE       read a k8s-file log of that; "ok LINES" or what is lost, doubled or torn; status 0 or 1
 *   load check SEED o|e FILE       the same for the bare bytes of one stream
 *
 * Line i of stream s is a function of (SEED, s, i) only, so the checker needs no copy of what was written.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum {
	LINE_MAX_BYTES = 20480, /* longest line; more than one record of 8192 bytes */
	BURST_MAX = 64,		/* lines between two pauses */
	PREFIX = 45,		/* bytes before the content of a k8s-file record */
	CLIENTS_MAX = 256,
};

static volatile sig_atomic_t stopping;

static void on_term(int sig)
{
	stopping = 1;
}

static uint32_t mix(uint32_t seed, char stream, uint32_t i)
{
	uint32_t x = seed * 2654435761u ^ (uint32_t)stream * 40503u ^ i * 2246822519u;

	x ^= x >> 15;
	x *= 2246822519u;
	x ^= x >> 13;
	x *= 3266489917u;
	return x ^ x >> 16;
}

/* Line @i: its name, a filler, a line end. @return its length */
static size_t line_make(uint32_t seed, char stream, uint32_t i, char *out)
{
	uint32_t x = mix(seed, stream, i);
	size_t filler = x % 128 == 0 ? 7000 + x / 128 % 13000 : x % 90;
	size_t n = (size_t)sprintf(out, "%c%08u ", stream, i);

	for (size_t k = 0; k < filler; k++)
		out[n++] = (char)('a' + (x + k * 7 + k / 26) % 26);
	out[n++] = '\n';
	return n;
}

static size_t end_make(char stream, uint32_t i, char *out)
{
	return (size_t)sprintf(out, "%c%08u end\n", stream, i);
}

static void put(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t n = write(fd, data, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) { /* EPIPE or EIO: the container has been disturbed; SIGPIPE is ignored so that this is told */
			_exit(113);
		}
		data += n;
		size -= (size_t)n;
	}
}

/* One line; now and then in two writes, so that partial records occur. */
static void line_put(int fd, uint32_t seed, char stream, uint32_t i)
{
	char line[LINE_MAX_BYTES + 64];
	size_t n = line_make(seed, stream, i, line), cut = mix(seed, stream, i) % 16 == 1 ? n / 2 : 0;

	if (cut) {
		put(fd, line, cut);
		(void)poll(NULL, 0, 1);
	}
	put(fd, line + cut, n - cut);
}

static void end_put(int fd, char stream, uint32_t i)
{
	char line[64];

	put(fd, line, end_make(stream, i, line));
}

typedef struct {
	uint32_t seed, pause_us, code;
	uint16_t port;
	bool lines, echo, raw;
} Job;

static int listen_on(int type, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

	if (fd < 0)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 || (type == SOCK_STREAM && listen(fd, 512) < 0)) {
		perror("load: listen");
		_exit(114);
	}
	return fd;
}

static void udp_turn(int fd)
{
	char data[2048];
	struct sockaddr_storage from;
	socklen_t size = sizeof(from);
	ssize_t n = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &size);

	if (n >= 0)
		(void)sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&from, size);
}

/* A blocking echo of one connection; small messages, so it need not be clever. @return false when it has ended */
static bool tcp_turn(int fd)
{
	char data[65536];
	ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	for (ssize_t at = 0; at < n;) {
		ssize_t w = send(fd, data + at, (size_t)(n - at), MSG_NOSIGNAL);

		if (w < 0)
			return false;
		at += w;
	}
	return n > 0;
}

static void serve(uint16_t port)
{
	struct pollfd set[2 + CLIENTS_MAX] = {{.events = POLLIN, .fd = listen_on(SOCK_STREAM, port)},
		{.events = POLLIN, .fd = listen_on(SOCK_DGRAM, port)}};
	nfds_t n = 2;

	while (!stopping) {
		set[0].events = n < 2 + CLIENTS_MAX ? POLLIN : 0;
		if (poll(set, n, -1) < 0)
			continue;
		if (set[1].revents)
			udp_turn(set[1].fd);
		for (nfds_t i = n; i-- > 2;)
			if (set[i].revents && !tcp_turn(set[i].fd)) {
				(void)close(set[i].fd);
				set[i] = set[--n];
			}
		if (set[0].revents) {
			int fd = accept4(set[0].fd, NULL, NULL, SOCK_CLOEXEC);

			if (fd >= 0)
				set[n++] = (struct pollfd){.fd = fd, .events = POLLIN};
		}
	}
	_exit(0);
}

static void echo_turn(int timeout_ms)
{
	struct pollfd in = {.fd = 0, .events = POLLIN};
	char data[65536];
	ssize_t n;

	if (poll(&in, 1, timeout_ms) <= 0)
		return;
	n = read(0, data, sizeof(data));
	if (n > 0)
		put(1, data, (size_t)n);
	else if (n == 0 || errno != EINTR)
		stopping = 1;
}

static void make_raw(void)
{
	struct termios t;

	if (tcgetattr(0, &t) == 0) {
		cfmakeraw(&t);
		(void)tcsetattr(0, TCSANOW, &t);
	}
	put(1, "ready\n", 6); /* whoever types before this would be echoed twice */
}

static int run(const Job *job)
{
	uint32_t i = 0;
	pid_t server = 0;

	if (job->port && (server = fork()) == 0)
		serve(job->port);
	if (job->raw)
		make_raw();
	while (!stopping) {
		uint32_t burst = job->lines ? 1 + mix(job->seed, 'b', i) % BURST_MAX : 0;

		for (uint32_t k = 0; k < burst && !stopping; k++, i++) {
			line_put(1, job->seed, 'o', i);
			line_put(2, job->seed, 'e', i);
		}
		if (job->echo)
			echo_turn((int)(job->pause_us / 1000));
		else
			(void)poll(NULL, 0, (int)(job->pause_us / 1000));
	}
	if (job->lines) {
		end_put(1, 'o', i);
		end_put(2, 'e', i);
	}
	if (server > 0) {
		(void)kill(server, SIGKILL);
		(void)waitpid(server, NULL, 0);
	}
	return (int)job->code;
}

static int once(uint32_t seed, uint32_t count, uint32_t code)
{
	for (uint32_t i = 0; i < count; i++) {
		line_put(1, seed, 'o', i);
		line_put(2, seed, 'e', i);
	}
	end_put(1, 'o', count);
	end_put(2, 'e', count);
	return (int)code;
}

/* --- checking --- */

typedef struct {
	uint32_t seed, next; /* line expected next */
	char stream;
	char line[LINE_MAX_BYTES * 2]; /* what has come of it */
	size_t used;
	bool ended;
	unsigned long long lost, doubled, torn;
} Check;

static void line_check(Check *c)
{
	char want[LINE_MAX_BYTES + 64];
	size_t n = line_make(c->seed, c->stream, c->next, want);
	uint32_t i;

	if (c->used == n && memcmp(c->line, want, n) == 0) {
		c->next++;
		return;
	}
	n = end_make(c->stream, c->next, want);
	if (c->used == n && memcmp(c->line, want, n) == 0 && !c->ended) {
		c->ended = true;
		return;
	}
	c->line[c->used < sizeof(c->line) ? c->used : sizeof(c->line) - 1] = '\0';
	if (c->used < 10 || c->line[0] != c->stream || sscanf(c->line + 1, "%8u", &i) != 1) {
		if (c->torn++ == 0)
			printf("%c: before line %u: not a line: %.60s\n", c->stream, c->next, c->line);
		return;
	}
	n = line_make(c->seed, c->stream, i, want);
	if (c->used != n || memcmp(c->line, want, n) != 0) {
		if (c->torn++ == 0)
			printf("%c: line %u (expected %u) is torn, %zu bytes of %zu: %.60s\n", c->stream, i, c->next,
				c->used, n, c->line);
		if (i == c->next)
			c->next++;
	} else if (i < c->next) {
		if (c->doubled++ == 0)
			printf("%c: line %u came again before line %u\n", c->stream, i, c->next);
	} else {
		if (c->lost == 0)
			printf("%c: lines %u to %u are missing\n", c->stream, c->next, i - 1);
		c->lost += i - c->next;
		c->next = i + 1;
	}
}

static void feed(Check *c, const char *data, size_t size)
{
	for (size_t k = 0; k < size; k++) {
		if (c->used < sizeof(c->line) - 1)
			c->line[c->used++] = data[k];
		if (data[k] == '\n') {
			line_check(c);
			c->used = 0;
		}
	}
}

static int verdict(Check *c)
{
	if (c->used)
		printf("%c: %zu bytes without a line end after line %u\n", c->stream, c->used, c->next);
	if (!c->ended)
		printf("%c: the end line is missing after line %u\n", c->stream, c->next);
	if (c->lost || c->doubled || c->torn || c->used || !c->ended) {
		printf("bad %c lines=%u lost=%llu doubled=%llu torn=%llu\n", c->stream, c->next, c->lost, c->doubled, c->torn);
		return 1;
	}
	printf("ok %c lines=%u\n", c->stream, c->next);
	return 0;
}

static const char *map(const char *path, size_t *ret_size)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0) {
		printf("%s: %s\n", path, strerror(errno));
		exit(1);
	}
	*ret_size = (size_t)st.st_size;
	if (!st.st_size)
		return "";
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED) {
		printf("%s: %s\n", path, strerror(errno));
		exit(1);
	}
	return p;
}

static Check *check_new(uint32_t seed, char stream)
{
	Check *c = calloc(1, sizeof(*c));

	if (!c)
		exit(2);
	c->seed = seed;
	c->stream = stream;
	return c;
}

static bool record_is_good(const char *at, size_t n)
{
	return n >= PREFIX && at[4] == '-' && at[10] == 'T' && at[35] == ' ' && (at[43] == 'F' || at[43] == 'P') &&
	       at[44] == ' ' && (memcmp(at + 36, "stdout ", 7) == 0 || memcmp(at + 36, "stderr ", 7) == 0);
}

static int check_k8s(uint32_t seed, const char *path)
{
	Check *out = check_new(seed, 'o'), *err = check_new(seed, 'e');
	size_t size, at = 0;
	const char *data = map(path, &size);
	unsigned long bad = 0;

	while (at < size) {
		const char *end = memchr(data + at, '\n', size - at);
		size_t n = end ? (size_t)(end - data) - at : size - at;

		if (!end || !record_is_good(data + at, n)) {
			if (bad++ == 0)
				printf("offset %zu: not a record: %.*s\n", at, (int)(n < 80 ? n : 80), data + at);
		} else {
			Check *c = memcmp(data + at + 36, "stdout", 6) == 0 ? out : err;

			feed(c, data + at + PREFIX, n - PREFIX);
			if (data[at + 43] == 'F')
				feed(c, "\n", 1);
		}
		at += n + 1;
	}
	if (bad)
		printf("bad records=%lu\n", bad);
	return verdict(out) | verdict(err) | (bad != 0);
}

static int check_raw(uint32_t seed, char stream, const char *path)
{
	Check *c = check_new(seed, stream);
	size_t size;
	const char *data = map(path, &size);

	feed(c, data, size);
	return verdict(c);
}

static void job_parse(Job *job, int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		unsigned v = 0;
		const char *eq = strchr(argv[i], '=');

		if (eq)
			v = (unsigned)strtoul(eq + 1, NULL, 10);
		if (strncmp(argv[i], "lines=", 6) == 0) {
			job->lines = true;
			job->seed = v;
		} else if (strncmp(argv[i], "pause=", 6) == 0) {
			job->pause_us = v;
		} else if (strncmp(argv[i], "port=", 5) == 0) {
			job->port = (uint16_t)v;
		} else if (strncmp(argv[i], "code=", 5) == 0) {
			job->code = v;
		} else if (strcmp(argv[i], "echo") == 0) {
			job->echo = true;
		} else if (strcmp(argv[i], "raw") == 0) {
			job->raw = true;
		} else {
			fprintf(stderr, "load: unknown word %s\n", argv[i]);
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	struct sigaction term = {.sa_handler = on_term};
	Job job = {.pause_us = 10000};

	(void)sigaction(SIGTERM, &term, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc >= 2 && strcmp(argv[1], "run") == 0) {
		job_parse(&job, argc - 2, argv + 2);
		return run(&job);
	}
	if (argc == 5 && strcmp(argv[1], "once") == 0)
		return once((uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]), (uint32_t)atoi(argv[4]));
	if (argc == 4 && strcmp(argv[1], "check-k8s") == 0)
		return check_k8s((uint32_t)atoi(argv[2]), argv[3]);
	if (argc == 5 && strcmp(argv[1], "check") == 0)
		return check_raw((uint32_t)atoi(argv[2]), argv[3][0], argv[4]);
	fprintf(stderr, "usage: load run|once|check-k8s|check …\n");
	return 2;
}
