#pragma once
/*
 * The gateway namespace of the splice engine: a network namespace that holds one end of the guest's veth and nothing else that leads
 * anywhere. It has no route to the host; what enters it ends in a socket of the worker or nowhere. So nothing in it
 * needs to be trusted: whoever controls it gains connections to the worker's listener, which judges each by its own addresses.
 *
 * Made once, by guest_link_veth (guest-link.h), in the child that has entered the guest's namespaces. These are its parts, by
 * their names in the descriptor store:
 */
#include <stddef.h>
#include <stdint.h>

#define GATEWAY_PACKET                                                                                       \
	"gateway.packet" /* packet socket on the veth: PACKET_VNET_HDR, gateway_filter_gate() */
#define GATEWAY_TUN "gateway.tun" /* IFF_TUN | IFF_NO_PI | IFF_VNET_HDR: first segments go in here */
#define GATEWAY_LISTEN "gateway.listen" /* transparent listeners, all connections of the guest */
#define GATEWAY_LISTEN6 "gateway.listen6"
#define GATEWAY_NURSERY                                                                                      \
	"gateway.nursery" /* listeners and connectors that new transparent sockets come from (splice-nursery.h) */
#define GATEWAY_NURSERY6 "gateway.nursery6"
#define GATEWAY_SEED "gateway.seed"
#define GATEWAY_SEED6 "gateway.seed6"
#define GATEWAY_JANITOR                                                                                      \
	"gateway.janitor" /* stream socket to the process that deletes the link (gateway_janitor_stop()) */

#define GATEWAY_LISTEN_PORT                                                                                  \
	1 /* of the transparent listeners: no other socket in there uses a loopback address */
#define GATEWAY_NURSERY_PORT 2
#define GATEWAY_BACKLOG 4096

/** Let the packet socket see everything but TCP, and of TCP unfragmented first segments and resets. @return 0 or -errno */
int gateway_filter_gate(int packet_fd);
/** Let the packet socket see everything that libslirp may want, TCP included. @return 0 or -errno */
int gateway_filter_all(int packet_fd);

/**
 * Have the link deleted and wait until it is: the destruction of a namespace is asynchronous, and the caller's next helper may come at once
 * with the same interface name (N-6).
 *
 * @param janitor_fd  GATEWAY_JANITOR, borrowed
 * @param timeout_ms  at most
 * @return 0; -ETIMEDOUT; other -errno
 */
int gateway_janitor_stop(int janitor_fd, int timeout_ms);
