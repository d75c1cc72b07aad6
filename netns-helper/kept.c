#include "config.h"

#include "netns-helper/kept.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd-keep.h"
#include "common/fd-util.h"
#include "netns-helper/api-socket.h"
#include "netns-helper/gateway.h"
#include "netns-helper/splice-keep.h"

#define MEMORY_PREFIX "memory."
#define LIFE "life"

/* A memfd; its name changes with its layout, so that another version of the program begins anew. */
typedef struct {
	_Atomic int complete; /* set last */
	_Atomic unsigned failures; /* restored lives in a row that never worked */
	int link_kind; /* guest_link_kind_index() */
	struct ether_addr mac;
	ApiPath api_path;
	SharedState state;
} Life;

static const char *const prefixes[] = { "link.", "gateway.", "api.listener", MEMORY_PREFIX };

static void memory_name(char out[FD_STORE_NAME_MAX], const char *what, size_t size)
{
	(void)snprintf(out, FD_STORE_NAME_MAX, MEMORY_PREFIX "%s.%zx-%.20s-%.12s", what, size, PACKAGE_VERSION, GIT_COMMIT);
}

static void *keep_memory(const Helper *helper, const char *what, size_t size, bool *ret_restored)
{
	char name[FD_STORE_NAME_MAX];

	memory_name(name, what, size);
	return fd_keep_memory(helper->store, name, size, ret_restored);
}

static Life *life_of(const Helper *helper)
{
	return (Life *)((char *)helper->shared - offsetof(Life, state));
}

static bool can_be_restored(const Helper *helper, const Life *life)
{
	return atomic_load(&life->complete) && atomic_load(&life->failures) < KEPT_FAILURES_MAX &&
	       (fd_store_get(helper->store, GUEST_LINK_TAP) >= 0 || fd_store_get(helper->store, GATEWAY_PACKET) >= 0) &&
	       (!helper->options->api_socket || fd_store_get(helper->store, API_LISTENER) >= 0);
}

static bool is_ours(const char *name)
{
	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

/* Nobody is going to serve it: its peer shall know, whoever else has the socket. */
static bool cut(int fd, void *data)
{
	const struct sockaddr none = {.sa_family = AF_UNSPEC};

	(void)connect(fd, &none, sizeof(none));
	return false;
}

/* Everything that came back, out of systemd's store too; but for this memory, which begins anew. */
static void throw_away(const Helper *helper, Life *life)
{
	char life_name[FD_STORE_NAME_MAX];
	const char *name;
	int fd;

	memory_name(life_name, LIFE, sizeof(*life));
	fd_keep_drop_unknown(helper->store, cut, NULL);
	for (size_t i = 0; fd_store_next(helper->store, &i, &name, &fd);)
		if (is_ours(name) && strcmp(name, life_name) != 0) {
			fd_keep_remove(helper->store, name, fd);
			fd_store_close(helper->store, name);
		}
	memset(life, 0, sizeof(*life));
}

typedef struct {
	const Helper *helper;
	bool *spliced;
	size_t limit;
} Known;

static bool is_known(int fd, void *data)
{
	const Known *known = data;

	return shared_state_is_forward_fd(known->helper->shared, fd) || ((size_t)fd < known->limit && known->spliced[fd]);
}

/* The splice table speaks of connections and spare sockets that were not kept, and systemd may have what no table speaks of any more. */
static void take_over_connections(Helper *helper)
{
	Known known = {.helper = helper};

	if (helper->splice) {
		splice_keep_repair(helper->splice);
		known.limit = (size_t)helper->splice->fd_high + 1;
		known.spliced = calloc(known.limit, sizeof(bool));
		if (!known.spliced)
			abort();
		splice_table_mark_fds(helper->splice, known.spliced, known.limit);
	}
	fd_keep_drop_unknown(helper->store, is_known, &known);
	free(known.spliced);
}

static void take_over(Helper *helper, Life *life)
{
	atomic_fetch_add(&life->failures, 1);
	helper->is_restored = true;
	helper->link = (GuestLink){ .kind = guest_link_kind_at(life->link_kind), .mac = life->mac };
	helper->api_path = life->api_path;
	/* readiness is to be told again, to systemd */
	atomic_store(&helper->shared->phase, SHARED_STARTING);
	for (size_t i = 0; i < atomic_load(&helper->shared->n_forwards); i++)
		helper->shared->forwards[i].client_fd = -1; /* whoever asked has gone */
	take_over_connections(helper);
}

SpliceTable *kept_splice_table(const Helper *helper)
{
	bool restored;

	return fd_keep_is_wanted() ? keep_memory(helper, "splice", sizeof(SpliceTable), &restored) : splice_table_new();
}

int kept_open(Helper *helper)
{
	bool restored;
	Life *life;
	int r;

	if (!fd_keep_is_wanted()) {
		helper->shared = shared_state_new();
		return helper->shared ? 0 : -errno;
	}
	r = fd_keep_take(helper->store);
	if (r < 0)
		return r;
	life = keep_memory(helper, LIFE, sizeof(*life), &restored);
	if (!life)
		return -errno;
	helper->shared = &life->state;
	if (!restored || !can_be_restored(helper, life)) {
		throw_away(helper, life);
		return 0;
	}
	if (guest_link_kind_at(life->link_kind) == &guest_link_veth) {
		helper->splice = kept_splice_table(helper);
		if (!helper->splice)
			return -errno;
	}
	take_over(helper, life);
	return 0;
}

int kept_save(const Helper *helper)
{
	Life *life;
	int r = 0;

	if (!fd_keep_is_wanted())
		return 0;
	life = life_of(helper);
	life->link_kind = guest_link_kind_index(helper->link.kind);
	life->mac = helper->link.mac;
	life->api_path = helper->api_path;
	for (size_t i = 0; r == 0 && i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		r = fd_keep_add_all(helper->store, prefixes[i]);
	if (r == 0)
		atomic_store(&life->complete, 1);
	else
		fprintf(stderr, "systemd does not keep our descriptors: %s\n", strerror(-r));
	return r;
}

void kept_confirm(const Helper *helper)
{
	if (!fd_keep_is_wanted())
		return;
	atomic_store(&life_of(helper)->failures, 0);
	fd_keep_notify(helper->store, "READY=1\nSTATUS=Serving the container's network");
}
