/*
 * peer: the other end of a connection, for the system tests. Linked statically, so that the same program runs on the
 * host and in the test image.
 *
 *   peer serve tcp|udp ADDRESS PORT          answer each line or datagram with "SENDER-ADDRESS TEXT"
 *   peer ask tcp|udp ADDRESS PORT TEXT [FROM]  send TEXT, print the answer; status 1 and the reason if there is none
 *   peer flood ADDRESS PORT BYTES            connect, send BYTES of a fixed pattern, print what the sink counted
 *   peer sink ADDRESS PORT                   count a flood, answer "BYTES good" or "BYTES bad"
 *   peer dns ADDRESS PORT                    answer every A question with 192.0.2.77
 *
 * A server says "ready" on stdout once it listens. A client gives up after DEADLINE seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { DEADLINE = 5 /* s */, LINE = 2048, BLOCK = 65536 };

static void die(const char *what)
{
	fprintf(stderr, "peer: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Numeric addresses only, and not by getaddrinfo(): a static program must not need the C library's plug-ins. */
static socklen_t address_parse(const char *address, const char *port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(atoi(port));
		return sizeof(*in);
	}
	if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(atoi(port));
		return sizeof(*in6);
	}
	fprintf(stderr, "peer: not a numeric address: %s\n", address);
	exit(2);
}

static void address_print(const struct sockaddr_storage *from, char *text, size_t size)
{
	const void *raw = &((const struct sockaddr_in *)from)->sin_addr;

	if (from->ss_family == AF_INET6)
		raw = &((const struct sockaddr_in6 *)from)->sin6_addr;
	if (!inet_ntop(from->ss_family, raw, text, size))
		snprintf(text, size, "unknown");
}

static int bound_socket(int type, const char *address, const char *port)
{
	struct sockaddr_storage addr;
	socklen_t len = address_parse(address, port, &addr);
	int fd = socket(addr.ss_family, type | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0)
		die("socket");
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&addr, len) < 0)
		die(address);
	if (type == SOCK_STREAM && listen(fd, 128) < 0)
		die("listen");
	puts("ready");
	fflush(stdout);
	return fd;
}

static void deadline_set(int fd)
{
	struct timeval tv = { .tv_sec = DEADLINE };

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

static bool write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

/* One line, or all until the end of the stream; the number of bytes, without the line end. */
static size_t read_line(int fd, char *line, size_t size)
{
	size_t len = 0;

	while (len < size - 1) {
		ssize_t n = read(fd, line + len, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || line[len] == '\n')
			break;
		len++;
	}
	line[len] = '\0';
	return len;
}

static void pattern_fill(char *block)
{
	for (size_t i = 0; i < BLOCK; i++)
		block[i] = (char)(i * 31 + i / 251);
}

static void answer_line(int fd, const struct sockaddr_storage *from)
{
	char name[INET6_ADDRSTRLEN], line[LINE], reply[LINE + INET6_ADDRSTRLEN + 2];

	address_print(from, name, sizeof(name));
	read_line(fd, line, sizeof(line));
	write_all(fd, reply, snprintf(reply, sizeof(reply), "%s %s\n", name, line));
}

static void answer_flood(int fd)
{
	static char want[BLOCK], got[BLOCK];
	unsigned long long total = 0;
	bool good = true;
	ssize_t n;
	char reply[64];

	pattern_fill(want);
	while ((n = read(fd, got, sizeof(got))) > 0)
		for (ssize_t i = 0; i < n; i++, total++)
			good = good && got[i] == want[total % BLOCK];
	write_all(fd, reply, snprintf(reply, sizeof(reply), "%llu %s\n", total, good ? "good" : "bad"));
}

static _Noreturn void serve_tcp(const char *address, const char *port, bool flood)
{
	int listener = bound_socket(SOCK_STREAM, address, port);

	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		struct sockaddr_storage from = { 0 };
		socklen_t len = sizeof(from);
		int fd = accept(listener, (struct sockaddr *)&from, &len);

		if (fd < 0)
			continue;
		if (fork() == 0) {
			deadline_set(fd);
			if (flood)
				answer_flood(fd);
			else
				answer_line(fd, &from);
			_exit(0);
		}
		close(fd);
	}
}

static _Noreturn void serve_udp(const char *address, const char *port)
{
	int fd = bound_socket(SOCK_DGRAM, address, port);

	for (;;) {
		struct sockaddr_storage from = { 0 };
		socklen_t len = sizeof(from);
		char name[INET6_ADDRSTRLEN], text[BLOCK], reply[BLOCK + INET6_ADDRSTRLEN];
		ssize_t n = recvfrom(fd, text, sizeof(text) - 1, 0, (struct sockaddr *)&from, &len);

		if (n < 0)
			continue;
		text[n] = '\0';
		address_print(&from, name, sizeof(name));
		n = snprintf(reply, sizeof(reply), "%s %s", name, text);
		(void)sendto(fd, reply, n, 0, (struct sockaddr *)&from, len);
	}
}

static _Noreturn void serve(char **argv)
{
	if (strcmp(argv[0], "udp") == 0)
		serve_udp(argv[1], argv[2]);
	serve_tcp(argv[1], argv[2], false);
}

static _Noreturn void serve_dns(const char *address, const char *port)
{
	static const unsigned char record[] = { 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 77 };
	int fd = bound_socket(SOCK_DGRAM, address, port);

	for (;;) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		unsigned char packet[1024];
		ssize_t n = recvfrom(fd, packet, 512, 0, (struct sockaddr *)&from, &len), end = 12;

		if (n < 17)
			continue;
		while (end < n && packet[end] != 0)
			end += packet[end] + 1;
		end += 5;	/* the root label, type and class */
		if (end > n)
			continue;
		bool is_a = packet[end - 4] == 0 && packet[end - 3] == 1;
		packet[2] = 0x81;
		packet[3] = 0x80;
		memset(packet + 6, 0, 6);
		packet[7] = is_a;
		if (is_a)
			memcpy(packet + end, record, sizeof(record));
		(void)sendto(fd, packet, end + (is_a ? (ssize_t)sizeof(record) : 0), 0, (struct sockaddr *)&from, len);
	}
}

static int connected_socket(int type, const char *address, const char *port, const char *source)
{
	struct sockaddr_storage addr, from;
	socklen_t len = address_parse(address, port, &addr);
	int fd = socket(addr.ss_family, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	deadline_set(fd);
	if (source) {
		socklen_t from_len = address_parse(source, "0", &from);
		if (bind(fd, (struct sockaddr *)&from, from_len) < 0)
			die(source);
	}
	if (connect(fd, (struct sockaddr *)&addr, len) < 0)
		die("connect");
	return fd;
}

static int ask_tcp(char **argv, const char *source)
{
	int fd = connected_socket(SOCK_STREAM, argv[0], argv[1], source);
	char reply[LINE + INET6_ADDRSTRLEN];

	if (!write_all(fd, argv[2], strlen(argv[2])) || !write_all(fd, "\n", 1))
		die("write");
	errno = 0;
	if (read_line(fd, reply, sizeof(reply)) == 0)
		die("no answer");
	puts(reply);
	return 0;
}

/* UDP may lose the first datagram while an address is being resolved: ask again each second. */
static int ask_udp(char **argv, const char *source)
{
	int fd = connected_socket(SOCK_DGRAM, argv[0], argv[1], source);
	struct timeval second = { .tv_sec = 1 };
	char reply[BLOCK];
	ssize_t n = -1;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
	for (int i = 0; i < DEADLINE && n < 0; i++) {
		if (send(fd, argv[2], strlen(argv[2]), 0) < 0 && errno != ECONNREFUSED)
			die("send");
		n = recv(fd, reply, sizeof(reply) - 1, 0);
		if (n < 0 && errno == ECONNREFUSED)
			die("recv");
	}
	if (n < 0)
		die("no answer");
	reply[n] = '\0';
	puts(reply);
	return 0;
}

static int flood(char **argv)
{
	static char block[BLOCK];
	unsigned long long left = strtoull(argv[2], NULL, 10);
	int fd = connected_socket(SOCK_STREAM, argv[0], argv[1], NULL);
	char reply[LINE];

	pattern_fill(block);
	for (; left >= BLOCK; left -= BLOCK)
		if (!write_all(fd, block, BLOCK))
			die("write");
	if (!write_all(fd, block, left))
		die("write");
	if (shutdown(fd, SHUT_WR) < 0)
		die("shutdown");
	errno = 0;
	if (read_line(fd, reply, sizeof(reply)) == 0)
		die("no answer");
	puts(reply);
	return 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 5 && strcmp(argv[1], "serve") == 0)
		serve(argv + 2);
	if (argc == 4 && strcmp(argv[1], "sink") == 0)
		serve_tcp(argv[2], argv[3], true);
	if (argc == 4 && strcmp(argv[1], "dns") == 0)
		serve_dns(argv[2], argv[3]);
	if (argc == 5 && strcmp(argv[1], "flood") == 0)
		return flood(argv + 2);
	if (argc >= 6 && argc <= 7 && strcmp(argv[1], "ask") == 0)
		return strcmp(argv[2], "udp") == 0 ? ask_udp(argv + 3, argv[6]) : ask_tcp(argv + 3, argv[6]);
	fputs("usage: peer serve|ask|flood|sink|dns …; see the top of peer.c\n", stderr);
	return 2;
}
