/*
 * The life of the network helper. This process becomes the keeper: the pid that the engine knows, signals and waits for.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/event-log.h"
#include "common/fd-util.h"
#include "common/process.h"
#include "common/state-file.h"
#include "common/supervise.h"
#include "netns-helper/address-plan.h"
#include "netns-helper/api-socket.h"
#include "netns-helper/cgroup-watch.h"
#include "netns-helper/guest-link.h"
#include "netns-helper/keeper.h"
#include "netns-helper/kept.h"
#include "netns-helper/options.h"
#include "netns-helper/ports.h"
#include "netns-helper/sandbox.h"
#include "netns-helper/seccomp-filter.h"
#include "netns-helper/splice-engine.h"
#include "netns-helper/usage.h"
#include "netns-helper/worker.h"

#define INHERITED_LOOK 256 /* descriptors at a time; within any limit of open files that we could work with */

/* Before any descriptor of ours is opened: which numbers belong to the caller. */
static void note_channels(Helper *helper)
{
	const Options *options = helper->options;

	helper->ready_fd = options->ready_fd >= 0 && fd_is_open(options->ready_fd) ? options->ready_fd : -1;
	if (helper->ready_fd >= 0 && fstat(helper->ready_fd, &helper->ready_file) < 0)
		helper->ready_fd = -1;
	helper->exit_fd = options->exit_fd >= 0 && fd_is_open(options->exit_fd) ? options->exit_fd : -1;
	helper->exit_fd_was_closed = options->exit_fd >= 0 && helper->exit_fd < 0;
}

/* poll(2) tells of many at once which are open, and needs no /proc. */
static void note_inherited(Helper *helper)
{
	struct pollfd look[INHERITED_LOOK];

	for (int first = 0; first < SHARED_INHERITED_MAX; first += INHERITED_LOOK) {
		for (int i = 0; i < INHERITED_LOOK; i++)
			look[i] = (struct pollfd){.fd = first + i};
		if (poll(look, INHERITED_LOOK, 0) < 0)
			memset(look, 0xff, sizeof(look)); /* no number of a descriptor: one by one, below */
		for (int i = 0; i < INHERITED_LOOK; i++)
			if (look[i].fd == first + i ? !(look[i].revents & POLLNVAL) : fd_is_open(first + i))
				helper->shared->inherited[(first + i) / 8] |= (uint8_t)(1 << (first + i) % 8);
	}
}

/* N-262: every connection of the guest is a descriptor. */
static void raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* The descriptors that systemd gives back come first: they want their old numbers. */
static int make_shared(Helper *helper)
{
	int r;

	helper->sv = keeper_supervisor_new(helper);
	if (!helper->sv) {
		r = -errno;
		fprintf(stderr, "cannot make shared memory: %s\n", strerror(-r));
		return r;
	}
	helper->store = supervise_store(helper->sv);
	r = kept_open(helper);
	if (r < 0) {
		fprintf(stderr, "cannot make the shared state: %s\n", strerror(-r));
		return r;
	}
	if (!helper->is_restored)
		note_inherited(helper);
	return 0;
}

/*
 * Whose network this is, for the events: conmon says so by the environment when it is the caller; Podman only by the name of
 * the API socket, <container id>.net (N-215).
 */
static EventLog *open_events(const Options *options)
{
	const char *id = getenv("TANDEM_CONTAINER_ID"), *name = getenv("TANDEM_CONTAINER_NAME");
	const char *slash = options->api_socket ? strrchr(options->api_socket, '/') : NULL;
	static char from_path[65];

	if (!id && slash && strspn(slash + 1, "0123456789abcdef") == 64 && strcmp(slash + 65, ".net") == 0) {
		memcpy(from_path, slash + 1, 64);
		id = from_path;
	}
	return event_log_new("netns-helper", id, name);
}

/* What has to be opened while the file system is there. */
static int open_outlets(Helper *helper)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), r = fd < 0 ? -errno : 0;

	if (r == 0)
		r = fd_store_put(helper->store, HELPER_READY_EVENT, fd);
	if (r < 0) {
		fprintf(stderr, "cannot make an eventfd: %s\n", strerror(-r));
		return r;
	}
	ports_read_limits();
	cgroup_watch_open(helper->store);
	helper->events = open_events(helper->options);
	helper->state = keeper_state_open(helper);
	return 0;
}

/* N-2, steps 5 to 7. */
static int confine(Helper *helper)
{
	const Options *options = helper->options;
	int r = 0;

	if (options->enable_sandbox)
		r = sandbox_enter_userns(options);
	if (r == 0 && options->api_socket && !helper->is_restored)
		r = api_socket_bind(options->api_socket, helper->store, &helper->api_path);
	if (r == 0)
		r = open_outlets(helper);
	if (r == 0)
		r = kept_save(helper);
	if (r == 0 && options->enable_sandbox)
		r = sandbox_enter(options);
	if (r == 0 && options->enable_seccomp)
		r = seccomp_filter_keeper();
	return r;
}

static int set_up(Helper *helper)
{
	int r;

	note_channels(helper);
	raise_fd_limit();
	r = make_shared(helper);
	if (r == 0 && !helper->is_restored) {
		keeper_before_link(helper);
		r = guest_link_open(helper->options, helper->plan, helper->store, &helper->link);
	}
	if (r < 0)
		return r;
	keeper_after_link(helper);
	if (splice_engine_is_needed(helper) && !helper->splice) {
		helper->splice = kept_splice_table(helper);
		if (!helper->splice) {
			r = -errno;
			fprintf(stderr, "cannot make shared memory for the connections: %s\n", strerror(-r));
			return r;
		}
	}
	usage_print_banner(helper->options, helper->plan);
	if (helper->options->enable_seccomp)
		seccomp_filter_print();
	fflush(stdout);
	return confine(helper);
}

/* -p is carried out by the worker, but what makes no sense is said before anything is touched. */
static int check_publish(const Options *options, const AddressPlan *plan)
{
	PortRequest ignored;

	for (size_t i = 0; i < options->n_publish; i++)
		if (ports_parse(options->publish[i], plan, &plan->gateway6, &ignored) < 0)
			return -EINVAL;
	return 0;
}

int main(int argc, char **argv, char **envp)
{
	static Options options; /* static: the workers, clones of this process, go on using them */
	static AddressPlan plan;
	static Helper helper = {.options = &options, .plan = &plan};
	int status;

	process_title_init(argc, argv, envp);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)setvbuf(stdout, NULL, _IOLBF, 0); /* N-204 */

	status = options_parse(argc, argv, &options);
	if (status >= 0)
		return status;
	if (address_plan_make(&options, &plan) < 0 || check_publish(&options, &plan) < 0)
		return EXIT_FAILURE;
	if (set_up(&helper) < 0) {
		keeper_remove_link(&helper);
		return EXIT_FAILURE;
	}
	return keeper_run(&helper);
}
