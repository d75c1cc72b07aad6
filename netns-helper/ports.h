#pragma once
/*
 * Published ports: the table of forwards, their listening sockets, and who serves them (N-162 to N-185).
 *
 * Theory of operation. A forward is a listening socket of ours, an address in the guest, and an entry in shared memory that says so. The socket
 * is made, bound and listening before the entry is published, and the entry is withdrawn before the socket is closed, so
 * that a worker killed in between leaves either a complete forward or a stray socket, which the next one closes. The
 * first engine that wants it serves it; after a restart all are offered again.
 */
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netns-helper/inbound.h"
#include "netns-helper/worker.h"

#define PORTS_BACKLOG 4096 /* connections; the kernel's somaxconn cuts it (N-183) */
#define PORTS_ENGINES_MAX 2
#define PORTS_CHOICE_TRIES 32 /* host ports to try until both families have it free */

typedef struct {
	bool is_udp;
	bool v4, v6; /* which families; both: dual-stack */
	struct in_addr host4, guest4;
	struct in6_addr host6, guest6;
	uint16_t host_port; /* host order; 0: choose one (count 1 only) */
	uint16_t guest_port;
	unsigned count; /* consecutive ports, at least 1 */
	int client_fd; /* API client that waits for the answer; -1: none */
} PortRequest;

/** @return never NULL; it lives as long as the worker */
Ports *ports_new(const Helper *helper);

/** Engines are asked in the order in which they were added. Copied. */
void ports_add_engine(Ports *ports, const InboundEngine *engine);

/** Offer every forward of the predecessor to the engines. @return how many are served, or -errno of the first that is not */
int ports_restore(Ports *ports);

/**
 * All of the request or nothing.
 *
 * @param ports          the table
 * @param request        what is wanted
 * @param ret_id         N-171
 * @param ret_host_port  the first host port, of interest if one was to be chosen
 * @return 0 or -errno: -EADDRINUSE, -EACCES, -EADDRNOTAVAIL and others of bind(2), -ENOBUFS when the table is full
 */
int ports_add(Ports *ports, const PortRequest *request, uint32_t *ret_id, uint16_t *ret_host_port);

/** @return 0; -ENOENT: no such id; -EIO: an engine had no such rule (the sockets are closed all the same) */
int ports_remove(Ports *ports, uint32_t id);

/** The id that this client was given by a predecessor who could not tell it any more; 0 if there is none. */
uint32_t ports_unanswered(Ports *ports, int client_fd, uint16_t *ret_host_port);
/** The client has its answer. */
void ports_answered(Ports *ports, int client_fd);

/** Name of the engine that serves @p forward, "none" if none does. */
const char *ports_engine_name(const Ports *ports, const Forward *forward);

/** Read what ports_explain() needs to know of the host; before the sandbox, in which there is no /proc. */
void ports_read_limits(void);

/**
 * Words for people about why a port could not be published, with the way out; a static buffer.
 *
 * @param error    negative errno of ports_add()
 * @param request  what was wanted
 */
const char *ports_explain(int error, const PortRequest *request);

/**
 * Parse the text of -p: [HOSTADDR:]HOSTPORT[-LAST]:GUESTPORT[-LAST][/PROTO], IPv6 addresses in brackets.
 *
 * @param text         the option's value
 * @param plan         defaults for the guest's address
 * @param guest6       the guest's IPv6 address
 * @param ret_request  filled on success
 * @return 0, or -EINVAL with the reason on stderr
 */
int ports_parse(
	const char *text, const AddressPlan *plan, const struct in6_addr *guest6, PortRequest *ret_request);
