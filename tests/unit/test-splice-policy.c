#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <string.h>

#include "netns-helper/resolv-conf.h"
#include "netns-helper/splice-policy.h"

static Options options = {.cidr = "10.0.2.0/24", .mtu = 1500, .enable_ipv6 = true};
static AddressPlan plan;

static SpliceAddr addr(const char *text, uint16_t port)
{
	struct in_addr ip;
	SpliceAddr a = {.port = port};

	if (inet_pton(AF_INET, text, &ip) == 1)
		return splice_addr_from_v4(ip, port);
	g_assert_cmpint(inet_pton(AF_INET6, text, &a.ip), ==, 1);
	return a;
}

static int outbound(const char *text, uint16_t port, SpliceAddr *ret)
{
	SpliceAddr dest = addr(text, port);

	memset(ret, 0, sizeof(*ret));
	return splice_policy_outbound(&options, &plan, &dest, ret);
}

static void assert_goes(const char *text, uint16_t port, const char *to)
{
	SpliceAddr host, wanted = addr(to, port);

	g_test_message("%s port %u goes to %s", text, port, to);
	g_assert_cmpint(outbound(text, port, &host), ==, 0);
	g_assert_true(splice_addr_equal(&host, &wanted));
}

static void assert_refused(const char *text, uint16_t port)
{
	SpliceAddr host;

	g_test_message("%s port %u is refused", text, port);
	g_assert_cmpint(outbound(text, port, &host), ==, -ENETUNREACH);
}

static void test_ordinary(void)
{
	assert_goes("192.0.2.7", 80, "192.0.2.7");
	assert_goes("10.0.2.77", 80, "10.0.2.77");
	assert_goes("2001:db8::1", 80, "2001:db8::1");
	assert_refused("192.0.2.7", 0);
}

static void test_loopback(void)
{
	options.disable_host_loopback = false;
	assert_goes("10.0.2.2", 80, "127.0.0.1");
	assert_goes("255.255.255.255", 80, "127.0.0.1");
	assert_goes("fd00::2", 80, "::1");
	assert_goes("fd00::99", 80, "::1");
	options.disable_host_loopback = true;
	assert_refused("10.0.2.2", 80);
	assert_refused("255.255.255.255", 80);
	assert_refused("fd00::2", 80);
	assert_refused("fd00::99", 80);
	options.disable_host_loopback = false;
}

static void test_forbidden(void)
{
	static const char *const never[] = {"127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "224.0.0.1",
		"240.0.0.1", "::1", "::", "::127.0.0.1", "fe80::2", "ff02::1"};

	for (size_t i = 0; i < G_N_ELEMENTS(never); i++)
		assert_refused(never[i], 80);
}

static void test_dns(void)
{
	SpliceAddr host;

	assert_refused("10.0.2.3", 80);
	options.disable_dns = true;
	assert_goes("10.0.2.3", 53, "10.0.2.3");
	options.disable_dns = false;
	g_assert_cmpint(outbound("10.0.2.3", 54, &host), ==, -ENETUNREACH);
}

static void assert_appears(const char *client, const char *guest, const char *as)
{
	SpliceAddr c = addr(client, 1234), g = addr(guest, 80), wanted = addr(as, 1234);
	SpliceAddr seen = splice_policy_inbound(&options, &plan, &g, &c);

	g_test_message("%s appears as %s", client, as);
	g_assert_true(splice_addr_equal(&seen, &wanted));
}

static void test_inbound(void)
{
	assert_appears("192.0.2.7", "10.0.2.100", "192.0.2.7");
	assert_appears("127.0.0.9", "10.0.2.100", "10.0.2.2");
	assert_appears("10.0.2.100", "10.0.2.100", "10.0.2.2");
	assert_appears("2001:db8::1", "fd00::100", "2001:db8::1");
	assert_appears("::1", "fd00::100", "fd00::2");
	assert_appears("fe80::1", "fd00::100", "fd00::2");
	options.inbound_gateway = true;
	assert_appears("192.0.2.7", "10.0.2.100", "10.0.2.2");
	options.inbound_gateway = false;
}

static void assert_server(const char *text, int family, const char *wanted)
{
	struct sockaddr_storage server;
	SpliceAddr seen, want;

	g_test_message("%s", text);
	if (!wanted) {
		g_assert_cmpint(resolv_conf_parse(text, family, &server), ==, -ENOENT);
		return;
	}
	want = addr(wanted, 53);
	g_assert_cmpint(resolv_conf_parse(text, family, &server), ==, 0);
	g_assert_true(splice_addr_from_sockaddr((struct sockaddr *)&server, &seen));
	g_assert_true(splice_addr_equal(&seen, &want));
}

static void test_resolv_conf(void)
{
	assert_server("nameserver 192.0.2.1\nnameserver 192.0.2.2\n", AF_INET, "192.0.2.1");
	assert_server("# x\nsearch a\nnameserver\t 192.0.2.1  # y", AF_INET, "192.0.2.1");
	assert_server("nameserver ::1\nnameserver 192.0.2.2\n", AF_INET, "192.0.2.2");
	assert_server("nameserver 192.0.2.2\nnameserver fe80::1%1\n", AF_INET6, "fe80::1");
	assert_server("", AF_INET, NULL);
	assert_server("nameserver\n", AF_INET, NULL);
	assert_server("nameserver192.0.2.1\n nameserver 192.0.2.1\n", AF_INET, NULL);
	assert_server("nameserver 1.2.3.4.5\nnameserver 192.0.2.300\n", AF_INET, NULL);
	assert_server("nameserver 192.0.2.2\n", AF_INET6, NULL);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_assert_cmpint(address_plan_make(&options, &plan), ==, 0);
	g_test_add_func("/splice-policy/outbound/ordinary-addresses-are-themselves", test_ordinary);
	g_test_add_func("/splice-policy/outbound/gateway-is-the-loopback-unless-disabled", test_loopback);
	g_test_add_func("/splice-policy/outbound/own-addresses-are-never-reached", test_forbidden);
	g_test_add_func("/splice-policy/outbound/dns-address-serves-port-53", test_dns);
	g_test_add_func("/splice-policy/inbound/real-address-unless-it-cannot-be", test_inbound);
	g_test_add_func("/resolv-conf/first-server-of-a-family", test_resolv_conf);
	return g_test_run();
}
