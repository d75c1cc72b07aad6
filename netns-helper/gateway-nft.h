#pragma once
/*
 * The firewall of the gateway namespace, in two tables:
 *
 *	table netdev splice {
 *		chain ingress { type filter hook ingress device GW priority 0; policy drop;
 *			meta protocol ip meta l4proto tcp meta pkttype set host accept
 *			meta protocol arp arp operation reply accept
 *			meta protocol ip6 meta l4proto tcp ip6 saddr fe80::/10 drop		(IPv6 only)
 *			meta protocol ip6 meta l4proto tcp meta pkttype set host accept		(IPv6 only)
 *			meta protocol ip6 icmpv6 type nd-neighbor-advert accept			(IPv6 only)
 *		}
 *	}
 *	table inet splice {
 *		chain prerouting { type filter hook prerouting priority mangle; policy drop;
 *			iif lo accept
 *			iif GW tcp flags & (syn | ack) == syn drop
 *			iif { GW, TUN } meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:PORT meta mark set MARK accept
 *			iif { GW, TUN } meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:PORT meta mark set MARK accept
 *			iif GW meta nfproto ipv6 meta l4proto ipv6-icmp accept
 *		}
 *	}
 *
 * The kernel's stack thus sees only what it needs for TCP: segments for any virtual MAC (the stack's gateway, DNS server and IPv6 router
 * have one each), and the answers to its own neighbour requests. A connection's first segment never gets in by itself: only
 * what the gate writes to the tun device may open one. The packet socket sees every frame before all this.
 *
 * TCP from a link-local address is left to libslirp. The kernel would answer it by the interface that it came in by, which for a
 * first segment is the tun device, and there is no route there.
 */
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct {
	const char *gw_name;
	uint32_t lo, gw, tun; /* interface indices */
	in_port_t port; /* of the transparent listeners, network order */
	uint32_t mark;
	bool ipv6;
} GatewayNft;

/**
 * Load the rules into the calling process' network namespace, in one transaction per table.
 *
 * @return 0 or -errno (-ENOENT, -EOPNOTSUPP: a part of nftables is missing on this host)
 */
int gateway_nft_load(const GatewayNft *conf);
