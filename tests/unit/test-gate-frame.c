#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib.h>
#include <net/ethernet.h>
#include <string.h>

#include "netns-helper/frame-filter.h"
#include "netns-helper/gate-frame.h"

static const uint8_t syn4[] = {
	0x52,
	0x55,
	10,
	0,
	2,
	2,
	2,
	0,
	0,
	0,
	0,
	1,
	0x08,
	0x00, /* Ethernet */
	0x45,
	0,
	0,
	44,
	0,
	7,
	0x40,
	0,
	64,
	6,
	0,
	0,
	10,
	0,
	2,
	100,
	192,
	0,
	2,
	7,
	0x9c,
	0x40,
	0,
	80,
	0x11,
	0x22,
	0x33,
	0x44,
	0,
	0,
	0,
	0,
	6 << 4,
	2,
	0xff,
	0xff,
	0,
	0,
	0,
	0,
	2,
	4,
	5,
	0xb4,
};

static const uint8_t syn6[] = {
	0x52,
	0x56,
	0,
	0,
	0,
	2,
	2,
	0,
	0,
	0,
	0,
	1,
	0x86,
	0xdd, /* Ethernet */
	0x60,
	0,
	0,
	0,
	0,
	20,
	6,
	64,
	0xfd,
	[37] = 1,
	[38] = 0x20,
	0x01,
	0x0d,
	0xb8,
	[53] = 9,
	0x9c,
	0x40,
	0,
	80,
	0x11,
	0x22,
	0x33,
	0x44,
	0,
	0,
	0,
	0,
	5 << 4,
	2,
	0xff,
	0xff,
	0,
	0,
	0,
	0,
};

static uint32_t sum(uint32_t s, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		s += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return s;
}

/* The sum over pseudo header and transport part; 0xffff if the checksum in it is right. */
static uint32_t transport_sum(const uint8_t *frame, size_t size)
{
	const uint8_t *ip = frame + ETH_HLEN;
	bool v4 = ip[0] >> 4 == 4;
	size_t header = v4 ? (size_t)(ip[0] & 15) * 4 : 40, n = size - ETH_HLEN - header;
	uint8_t tail[4] = {0, v4 ? ip[9] : ip[6], (uint8_t)(n >> 8), (uint8_t)n};
	uint32_t s = sum(0, tail, sizeof(tail));

	s = v4 ? sum(s, ip + 12, 8) : sum(s, ip + 8, 32);
	return sum(s, ip + header, n);
}

static void test_parse(void)
{
	GateTcp tcp;

	g_assert_true(gate_frame_is_tcp(syn4, sizeof(syn4), &tcp));
	g_assert_cmpint(tcp.src.port, ==, 40000);
	g_assert_cmpint(tcp.dst.port, ==, 80);
	g_assert_cmphex(tcp.seq, ==, 0x11223344);
	g_assert_cmpint(tcp.flags, ==, GATE_TCP_SYN);
	g_assert_cmpint(tcp.payload, ==, 0);
	g_assert_cmphex(splice_addr_v4(&tcp.dst).s_addr, ==, htonl(0xc0000207));
	g_assert_true(gate_frame_is_tcp(syn6, sizeof(syn6), &tcp));
	g_assert_false(splice_addr_is_v4(&tcp.dst));
	g_assert_cmpint(tcp.dst.ip.s6_addr[15], ==, 9);
}

static void test_every_cut_is_refused(void)
{
	GateTcp tcp;

	for (size_t n = 0; n < sizeof(syn4); n++) {
		g_autofree uint8_t *copy =
			g_memdup2(syn4, n); /* exact size: sanitizers see a read behind it */

		g_assert_false(gate_frame_is_tcp(copy, n, &tcp));
		(void)gate_frame_has_tcp(copy, n);
		(void)frame_filter_is_forged(copy, n);
	}
	for (size_t n = 0; n < sizeof(syn6); n++) {
		g_autofree uint8_t *copy = g_memdup2(syn6, n);

		g_assert_false(gate_frame_is_tcp(copy, n, &tcp));
		(void)gate_frame_has_tcp(copy, n);
		(void)frame_filter_is_forged(copy, n);
	}
}

static void test_odd_headers_are_refused(void)
{
	static const struct {
		size_t at;
		uint8_t value;
	} changes[] = {
		{14, 0x65},
		{14, 0x44},
		{14, 0x4f},
		{17, 255},
		{17, 10},
		{20, 0x20},
		{21, 1},
		{23, 17},
		{46, 4 << 4},
		{46, 15 << 4},
	};
	uint8_t frame[sizeof(syn4)];
	GateTcp tcp;

	for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
		memcpy(frame, syn4, sizeof(frame));
		frame[changes[i].at] = changes[i].value;
		g_test_message("byte %zu = %#x", changes[i].at, changes[i].value);
		g_assert_false(gate_frame_is_tcp(frame, sizeof(frame), &tcp));
	}
}

static void test_mapped_addresses_are_no_tcp(void)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	uint8_t frame[sizeof(syn6)];
	GateTcp tcp;

	for (size_t at = 22; at <= 38; at += 16) {
		memcpy(frame, syn6, sizeof(frame));
		memcpy(frame + at, mapped, sizeof(mapped));
		g_assert_false(gate_frame_is_tcp(frame, sizeof(frame), &tcp));
		g_assert_true(gate_frame_has_tcp(frame, sizeof(frame)));
		g_assert_cmpint(frame_filter_is_forged(frame, sizeof(frame)), ==, at == 38);
	}
}

static void test_extension_headers(void)
{
	uint8_t frame[sizeof(syn6) + 8];

	memcpy(frame, syn6, 54);
	memset(frame + 54, 0, 8);
	memcpy(frame + 62, syn6 + 54, sizeof(syn6) - 54);
	frame[20] = 0; /* hop by hop */
	frame[54] = 6;
	g_assert_true(gate_frame_has_tcp(frame, sizeof(frame)));
	frame[55] = 255; /* longer than the frame */
	(void)gate_frame_has_tcp(frame, sizeof(frame));
	frame[20] = 17;
	g_assert_false(gate_frame_has_tcp(frame, sizeof(frame)));
}

static void test_refuse(void)
{
	uint8_t buf[GATE_ANSWER_MAX];
	GateTcp tcp;
	size_t n;

	g_assert_true(gate_frame_is_tcp(syn4, sizeof(syn4), &tcp));
	n = gate_frame_refuse(syn4, &tcp, buf);
	g_assert_cmpint(n, ==, 54);
	g_assert_cmpmem(buf, 6, syn4 + 6, 6);
	g_assert_cmpmem(buf + 6, 6, syn4, 6);
	g_assert_cmphex(sum(0, buf + 14, 20), ==, 0xffff);
	g_assert_cmphex(transport_sum(buf, n), ==, 0xffff);
	g_assert_true(gate_frame_is_tcp(buf, n, &tcp));
	g_assert_cmpint(tcp.flags, ==, GATE_TCP_RST | GATE_TCP_ACK);
	g_assert_cmpmem(buf + 42, 4, "\x11\x22\x33\x45", 4);

	g_assert_true(gate_frame_is_tcp(syn6, sizeof(syn6), &tcp));
	n = gate_frame_refuse(syn6, &tcp, buf);
	g_assert_cmpint(n, ==, 74);
	g_assert_cmphex(transport_sum(buf, n), ==, 0xffff);
}

static void test_unreachable(void)
{
	struct in6_addr gateway6 = {.s6_addr = {0xfd, [15] = 2}};
	SpliceAddr gateway = splice_addr_from_v4((struct in_addr){htonl(0x0a000202)}, 0);
	uint8_t buf[GATE_ANSWER_MAX];
	GateTcp tcp;
	size_t n;

	g_assert_true(gate_frame_is_tcp(syn4, sizeof(syn4), &tcp));
	n = gate_frame_unreachable(syn4, &tcp, true, &gateway.ip, buf);
	g_assert_cmpint(buf[34], ==, 3);
	g_assert_cmpint(buf[35], ==, 1);
	g_assert_cmphex(sum(0, buf + 14, 20), ==, 0xffff);
	g_assert_cmphex(sum(0, buf + 34, n - 34), ==, 0xffff);
	g_assert_cmpmem(buf + 42, n - 42, syn4 + 14, sizeof(syn4) - 14);

	g_assert_true(gate_frame_is_tcp(syn6, sizeof(syn6), &tcp));
	n = gate_frame_unreachable(syn6, &tcp, false, &gateway6, buf);
	g_assert_cmpint(buf[54], ==, 1);
	g_assert_cmpint(buf[55], ==, 0);
	g_assert_cmphex(transport_sum(buf, n), ==, 0xffff);
}

static void test_complete_checksum(void)
{
	const struct virtio_net_hdr vnet = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16};
	struct virtio_net_hdr bad = vnet;
	uint8_t frame[sizeof(syn4)], tail[4] = {0, 6, 0, sizeof(syn4) - 34};
	uint32_t pseudo;

	memcpy(frame, syn4, sizeof(frame));
	pseudo = sum(sum(0, tail, 4), frame + 26, 8);
	frame[50] = (uint8_t)(pseudo >> 8);
	frame[51] = (uint8_t)pseudo;
	g_assert_cmpint(gate_frame_complete_checksum(frame, sizeof(frame), &vnet), ==, 0);
	g_assert_cmphex(transport_sum(frame, sizeof(frame)), ==, 0xffff);

	for (unsigned start = 0; start < 0x10000; start += 13) {
		bad.csum_start = (uint16_t)start;
		bad.csum_offset = (uint16_t)(start * 7);
		if (start < ETH_HLEN || start + bad.csum_offset + 2 > sizeof(frame))
			g_assert_cmpint(
				gate_frame_complete_checksum(frame, sizeof(frame), &bad), ==, -EBADMSG);
	}
}

static void count_datagram(void *data, const uint8_t *frame, size_t size)
{
	GString *payload = data;

	g_assert_cmphex(sum(0, frame + 14, 20), ==, 0xffff);
	g_assert_cmphex(transport_sum(frame, size), ==, 0xffff);
	g_string_append_len(payload, (const char *)frame + 42, (gssize)size - 42);
	g_string_append_c(payload, '|');
}

static void test_segment_udp(void)
{
	g_autoptr(GString) payload = g_string_new(NULL);
	uint8_t frame[42 + 10];

	memcpy(frame, syn4, 34);
	memset(frame + 34, 0, 8);
	frame[23] = IPPROTO_UDP;
	memcpy(frame + 42, "abcdefghij", 10);
	g_assert_cmpint(gate_frame_segment_udp(frame, sizeof(frame), 4, count_datagram, payload), ==, 0);
	g_assert_cmpstr(payload->str, ==, "abcd|efgh|ij|");
	g_assert_cmpint(
		gate_frame_segment_udp(frame, sizeof(frame), 0, count_datagram, payload), ==, -EBADMSG);
	for (size_t n = 0; n < 42; n++)
		g_assert_cmpint(gate_frame_segment_udp(frame, n, 4, count_datagram, payload), ==, -EBADMSG);
}

static void collect_segment(void *data, const uint8_t *frame, size_t size)
{
	GString *out = data;
	GateTcp tcp;

	g_assert_true(gate_frame_is_tcp(frame, size, &tcp));
	g_assert_cmpint(ETH_HLEN + tcp.l3_size, ==, size);
	g_assert_cmphex(transport_sum(frame, size), ==, 0xffff);
	if (splice_addr_is_v4(&tcp.src))
		g_assert_cmphex(sum(0, frame + 14, 20), ==, 0xffff);
	g_string_append_printf(out, "%x %02x %.*s|", tcp.seq, tcp.flags, (int)tcp.payload,
		(const char *)frame + size - tcp.payload);
}

static void test_segment_tcp(void)
{
	static const struct {
		const uint8_t *syn;
		size_t l4, headers;
	} families[] = {{syn4, 34, sizeof(syn4)}, {syn6, 54, sizeof(syn6)}};

	for (size_t i = 0; i < G_N_ELEMENTS(families); i++) {
		g_autoptr(GString) out = g_string_new(NULL);
		size_t l4 = families[i].l4, headers = families[i].headers;
		uint8_t frame[sizeof(syn6) + 10];

		memcpy(frame, families[i].syn, headers);
		memcpy(frame + headers, "abcdefghij", 10);
		frame[l4 + 13] = 0x99; /* CWR, ACK, PSH, FIN */
		g_assert_cmpint(
			gate_frame_segment_tcp(frame, headers + 10, 4, collect_segment, out), ==, 0);
		g_assert_cmpstr(out->str, ==, "11223344 90 abcd|11223348 10 efgh|1122334c 19 ij|");
		g_assert_cmpint(
			gate_frame_segment_tcp(frame, headers + 10, 0, collect_segment, out), ==, -EBADMSG);
		for (size_t n = 0; n < headers; n++)
			g_assert_cmpint(
				gate_frame_segment_tcp(frame, n, 4, collect_segment, out), ==, -EBADMSG);
		frame[l4 + 12] = 4 << 4;
		g_assert_cmpint(
			gate_frame_segment_tcp(frame, headers + 10, 4, collect_segment, out), ==, -EBADMSG);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/gate-frame/tcp/addresses-and-flags-of-both-families", test_parse);
	g_test_add_func("/gate-frame/tcp/cut-anywhere-it-is-refused", test_every_cut_is_refused);
	g_test_add_func("/gate-frame/tcp/odd-headers-are-refused", test_odd_headers_are_refused);
	g_test_add_func("/gate-frame/tcp/mapped-addresses-are-forgeries", test_mapped_addresses_are_no_tcp);
	g_test_add_func("/gate-frame/tcp/is-seen-behind-extension-headers", test_extension_headers);
	g_test_add_func("/gate-frame/refuse/valid-reset-of-the-right-sequence", test_refuse);
	g_test_add_func("/gate-frame/unreachable/valid-and-quotes-the-segment", test_unreachable);
	g_test_add_func("/gate-frame/checksum/completed-or-refused", test_complete_checksum);
	g_test_add_func("/gate-frame/udp/segmented-with-valid-checksums", test_segment_udp);
	g_test_add_func("/gate-frame/tcp/segmented-with-valid-checksums-and-flags-where-they-belong", test_segment_tcp);
	return g_test_run();
}
