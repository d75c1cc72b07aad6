#include "config.h"

#include "netns-helper/api-list.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "netns-helper/ports.h"
#include "netns-helper/splice-table.h"

/* --- forwards --- */

static json_t *address_new(int family, const void *addr)
{
	char text[INET6_ADDRSTRLEN];

	return json_string(inet_ntop(family, addr, text, sizeof(text)));
}

static const char *proto_name(bool is_udp, int family)
{
	if (family == AF_INET6)
		return is_udp ? "udp6" : "tcp6";
	return is_udp ? "udp" : "tcp";
}

static json_t *forward_entry(const Forward *forward)
{
	return json_pack("{s:I,s:s,s:o,s:i,s:o,s:i}", "id", (json_int_t)forward->id, "proto",
		proto_name(forward->is_udp, forward->family), "host_addr",
		address_new(forward->family, &forward->host_addr), "host_port", forward->host_port,
		"guest_addr", address_new(forward->family, &forward->guest_addr), "guest_port",
		forward->guest_port);
}

static int by_serial(const void *a, const void *b)
{
	uint32_t left = (*(Forward *const *)a)->serial, right = (*(Forward *const *)b)->serial;

	return left < right ? -1 : left > right;
}

/* In order of creation (N-176): freed entries of the table are used again. @p ret_n: how many. To be freed. */
static Forward **sorted_forwards(SharedState *shared, size_t *ret_n)
{
	Forward **list = calloc(FORWARDS_MAX, sizeof(*list)), *forward;
	size_t n = 0;

	if (!list)
		abort();
	for (size_t i = 0; (forward = shared_state_next_forward(shared, &i));)
		list[n++] = forward;
	qsort(list, n, sizeof(*list), by_serial);
	*ret_n = n;
	return list;
}

json_t *api_list_forwards(const Worker *worker)
{
	json_t *entries = json_array();
	size_t n;
	Forward **list = sorted_forwards(worker->helper->shared, &n);

	for (size_t i = 0; i < n; i++)
		json_array_append_new(entries, forward_entry(list[i]));
	free(list);
	/* Both shapes: N-176. */
	return json_pack("{s:{s:O},s:o}", "return", "entries", entries, "entries", entries);
}

/* --- flows --- */

/* What both engines know of a connection or session. */
typedef struct {
	const char *path, *state;
	bool is_udp, inbound;
	int family;
	const void *guest_addr, *remote_addr; /* of that family */
	uint16_t guest_port, remote_port;
	uint64_t bytes_in, bytes_out, age_ms;
} FlowView;

static json_t *flow_entry(const FlowView *view)
{
	return json_pack("{s:s,s:s,s:s,s:o,s:i,s:o,s:i,s:s,s:I,s:I,s:I}", "proto",
		proto_name(view->is_udp, view->family), "path", view->path, "direction",
		view->inbound ? "in" : "out", "guest_addr", address_new(view->family, view->guest_addr),
		"guest_port", view->guest_port, "remote_addr", address_new(view->family, view->remote_addr),
		"remote_port", view->remote_port, "state", view->state, "bytes_in",
		(json_int_t)view->bytes_in, "bytes_out", (json_int_t)view->bytes_out, "age_ms",
		(json_int_t)view->age_ms);
}

static const char *stack_state(const Flow *flow)
{
	const unsigned both = FLOW_GUEST_FIN | FLOW_REMOTE_FIN;

	if (flow->proto == IPPROTO_UDP)
		return "active";
	if (!(flow->flags & FLOW_ESTABLISHED))
		return "connecting";
	return (flow->flags & both) == both ? "closed" : flow->flags & both ? "half-closed" : "established";
}

static void add_stack_flows(json_t *flows, FlowTable *table, uint64_t now_ms)
{
	Flow *flow;

	if (flow_table_expire(table, now_ms) == 0)
		return;
	for (size_t i = 0; (flow = flow_table_next(table, &i));)
		json_array_append_new(flows, flow_entry(&(FlowView){
						     .path = "slirp",
						     .state = stack_state(flow),
						     .is_udp = flow->proto == IPPROTO_UDP,
						     .inbound = flow->flags & FLOW_INBOUND,
						     .family = flow->family,
						     .guest_addr = &flow->guest_addr,
						     .remote_addr = &flow->remote_addr,
						     .guest_port = flow->guest_port,
						     .remote_port = flow->remote_port,
						     .bytes_in = flow->bytes_in,
						     .bytes_out = flow->bytes_out,
						     .age_ms = now_ms - flow->started_ms,
					     }));
}

static const char *spliced_state(const SpliceFlow *flow, uint32_t phase)
{
	uint32_t guest = atomic_load(&flow->half[SPLICE_GUEST].flags),
		 host = atomic_load(&flow->half[SPLICE_HOST].flags);

	if (phase != SPLICE_OPEN)
		return phase == SPLICE_ENDING ? "closed" : "connecting";
	return (guest | host) & (SPLICE_HALF_EOF | SPLICE_HALF_RESET) ? "half-closed" : "established";
}

static const void *address_of(const SpliceAddr *addr, int family)
{
	return family == AF_INET ? (const void *)&addr->ip.s6_addr[12] : (const void *)&addr->ip;
}

static void add_spliced_flows(json_t *flows, const SpliceTable *table, uint64_t now_ms)
{
	uint32_t top = atomic_load(&table->flows_top);

	for (uint32_t i = 0; i < top && i < SPLICE_FLOWS_MAX; i++) {
		const SpliceFlow *flow = &table->flows[i];
		uint32_t phase = atomic_load(&flow->phase);

		if (phase == SPLICE_FREE)
			continue;
		json_array_append_new(flows,
			flow_entry(&(FlowView){
				.path = "splice",
				.state = spliced_state(flow, phase),
				.inbound = flow->inbound,
				.family = flow->family,
				.guest_addr = address_of(&flow->guest, flow->family),
				.remote_addr = address_of(&flow->remote, flow->family),
				.guest_port = flow->guest.port,
				.remote_port = flow->remote.port,
				.bytes_in = flow->half[SPLICE_HOST].bytes,
				.bytes_out = flow->half[SPLICE_GUEST].bytes,
				.age_ms =
					now_ms -
					flow->since_ms, /* of the present phase, so at most that of the connecting less */
			}));
	}
}

json_t *api_list_everything(const Worker *worker)
{
	const Helper *helper = worker->helper;
	json_t *forwards = json_array(), *flows = json_array();
	uint64_t now_ms = event_now_ms();
	Forward **list;
	size_t n;

	list = sorted_forwards(helper->shared, &n);
	for (size_t i = 0; i < n; i++) {
		json_t *entry = forward_entry(list[i]);

		json_object_set_new(entry, "path", json_string(ports_engine_name(worker->ports, list[i])));
		json_array_append_new(forwards, entry);
	}
	free(list);
	add_stack_flows(flows, &helper->shared->flows, now_ms);
	if (helper->splice)
		add_spliced_flows(flows, helper->splice, now_ms);
	return json_pack("{s:{s:o,s:o}}", "return", "forwards", forwards, "flows", flows);
}
