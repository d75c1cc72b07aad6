#include "config.h"

#include <errno.h>
#include <malloc.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "netns-helper/checksum.h"
#include "netns-helper/keep-alive.h"
#include "netns-helper/slirp-private.h"

#define LARGE_MIN (64 * 1024) /* bytes; anything that large is a mapping of its own */
#define HEAP_STEP (16 * 1024) /* bytes that the heap grows by beyond what is needed */
#define BUFFER_SIZE (128 * 1024) /* bytes of a connection's buffer as libslirp first makes it (N-254) */
#define HOLES_LOOK 4 /* connections between two looks */

static SlirpEngine *the_engine; /* for glib's messages only: libslirp is one stack per process (N-274) */

/* --- callbacks: N-273 --- */

static bool is_dhcp_answer(const uint8_t *frame, size_t size)
{
	/* Ethernet, IPv4 without options (libslirp sends none), UDP from port 67 */
	return size > 38 && frame[12] == 0x08 && frame[13] == 0x00 && frame[14] == 0x45 &&
	       frame[23] == IPPROTO_UDP && frame[34] == 0 && frame[35] == 67;
}

/*
 * A datagram for a published port from the host's loopback must come from the gateway (N-179); libslirp 4.7 forgets that once the guest has
 * answered a client elsewhere on the same port. 127.0.0.0/8 means nothing on the link, so such a source is always that case.
 */
static const uint8_t *mend_loopback_source(SlirpEngine *engine, const uint8_t *frame, size_t size)
{
	uint8_t *copy = engine->mended;
	uint8_t gateway[4];

	if (size < 42 || size > sizeof(engine->mended) || frame[12] != 0x08 || frame[13] != 0x00 ||
		frame[14] != 0x45 || frame[23] != IPPROTO_UDP || frame[26] != 127)
		return frame;
	memcpy(gateway, &engine->helper->plan->gateway, sizeof(gateway));
	memcpy(copy, frame, size);
	memcpy(copy + 26, gateway, sizeof(gateway));
	for (int i = 0; i < 4; i += 2) {
		checksum_mend(copy + 24, checksum_get16(frame + 26 + i), checksum_get16(gateway + i));
		/* Only the first fragment has the UDP header; 0 is "no checksum". */
		if ((checksum_get16(frame + 20) & 0x1fff) == 0 && checksum_get16(frame + 40) != 0)
			checksum_mend(copy + 40, checksum_get16(frame + 26 + i), checksum_get16(gateway + i));
	}
	return copy;
}

/* TCP with the RST flag: IPv4 without options, as libslirp sends it, or IPv6. */
static bool is_reset(const uint8_t *frame, size_t size)
{
	if (size >= 54 && frame[12] == 0x08 && frame[13] == 0x00 && frame[14] == 0x45 &&
		frame[23] == IPPROTO_TCP)
		return frame[47] & TH_RST;
	return size >= 74 && frame[12] == 0x86 && frame[13] == 0xdd && frame[20] == IPPROTO_TCP &&
	       (frame[67] & TH_RST);
}

static ssize_t on_send_packet(const void *buf, size_t size, void *opaque)
{
	SlirpEngine *engine = opaque;
	bool ends = is_reset(buf, size);

	engine->progress++;
	if (ends && slirp_connect_hides(engine, buf, size))
		return (ssize_t)size;
	/* A connection is noted before the guest learns of it, and forgotten afterwards: whenever we are killed, our successor knows of it. */
	if (!ends)
		flow_table_see(&engine->shared->flows, buf, size, false, engine->now_ms);
	if (is_dhcp_answer(buf, size))
		slirp_stack_save(engine); /* first: what the guest has been told must outlive us */
	/* A frame that the link does not take is lost, as on a wire; the stack would log each one (N-145). */
	(void)engine->io.write(engine->io.data, mend_loopback_source(engine, buf, size), size);
	if (ends)
		flow_table_see(&engine->shared->flows, buf, size, false, engine->now_ms);
	return (ssize_t)size;
}

static void on_guest_error(const char *text, void *opaque)
{
	SlirpEngine *engine = opaque;

	rate_limit_say(&engine->complaints, event_now_ms(), "guest", text);
}

static int64_t on_clock(void *opaque)
{
	return (int64_t)event_now_ns();
}

/* The stack's only timer is that of router advertisements. */
typedef struct {
	EventTimer *timer;
	SlirpTimerCb fn;
	void *data;
} StackTimer;

static void on_timer(void *data)
{
	StackTimer *timer = data;

	timer->fn(timer->data);
}

static void *on_timer_new(SlirpTimerCb fn, void *data, void *opaque)
{
	SlirpEngine *engine = opaque;
	StackTimer *timer = g_new0(StackTimer, 1);

	timer->fn = fn;
	timer->data = data;
	timer->timer = event_loop_add_timer(engine->loop, 0, on_timer, timer);
	event_timer_stop(timer->timer);
	return timer;
}

static void on_timer_free(void *data, void *opaque)
{
	StackTimer *timer = data;

	event_timer_free(timer->timer);
	g_free(timer);
}

static void on_timer_mod(void *data, int64_t expire_ms, void *opaque)
{
	StackTimer *timer = data;
	int64_t left = expire_ms - (int64_t)event_now_ms();

	event_timer_set(timer->timer, left > 0 ? (uint64_t)left : 0);
}

/*
 * libslirp makes each buffer of 128 KiB, and rounds it up to whole segments at once. One that came out of a hole in the heap is copied into
 * a mapping then, with every page that nobody has written to, and the hole is there for the next: 140 KiB for an idle connection
 * instead of 8. So holes of that size are held here until memory is given back.
 */
void slirp_stack_hold_holes(SlirpEngine *engine)
{
	if (engine->opened++ % HOLES_LOOK)
		return;
	while (engine->n_holes < SLIRP_HOLES_MAX) {
		void *p = malloc(BUFFER_SIZE);

		if (!p)
			return;
		if (malloc_usable_size(p) >= BUFFER_SIZE + 1024) { /* whole pages: a mapping, so there is no hole */
			free(p);
			return;
		}
		engine->holes[engine->n_holes++] = p;
	}
}

void slirp_stack_release_holes(SlirpEngine *engine)
{
	while (engine->n_holes > 0)
		free(engine->holes[--engine->n_holes]);
	engine->opened = 0;
}

static void on_register_fd(int fd, void *opaque)
{
	if (fd < 0)
		return;
	slirp_engine_note_fd(opaque, fd);
	slirp_engine_count_socket(opaque, fd, true);
	slirp_connect_begin(opaque, fd);
	keep_alive_set(fd, KEEP_ALIVE_HOST);
}

static void on_unregister_fd(int fd, void *opaque)
{
	slirp_engine_count_socket(opaque, fd, false); /* or a listening socket, which was never registered (N-273) */
}

static void on_notify(void *opaque)
{
}

static const SlirpCb callbacks = {
	.send_packet = on_send_packet,
	.guest_error = on_guest_error,
	.clock_get_ns = on_clock,
	.timer_new = on_timer_new,
	.timer_free = on_timer_free,
	.timer_mod = on_timer_mod,
	.register_poll_fd = on_register_fd,
	.unregister_poll_fd = on_unregister_fd,
	.notify = on_notify,
};

static void on_glib_message(const char *domain, GLogLevelFlags level, const char *text, void *data)
{
	if (the_engine)
		rate_limit_say(&the_engine->complaints, event_now_ms(), domain ? domain : "glib", text);
}

/* --- set-up: N-272 --- */

Slirp *slirp_stack_new(SlirpEngine *engine)
{
	const Options *options = engine->helper->options;
	const AddressPlan *plan = engine->helper->plan;
	SlirpConfig config = {
		.version = 3, /* 1 and outbound addresses (2) and disable_dns (3) */
		.in_enabled = true,
		.vnetwork = plan->network,
		.vnetmask = plan->netmask,
		.vhost = plan->gateway,
		.in6_enabled = options->enable_ipv6,
		.vprefix_addr6 = plan->prefix6,
		.vprefix_len = 64,
		.vhost6 = plan->gateway6,
		.vdhcp_start = plan->dhcp,
		.vnameserver = plan->dns,
		.vnameserver6 = plan->dns6,
		.if_mtu = options->mtu,
		.if_mru = options->mtu,
		.disable_host_loopback = options->disable_host_loopback,
		.disable_dns = options->disable_dns,
		/* The stack keeps these pointers; the plan lives as long as the process. */
		.outbound_addr = plan->has_outbound ? (struct sockaddr_in *)&plan->outbound : NULL,
		.outbound_addr6 = plan->has_outbound6 ? (struct sockaddr_in6 *)&plan->outbound6 : NULL,
	};
	Slirp *slirp;

	the_engine = engine;
	g_log_set_default_handler(on_glib_message, NULL);
	/*
	 * The stack's one large structure is mostly never touched: from the heap it would be zeroed page by page. And for each connection it
	 * takes two buffers of 128 KiB (N-254), until ten seconds after its end. As mappings of their own they cost the pages that were
	 * used, and go back at once: 1,500 short connections in a row are 20 MiB instead of 385. (The system calls for that are
	 * less than a tenth of what a connection costs here.)
	 */
	(void)mallopt(M_MMAP_THRESHOLD, LARGE_MIN);
	(void)mallopt(M_TOP_PAD, HEAP_STEP);
	(void)mallopt(M_TRIM_THRESHOLD, LARGE_MIN);
	(void)malloc_trim(HEAP_STEP);
	slirp = slirp_new(&config, &callbacks, engine);
	if (!slirp)
		errno = EINVAL;
	return slirp;
}

/* --- what outlives the stack --- */

typedef struct {
	uint8_t *data;
	size_t size, at;
	bool overflow;
} Blob;

static ssize_t blob_write(const void *buf, size_t size, void *opaque)
{
	Blob *blob = opaque;

	if (size > blob->size - blob->at) {
		blob->overflow = true;
		return (ssize_t)size;
	}
	memcpy(blob->data + blob->at, buf, size);
	blob->at += size;
	return (ssize_t)size;
}

static ssize_t blob_read(void *buf, size_t size, void *opaque)
{
	Blob *blob = opaque;
	size_t left = blob->size - blob->at, n = size < left ? size : left;

	memcpy(buf, blob->data + blob->at, n);
	memset((uint8_t *)buf + n, 0, size - n);
	blob->at += n;
	return (ssize_t)n;
}

void slirp_stack_save(SlirpEngine *engine)
{
	SharedState *shared = engine->shared;
	uint32_t slot = atomic_load(&shared->stack_slot) == 1 ? 1 : 0;
	Blob blob = {.data = shared->stack_state[slot], .size = STACK_STATE_MAX};

	slirp_state_save(engine->slirp, blob_write, &blob);
	if (blob.overflow)
		return; /* keep the older one */
	shared->stack_size[slot] = (uint32_t)blob.at;
	atomic_store(&shared->stack_slot, slot + 1);
}

int slirp_stack_load(SlirpEngine *engine)
{
	SharedState *shared = engine->shared;
	uint32_t slot = atomic_load(&shared->stack_slot);
	Blob blob;

	if (slot == 0)
		return 0;
	blob = (Blob){.data = shared->stack_state[slot - 1], .size = shared->stack_size[slot - 1]};
	return slirp_state_load(engine->slirp, slirp_state_version(), blob_read, &blob) < 0 ? -EBADMSG : 0;
}
