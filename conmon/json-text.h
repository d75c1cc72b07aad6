#pragma once
/*
 * Text in a JSON string as the sync pipe's readers expect it: C-57.
 */
#include <stddef.h>

/**
 * Escape @p text: the two-character escapes of RFC 8259, other control bytes as a \\u escape, invalid UTF-8 as U+FFFD. What does
 * not fit is cut on a character boundary.
 *
 * @param out   the result, NUL-terminated
 * @param room  bytes of @p out, at least 1
 * @param text  what to escape
 * @param size  bytes of it; a NUL byte ends it earlier
 * @return bytes in @p out without the NUL
 */
size_t json_text_escape(char *out, size_t room, const char *text, size_t size);
