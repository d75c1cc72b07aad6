/* Bytes of a control socket client, as they are and in two pieces. */
#include "config.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "netns-helper/api-requests.h"
#include "netns-helper/api-socket.h"
#include "netns-helper/ports.h"
#include "tests/fuzz/isolate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int serve(void *engine, const Forward *forward)
{
	return 0;
}

static Worker *make_worker(void)
{
	static Options options = {.cidr = "10.0.2.0/24", .enable_ipv6 = true};
	static AddressPlan plan;
	static Helper helper = {.options = &options, .plan = &plan};
	static Worker worker = {.helper = &helper};
	const InboundEngine engine = {.name = "fuzz", .add = serve, .remove = serve};

	helper.shared = shared_state_new();
	helper.store = fd_store_new();
	if (!helper.shared || !helper.store || address_plan_make(&options, &plan) < 0)
		abort();
	worker.ports = ports_new(&helper);
	ports_add_engine(worker.ports, &engine);
	if (!freopen("/dev/null", "w", stderr)) /* each refused port is a line */
		abort();
	return &worker;
}

/* Whatever comes in, one JSON object with "return" or "error" goes out, without a newline. */
static void check_answer(char *answer)
{
	json_t *root = json_loads(answer, 0, NULL);

	if (!root || strchr(answer, '\n') ||
		(!json_object_get(root, "return") && !json_object_get(root, "error")))
		abort();
	json_decref(root);
	free(answer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static Worker *worker;
	Forward *forward;

	if (!fuzz_is_isolated() || size >= API_REQUEST_MAX)
		return 0;
	if (!worker)
		worker = make_worker();
	(void)api_request_state((const char *)data, size / 2);
	(void)api_request_state((const char *)data, size);
	check_answer(api_request_answer(worker, (const char *)data, size, 5));
	for (size_t i = 0; (forward = shared_state_next_forward(worker->helper->shared, &i));)
		(void)ports_remove(worker->ports, forward->id);
	return 0;
}
