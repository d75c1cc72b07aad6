#pragma once
/*
 * The link into the guest (N-59 to N-78): a child enters the namespaces, makes and configures the link there and hands its descriptors over.
 *
 * Theory of operation. What the link is made of is one GuestLinkKind. The child is forked single-threaded, enters user and network
 * namespace, and calls the kind's create(), which makes an interface with the name asked for and gives back descriptors
 * with names. The parent registers them in the descriptor store under these names; whoever serves the link takes them from there,
 * in the first worker and in every later one. The child then configures the interface (-c), and ends. If anything fails the child
 * says so on stderr and its descriptors go with it, and so does the interface.
 */
#include <net/ethernet.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/fd-store.h"
#include "netns-helper/address-plan.h"
#include "netns-helper/options.h"

#define GUEST_LINK_FDS_MAX 24
#define GUEST_LINK_TAP "link.tap" /* registry name of the frame descriptor: tap, or bess client socket */

typedef struct {
	const char *names[GUEST_LINK_FDS_MAX]; /* registry names; string constants */
	int fds[GUEST_LINK_FDS_MAX]; /* close-on-exec, owned by the child until it ends */
	size_t n_fds;
	struct ether_addr mac; /* of the guest's interface, once it is configured */
} GuestLinkParts;

typedef struct {
	const char *name; /* "tap", "veth": in messages and in the state file */
	/*
	 * In the child, inside the target's namespaces, effective capabilities of their owner: make the interface @p options->tap_name. Must
	 * leave nothing behind on failure. May create further namespaces, but must be back in the target's at its end.
	 * Returns 0 or -errno; @p why gets words for the failing step (a string constant).
	 */
	int (*create)(
		const Options *options, const AddressPlan *plan, GuestLinkParts *ret_parts, const char **why);
} GuestLinkKind;

extern const GuestLinkKind guest_link_tap;
extern const GuestLinkKind guest_link_veth; /* gateway namespace and splice engine */

typedef struct {
	const GuestLinkKind *kind; /* NULL: tapfd or bess */
	struct ether_addr mac; /* zero if unknown */
} GuestLink;

/**
 * Make the link, by the kinds that --data-path allows, best first; a kind that this host cannot do is said in one line on
 * stderr and the next is taken.
 *
 * @param options   the command line
 * @param plan      addresses
 * @param store     where the descriptors are registered
 * @param ret_link  what was made
 * @return 0, or -errno with the reason already on stderr
 */
int guest_link_open(const Options *options, const AddressPlan *plan, FdStore *store, GuestLink *ret_link);

/** A number for a kind, the same in every process of one version of the program; -1 for NULL. */
int guest_link_kind_index(const GuestLinkKind *kind);
/** The kind of that number, NULL for -1. */
const GuestLinkKind *guest_link_kind_at(int index);

/**
 * In the guest's network namespace: N-72, by rtnetlink.
 *
 * @param options     the interface's name and MTU
 * @param plan        the addresses
 * @param is_spliced  the link is one function call long: a default that paces what is sent (BBR) is overruled on the route
 * @param why         see below
 * @return 0 or -errno; @p why gets words for the failing step
 */
int guest_configure(const Options *options, const AddressPlan *plan, bool is_spliced, const char **why);
