#include "config.h"

#include "netns-helper/guest-link.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/fd-pass.h"
#include "common/fd-util.h"

#define TAP_BUSY_TRIES 20 /* N-69: the predecessor may just be ending */
#define TAP_BUSY_WAIT_MS 40

/* Message of the child: what it made. The descriptors follow as control data, in this order. */
typedef struct {
	uint32_t kind; /* index in link_kinds */
	uint32_t n_fds;
	struct ether_addr mac;
	char names[GUEST_LINK_FDS_MAX][FD_STORE_NAME_MAX];
} LinkMessage;

static const GuestLinkKind *const link_kinds[] = {
	&guest_link_veth,
	&guest_link_tap,
};

#define LINK_KINDS (sizeof(link_kinds) / sizeof(link_kinds[0]))

int guest_link_kind_index(const GuestLinkKind *kind)
{
	for (size_t i = 0; i < LINK_KINDS; i++)
		if (link_kinds[i] == kind)
			return (int)i;
	return -1;
}

const GuestLinkKind *guest_link_kind_at(int index)
{
	return index >= 0 && (size_t)index < LINK_KINDS ? link_kinds[index] : NULL;
}

static void wait_ms(long ms)
{
	struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&left, &left) < 0 && errno == EINTR)
		continue;
}

static int tap_attach(int fd, const char *name)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};

	memcpy(ifr.ifr_name, name, strlen(name)); /* 15 bytes at most: options.c */
	for (int try = 1; ioctl(fd, TUNSETIFF, &ifr) < 0; try++) {
		if (errno != EBUSY || try == TAP_BUSY_TRIES)
			return -errno;
		wait_ms(TAP_BUSY_WAIT_MS);
	}
	return 0;
}

static int tap_create(
	const Options *options, const AddressPlan *plan, GuestLinkParts *ret_parts, const char **why)
{
	cleanup_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	int r;

	*why = "cannot open /dev/net/tun (is the tun module there, and may this user open it?)";
	if (fd < 0)
		return -errno;
	*why = "cannot create the tap or attach to it";
	r = tap_attach(fd, options->tap_name);
	if (r < 0)
		return r;
	ret_parts->names[ret_parts->n_fds] = GUEST_LINK_TAP;
	ret_parts->fds[ret_parts->n_fds++] = fd_steal(&fd);
	return 0;
}

const GuestLinkKind guest_link_tap = {.name = "tap", .create = tap_create};

/* --- the child --- */

static int open_namespace(const char *path, bool is_pid, int *ret_fd)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		int r = -errno;

		fprintf(stderr, "cannot open namespace %s: %s%s\n", path, strerror(-r),
			r == -ENOENT && is_pid ? " (there is no such process)"
			: r == -EACCES	       ? " (it belongs to another user)"
					       : "");
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* N-59 to N-61: both are opened before either is entered, and a failure of the first to be entered is ignored. */
static int enter_namespaces(const Options *options)
{
	cleanup_close int netns = -1, userns = -1;
	char net_path[64], user_path[64];
	const char *net = options->target, *user = options->userns_path;
	int r;

	if (options->target_kind == TARGET_PID) {
		snprintf(net_path, sizeof(net_path), "/proc/%d/ns/net", options->target_pid);
		snprintf(user_path, sizeof(user_path), "/proc/%d/ns/user", options->target_pid);
		net = net_path;
		if (!user)
			user = user_path;
	}
	r = open_namespace(net, options->target_kind == TARGET_PID, &netns);
	if (r == 0 && user)
		r = open_namespace(user, options->target_kind == TARGET_PID, &userns);
	if (r < 0)
		return r;
	if (userns >= 0)
		(void)setns(userns,
			CLONE_NEWUSER); /* EINVAL in our own, which is fine; else the next one tells */
	if (setns(netns, CLONE_NEWNET) < 0) {
		r = -errno;
		fprintf(stderr, "cannot enter network namespace %s: %s%s\n", net, strerror(-r),
			r == -EPERM    ? " (it belongs to another user namespace: name that with --userns-path)"
			: r == -EINVAL ? " (it is no network namespace)"
				       : "");
		return r;
	}
	return 0;
}

static int read_mac(const char *name, struct ether_addr *ret_mac)
{
	cleanup_close int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = {0};

	memcpy(ifr.ifr_name, name, strlen(name));
	if (sock < 0 || ioctl(sock, SIOCGIFHWADDR, &ifr) < 0)
		return -errno;
	memcpy(ret_mac->ether_addr_octet, ifr.ifr_hwaddr.sa_data, ETH_ALEN);
	return 0;
}

static bool kind_is_wanted(const Options *options, const GuestLinkKind *kind)
{
	if (options->data_path == DATA_PATH_AUTO)
		return true;
	return (kind == &guest_link_tap) == (options->data_path == DATA_PATH_SLIRP);
}

/* Try the kinds in order. @return index in link_kinds, or -errno with the reason on stderr */
static int create_best(const Options *options, const AddressPlan *plan, GuestLinkParts *parts)
{
	int r = -EOPNOTSUPP;
	const char *why = "this build has no such data path";

	for (size_t i = 0; i < LINK_KINDS; i++) {
		bool last = i + 1 == LINK_KINDS;

		if (!kind_is_wanted(options, link_kinds[i]))
			continue;
		parts->n_fds = 0;
		r = link_kinds[i]->create(options, plan, parts, &why);
		if (r == 0)
			return (int)i;
		if (options->data_path == DATA_PATH_AUTO && !last)
			fprintf(stderr, "data path: no %s for %s: %s: %s; trying the next one\n",
				link_kinds[i]->name, options->tap_name, why, strerror(-r));
	}
	fprintf(stderr, "interface %s: %s: %s\n", options->tap_name, why, strerror(-r));
	return r;
}

static int send_parts(int sock, int kind, const GuestLinkParts *parts)
{
	LinkMessage message = {.kind = (uint32_t)kind, .n_fds = (uint32_t)parts->n_fds, .mac = parts->mac};

	for (size_t i = 0; i < parts->n_fds; i++)
		snprintf(message.names[i], sizeof(message.names[i]), "%s", parts->names[i]);
	return fd_pass_send(sock, &message, sizeof(message), parts->fds, parts->n_fds);
}

static int child_main(int sock, const Options *options, const AddressPlan *plan)
{
	GuestLinkParts parts = {0};
	const char *why = "";
	int kind, r;

	r = enter_namespaces(options);
	if (r < 0)
		return r;
	kind = create_best(options, plan, &parts);
	if (kind < 0)
		return kind;
	if (options->configure) {
		r = guest_configure(options, plan, guest_link_kind_at(kind) == &guest_link_veth, &why);
		if (r < 0) {
			fprintf(stderr, "cannot configure interface %s: %s: %s\n", options->tap_name, why,
				strerror(-r));
			return r;
		}
	}
	(void)read_mac(options->tap_name, &parts.mac); /* zero means unknown */
	r = send_parts(sock, kind, &parts);
	if (r < 0)
		fprintf(stderr, "cannot hand the interface over: %s\n", strerror(-r));
	return r;
}

/* --- the parent --- */

static void close_all(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fds[i] = fd_close(fds[i]);
}

static int register_parts(FdStore *store, LinkMessage *message, int *fds)
{
	for (size_t i = 0; i < message->n_fds; i++) {
		int r;

		message->names[i][FD_STORE_NAME_MAX - 1] = '\0';
		r = fd_set_nonblock(fds[i], true);
		if (r == 0)
			r = fd_store_put(store, message->names[i], fds[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

static int cannot_take_over(int r)
{
	fprintf(stderr, "cannot take the interface's descriptors over: %s\n", strerror(-r));
	return r;
}

static int receive_parts(int sock, FdStore *store, GuestLink *ret_link)
{
	LinkMessage message;
	int fds[GUEST_LINK_FDS_MAX];
	size_t n_fds = GUEST_LINK_FDS_MAX;
	ssize_t n = fd_pass_recv_any(sock, &message, sizeof(message), fds, &n_fds);
	int r;

	if (n == 0)
		return -ECHILD; /* the child has said why on stderr */
	if (n < 0)
		return cannot_take_over((int)n);
	if ((size_t)n != sizeof(message) || message.n_fds != n_fds || message.kind >= LINK_KINDS) {
		close_all(fds, n_fds);
		return cannot_take_over(-EPROTO);
	}
	r = register_parts(store, &message, fds);
	if (r < 0) {
		close_all(fds, n_fds);
		return cannot_take_over(r);
	}
	ret_link->kind = link_kinds[message.kind];
	ret_link->mac = message.mac;
	return 0;
}

static int reap_child(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFSIGNALED(status))
		fprintf(stderr, "the process that makes the interface was killed by signal %d\n",
			WTERMSIG(status));
	return -ECHILD;
}

static int open_by_child(const Options *options, const AddressPlan *plan, FdStore *store, GuestLink *ret_link)
{
	cleanup_close int ours = -1;
	int pair[2], reaped, r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		r = -errno;
		fprintf(stderr, "cannot make a socket pair: %s\n", strerror(-r));
		return r;
	}
	ours = pair[0];
	fflush(NULL); /* else buffered output would appear twice: N-204 */
	pid = fork();
	if (pid < 0) {
		r = -errno;
		fprintf(stderr, "cannot start the process that makes the interface: %s\n", strerror(-r));
		close(pair[1]);
		return r;
	}
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		r = child_main(pair[1], options, plan);
		fflush(NULL);
		_exit(r < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
	}
	close(pair[1]);
	/* First the message, so that the link lives on in our table when the child ends. */
	r = receive_parts(ours, store, ret_link);
	reaped = reap_child(pid);
	return r < 0 ? r : reaped;
}

/* N-202: an inherited tap; the caller has configured it. */
static int open_tap_fd(const Options *options, FdStore *store)
{
	struct ifreq ifr = {0};
	int r;

	if (ioctl(options->target_fd, TUNGETIFF, &ifr) < 0) {
		r = -errno;
		fprintf(stderr, "descriptor %d is not an attached tap: %s\n", options->target_fd,
			strerror(-r));
		return r;
	}
	if (!(ifr.ifr_flags & IFF_TAP) || !(ifr.ifr_flags & IFF_NO_PI) || (ifr.ifr_flags & IFF_VNET_HDR)) {
		fprintf(stderr,
			"descriptor %d: must be a tap (not a tun), with IFF_NO_PI and without IFF_VNET_HDR\n",
			options->target_fd);
		return -EINVAL;
	}
	r = fd_set_nonblock(options->target_fd, true);
	if (r == 0)
		r = fd_set_cloexec(options->target_fd, true);
	return r < 0 ? r : fd_store_put(store, GUEST_LINK_TAP, options->target_fd);
}

/* N-200: one client; the listener goes once it is there. Signals end the wait by their default action. */
static int open_bess(const Options *options, FdStore *store)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int listener = -1, client = -1;
	int r;

	if (strlen(options->target) >= sizeof(addr.sun_path) || options->target[0] == '\0') {
		fprintf(stderr, "bess socket path \"%s\": must have 1 to %zu bytes\n", options->target,
			sizeof(addr.sun_path) - 1);
		return -ENAMETOOLONG;
	}
	memcpy(addr.sun_path, options->target, strlen(options->target));
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	(void)unlink(options->target); /* bind tells if that mattered */
	if (listener < 0 || bind(listener, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		listen(listener, 1) < 0) {
		r = -errno;
		fprintf(stderr, "bess socket %s: %s\n", options->target, strerror(-r));
		return r;
	}
	do {
		client = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	} while (client < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (client < 0) {
		r = -errno;
		fprintf(stderr, "bess socket %s: accept: %s\n", options->target, strerror(-r));
		return r;
	}
	r = fd_store_put(store, GUEST_LINK_TAP, client);
	if (r == 0)
		(void)fd_steal(&client);
	return r;
}

int guest_link_open(const Options *options, const AddressPlan *plan, FdStore *store, GuestLink *ret_link)
{
	GuestLink link = {0};
	int r;

	switch (options->target_kind) {
	case TARGET_TAP_FD:
		r = open_tap_fd(options, store);
		break;
	case TARGET_BESS:
		r = open_bess(options, store);
		break;
	default:
		r = open_by_child(options, plan, store, &link);
		break;
	}
	if (r < 0)
		return r;
	*ret_link = link;
	return 0;
}
