/* netns-helper/ip-fragments */
#include "config.h"

#include <arpa/inet.h>
#include <glib.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <string.h>

#include "netns-helper/checksum.h"
#include "netns-helper/ip-fragments.h"

typedef struct {
	IpFragments *fragments;
	uint8_t data[65600]; /* what is sent: counting bytes */
	const uint8_t *whole;
	size_t size;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
	f->fragments = ip_fragments_new();
	for (size_t i = 0; i < sizeof(f->data); i++)
		f->data[i] = (uint8_t)(i * 7 + i / 256);
}

static void tear_down(Fixture *f, gconstpointer data)
{
	ip_fragments_free(f->fragments);
}

static void add(Fixture *f, uint16_t id, size_t offset, size_t size, bool more, uint64_t now)
{
	struct ip ip = {.ip_v = 4, .ip_hl = 5, .ip_ttl = 64, .ip_p = IPPROTO_UDP, .ip_id = htons(id)};
	g_autofree uint8_t *frame = g_malloc0(ETH_HLEN + sizeof(ip) + size);

	frame[12] = 0x08;
	ip.ip_len = htons((uint16_t)(sizeof(ip) + size));
	ip.ip_off = htons((uint16_t)(offset / 8 | (more ? IP_MF : 0)));
	ip.ip_sum = checksum_fold(checksum_add(&ip, sizeof(ip), 0));
	memcpy(frame + ETH_HLEN, &ip, sizeof(ip));
	memcpy(frame + ETH_HLEN + sizeof(ip), f->data + offset, size);
	g_assert_true(ip_fragments_is_one(frame, ETH_HLEN + sizeof(ip) + size));
	f->whole = ip_fragments_add(f->fragments, frame, ETH_HLEN + sizeof(ip) + size, now, &f->size);
}

static void assert_whole(Fixture *f, size_t size)
{
	g_assert_nonnull(f->whole);
	g_assert_cmpuint(f->size, ==, ETH_HLEN + 20 + size);
	g_assert_cmpmem(f->whole + ETH_HLEN + 20, size, f->data, size);
	g_assert_false(ip_fragments_is_one(f->whole, f->size));
	g_assert_cmpuint(checksum_get16(f->whole + ETH_HLEN + 2), ==, 20 + size);
	g_assert_cmpuint(checksum_fold(checksum_add(f->whole + ETH_HLEN, 20, 0)), ==, 0);
}

static void test_in_order(Fixture *f, gconstpointer data)
{
	add(f, 1, 0, 1480, true, 0);
	g_assert_null(f->whole);
	add(f, 1, 1480, 1480, true, 0);
	g_assert_null(f->whole);
	add(f, 1, 2960, 3, false, 0);
	assert_whole(f, 2963);
}

static void test_backwards_and_mixed(Fixture *f, gconstpointer data)
{
	add(f, 1, 16, 5, false, 0);
	add(f, 2, 8, 8, false, 0);
	add(f, 1, 8, 8, true, 0);
	add(f, 2, 0, 8, true, 0);
	assert_whole(f, 16);
	add(f, 1, 0, 8, true, 0);
	assert_whole(f, 21);
}

static void test_largest(Fixture *f, gconstpointer data)
{
	for (size_t at = 0; at < 65512; at += 8)
		add(f, 1, at, 8, true, 0);
	g_assert_null(f->whole);
	add(f, 1, 65512, 3, false, 0);
	assert_whole(f, 65515);
	add(f, 2, 65512, 8, true, 0); /* beyond what a datagram can hold: nothing happens */
	g_assert_null(f->whole);
}

static void test_overlaps_end_it(Fixture *f, gconstpointer data)
{
	add(f, 1, 0, 16, true, 0);
	add(f, 1, 8, 16, true, 0);
	add(f, 1, 24, 8, false, 0);
	g_assert_null(f->whole);
	add(f, 2, 16, 8, true, 0); /* behind the one that will say it is the last */
	add(f, 2, 0, 8, true, 0);
	add(f, 2, 8, 8, false, 0);
	g_assert_null(f->whole);
	add(f, 3, 8, 8, false, 0);
	add(f, 3, 24, 8, false, 0); /* two last ones */
	add(f, 3, 0, 8, true, 0);
	g_assert_null(f->whole);
}

static void test_time_and_room(Fixture *f, gconstpointer data)
{
	add(f, 1, 0, 8, true, 1000);
	add(f, 1, 8, 8, false, 1001 + IP_FRAGMENTS_LIFE_MS);
	g_assert_null(f->whole);
	for (uint16_t id = 100; id < 100 + 4 * IP_FRAGMENTS_QUEUES; id++)
		add(f, id, 0, 8, true, 100000U + id);
	add(f, 100, 8, 8, false, 100199); /* made room for others */
	g_assert_null(f->whole);
	add(f, 99 + 4 * IP_FRAGMENTS_QUEUES, 8, 8, false, 100000U + 200);
	assert_whole(f, 16);
}

static void test_forged_are_dropped(Fixture *f, gconstpointer data)
{
	uint8_t frame[64] = {0};
	size_t size = 0;

	frame[12] = 0x08;
	frame[ETH_HLEN + 6] = 0x20;
	for (unsigned first = 0; first < 256; first++) { /* every version and header length, total length 0 */
		frame[ETH_HLEN] = (uint8_t)first;
		for (size_t n = ETH_HLEN + 20; n <= sizeof(frame); n++)
			g_assert_null(ip_fragments_add(f->fragments, frame, n, 0, &size));
	}
	g_assert_false(ip_fragments_is_one(frame, ETH_HLEN + 19));
}

#define ADD(path, fn) g_test_add("/ip-fragments/" path, Fixture, NULL, set_up, fn, tear_down)

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	ADD("in-order", test_in_order);
	ADD("backwards-and-mixed", test_backwards_and_mixed);
	ADD("the-largest-datagram", test_largest);
	ADD("overlaps-end-their-datagram", test_overlaps_end_it);
	ADD("time-and-room-are-bounded", test_time_and_room);
	ADD("forged-headers-are-dropped", test_forged_are_dropped);
	return g_test_run();
}
