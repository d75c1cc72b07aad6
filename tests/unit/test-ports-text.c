/* netns-helper/ports-text, netns-helper/address-plan */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "netns-helper/address-plan.h"
#include "netns-helper/ports.h"

static AddressPlan plan;
static struct in6_addr guest6;

static const char *text_of(int family, const void *addr)
{
	static char text[INET6_ADDRSTRLEN];

	return inet_ntop(family, addr, text, sizeof(text));
}

static void test_publish_accepted(void)
{
	PortRequest r;

	g_assert_cmpint(ports_parse("8080:80", &plan, &guest6, &r), ==, 0);
	g_assert_true(r.v4 && !r.v6 && !r.is_udp);
	g_assert_cmpuint(r.host_port, ==, 8080);
	g_assert_cmpuint(r.guest_port, ==, 80);
	g_assert_cmpuint(r.count, ==, 1);
	g_assert_cmpint(r.client_fd, ==, -1);
	g_assert_cmpstr(text_of(AF_INET, &r.host4), ==, "0.0.0.0");
	g_assert_cmpstr(text_of(AF_INET, &r.guest4), ==, "10.0.2.100");

	g_assert_cmpint(ports_parse("127.0.0.1:5000-5009:6000/udp", &plan, &guest6, &r), ==, 0);
	g_assert_true(r.is_udp);
	g_assert_cmpuint(r.count, ==, 10);
	g_assert_cmpstr(text_of(AF_INET, &r.host4), ==, "127.0.0.1");

	g_assert_cmpint(ports_parse("[::1]:80:80-80/tcp6", &plan, &guest6, &r), ==, 0);
	g_assert_true(r.v6 && !r.v4);
	g_assert_cmpstr(text_of(AF_INET6, &r.host6), ==, "::1");
	g_assert_cmpmem(&r.guest6, sizeof(r.guest6), &guest6, sizeof(guest6));

	g_assert_cmpint(ports_parse("0:80", &plan, &guest6, &r), ==, 0);
	g_assert_cmpuint(r.host_port, ==, 0);
}

static void test_publish_refused(void)
{
	static const char *const texts[] = {
		"",
		":",
		"80",
		"80:",
		":80",
		"a:b",
		"80:80:80:80",
		"80:0",
		"65536:80",
		"80:65536",
		"90-80:80",
		"0-5:80",
		"80-90:80-81",
		"65530-65535:65534",
		"1.2.3:80:80",
		"[::1:80:80",
		"::1:80:80",
		"80:80/",
		"80:80/sctp",
		"80:80/tcp5",
		"80:80/tcp64",
		"80:80x",
		"80 :80",
		"+80:80",
		"127.0.0.1:80:80/tcp6",
		"[::1]:80:80/tcpx",
	};
	PortRequest r;

	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++)
		g_assert_cmpint(ports_parse(texts[i], &plan, &guest6, &r), ==, -EINVAL);
}

static void test_explained_with_ways_out(void)
{
	PortRequest r;

	g_assert_cmpint(ports_parse("80:80", &plan, &guest6, &r), ==, 0);
	g_assert_nonnull(strstr(ports_explain(-EACCES, &r), "net.ipv4.ip_unprivileged_port_start=80"));
	g_assert_nonnull(strstr(ports_explain(-EACCES, &r), "port 80"));
	g_assert_nonnull(strstr(ports_explain(-EADDRINUSE, &r), "in use"));
	g_assert_nonnull(strstr(ports_explain(-EAFNOSUPPORT, &r), "--enable-ipv6"));
	g_assert_nonnull(strstr(ports_explain(-ENOMEM, &r), strerror(ENOMEM)));
}

static void test_plan_of_a_network(void)
{
	const Options options = {.cidr = "192.168.128.0/17"};
	AddressPlan p;

	g_assert_cmpint(address_plan_make(&options, &p), ==, 0);
	g_assert_cmpstr(text_of(AF_INET, &p.gateway), ==, "192.168.128.2");
	g_assert_cmpstr(text_of(AF_INET, &p.dns), ==, "192.168.128.3");
	g_assert_cmpstr(text_of(AF_INET, &p.dhcp), ==, "192.168.128.15");
	g_assert_cmpstr(text_of(AF_INET, &p.guest), ==, "192.168.128.100");
	g_assert_cmpstr(text_of(AF_INET, &p.broadcast), ==, "192.168.255.255");
	g_assert_cmpuint(p.gateway_mac.ether_addr_octet[2], ==, 192);
	g_assert_cmpuint(p.gateway_mac.ether_addr_octet[5], ==, 2);
}

static void test_networks_refused(void)
{
	static const char *const texts[] = {
		"",
		"10.0.2.0",
		"10.0.2.0/",
		"10.0.2/24",
		"10.0.2.0/24x",
		" 10.0.2.0/24",
		"10.0.2.0/024",
		"0010.0.2.0/24",
		"256.0.0.0/8",
		"10.0.2.0/0",
		"10.0.2.0/26",
		"10.0.2.1/24",
		"10.0.2.0/+4",
	};
	AddressPlan p;

	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
		const Options options = {.cidr = texts[i]};

		g_assert_cmpint(address_plan_make(&options, &p), ==, -EINVAL);
	}
}

static void test_macs(void)
{
	static const char *const bad[] = {"", "1:2:3:4:5", "1:2:3:4:5:6:7", "1:2:3:4:5:g", "1:2:3:4:5:100",
		"01:2:3:4:5:6", "0x2:2:3:4:5:6", "2:2:3:4:5:6 ", "2-2-3-4-5-6"};
	Options options = {.cidr = "10.0.2.0/24", .macaddress = "2:0:0:A:0:ff"};
	struct in6_addr addr;
	AddressPlan p;

	g_assert_cmpint(address_plan_make(&options, &p), ==, 0);
	g_assert_cmpuint(p.mac.ether_addr_octet[3], ==, 10);
	addr = address_plan_guest6(&p, &p.mac);
	g_assert_cmpstr(text_of(AF_INET6, &addr), ==, "fd00::ff:fe0a:ff");
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		options.macaddress = bad[i];
		g_assert_cmpint(address_plan_make(&options, &p), ==, -EINVAL);
	}
}

int main(int argc, char **argv)
{
	const Options options = {.cidr = "10.0.2.0/24"};

	g_test_init(&argc, &argv, NULL);
	if (address_plan_make(&options, &plan) < 0)
		return 1;
	inet_pton(AF_INET6, "fd00::5", &guest6);
	g_test_add_func("/ports-text/publish-options-that-make-sense", test_publish_accepted);
	g_test_add_func("/ports-text/publish-options-that-do-not", test_publish_refused);
	g_test_add_func("/ports-text/errors-name-port-and-ways-out", test_explained_with_ways_out);
	g_test_add_func("/address-plan/every-address-from-the-network", test_plan_of_a_network);
	g_test_add_func("/address-plan/networks-that-are-refused", test_networks_refused);
	g_test_add_func("/address-plan/macs", test_macs);
	return g_test_run();
}
