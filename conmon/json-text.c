#include "config.h"

#include "conmon/json-text.h"

#include <stdio.h>
#include <string.h>

#include "conmon/utf8.h"

/* Escape the character at @text; @return bytes of it that were taken. */
static size_t escape_one(char out[8], const char *text, size_t size)
{
	static const char plain[] = "\"\\/\n\r\t\b\f", letters[] = "\"\\/nrtbf";
	unsigned char c = (unsigned char)text[0];
	const char *found = strchr(plain, c);
	int length;

	if (found) {
		snprintf(out, 8, "\\%c", letters[found - plain]);
		return 1;
	}
	if (c < 0x20 || c == 0x7f) {
		snprintf(out, 8, "\\u%04x", c);
		return 1;
	}
	if (c < 0x80) {
		snprintf(out, 8, "%c", c);
		return 1;
	}
	length = utf8_length((const unsigned char *)text, (const unsigned char *)text + size);
	if (length <= 0) {
		strcpy(out, "\357\277\275"); /* U+FFFD */
		return 1;
	}
	snprintf(out, 8, "%.*s", length, text);
	return (size_t)length;
}

size_t json_text_escape(char *out, size_t room, const char *text, size_t size)
{
	size_t used = 0;

	while (size > 0 && text[0] != '\0') {
		char piece[8];
		size_t taken = escape_one(piece, text, size), length = strlen(piece);

		if (used + length + 1 > room)
			break;
		memcpy(out + used, piece, length);
		used += length;
		text += taken;
		size -= taken;
	}
	out[used] = '\0';
	return used;
}
