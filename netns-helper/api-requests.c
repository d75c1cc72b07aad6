#include "config.h"

#include "netns-helper/api-requests.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "netns-helper/api-list.h"
#include "netns-helper/ports.h"

#define TEXT_MAX 128 /* bytes of a fixed error text */

typedef struct {
	Worker *worker;
	json_t *arguments; /* borrowed; NULL if there are none */
	int client_fd;
} Request;

typedef struct {
	const char *name;
	json_t *(*handle)(const Request *request);
} RequestOp;

/* --- reading --- */

/* A NUL ends the text (N-153); anything may follow the first value. */
static json_t *load(const char *text, size_t size, json_error_t *error)
{
	return json_loadb(text, strnlen(text, size), JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, error);
}

ApiState api_request_state(const char *text, size_t size)
{
	json_error_t error;
	json_t *value = load(text, size, &error);

	if (value) {
		json_decref(value);
		return API_COMPLETE;
	}
	if (memchr(text, '\0', size))
		return API_INCOMPLETE; /* the rest does not matter, but the limit or the end is waited for: N-151 */
	return json_error_code(&error) == json_error_premature_end_of_input ? API_INCOMPLETE : API_HOPELESS;
}

static json_t *error_new(const char *desc)
{
	return json_pack("{s:{s:s}}", "error", "desc", desc);
}

/* An error with its cause: `desc` stays as it always was, more members follow (N-167). */
static json_t *error_with_cause(const char *desc, int error, const char *hint)
{
	const char *name = strerrorname_np(-error);

	return json_pack("{s:{s:s,s:s,s:i,s:s}}", "error", "desc", desc, "errno", name ? name : "?", "code",
		-error, "hint", hint);
}

static json_t *bad_argument(const char *request, const char *member)
{
	char text[TEXT_MAX];

	snprintf(text, sizeof(text), "bad request: %s: bad arguments.%s", request, member);
	return error_new(text);
}

/* --- add_hostfwd --- */

#define ADD "add_hostfwd"

static bool is_given(const json_t *value)
{
	return value && !json_is_null(value) &&
	       !(json_is_string(value) && json_string_value(value)[0] == '\0');
}

/* A JSON number, its fraction cut off (N-170), within 1 to 65535 (N-172). */
static bool read_port(const json_t *value, uint16_t *ret_port)
{
	double number;

	if (!json_is_number(value))
		return false;
	number = json_number_value(value);
	if (!(number >= 1 && number < 65536))
		return false;
	*ret_port = (uint16_t)number;
	return true;
}

/* "tcp", "udp"; beyond the reference: with "4" or "6" behind. */
static bool read_proto(const json_t *value, PortRequest *request, bool *ret_wants_v6)
{
	const char *text = json_string_value(value);

	if (!text || (strncmp(text, "tcp", 3) != 0 && strncmp(text, "udp", 3) != 0))
		return false;
	if (text[3] != '\0' && strcmp(text + 3, "4") != 0 && strcmp(text + 3, "6") != 0)
		return false;
	request->is_udp = text[0] == 'u';
	*ret_wants_v6 = text[3] == '6';
	request->v4 = text[3] == '4';
	return true;
}

/* Decides the families: by the protocol's digit, else by the host address, else IPv4; both with "dual_stack". */
static bool read_host(const Request *request, PortRequest *port, bool wants_v6)
{
	const json_t *value = json_object_get(request->arguments, "host_addr");
	const char *text = json_string_value(value);
	bool wants_v4 = port->v4;

	if (json_is_true(json_object_get(request->arguments, "dual_stack")) && !wants_v4 && !wants_v6 &&
		!is_given(value)) {
		port->v4 = port->v6 = true;
		return true;
	}
	port->v6 = wants_v6 || (!wants_v4 && text && strchr(text, ':'));
	port->v4 = !port->v6;
	if (!is_given(value))
		return true;
	return text && inet_pton(port->v6 ? AF_INET6 : AF_INET, text,
			       port->v6 ? (void *)&port->host6 : (void *)&port->host4) == 1;
}

static bool read_guest(const Request *request, PortRequest *port)
{
	const json_t *value = json_object_get(request->arguments, "guest_addr");
	const json_t *value6 = json_object_get(request->arguments, port->v4 ? "guest_addr6" : "guest_addr");
	const Helper *helper = request->worker->helper;

	port->guest4 = helper->plan->guest;
	port->guest6 = address_plan_guest6(helper->plan, &helper->link.mac);
	if (port->v4 && is_given(value) &&
		(!json_is_string(value) || inet_pton(AF_INET, json_string_value(value), &port->guest4) != 1))
		return false;
	if (port->v6 && is_given(value6) &&
		(!json_is_string(value6) ||
			inet_pton(AF_INET6, json_string_value(value6), &port->guest6) != 1))
		return false;
	if (port->guest4.s_addr == INADDR_ANY) /* libslirp would take its first DHCP lease */
		port->guest4 = helper->plan->guest;
	return true;
}

static bool read_host_port(const Request *request, PortRequest *port)
{
	const json_t *last = json_object_get(request->arguments, "host_port_end");
	uint16_t end;

	if (json_is_true(json_object_get(request->arguments, "choose_host_port"))) {
		port->host_port = 0;
		return !last;
	}
	if (!read_port(json_object_get(request->arguments, "host_port"), &port->host_port))
		return false;
	if (!last)
		return true;
	if (!read_port(last, &end) || end < port->host_port)
		return false;
	port->count = (unsigned)(end - port->host_port) + 1;
	return true;
}

static bool read_guest_port(const Request *request, PortRequest *port)
{
	if (!read_port(json_object_get(request->arguments, "guest_port"), &port->guest_port))
		return false;
	return port->guest_port + port->count - 1 <= 65535;
}

static json_t *add_result(const Request *request, uint32_t id, uint16_t host_port)
{
	if (!json_is_true(json_object_get(request->arguments, "choose_host_port")))
		return json_pack("{s:{s:I}}", "return", "id", (json_int_t)id);
	return json_pack("{s:{s:I,s:i}}", "return", "id", (json_int_t)id, "host_port", host_port);
}

static json_t *handle_add(const Request *request)
{
	PortRequest port = {.count = 1, .client_fd = request->client_fd};
	bool wants_v6;
	uint32_t id;
	uint16_t host_port;
	int r;

	if (!read_proto(json_object_get(request->arguments, "proto"), &port, &wants_v6))
		return bad_argument(ADD, "proto");
	if (!read_host(request, &port, wants_v6))
		return bad_argument(ADD, "host_addr");
	if (!read_host_port(request, &port))
		return bad_argument(ADD, "host_port");
	if (!read_guest(request, &port))
		return bad_argument(ADD, "guest_addr");
	if (!read_guest_port(request, &port))
		return bad_argument(ADD, "guest_port");
	id = ports_unanswered(request->worker->ports, request->client_fd, &host_port);
	if (id) /* our predecessor did it, and was killed before it could say so */
		return add_result(request, id, host_port);
	r = ports_add(request->worker->ports, &port, &id, &host_port);
	if (r == 0)
		return add_result(request, id, host_port);
	fprintf(stderr, "cannot publish: %s\n", ports_explain(r, &port));
	return error_with_cause("bad request: " ADD ": slirp_add_hostfwd failed", r, ports_explain(r, &port));
}

/* --- remove_hostfwd --- */

static json_t *handle_remove(const Request *request)
{
	const json_t *value = json_object_get(request->arguments, "id");
	double id = json_is_number(value) ? json_number_value(value) : 0;
	int r = id >= 1 && id <= UINT32_MAX ? ports_remove(request->worker->ports, (uint32_t)id) : -ENOENT;

	if (r == -ENOENT)
		return bad_argument("remove_hostfwd", "id");
	if (r < 0)
		return error_new("bad request: remove_hostfwd: slirp_remove_hostfwd failed");
	return json_pack("{s:{}}", "return");
}

/* --- list_hostfwd, list --- */

static json_t *handle_list_hostfwd(const Request *request)
{
	return api_list_forwards(request->worker);
}

static json_t *handle_list(const Request *request)
{
	return api_list_everything(request->worker);
}

/* --- dispatch --- */

static const RequestOp ops[] = {
	{"add_hostfwd", handle_add},
	{"list_hostfwd", handle_list_hostfwd},
	{"remove_hostfwd", handle_remove},
	{"list", handle_list},
};

static json_t *dispatch(Request *request, json_t *root)
{
	const char *name;

	if (!json_is_object(root))
		return error_new("bad request: json_object() failed");
	name = json_string_value(json_object_get(root, "execute"));
	if (!name)
		return error_new("bad request: no execute found");
	request->arguments = json_object_get(root, "arguments");
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (strcmp(name, ops[i].name) == 0)
			return ops[i].handle(request);
	return error_new("bad request: unknown execute");
}

static char *print_and_free(json_t *answer)
{
	char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;

	json_decref(answer);
	if (!text)
		abort(); /* out of memory: the keeper starts us again */
	return text;
}

char *api_request_answer(Worker *worker, const char *text, size_t size, int client_fd)
{
	Request request = {.worker = worker, .client_fd = client_fd};
	json_error_t error;
	json_t *root = load(text, size, &error), *answer;

	answer = root ? dispatch(&request, root) : error_new("bad request: cannot parse JSON");
	json_decref(root);
	return print_and_free(answer);
}

char *api_request_too_large(void)
{
	return print_and_free(error_new("bad request: too large message"));
}
