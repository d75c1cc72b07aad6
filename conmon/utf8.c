#include "config.h"

#include "conmon/utf8.h"

int utf8_length(const unsigned char *p, const unsigned char *end)
{
	int n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

	for (int i = 1; i < n; i++) {
		unsigned char low = 0x80, high = 0xbf;

		if (p + i == end)
			return -1;
		if (i == 1) {
			low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : low;
			high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : high;
		}
		if (p[i] < low || p[i] > high)
			return 0;
	}
	return n;
}
