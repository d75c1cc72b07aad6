#include "config.h"

#include "netns-helper/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd-util.h"
#include "netns-helper/api-socket.h"
#include "netns-helper/ports.h"
#include "netns-helper/sandbox.h"
#include "netns-helper/seccomp-filter.h"
#include "netns-helper/slirp-engine.h"
#include "netns-helper/splice-engine.h"

#define ORPHAN_MARGIN 1024 /* numbers above the highest seen that are looked at too */

/* --- what a dead predecessor has left --- */

static int socket_option(int fd, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -1 : value;
}

static bool is_kept(const Helper *helper, int fd)
{
	if (shared_state_is_inherited(helper->shared, fd) || fd_store_has_fd(helper->store, fd) ||
		shared_state_is_forward_fd(helper->shared, fd))
		return true;
	/* Connections are for the splice engine to judge (splice_engine_adopt_strays()). */
	return splice_engine_is_needed(helper) && socket_option(fd, SO_PROTOCOL) == IPPROTO_TCP;
}

/* A connection of the dead stack: nobody can serve it, and the peer shall know at once. */
static void reset_and_close(int fd)
{
	const struct linger now = { .l_onoff = 1 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* An API client that was accepted and not yet registered. */
static void adopt_or_close(const Helper *helper, int fd)
{
	struct sockaddr_un addr = { 0 };
	socklen_t len = sizeof(addr);
	char name[FD_STORE_NAME_MAX];

	if (!helper->options->api_socket || getsockname(fd, (struct sockaddr *)&addr, &len) < 0 ||
		strncmp(addr.sun_path, helper->options->api_socket, sizeof(addr.sun_path)) != 0)
		return; /* not of the worker's making */
	snprintf(name, sizeof(name), "api.client.%d", fd);
	if (fd_store_put(helper->store, name, fd) < 0)
		close(fd);
}

/* @return number of connections that were reset */
static unsigned close_orphans(const Helper *helper)
{
	int limit = atomic_load(&helper->shared->fd_high) + ORPHAN_MARGIN;
	unsigned reset = 0;

	for (int fd = 3; fd < limit; fd++) {
		int domain = socket_option(fd, SO_DOMAIN);

		if (domain < 0 || is_kept(helper, fd))
			continue;
		if (domain == AF_UNIX) {
			adopt_or_close(helper, fd);
		} else if (domain == AF_INET || domain == AF_INET6) {
			bool connection = socket_option(fd, SO_TYPE) == SOCK_STREAM && !socket_option(fd, SO_ACCEPTCONN);

			if (connection)
				reset_and_close(fd);
			else
				close(fd);
			reset += connection;
		}
	}
	atomic_store(&helper->shared->fd_high, 0);
	return reset;
}

/* --- set-up --- */

static void print_published(const PortRequest *request, uint32_t id, uint16_t host_port)
{
	printf("published: id %u: host port %u", id, host_port);
	if (request->count > 1)
		printf("-%u", host_port + request->count - 1);
	printf("/%s%s -> guest port %u\n", request->is_udp ? "udp" : "tcp", request->v6 ? "6" : "", request->guest_port);
}

/* -p, once in the life of the helper; later workers find them in the table. */
static int publish_options(Worker *worker)
{
	const Helper *helper = worker->helper;
	const Options *options = helper->options;
	struct in6_addr guest6 = address_plan_guest6(helper->plan, &helper->link.mac);

	for (size_t i = atomic_load(&helper->shared->n_published); i < options->n_publish; i++) {
		PortRequest request;
		uint16_t host_port;
		uint32_t id;
		int r = ports_parse(options->publish[i], helper->plan, &guest6, &request);

		if (r == 0)
			r = ports_add(worker->ports, &request, &id, &host_port);
		else
			return r;
		if (r < 0) {
			fprintf(stderr, "cannot publish: %s\n", ports_explain(r, &request));
			return r;
		}
		atomic_store(&helper->shared->n_published, (uint32_t)i + 1);
		print_published(&request, id, host_port);
	}
	fflush(stdout);
	return 0;
}

/* From here on nothing but descriptors is needed. */
static int confine(const Helper *helper)
{
	int r;

	/* The keeper was cloned from a worker: what follows is inherited, and loading it again would need what it forbids. */
	if (supervise_is_filtered(helper->sv))
		return 0;
	if (!helper->options->enable_sandbox) {
		r = sandbox_drop_capabilities(true);
		if (r < 0) {
			fprintf(stderr, "cannot drop capabilities: %s\n", strerror(-r));
			return r;
		}
	}
	if (!helper->options->enable_seccomp)
		return 0;
	r = seccomp_filter_worker();
	if (r == 0)
		supervise_set_filtered(helper->sv);
	return r;
}

static void on_splice_frame(void *data, const uint8_t *frame, size_t size)
{
	Worker *worker = data;

	slirp_engine_input(worker->slirp, frame, size);
}

static void on_splice_gone(void *data)
{
	Worker *worker = data;

	slirp_engine_link_is_gone(worker->slirp, ENODEV);
}

static ssize_t splice_write(void *data, const void *buf, size_t size)
{
	Worker *worker = data;

	splice_engine_send(worker->splice, buf, size);
	return (ssize_t)size;
}

static void splice_flush(void *data)
{
	Worker *worker = data;

	splice_engine_flush(worker->splice);
}

/* The link is a veth: its frames come through the gate, and the stack gets what is not TCP. */
static int make_engines(Worker *worker, unsigned step)
{
	const SpliceEngineUser user = { .on_frame = on_splice_frame, .on_gone = on_splice_gone, .data = worker };
	const FrameIo io = { .fd = -1, .write = splice_write, .flush = splice_flush, .data = worker };
	bool splice = splice_engine_is_needed(worker->helper);

	if (splice) {
		worker->splice = splice_engine_new(worker->helper, worker->loop, step, &user);
		if (!worker->splice) {
			int r = -errno;

			fprintf(stderr, "cannot serve the gateway: %s\n", strerror(-r));
			return r;
		}
	}
	worker->slirp = slirp_engine_new(worker->helper, worker->loop, splice ? &io : NULL);
	if (!worker->slirp) {
		int r = -errno;

		fprintf(stderr, "cannot create the TCP/IP stack: %s\n", strerror(-r));
		return r;
	}
	return 0;
}

static int make_ports(Worker *worker)
{
	InboundEngine inbound;

	worker->ports = ports_new(worker->helper);
	if (worker->splice) {
		inbound = splice_engine_inbound(worker->splice);
		ports_add_engine(worker->ports, &inbound);
	}
	inbound = slirp_engine_inbound(worker->slirp);
	ports_add_engine(worker->ports, &inbound);
	if (worker->splice) /* before the stack has listening sockets that are in no table */
		splice_engine_adopt_strays(worker->splice);
	return ports_restore(worker->ports);
}

static int set_up(Worker *worker, unsigned step)
{
	const Helper *helper = worker->helper;
	int r;

	r = make_engines(worker, step);
	if (r < 0)
		return r;
	r = make_ports(worker);
	if (r < 0)
		fprintf(stderr, "a published port could not be served again: %s\n", strerror(-r));
	r = publish_options(worker);
	if (r < 0)
		return r;
	if (!helper->options->api_socket)
		return 0;
	worker->api = api_socket_new(worker);
	return worker->api ? 0 : -errno;
}

/* A predecessor may have told already, and been killed before it could say so. */
static bool ready_fd_is_there(const Helper *helper)
{
	struct stat now;

	return helper->ready_fd >= 0 && fstat(helper->ready_fd, &now) == 0 && now.st_dev == helper->ready_file.st_dev &&
	       now.st_ino == helper->ready_file.st_ino;
}

/* N-123 to N-127. The keeper learns by the eventfd that it may watch the exit descriptor. */
static void tell_ready(const Helper *helper)
{
	const uint64_t one = 1;

	if (atomic_load(&helper->shared->phase) == SHARED_READY)
		return;
	atomic_store(&helper->shared->phase, SHARED_TELLING); /* first: whoever reads the byte may kill us at once */
	if (ready_fd_is_there(helper)) {
		(void)fd_write_all(helper->ready_fd, "1", 1); /* N-126: nobody there is no error */
		if (helper->ready_fd < SHARED_INHERITED_MAX) /* the number is free for sockets of ours now */
			helper->shared->inherited[helper->ready_fd / 8] &= (uint8_t)~(1 << helper->ready_fd % 8);
		close(helper->ready_fd);
	}
	(void)fd_write_all(fd_store_get(helper->store, HELPER_READY_EVENT), &one, sizeof(one)); /* twice does no harm */
	atomic_store(&helper->shared->phase, SHARED_READY);
}

static void say_ready(Worker *worker, bool inherits, unsigned reset, unsigned asked)
{
	SharedState *shared = worker->helper->shared;
	char words[128];
	unsigned forwards = 0;

	if (inherits) {
		for (size_t i = 0; shared_state_next_forward(shared, &i);)
			forwards++;
		snprintf(words, sizeof(words), "%u connections inside libslirp, reset", reset > asked ? reset : asked);
		supervise_set_lost(worker->helper->sv, reset || asked ? words : "");
		snprintf(words, sizeof(words), "link, %s%u published ports, %u spliced connections",
			worker->api ? "API socket, " : "", forwards,
			worker->splice ? splice_engine_adopted(worker->splice) : 0);
	} else {
		words[0] = '\0';
	}
	supervise_ready(worker->helper->sv, words);
}

static int serve(Worker *worker)
{
	int r;

	do {
		r = slirp_engine_turn(worker->slirp);
	} while (r == 0);
	if (r == -EPIPE) {
		fprintf(stderr, "the other end of the link has gone, ending\n");
		supervise_finish(worker->helper->sv, EXIT_SUCCESS);
		return EXIT_SUCCESS;
	}
	fprintf(stderr, "waiting for events failed: %s\n", strerror(-r));
	return EXIT_FAILURE;
}

int worker_run(Supervisor *sv, void *data, unsigned restarts, unsigned step)
{
	Worker worker = { .helper = data };
	unsigned reset = 0, asked = 0;
	bool inherits = restarts || worker.helper->is_restored;
	int r;

	worker.loop = event_loop_new(worker.helper->store, "worker");
	r = worker.loop ? supervise_attach_loop(sv, worker.loop) : -errno;
	if (r < 0) {
		fprintf(stderr, "cannot make the event loop: %s\n", strerror(-r));
		return EXIT_FAILURE;
	}
	if (inherits)
		reset = close_orphans(worker.helper);
	r = set_up(&worker, step);
	if (r == 0)
		r = confine(worker.helper);
	if (r < 0) {
		if (atomic_load(&worker.helper->shared->phase) == SHARED_STARTING)
			supervise_finish(sv, EXIT_FAILURE);
		return EXIT_FAILURE;
	}
	if (inherits)
		asked = slirp_engine_reset_flows(worker.slirp);
	tell_ready(worker.helper);
	say_ready(&worker, inherits, reset, asked);
	return serve(&worker);
}
