#include "config.h"

#include "netns-helper/kept.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/fd-keep.h"
#include "common/fd-util.h"
#include "netns-helper/api-socket.h"
#include "netns-helper/gateway.h"

#define MEMORY_PREFIX "memory."

/* One memfd; its name changes with its layout, so that another version of the program begins anew. */
typedef struct {
	_Atomic int complete; /* set last */
	_Atomic unsigned failures; /* restored lives in a row that never worked */
	int link_kind; /* guest_link_kind_index() */
	struct ether_addr mac;
	ApiPath api_path;
	SharedState state;
} Life;

static const char *const prefixes[] = { "link.", "gateway.", "api.listener", MEMORY_PREFIX };

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

/* Everything that came back, out of systemd's store too. */
static void throw_away(const Helper *helper, Life *life)
{
	const char *name;
	int fd;

	for (size_t i = 0; i < atomic_load(&life->state.n_forwards); i++)
		if (atomic_load(&life->state.forwards[i].in_use)) {
			fd_keep_remove(helper->store, KEPT_FORWARD, life->state.forwards[i].fd);
			(void)fd_close(life->state.forwards[i].fd);
		}
	for (size_t i = 0; fd_store_next(helper->store, &i, &name, &fd);)
		for (size_t p = 0; p < sizeof(prefixes) / sizeof(prefixes[0]); p++)
			if (strncmp(name, prefixes[p], strlen(prefixes[p])) == 0 && strncmp(name, MEMORY_PREFIX, strlen(MEMORY_PREFIX)) != 0) {
				fd_keep_remove(helper->store, name, fd);
				fd_store_close(helper->store, name);
				break;
			}
	memset(life, 0, sizeof(*life));
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
}

int kept_open(Helper *helper)
{
	char name[FD_STORE_NAME_MAX];
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
	(void)snprintf(name, sizeof(name), MEMORY_PREFIX "%zx-%.20s-%.12s", sizeof(Life), PACKAGE_VERSION, GIT_COMMIT);
	life = fd_keep_memory(helper->store, name, sizeof(*life), &restored);
	if (!life)
		return -errno;
	helper->shared = &life->state;
	if (restored && can_be_restored(helper, life))
		take_over(helper, life);
	else
		throw_away(helper, life);
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
