#pragma once
/*
 * How long a TCP connection outlives an end that has vanished without a word (N-261): the kernel's keep-alive probes, tcp(7).
 *
 * A connection with data under way ends by itself (tcp_retries2, about a quarter of an hour). One without would stay for ever. What is
 * alive answers each probe, however idle it is, so only the dead are ended, and the other end sees a reset.
 */

typedef enum {
	/* On the way through the world: an outage must last a quarter of an hour, like one that the kernel would bear with data under way. */
	KEEP_ALIVE_HOST,
	/* One function call away, where nothing gets lost: 10 minutes in all. */
	KEEP_ALIVE_GUEST,
	/* The same, once the guest has ended its stream: its kernel forgets such a socket after a minute. 2 minutes in all. */
	KEEP_ALIVE_GUEST_HALF_CLOSED,
} KeepAliveKind;

/**
 * From now on ask a silent peer whether it still knows the connection. What a listener has, its connections inherit.
 *
 * @param fd    socket, borrowed; nothing happens if it is not TCP
 * @param kind  who is asked
 */
void keep_alive_set(int fd, KeepAliveKind kind);
