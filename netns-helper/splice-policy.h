#pragma once
/*
 * Where a connection of the guest goes: the same rules that libslirp applies (N-94 to N-99, N-115 to N-117). A pure function of options,
 * addresses and resolv.conf; evaluated on what the guest's first segment says, and again on what was really accepted.
 */
#include "netns-helper/address-plan.h"
#include "netns-helper/options.h"
#include "netns-helper/splice-table.h"

/**
 * @param options  the command line
 * @param plan     addresses
 * @param dest     what the guest connects to
 * @param ret      where on the host that is
 * @return 0; -ENETUNREACH: forbidden, or no such service
 */
int splice_policy_outbound(
	const Options *options, const AddressPlan *plan, const SpliceAddr *dest, SpliceAddr *ret);

/**
 * As whom a client of a published port appears in the guest (N-179).
 *
 * @param options  the command line
 * @param plan     addresses
 * @param guest    where the connection is to go
 * @param client   its address on the host
 */
SpliceAddr splice_policy_inbound(
	const Options *options, const AddressPlan *plan, const SpliceAddr *guest, const SpliceAddr *client);

/** Whether a published port may lead to this address in the guest: one that is on the link, not one of the gateway itself (N-180). */
bool splice_policy_guest_is_valid(const SpliceAddr *guest);
