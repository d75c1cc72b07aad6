/*
 * Addresses of log receivers, as they are given on the command line.
 */
#include "config.h"

#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "conmon/log/driver.h"

socklen_t log_address_parse(const char *address, struct sockaddr_storage *ret_addr)
{
	struct sockaddr_un *un = (struct sockaddr_un *)(void *)ret_addr;
	const char *host = address + strlen("udp:"), *colon = strrchr(address, ':');
	struct addrinfo *found = NULL;
	const struct addrinfo hints = {
		.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	char name[INET6_ADDRSTRLEN + 1];
	socklen_t size = 0;

	memset(ret_addr, 0, sizeof(*ret_addr));
	if (strncmp(address, "udp:", strlen("udp:")) != 0 && strncmp(address, "tcp:", strlen("tcp:")) != 0) {
		un->sun_family = AF_UNIX;
		if (address[0] != '/' || strlen(address) >= sizeof(un->sun_path))
			return 0;
		strcpy(un->sun_path, address);
		return sizeof(*un);
	}
	if (colon < host || (size_t)(colon - host) >= sizeof(name))
		return 0;
	memcpy(name, host, (size_t)(colon - host));
	name[colon - host] = '\0';
	if (name[0] == '[' && name[strlen(name) - 1] == ']') { /* [::1]:514 */
		name[strlen(name) - 1] = '\0';
		memmove(name, name + 1, strlen(name));
	}
	if (getaddrinfo(name, colon + 1, &hints, &found) != 0)
		return 0;
	memcpy(ret_addr, found->ai_addr, found->ai_addrlen);
	size = found->ai_addrlen;
	freeaddrinfo(found);
	return size;
}
