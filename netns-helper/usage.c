#include "config.h"

#include "netns-helper/usage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>

#include "netns-helper/seccomp-filter.h"

/*
 * Every "--token" in here is a promise: engines grep for it and then use it unasked (N-50, N-52). The word "version" in lower case must not
 * stand alone on a line of usage_print_version() but once (N-55).
 */
static const char help_text[] =
	"Usage: slirp4netns [OPTION]... PID|PATH|FD [TAPNAME]\n"
	"User-mode networking for unprivileged network namespaces.\n"
	"\n"
	"-c, --configure          bring up the interface: address, route, MTU\n"
	"-e, --exit-fd=FD         end when this descriptor hangs up\n"
	"-r, --ready-fd=FD        write 1 to this descriptor when the network works, and close it\n"
	"-m, --mtu=MTU            MTU (default=1500, min=68, max=65521)\n"
	"-6, --enable-ipv6        enable IPv6 (fd00::/64)\n"
	"-a, --api-socket=PATH    control socket for port forwards\n"
	"-p, --publish=SPEC       forward [HOSTADDR:]HOSTPORT[-LAST]:GUESTPORT[/tcp|udp|tcp6|udp6], "
	"repeatable;\n"
	"                         host port 0 is chosen and printed\n"
	"--cidr=CIDR              network of the guest (default=10.0.2.0/24)\n"
	"--disable-host-loopback  prohibit connecting to 127.0.0.1:* on the host\n"
	"--netns-type=TYPE        what the target is ([path|pid|tapfd], default=pid)\n"
	"--userns-path=PATH       user namespace to enter\n"
	"--enable-sandbox         see nothing but /etc and /run; keep no capability but "
	"CAP_NET_BIND_SERVICE\n"
	"--sandbox=MODE           where a step of the sandbox is not permitted: auto (next best, said on "
	"stderr)\n"
	"                         or strict (refuse) (default=auto)\n"
	"--enable-seccomp         filter system calls\n"
	"--outbound-addr=IPv4     source address or interface of outbound IPv4\n"
	"--outbound-addr6=IPv6    source address or interface of outbound IPv6\n"
	"--disable-dns            no built-in DNS forwarder at network+3\n"
	"--macaddress=MAC         MAC address of the interface (only with -c)\n"
	"--data-path=PATH         how TCP is carried: splice (kernel speed), slirp, auto (default=auto: "
	"splice, else slirp)\n"
	"--inbound-source=WHO     whose address a published port's client has in the guest "
	"([client|gateway],\n"
	"                         default=client)\n"
	"--on-worker-failure=DO   when no worker can be started any more ([continue|stop], default=continue: try on)\n"
	"--target-type=TYPE       kind of target ([netns|bess], default=netns)\n"
	"-h, --help               show this help and exit\n"
	"-v, --version            show version and exit\n";

static int finish(FILE *out)
{
	/* A reader that has seen enough (grep -q) is no error. */
	return fflush(out) == 0 || errno == EPIPE || errno == EBADF ? 0 : -errno;
}

int usage_print_help(FILE *out)
{
	fputs(help_text, out);
	return finish(out);
}

int usage_print_version(FILE *out)
{
	fprintf(out, "slirp4netns version 1.3.2+tandem.%s\n", PACKAGE_VERSION);
	fprintf(out, "commit: %s\n", GIT_COMMIT[0] ? GIT_COMMIT : "unknown");
	fprintf(out, "libslirp: %s\n", slirp_version_string());
	fprintf(out, "SLIRP_CONFIG_VERSION_MAX: %d\n", SLIRP_CONFIG_VERSION_MAX);
	fprintf(out, "libseccomp: %s\n", seccomp_filter_library());
	return finish(out);
}

static void print_addr(const char *what, struct in_addr addr)
{
	char text[INET_ADDRSTRLEN];

	printf("* %s: %s\n", what, inet_ntop(AF_INET, &addr, text, sizeof(text)));
}

void usage_print_banner(const Options *options, const AddressPlan *plan)
{
	struct in_addr last_lease = {htonl(ntohl(plan->dhcp.s_addr) + 15)};
	char first[INET_ADDRSTRLEN], last[INET_ADDRSTRLEN], text6[INET6_ADDRSTRLEN];

	printf("* MTU: %u\n", options->mtu);
	print_addr("Network", plan->network);
	print_addr("Netmask", plan->netmask);
	print_addr("Gateway", plan->gateway);
	print_addr("DNS", plan->dns);
	printf("* DHCP: %s - %s\n", inet_ntop(AF_INET, &plan->dhcp, first, sizeof(first)),
		inet_ntop(AF_INET, &last_lease, last, sizeof(last)));
	print_addr("Recommended address", plan->guest);
	if (options->enable_ipv6)
		printf("* IPv6: fd00::/64, gateway fd00::2, DNS fd00::3\n");
	if (options->api_socket)
		printf("* API socket: %s\n", options->api_socket);
	if (plan->has_outbound)
		print_addr("Outbound IPv4", plan->outbound.sin_addr);
	if (plan->has_outbound6)
		printf("* Outbound IPv6: %s\n",
			inet_ntop(AF_INET6, &plan->outbound6.sin6_addr, text6, sizeof(text6)));
	if (plan->has_mac)
		printf("* MAC address: %s\n", options->macaddress);
	if (!options->disable_host_loopback)
		printf("WARNING: 127.0.0.1:* on the host is accessible as %s "
		       "(set --disable-host-loopback to prohibit connecting to 127.0.0.1:*)\n",
			inet_ntop(AF_INET, &plan->gateway, first, sizeof(first)));
	fflush(stdout);
}
