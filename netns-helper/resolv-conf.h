#pragma once
/*
 * The host's name server, for DNS over TCP (N-94 to N-98). resolv.conf is looked at again at most once a second, and parsed again if it changed.
 */
#include <sys/socket.h>

/**
 * @param family      AF_INET or AF_INET6
 * @param ret_server  address of its first server, port 53
 * @return 0; -ENOENT: none of that family
 */
int resolv_conf_server(int family, struct sockaddr_storage *ret_server);

/**
 * Parse the text of a resolv.conf; for tests and for resolv_conf_server().
 *
 * @param text        NUL-terminated
 * @param family      AF_INET or AF_INET6
 * @param ret_server  address of the first server of that family, port 53
 * @return 0 or -ENOENT
 */
int resolv_conf_parse(const char *text, int family, struct sockaddr_storage *ret_server);
