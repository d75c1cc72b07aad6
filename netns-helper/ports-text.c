#include "config.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd-util.h"
#include "netns-helper/ports.h"

static unsigned first_unprivileged_port =
	1024; /* net.ipv4.ip_unprivileged_port_start as it was at the start */

void ports_read_limits(void)
{
	char text[16];

	if (fd_read_file("/proc/sys/net/ipv4/ip_unprivileged_port_start", text, sizeof(text)) > 0)
		first_unprivileged_port = (unsigned)strtoul(text, NULL, 10);
}

const char *ports_explain(int error, const PortRequest *request)
{
	static char text[512];
	const char *proto = request->is_udp ? "UDP" : "TCP";
	char addr[INET6_ADDRSTRLEN] = "?";
	unsigned port = request->host_port;

	if (request->v4)
		inet_ntop(AF_INET, &request->host4, addr, sizeof(addr));
	else
		inet_ntop(AF_INET6, &request->host6, addr, sizeof(addr));
	switch (-error) {
	case EACCES:
		snprintf(text, sizeof(text),
			"%s port %u of the host may not be opened by this user: ports below "
			"net.ipv4.ip_unprivileged_port_start (%u) are reserved. Publish a port from %u up, "
			"or, as root, run "
			"'sysctl net.ipv4.ip_unprivileged_port_start=%u'",
			proto, port, first_unprivileged_port, first_unprivileged_port, port);
		break;
	case EADDRINUSE:
		snprintf(text, sizeof(text),
			"%s port %u on %s is in use by another program or rule. Stop it ('ss -lnp' shows it) "
			"or publish "
			"another port",
			proto, port, addr);
		break;
	case EADDRNOTAVAIL:
		snprintf(text, sizeof(text), "no interface of this host has the address %s", addr);
		break;
	case EMFILE:
	case ENFILE:
		snprintf(text, sizeof(text), "out of descriptors for %s port %u: raise the limit (ulimit -n)",
			proto, port);
		break;
	case EAFNOSUPPORT:
		snprintf(text, sizeof(text), "%s port %u on %s: IPv6 is off (start with --enable-ipv6)",
			proto, port, addr);
		break;
	case ENOBUFS:
		snprintf(text, sizeof(text), "the table of %d published ports is full", FORWARDS_MAX);
		break;
	default:
		snprintf(text, sizeof(text), "%s port %u on %s: %s", proto, port, addr, strerror(-error));
		break;
	}
	return text;
}

/* --- -p --- */

static int parse_port(const char **text, unsigned *ret_port)
{
	unsigned long port;
	char *end;

	if (!isdigit((unsigned char)**text))
		return -EINVAL;
	port = strtoul(*text, &end, 10);
	if (port > 65535)
		return -EINVAL;
	*text = end;
	*ret_port = (unsigned)port;
	return 0;
}

/* PORT or FIRST-LAST. */
static int parse_range(const char **text, unsigned *ret_first, unsigned *ret_count)
{
	unsigned last;

	if (parse_port(text, ret_first) < 0)
		return -EINVAL;
	*ret_count = 1;
	if (**text != '-')
		return 0;
	(*text)++;
	if (parse_port(text, &last) < 0 || last < *ret_first || *ret_first == 0)
		return -EINVAL;
	*ret_count = last - *ret_first + 1;
	return 0;
}

typedef struct {
	char host[INET6_ADDRSTRLEN];
	char proto[8];
	unsigned host_port, host_count, guest_port, guest_count;
} Spec;

static int split_host(const char **text, Spec *spec)
{
	const char *end, *begin = *text;
	size_t len;

	if (*begin == '[') {
		end = strchr(++begin, ']');
		if (!end || end[1] != ':')
			return -EINVAL;
		*text = end + 2;
	} else {
		const char *colon = strchr(begin, ':');

		if (!colon || !strchr(colon + 1, ':'))
			return 0; /* HOSTPORT:GUESTPORT */
		end = colon;
		*text = colon + 1;
	}
	len = (size_t)(end - begin);
	if (len >= sizeof(spec->host))
		return -EINVAL;
	memcpy(spec->host, begin, len);
	return 0;
}

static int split_spec(const char *text, Spec *spec)
{
	if (split_host(&text, spec) < 0 || parse_range(&text, &spec->host_port, &spec->host_count) < 0)
		return -EINVAL;
	if (*text++ != ':' || parse_range(&text, &spec->guest_port, &spec->guest_count) < 0 ||
		spec->guest_port == 0)
		return -EINVAL;
	snprintf(spec->proto, sizeof(spec->proto), "%s", *text == '/' ? text + 1 : "tcp");
	if (*text != '/' && *text != '\0')
		return -EINVAL;
	if (spec->guest_count != 1 && spec->guest_count != spec->host_count)
		return -EINVAL;
	return spec->guest_port + spec->host_count - 1 > 65535 ? -EINVAL : 0;
}

static int fill_families(const Spec *spec, PortRequest *request)
{
	size_t len = strlen(spec->proto);
	char last = len == 4 ? spec->proto[3] : '4';
	bool v6_host = strchr(spec->host, ':') != NULL;

	if (strncmp(spec->proto, "tcp", 3) != 0 && strncmp(spec->proto, "udp", 3) != 0)
		return -EINVAL;
	if (len < 3 || len > 4 || (last != '4' && last != '6'))
		return -EINVAL;
	request->is_udp = spec->proto[0] == 'u';
	request->v6 = last == '6' || v6_host;
	request->v4 = !request->v6;
	if (!spec->host[0])
		return 0;
	return inet_pton(request->v6 ? AF_INET6 : AF_INET, spec->host,
		       request->v6 ? (void *)&request->host6 : (void *)&request->host4) == 1
		       ? 0
		       : -EINVAL;
}

int ports_parse(
	const char *text, const AddressPlan *plan, const struct in6_addr *guest6, PortRequest *ret_request)
{
	PortRequest request = {.client_fd = -1, .guest4 = plan->guest, .guest6 = *guest6};
	Spec spec = {0};

	if (split_spec(text, &spec) < 0 || fill_families(&spec, &request) < 0) {
		fprintf(stderr,
			"--publish: \"%s\" is not "
			"[HOSTADDR:]HOSTPORT[-LAST]:GUESTPORT[-LAST][/tcp|udp|tcp6|udp6]\n",
			text);
		return -EINVAL;
	}
	request.host_port = (uint16_t)spec.host_port;
	request.guest_port = (uint16_t)spec.guest_port;
	request.count = spec.host_count;
	*ret_request = request;
	return 0;
}
