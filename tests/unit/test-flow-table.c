/* netns-helper/flow-table */
#include "config.h"

#include <arpa/inet.h>
#include <glib.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>

#include "netns-helper/checksum.h"
#include "netns-helper/flow-table.h"

static const uint8_t guest_mac[ETH_ALEN] = {2, 0, 0, 0, 0, 5};
static const uint8_t our_mac[ETH_ALEN] = {0x52, 0x55, 10, 0, 2, 2};

typedef struct {
	FlowTable *table;
	uint8_t frame[256];
	size_t size;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
	f->table = g_new0(FlowTable, 1);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	g_free(f->table);
}

static void see(Fixture *f, bool from_guest, uint8_t proto, uint16_t remote_port, uint8_t flags,
	size_t payload, uint64_t now)
{
	struct ip ip = {.ip_v = 4, .ip_hl = 5, .ip_ttl = 64, .ip_p = proto};
	struct tcphdr tcp = {.th_off = 5, .th_flags = flags, .th_seq = htonl(1000), .th_ack = htonl(2000)};
	size_t l4 = proto == IPPROTO_TCP ? sizeof(tcp) : sizeof(struct udphdr);
	struct in_addr guest = {htonl(0x0a000264)}, remote = {htonl(0xc6336401)};

	memset(f->frame, 0, sizeof(f->frame));
	memcpy(f->frame, from_guest ? our_mac : guest_mac, ETH_ALEN);
	memcpy(f->frame + ETH_ALEN, from_guest ? guest_mac : our_mac, ETH_ALEN);
	f->frame[12] = 0x08;
	ip.ip_len = htons((uint16_t)(sizeof(ip) + l4 + payload));
	ip.ip_src = from_guest ? guest : remote;
	ip.ip_dst = from_guest ? remote : guest;
	tcp.th_sport = htons(from_guest ? 40000 : remote_port);
	tcp.th_dport = htons(from_guest ? remote_port : 40000);
	memcpy(f->frame + ETH_HLEN, &ip, sizeof(ip));
	memcpy(f->frame + ETH_HLEN + sizeof(ip), &tcp, l4); /* UDP: the ports stand at the same place */
	f->size = ETH_HLEN + sizeof(ip) + l4 + payload;
	flow_table_see(f->table, f->frame, f->size, from_guest, now);
}

static size_t count(Fixture *f)
{
	size_t n = 0;

	for (size_t i = 0; flow_table_next(f->table, &i);)
		n++;
	return n;
}

static Flow *only(Fixture *f)
{
	size_t i = 0;
	Flow *flow = flow_table_next(f->table, &i);

	g_assert_nonnull(flow);
	g_assert_cmpuint(count(f), ==, 1);
	return flow;
}

static void test_life_of_a_connection(Fixture *f, gconstpointer data)
{
	see(f, true, IPPROTO_TCP, 80, TH_SYN, 0, 10);
	g_assert_cmpuint(only(f)->flags, ==, FLOW_USED);
	see(f, false, IPPROTO_TCP, 80, TH_SYN | TH_ACK, 0, 11);
	g_assert_cmpuint(only(f)->flags, ==, FLOW_USED | FLOW_ESTABLISHED);
	see(f, true, IPPROTO_TCP, 80, TH_ACK, 100, 12);
	see(f, false, IPPROTO_TCP, 80, TH_ACK, 50, 13);
	g_assert_cmpuint(only(f)->bytes_out, ==, 100);
	g_assert_cmpuint(only(f)->bytes_in, ==, 50);
	g_assert_cmpuint(only(f)->seq, ==, 1050);
	g_assert_cmpuint(only(f)->started_ms, ==, 10);
	see(f, true, IPPROTO_TCP, 80, TH_ACK | TH_FIN, 0, 14);
	g_assert_cmpuint(
		flow_table_expire(f->table, 14 + 2 * FLOW_TCP_LINGER_MS), ==, 1); /* half-closed: stays */
	see(f, false, IPPROTO_TCP, 80, TH_ACK | TH_FIN, 0, 15);
	g_assert_cmpuint(flow_table_expire(f->table, 15), ==, 1);
	g_assert_cmpuint(flow_table_expire(f->table, 15 + FLOW_TCP_LINGER_MS + 1), ==, 0);
	g_assert_cmpuint(count(f), ==, 0);
}

static void test_inbound_is_told(Fixture *f, gconstpointer data)
{
	see(f, false, IPPROTO_TCP, 50000, TH_SYN, 0, 1);
	g_assert_cmpuint(only(f)->flags, ==, FLOW_USED | FLOW_INBOUND);
	see(f, true, IPPROTO_TCP, 50000, TH_SYN | TH_ACK, 0, 2);
	g_assert_true(only(f)->flags & FLOW_ESTABLISHED);
}

static void test_reset_ends_at_once(Fixture *f, gconstpointer data)
{
	see(f, true, IPPROTO_TCP, 80, TH_SYN, 0, 1);
	see(f, false, IPPROTO_TCP, 80, TH_RST | TH_ACK, 0, 2);
	g_assert_cmpuint(count(f), ==, 0);
	see(f, false, IPPROTO_TCP, 80, TH_RST, 0, 3); /* nor does one make an entry */
	g_assert_cmpuint(count(f), ==, 0);
}

/* Silence, or an ICMP error: no segment tells. A guest's kernel repeats its SYN after a minute at most. */
static void test_never_established_expires(Fixture *f, gconstpointer data)
{
	see(f, true, IPPROTO_TCP, 80, TH_SYN, 0, 1000);
	see(f, true, IPPROTO_TCP, 80, TH_SYN, 0, 65000);
	g_assert_cmpuint(flow_table_expire(f->table, 65000 + FLOW_TCP_CONNECT_MS), ==, 1);
	g_assert_cmpuint(only(f)->started_ms, ==, 1000);
	g_assert_cmpuint(flow_table_expire(f->table, 65001 + FLOW_TCP_CONNECT_MS), ==, 0);
	see(f, true, IPPROTO_TCP, 80, TH_SYN, 0, 1000);
	see(f, false, IPPROTO_TCP, 80, TH_SYN | TH_ACK, 0, 1000);
	g_assert_cmpuint(flow_table_expire(f->table, 1000 + 100 * FLOW_TCP_CONNECT_MS), ==, 1); /* idle, that is all */
}

static void test_first_frames_are_told(Fixture *f, gconstpointer data)
{
	see(f, true, IPPROTO_TCP, 80, TH_SYN, 0, 1);
	g_assert_false(flow_table_see(f->table, f->frame, f->size, true, 2));
	flow_table_expire(f->table, 3 + FLOW_TCP_CONNECT_MS);
	g_assert_true(flow_table_see(f->table, f->frame, f->size, true, 4 + FLOW_TCP_CONNECT_MS));
}

static void test_udp_expires(Fixture *f, gconstpointer data)
{
	see(f, true, IPPROTO_UDP, 53, 0, 20, 1000);
	see(f, false, IPPROTO_UDP, 53, 0, 30, 2000);
	g_assert_cmpuint(only(f)->bytes_out, ==, 20);
	g_assert_cmpuint(only(f)->bytes_in, ==, 30);
	g_assert_cmpuint(flow_table_expire(f->table, 2000 + FLOW_UDP_IDLE_MS), ==, 1);
	g_assert_cmpuint(flow_table_expire(f->table, 2001 + FLOW_UDP_IDLE_MS), ==, 0);
}

static void test_cut_frames_are_passed_over(Fixture *f, gconstpointer data)
{
	uint8_t frame[256];
	size_t size;

	see(f, true, IPPROTO_TCP, 80, TH_SYN, 10, 1);
	size = f->size;
	memcpy(frame, f->frame, size);
	memset(f->table, 0, sizeof(*f->table));
	for (size_t n = 0; n < size; n++) { /* a copy of just that size: a sanitizer sees each byte too far */
		g_autofree uint8_t *cut = g_memdup2(frame, n);

		flow_table_see(f->table, cut, n, true, 1);
	}
	g_assert_cmpuint(count(f), ==, 0);
	frame[ETH_HLEN] = 0x4f; /* header length beyond the packet */
	flow_table_see(f->table, frame, size, true, 1);
	frame[ETH_HLEN] = 0x44; /* shorter than a header can be */
	flow_table_see(f->table, frame, size, true, 1);
	g_assert_cmpuint(count(f), ==, 0);
}

static void test_full_set_keeps_what_lives(Fixture *f, gconstpointer data)
{
	for (unsigned port = 1; port <= 65535; port++)
		see(f, true, IPPROTO_UDP, (uint16_t)port, 0, 1, 100);
	g_assert_cmpuint(count(f), ==, FLOW_SETS * FLOW_WAYS);
	g_assert_cmpuint(f->table->overflowed, ==, 65535 - FLOW_SETS * FLOW_WAYS);
	for (unsigned port = 1; port <= 65535; port++) /* those are over now, and make room */
		see(f, true, IPPROTO_UDP, (uint16_t)port, 0, 1, 200 + FLOW_UDP_IDLE_MS);
	g_assert_cmpuint(count(f), ==, FLOW_SETS * FLOW_WAYS);
	g_assert_cmpuint(flow_table_expire(f->table, 300 + 2 * FLOW_UDP_IDLE_MS), ==, 0);
}

/* More at a time than there are entries. */
static void test_closed_ones_make_room(Fixture *f, gconstpointer data)
{
	for (unsigned port = 1; port < 60000; port++) {
		see(f, true, IPPROTO_TCP, (uint16_t)port, TH_SYN, 0, 10 + port / 30000);
		see(f, true, IPPROTO_TCP, (uint16_t)port, TH_FIN | TH_ACK, 0, 10 + port / 30000);
		see(f, false, IPPROTO_TCP, (uint16_t)port, TH_FIN | TH_ACK, 0, 10 + port / 30000);
		see(f, true, IPPROTO_TCP, (uint16_t)port, TH_ACK, 0, 10 + port / 30000);
	}
	g_assert_cmpuint(f->table->overflowed, ==, 0);
	g_assert_cmpuint(count(f), >, 0);
	g_assert_cmpuint(flow_table_expire(f->table, 20 + FLOW_TCP_LINGER_MS), ==, 0);
}

static void test_last_words_begin_nothing(Fixture *f, gconstpointer data)
{
	see(f, true, IPPROTO_TCP, 80, TH_ACK, 0, 10);
	see(f, true, IPPROTO_TCP, 80, TH_FIN | TH_ACK, 0, 10);
	see(f, false, IPPROTO_TCP, 80, TH_FIN | TH_ACK, 5, 10);
	see(f, false, IPPROTO_TCP, 80, TH_RST, 0, 10);
	g_assert_cmpuint(count(f), ==, 0);
	see(f, true, IPPROTO_TCP, 80, TH_ACK, 5, 10);
	g_assert_cmpuint(only(f)->flags, ==, FLOW_USED | FLOW_ESTABLISHED);
}

static void test_question_to_the_guest(Fixture *f, gconstpointer data)
{
	uint8_t buf[FLOW_FRAME_MAX];
	struct tcphdr tcp;
	size_t size;

	see(f, true, IPPROTO_TCP, 80, TH_SYN, 0, 1);
	see(f, false, IPPROTO_TCP, 80, TH_SYN | TH_ACK, 0, 1);
	size = flow_frame_ack(only(f), our_mac, 7, buf);
	g_assert_cmpuint(size, ==, 54);
	g_assert_cmpmem(buf, ETH_ALEN, guest_mac, ETH_ALEN);
	g_assert_cmpmem(buf + ETH_ALEN, ETH_ALEN, our_mac, ETH_ALEN);
	g_assert_cmpuint(checksum_fold(checksum_add(buf + ETH_HLEN, 20, 0)), ==, 0);
	memcpy(&tcp, buf + 34, sizeof(tcp));
	g_assert_cmpuint(ntohs(tcp.th_sport), ==, 80);
	g_assert_cmpuint(ntohs(tcp.th_dport), ==, 40000);
	g_assert_cmpuint(ntohl(tcp.th_seq), ==, 7);
	g_assert_cmpuint(ntohl(tcp.th_ack), ==, 2000);
	g_assert_cmpuint(tcp.th_flags, ==, TH_ACK);
	g_assert_cmpuint(checksum_fold(checksum_add(buf + 26, 8 + 20, IPPROTO_TCP + 20)), ==, 0);
}

/* One byte, far outside any window. */
static void test_question_that_is_always_answered(Fixture *f, gconstpointer data)
{
	uint8_t buf[FLOW_FRAME_MAX];
	struct tcphdr tcp;

	see(f, true, IPPROTO_TCP, 80, TH_SYN, 0, 1);
	see(f, false, IPPROTO_TCP, 80, TH_SYN | TH_ACK, 0, 1);
	g_assert_cmpuint(flow_frame_question(only(f), our_mac, buf), ==, 55);
	g_assert_cmpuint(checksum_get16(buf + 16), ==, 41);
	g_assert_cmpuint(checksum_fold(checksum_add(buf + ETH_HLEN, 20, 0)), ==, 0);
	memcpy(&tcp, buf + 34, sizeof(tcp));
	g_assert_cmpuint(ntohl(tcp.th_seq), ==, only(f)->seq - 0x40000000U);
	g_assert_cmpuint(tcp.th_flags, ==, TH_ACK);
	g_assert_cmpuint(buf[54], ==, 0);
	g_assert_cmpuint(checksum_fold(checksum_add(buf + 26, 8 + 21, IPPROTO_TCP + 21)), ==, 0);
}

static void test_reset_in_the_guests_place(Fixture *f, gconstpointer data)
{
	uint8_t buf[FLOW_FRAME_MAX];
	size_t size;

	see(f, true, IPPROTO_TCP, 80, TH_SYN, 0, 1);
	see(f, false, IPPROTO_TCP, 80, TH_SYN | TH_ACK, 0, 1);
	size = flow_frame_reset(only(f), our_mac, buf);
	g_assert_cmpmem(buf + ETH_ALEN, ETH_ALEN, guest_mac, ETH_ALEN);
	g_assert_cmpuint(checksum_get16(buf + 34), ==, 40000);
	g_assert_cmpuint(checksum_get16(buf + 40), ==, 2000);
	g_assert_cmpuint(checksum_fold(checksum_add(buf + 26, 8 + 20, IPPROTO_TCP + 20)), ==, 0);
	flow_table_see(f->table, buf, size, true, 2);
	g_assert_cmpuint(count(f), ==, 0);
}

static void test_checksum_mending(void)
{
	uint8_t data[] = {0x45, 0x00, 0x12, 0x34, 0x00, 0x00, 0x7f, 0x00, 0x00, 0x01};
	uint16_t sum = checksum_fold(checksum_add(data, sizeof(data), 0));

	memcpy(data + 4, &sum, sizeof(sum));
	g_assert_cmpuint(checksum_fold(checksum_add(data, sizeof(data), 0)), ==, 0);
	checksum_mend(data + 4, 0x7f00, 0x0a00);
	data[6] = 0x0a;
	g_assert_cmpuint(checksum_fold(checksum_add(data, sizeof(data), 0)), ==, 0);
}

#define ADD(path, fn) g_test_add("/flow-table/" path, Fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("a-connection-from-first-to-last", test_life_of_a_connection);
	ADD("an-inbound-connection-is-told", test_inbound_is_told);
	ADD("a-reset-ends-an-entry-at-once", test_reset_ends_at_once);
	ADD("connections-that-come-to-nothing-expire", test_never_established_expires);
	ADD("the-first-frame-of-each-is-told", test_first_frames_are_told);
	ADD("udp-sessions-expire", test_udp_expires);
	ADD("cut-and-forged-frames-are-passed-over", test_cut_frames_are_passed_over);
	ADD("a-full-set-keeps-what-lives", test_full_set_keeps_what_lives);
	ADD("closed-connections-make-room", test_closed_ones_make_room);
	ADD("last-words-begin-nothing", test_last_words_begin_nothing);
	ADD("the-question-to-the-guest-is-a-valid-segment", test_question_to_the_guest);
	ADD("the-question-that-is-always-answered-has-a-byte", test_question_that_is_always_answered);
	ADD("a-reset-in-the-guests-place-ends-its-entry", test_reset_in_the_guests_place);
	g_test_add_func("/checksum/mended-by-difference", test_checksum_mending);
	return g_test_run();
}
