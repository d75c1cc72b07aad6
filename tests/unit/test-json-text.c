/* conmon/json-text */
#include "config.h"

#include <glib.h>
#include <string.h>

#include "conmon/json-text.h"

static void assert_escaped(const char *text, size_t size, const char *wanted)
{
	char out[256];

	g_assert_cmpuint(json_text_escape(out, sizeof(out), text, size), ==, strlen(wanted));
	g_assert_cmpstr(out, ==, wanted);
}

static void test_each_kind(void)
{
	assert_escaped("a\"b\\c/d\n\r\t\b\f", 13, "a\\\"b\\\\c\\/d\\n\\r\\t\\b\\f");
	assert_escaped("\001\037\177", 3, "\\u0001\\u001f\\u007f");
	assert_escaped("\303\244\360\237\246\212", 6, "\303\244\360\237\246\212");
	assert_escaped("", 0, "");
}

static void test_nul_ends(void)
{
	assert_escaped("ab\0cd", 5, "ab");
}

static void test_invalid_utf8_is_replaced(void)
{
	assert_escaped("x\377y", 3, "x\357\277\275y");
	assert_escaped("x\303", 2, "x\357\277\275"); /* cut off at the end */
	assert_escaped("\300\257", 2, "\357\277\275\357\277\275"); /* overlong */
}

static void test_cut_on_a_border(void)
{
	char out[8];

	for (size_t room = 1; room <= sizeof(out); room++) {
		size_t size = json_text_escape(out, room, "a\n\303\244\001", 5);

		g_assert_cmpuint(size, <, room);
		g_assert_cmpuint(size, ==, strlen(out));
		g_assert_true(g_utf8_validate(out, -1, NULL));
		g_assert_cmpint(size == 0 || out[size - 1] != '\\', ==, TRUE);
	}
	g_assert_cmpuint(json_text_escape(out, 6, "a\n\303\244\001", 5), ==, 5);
	g_assert_cmpstr(out, ==, "a\\n\303\244");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/json-text/each-kind-of-byte", test_each_kind);
	g_test_add_func("/json-text/a-nul-ends-the-text", test_nul_ends);
	g_test_add_func("/json-text/invalid-utf8-is-replaced", test_invalid_utf8_is_replaced);
	g_test_add_func("/json-text/cut-on-the-border-of-a-character", test_cut_on_a_border);
	return g_test_run();
}
