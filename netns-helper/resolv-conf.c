#include "config.h"

#include "netns-helper/resolv-conf.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "common/fd-util.h"

#define PATH "/etc/resolv.conf"
#define FILE_MAX 16384 /* bytes read; the servers stand at the beginning */
#define CACHE_NS 1000000000LL /* N-96 */
#define DNS_PORT 53
#define ADDRESS_MAX 80 /* bytes: IPv6 literal, %, interface */

static bool parse_address(char *text, int family, struct sockaddr_storage *ret)
{
	struct sockaddr_in *in = (void *)ret;
	struct sockaddr_in6 *in6 = (void *)ret;
	char *zone = strchr(text, '%');

	memset(ret, 0, sizeof(*ret));
	if (family == AF_INET) {
		in->sin_family = AF_INET;
		in->sin_port = htons(DNS_PORT);
		return inet_pton(AF_INET, text, &in->sin_addr) == 1;
	}
	if (zone) {
		*zone++ = '\0';
		in6->sin6_scope_id = if_nametoindex(zone);
		if (in6->sin6_scope_id == 0)
			in6->sin6_scope_id = (uint32_t)strtoul(zone, NULL, 10);
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(DNS_PORT);
	return inet_pton(AF_INET6, text, &in6->sin6_addr) == 1;
}

int resolv_conf_parse(const char *text, int family, struct sockaddr_storage *ret_server)
{
	static const char word[] = "nameserver";

	for (const char *line = text; line; line = strchr(line, '\n')) {
		char address[ADDRESS_MAX];
		struct sockaddr_storage server;
		size_t n;

		line += *line == '\n';
		if (strncmp(line, word, sizeof(word) - 1) != 0)
			continue;
		const char *p = line + sizeof(word) - 1;
		size_t blanks = strspn(p, " \t");

		n = strcspn(p + blanks, " \t\r\n");
		if (blanks == 0 || n == 0 || n >= sizeof(address))
			continue;
		memcpy(address, p + blanks, n);
		address[n] = '\0';
		if (parse_address(address, family, &server)) {
			*ret_server = server;
			return 0;
		}
	}
	return -ENOENT;
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

int resolv_conf_server(int family, struct sockaddr_storage *ret_server)
{
	static char text[FILE_MAX];
	static struct stat seen;
	static int64_t looked_ns = -CACHE_NS;

	if (now_ns() - looked_ns >= CACHE_NS) {
		struct stat st = {0};

		looked_ns = now_ns();
		if (stat(PATH, &st) < 0 || st.st_ino != seen.st_ino || st.st_dev != seen.st_dev ||
			st.st_size != seen.st_size || st.st_mtime != seen.st_mtime) {
			if (fd_read_file(PATH, text, sizeof(text)) < 0)
				text[0] = '\0';
			seen = st;
		}
	}
	return resolv_conf_parse(text, family, ret_server);
}
