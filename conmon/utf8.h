#pragma once
/*
 * UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
 */

/** @return length of the character at @p p in bytes, 0 if there is none, -1 if it is cut off by @p end */
int utf8_length(const unsigned char *p, const unsigned char *end);
