/*
 * netload: both ends of the connections of bench/network. Linked statically; one program for every namespace.
 *
 *   netload serve ADDRESS PORT             TCP and UDP; what a TCP client wants, its first byte says. Prints "ready"
 *   netload out ADDRESS PORT STREAMS MS    send for MS milliseconds; prints bytes that arrived and ns
 *   netload in ADDRESS PORT STREAMS MS     receive for MS milliseconds; prints bytes and ns
 *   netload crr ADDRESS PORT MS            connect, request, response, close, in turn; prints count and ns
 *   netload relay ADDRESS PORT LISTEN      carry connections to LISTEN on to ADDRESS PORT, one at a time, with the fewest
 *                                          system calls that do it: what any process between two kernel TCPs needs at least
 *   netload rr ADDRESS PORT MS             request and response on one connection; prints p50, p99 (ns), count
 *   netload udp ADDRESS PORT MS            64-byte datagrams as fast as they go; prints sent, arrived, ns
 *   netload idle ADDRESS PORT N MS         open N connections, or as many as MS milliseconds allow, and print "ready" and how many;
 *                                          at the end of stdin make MORE, with a request each, and print the median of their ns
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { BUFFER = 128 * 1024, MESSAGE = 64, STREAMS_MAX = 64, BATCH = 32, SAMPLES_MAX = 4000000, MORE = 15, GIVE_UP = 20 /* s */ };

/* First bytes. */
enum { WANT_SINK = 'S', WANT_SOURCE = 'G', WANT_REPLY = 'R', WANT_UDP_COUNT = 'U' };

static const char *address, *port;
static _Atomic uint64_t udp_arrived;

static void die(const char *what)
{
	fprintf(stderr, "netload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static struct sockaddr_in where(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };

	if (inet_pton(AF_INET, address, &addr.sin_addr) != 1)
		die(address);
	return addr;
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static bool send_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

static bool recv_all(int fd, void *data, size_t len)
{
	return recv(fd, data, len, MSG_WAITALL) == (ssize_t)len;
}

/* The server ------------------------------------------------------------------------------------------------- */

static void serve_sink(int fd, char *buf)
{
	uint64_t bytes = 0;
	ssize_t n;

	while ((n = recv(fd, buf, BUFFER, 0)) > 0)
		bytes += n;
	send_all(fd, &bytes, sizeof(bytes));
}

static void *serve_bulk(void *arg)
{
	int fd = (int)(intptr_t)arg & 0xffffff;
	bool sink = (intptr_t)arg >> 24;
	char *buf = calloc(1, BUFFER);

	if (sink)
		serve_sink(fd, buf);
	else
		while (send_all(fd, buf, BUFFER))
			;
	free(buf);
	close(fd);
	return NULL;
}

/* Bulk transfers get a thread, so that the loop below only ever sees small messages. */
static void bulk_start(int epoll, int fd, bool sink)
{
	pthread_t thread;

	epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
	if (pthread_create(&thread, NULL, serve_bulk, (void *)((intptr_t)fd | (intptr_t)sink << 24)) != 0)
		die("thread");
	pthread_detach(thread);
}

static void serve_message(int epoll, int fd)
{
	char message[MESSAGE] = { 0 };
	uint64_t count;

	switch (recv(fd, message, 1, MSG_DONTWAIT) == 1 ? message[0] : 0) {
	case WANT_SINK:
		bulk_start(epoll, fd, true);
		return;
	case WANT_SOURCE:
		bulk_start(epoll, fd, false);
		return;
	case WANT_UDP_COUNT:
		count = atomic_exchange(&udp_arrived, 0);
		send_all(fd, &count, sizeof(count));
		return;
	case WANT_REPLY:
		if (recv_all(fd, message + 1, MESSAGE - 1) && send_all(fd, message, MESSAGE))
			return;
	}
	close(fd);
}

static void *serve_udp(void *arg)
{
	static char text[BATCH][2048];
	struct iovec iov[BATCH];
	struct mmsghdr messages[BATCH];
	int n;

	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ text[i], sizeof(text[i]) };
		messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov[i], .msg_iovlen = 1 } };
	}
	for (;;)
		if ((n = recvmmsg((int)(intptr_t)arg, messages, BATCH, MSG_WAITFORONE, NULL)) > 0)
			atomic_fetch_add(&udp_arrived, n);
	return NULL;
}

static int bound(int type)
{
	struct sockaddr_in addr = where();
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0), on = 1, size = 4 << 20;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (type == SOCK_DGRAM)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die("bind");
	return fd;
}

static _Noreturn void serve(void)
{
	int listener = bound(SOCK_STREAM), epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener }, events[64];
	pthread_t thread;

	pthread_create(&thread, NULL, serve_udp, (void *)(intptr_t)bound(SOCK_DGRAM));
	if (listen(listener, 4096) < 0)
		die("listen");
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	ready();
	for (;;) {
		int n = epoll_wait(epoll, events, 64, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd != listener) {
				serve_message(epoll, events[i].data.fd);
				continue;
			}
			int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), on = 1;
			if (fd < 0)
				continue;
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
			event = (struct epoll_event){ .events = EPOLLIN, .data.fd = fd };
			epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
		}
	}
}

/* The clients ------------------------------------------------------------------------------------------------ */

static int connected(void)
{
	struct sockaddr_in addr = where();
	struct timeval tv = { .tv_sec = GIVE_UP };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	return fd;
}

typedef struct {
	pthread_t thread;
	int fd;
	bool out;
	uint64_t until, bytes;
} Stream;

static void *stream_run(void *arg)
{
	Stream *s = arg;
	char *buf = calloc(1, BUFFER);
	ssize_t n = 1;

	if (s->out) {
		while (now() < s->until)
			if (!send_all(s->fd, buf, BUFFER))
				die("send");
		shutdown(s->fd, SHUT_WR);
		if (!recv_all(s->fd, &s->bytes, sizeof(s->bytes)))
			die("no count");
	} else {
		while (n > 0 && now() < s->until)
			if ((n = recv(s->fd, buf, BUFFER, 0)) > 0)
				s->bytes += n;
	}
	free(buf);
	return NULL;
}

static int bulk(bool out, int streams, unsigned ms)
{
	Stream s[STREAMS_MAX] = { 0 };
	uint64_t start, bytes = 0;
	char want = out ? WANT_SINK : WANT_SOURCE;

	for (int i = 0; i < streams; i++)
		s[i].fd = connected();
	start = now();
	for (int i = 0; i < streams; i++) {
		s[i].out = out;
		s[i].until = start + ms * 1000000ULL;
		if (!send_all(s[i].fd, &want, 1))
			die("send");
		pthread_create(&s[i].thread, NULL, stream_run, &s[i]);
	}
	for (int i = 0; i < streams; i++) {
		pthread_join(s[i].thread, NULL);
		bytes += s[i].bytes;
	}
	printf("%llu %llu\n", (unsigned long long)bytes, (unsigned long long)(now() - start));
	return 0;
}

static void request(int fd)
{
	char message[MESSAGE] = { WANT_REPLY };

	if (!send_all(fd, message, MESSAGE) || !recv_all(fd, message, MESSAGE))
		die("no reply");
}

static int connect_request_response(unsigned ms)
{
	uint64_t start = now(), until = start + ms * 1000000ULL, count = 0;

	while (now() < until) {
		int fd = connected();
		request(fd);
		close(fd);
		count++;
	}
	printf("%llu %llu\n", (unsigned long long)count, (unsigned long long)(now() - start));
	return 0;
}

/* One request, one response, the end of the stream; blocking, no poll, no second look at anything. */
static void relay_one(int client)
{
	char message[MESSAGE];
	int server = connected(), on = 1;

	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (recv_all(client, message, MESSAGE) && send_all(server, message, MESSAGE) && recv_all(server, message, MESSAGE) &&
		send_all(client, message, MESSAGE) && recv(client, message, 1, 0) == 0) {
		shutdown(server, SHUT_WR);
		(void)!recv(server, message, 1, 0);
	}
	close(server);
	close(client);
}

static _Noreturn void relay(const char *listen_port)
{
	const char *target = port;
	int listener;

	port = listen_port;
	listener = bound(SOCK_STREAM);
	port = target;
	if (listen(listener, 4096) < 0)
		die("listen");
	ready();
	for (;;) {
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (client >= 0)
			relay_one(client);
	}
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int request_response(unsigned ms)
{
	uint64_t *took = calloc(SAMPLES_MAX, sizeof(*took)), until = now() + ms * 1000000ULL, begin;
	size_t n = 0;
	int fd = connected();

	while ((begin = now()) < until && n < SAMPLES_MAX) {
		request(fd);
		took[n++] = now() - begin;
	}
	qsort(took, n, sizeof(*took), by_value);
	printf("%llu %llu %zu\n", (unsigned long long)took[n / 2], (unsigned long long)took[n * 99 / 100], n);
	return 0;
}

static uint64_t udp_count(void)
{
	char want = WANT_UDP_COUNT;
	uint64_t count = 0;
	int fd = connected();

	if (!send_all(fd, &want, 1) || !recv_all(fd, &count, sizeof(count)))
		die("no count");
	close(fd);
	return count;
}

static int udp(unsigned ms)
{
	struct sockaddr_in addr = where();
	char text[MESSAGE] = { 0 };
	struct iovec iov = { text, sizeof(text) };
	struct mmsghdr messages[BATCH];
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t start, sent = 0, took;

	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die("connect");
	for (int i = 0; i < BATCH; i++)
		messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
	udp_count();
	start = now();
	while (now() - start < ms * 1000000ULL) {
		int n = sendmmsg(fd, messages, BATCH, 0);
		sent += n > 0 ? n : 0;
	}
	took = now() - start;
	printf("%llu %llu %llu\n", (unsigned long long)sent, (unsigned long long)udp_count(), (unsigned long long)took);
	return 0;
}

static int idle(unsigned count, unsigned ms)
{
	uint64_t begin = now(), until = begin + ms * 1000000ULL, took[MORE];
	unsigned made = 0;
	char c;

	for (; made < count && now() < until; made++)
		request(connected());
	printf("ready %u\n", made);
	fflush(stdout);
	while (read(STDIN_FILENO, &c, 1) > 0)
		;
	for (int i = 0; i < MORE; i++) {
		begin = now();
		request(connected());
		took[i] = now() - begin;
	}
	qsort(took, MORE, sizeof(took[0]), by_value);
	printf("%llu\n", (unsigned long long)took[MORE / 2]);
	return 0;
}

static void limits_raise(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	limits_raise();
	address = argv[2];
	port = argv[3];
	if (strcmp(argv[1], "serve") == 0)
		serve();
	if (argc == 6 && (strcmp(argv[1], "out") == 0 || strcmp(argv[1], "in") == 0))
		return bulk(argv[1][0] == 'o', atoi(argv[4]), atoi(argv[5]));
	if (argc == 5 && strcmp(argv[1], "crr") == 0)
		return connect_request_response(atoi(argv[4]));
	if (argc == 5 && strcmp(argv[1], "relay") == 0)
		relay(argv[4]);
	if (argc == 5 && strcmp(argv[1], "rr") == 0)
		return request_response(atoi(argv[4]));
	if (argc == 5 && strcmp(argv[1], "udp") == 0)
		return udp(atoi(argv[4]));
	if (argc == 6 && strcmp(argv[1], "idle") == 0)
		return idle(atoi(argv[4]), atoi(argv[5]));
	return 2;
}
