#pragma once
/*
 * Frames of the guest that no honest kernel sends: to addresses that mean "this very host" in the host's routing. libslirp would hand them to
 * connect() and sendto() as they are, and so let whoever writes frames by hand reach the host's loopback past --disable-host-loopback
 * (N-116).
 */
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Loopback and "this network" of IPv4. */
bool frame_filter_is_own4(struct in_addr ip);
/** Of IPv6: ::, ::1 and everything else in ::/96, and ::ffff:0:0/96, which a socket would take for IPv4. */
bool frame_filter_is_own6(const struct in6_addr *ip);

/**
 * @param frame  Ethernet header and payload
 * @param size   bytes of it
 */
bool frame_filter_is_forged(const uint8_t *frame, size_t size);
