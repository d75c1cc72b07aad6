#include "config.h"

#include "netns-helper/gateway-nft.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/table.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define TABLE "splice"
#define BATCH_SIZE 16384 /* bytes; the larger table needs about 4 KB */
#define MESSAGE_MAX 2048 /* bytes; one rule needs about 500 */
#define REPLY_MAX 8192 /* bytes; acknowledgements, which quote their request if it failed */
#define PRIORITY_MANGLE -150 /* NF_IP_PRI_MANGLE, as usual for tproxy; after defragmentation */
#define TCP_FLAGS_OFFSET 13
#define TCP_SYN 0x02
#define TCP_ACK 0x10

typedef struct {
	struct mnl_nlmsg_batch *batch;
	uint32_t seq;
	uint8_t family;
	const char *chain;
	struct nftnl_rule *rule; /* being written */
} Batch;

static void *next_message(Batch *b)
{
	return mnl_nlmsg_batch_current(b->batch);
}

static void message_done(Batch *b)
{
	mnl_nlmsg_batch_next(b->batch);
}

static void rule_begin(Batch *b)
{
	b->rule = nftnl_rule_alloc();
	nftnl_rule_set_u32(b->rule, NFTNL_RULE_FAMILY, b->family);
	nftnl_rule_set_str(b->rule, NFTNL_RULE_TABLE, TABLE);
	nftnl_rule_set_str(b->rule, NFTNL_RULE_CHAIN, b->chain);
}

static struct nftnl_expr *expr_add(Batch *b, const char *name)
{
	struct nftnl_expr *e = nftnl_expr_alloc(name);

	if (!e)
		abort(); /* out of memory */
	nftnl_rule_add_expr(b->rule, e);
	return e;
}

static void rule_cmp(Batch *b, const void *value, uint32_t size)
{
	struct nftnl_expr *e = expr_add(b, "cmp");

	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
	nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, value, size);
}

static void rule_meta_is(Batch *b, uint32_t key, const void *value, uint32_t size)
{
	struct nftnl_expr *e = expr_add(b, "meta");

	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
	rule_cmp(b, value, size);
}

static void rule_meta_is_u8(Batch *b, uint32_t key, uint8_t value)
{
	rule_meta_is(b, key, &value, sizeof(value));
}

static void rule_meta_is_u32(Batch *b, uint32_t key, uint32_t value)
{
	rule_meta_is(b, key, &value, sizeof(value));
}

static void rule_protocol_is(Batch *b, uint16_t ethertype)
{
	uint16_t value = htons(ethertype);

	rule_meta_is(b, NFT_META_PROTOCOL, &value, sizeof(value));
}

static void rule_payload(Batch *b, uint32_t base, uint32_t offset, uint32_t size)
{
	struct nftnl_expr *e = expr_add(b, "payload");

	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, base);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, size);
}

/* What was loaded last, as far as @p mask covers it, is @p value; at most 4 bytes. */
static void rule_masked_is(Batch *b, const void *mask, const void *value, uint32_t size)
{
	const uint8_t zero[4] = {0};
	struct nftnl_expr *e = expr_add(b, "bitwise");

	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, size);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, mask, size);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, zero, size);
	rule_cmp(b, value, size);
}

static void rule_tcp_flags_are(Batch *b, uint8_t mask, uint8_t flags)
{
	rule_meta_is_u8(b, NFT_META_L4PROTO, IPPROTO_TCP);
	rule_payload(b, NFT_PAYLOAD_TRANSPORT_HEADER, TCP_FLAGS_OFFSET, 1);
	rule_masked_is(b, &mask, &flags, 1);
}

static void rule_load(Batch *b, uint32_t reg, const void *value, uint32_t size)
{
	struct nftnl_expr *e = expr_add(b, "immediate");

	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, reg);
	nftnl_expr_set(e, NFTNL_EXPR_IMM_DATA, value, size);
}

static void rule_meta_set(Batch *b, uint32_t key, const void *value, uint32_t size)
{
	struct nftnl_expr *e;

	rule_load(b, NFT_REG_1, value, size);
	e = expr_add(b, "meta");
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, key);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_SREG, NFT_REG_1);
}

static void rule_tproxy(Batch *b, uint32_t family, const void *addr, uint32_t addr_size, in_port_t port)
{
	struct nftnl_expr *e;

	rule_load(b, NFT_REG_1, addr, addr_size);
	rule_load(b, NFT_REG_2, &port, sizeof(port));
	e = expr_add(b, "tproxy");
	nftnl_expr_set_u32(e, NFTNL_EXPR_TPROXY_FAMILY, family);
	nftnl_expr_set_u32(e, NFTNL_EXPR_TPROXY_REG_ADDR, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_TPROXY_REG_PORT, NFT_REG_2);
}

static void rule_end(Batch *b, int verdict)
{
	struct nlmsghdr *nlh;
	struct nftnl_expr *e = expr_add(b, "immediate");

	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, (uint32_t)verdict);
	nlh = nftnl_nlmsg_build_hdr(next_message(b), NFT_MSG_NEWRULE, b->family,
		NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK, b->seq++);
	nftnl_rule_nlmsg_build_payload(nlh, b->rule);
	nftnl_rule_free(b->rule);
	b->rule = NULL;
	message_done(b);
}

static void add_table(Batch *b)
{
	struct nftnl_table *t = nftnl_table_alloc();
	struct nlmsghdr *nlh;

	nftnl_table_set_str(t, NFTNL_TABLE_NAME, TABLE);
	nlh = nftnl_nlmsg_build_hdr(
		next_message(b), NFT_MSG_NEWTABLE, b->family, NLM_F_CREATE | NLM_F_ACK, b->seq++);
	nftnl_table_nlmsg_build_payload(nlh, t);
	nftnl_table_free(t);
	message_done(b);
}

static void add_chain(Batch *b, uint32_t hook, int priority, const char *dev)
{
	struct nftnl_chain *c = nftnl_chain_alloc();
	struct nlmsghdr *nlh;

	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, TABLE);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, b->chain);
	nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, "filter");
	nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, hook);
	nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, priority);
	nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_DROP);
	if (dev)
		nftnl_chain_set_str(c, NFTNL_CHAIN_DEV, dev);
	nlh = nftnl_nlmsg_build_hdr(
		next_message(b), NFT_MSG_NEWCHAIN, b->family, NLM_F_CREATE | NLM_F_ACK, b->seq++);
	nftnl_chain_nlmsg_build_payload(nlh, c);
	nftnl_chain_free(c);
	message_done(b);
}

/* Send the batch and take one acknowledgement for each of its messages; the first error counts. */
static int commit(Batch *b, uint32_t first, uint32_t last)
{
	char reply[REPLY_MAX];
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	uint32_t acks = 0;
	int r = 0;

	if (!nl)
		return -errno;
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ||
		mnl_socket_sendto(nl, mnl_nlmsg_batch_head(b->batch), mnl_nlmsg_batch_size(b->batch)) < 0)
		r = -errno;
	while (r == 0 && acks < last - first + 1) {
		ssize_t n = mnl_socket_recvfrom(nl, reply, sizeof(reply));
		struct nlmsghdr *nlh = (struct nlmsghdr *)reply;
		int left = (int)n;

		if (n < 0)
			r = -errno;
		for (; r == 0 && mnl_nlmsg_ok(nlh, left); nlh = mnl_nlmsg_next(nlh, &left)) {
			const struct nlmsgerr *err = mnl_nlmsg_get_payload(nlh);

			if (nlh->nlmsg_type != NLMSG_ERROR || nlh->nlmsg_seq < first || nlh->nlmsg_seq > last)
				continue;
			acks++;
			if (err->error)
				r = err->error;
		}
	}
	mnl_socket_close(nl);
	return r;
}

static int load_table(uint8_t family, const GatewayNft *conf, void (*fill)(Batch *b, const GatewayNft *conf))
{
	Batch b = {.family = family, .seq = 1};
	uint32_t last;
	char *buffer = malloc(BATCH_SIZE + MESSAGE_MAX);
	int r;

	if (!buffer)
		return -ENOMEM;
	b.batch = mnl_nlmsg_batch_start(buffer, BATCH_SIZE);
	nftnl_batch_begin(next_message(&b), b.seq++);
	message_done(&b);
	add_table(&b);
	fill(&b, conf);
	last = b.seq - 1;
	nftnl_batch_end(next_message(&b), b.seq++);
	message_done(&b);

	r = commit(&b, 2, last);
	mnl_nlmsg_batch_stop(b.batch);
	free(buffer);
	return r;
}

static void accept_tcp_for_any_mac(Batch *b, uint16_t ethertype)
{
	const uint8_t host = PACKET_HOST;

	rule_begin(b);
	rule_protocol_is(b, ethertype);
	rule_meta_is_u8(b, NFT_META_L4PROTO, IPPROTO_TCP);
	rule_meta_set(b, NFT_META_PKTTYPE, &host, sizeof(host));
	rule_end(b, NF_ACCEPT);
}

static void drop_tcp_of_link_local(Batch *b)
{
	const uint8_t mask[2] = {0xff, 0xc0}, value[2] = {0xfe, 0x80};

	rule_begin(b);
	rule_protocol_is(b, ETH_P_IPV6);
	rule_meta_is_u8(b, NFT_META_L4PROTO, IPPROTO_TCP);
	rule_payload(b, NFT_PAYLOAD_NETWORK_HEADER, offsetof(struct ip6_hdr, ip6_src), sizeof(value));
	rule_masked_is(b, mask, value, sizeof(value));
	rule_end(b, NF_DROP);
}

static void fill_ingress(Batch *b, const GatewayNft *conf)
{
	const uint16_t arp_reply = htons(ARPOP_REPLY);
	const uint8_t advert = ND_NEIGHBOR_ADVERT;

	b->chain = "ingress";
	add_chain(b, NF_NETDEV_INGRESS, 0, conf->gw_name);

	accept_tcp_for_any_mac(b, ETH_P_IP);

	rule_begin(b);
	rule_protocol_is(b, ETH_P_ARP);
	rule_payload(b, NFT_PAYLOAD_NETWORK_HEADER, 6, sizeof(arp_reply));
	rule_cmp(b, &arp_reply, sizeof(arp_reply));
	rule_end(b, NF_ACCEPT);

	if (!conf->ipv6)
		return;
	drop_tcp_of_link_local(b);
	accept_tcp_for_any_mac(b, ETH_P_IPV6);
	rule_begin(b);
	rule_protocol_is(b, ETH_P_IPV6);
	rule_meta_is_u8(b, NFT_META_L4PROTO, IPPROTO_ICMPV6);
	rule_payload(b, NFT_PAYLOAD_TRANSPORT_HEADER, 0, sizeof(advert));
	rule_cmp(b, &advert, sizeof(advert));
	rule_end(b, NF_ACCEPT);
}

static void to_listener(Batch *b, const GatewayNft *conf, uint32_t iif, uint32_t family)
{
	const struct in_addr loopback4 = {htonl(INADDR_LOOPBACK)};

	rule_begin(b);
	rule_meta_is_u32(b, NFT_META_IIF, iif);
	rule_meta_is_u8(b, NFT_META_NFPROTO, (uint8_t)family);
	rule_meta_is_u8(b, NFT_META_L4PROTO, IPPROTO_TCP);
	if (family == NFPROTO_IPV4)
		rule_tproxy(b, family, &loopback4, sizeof(loopback4), conf->port);
	else
		rule_tproxy(b, family, &in6addr_loopback, sizeof(in6addr_loopback), conf->port);
	rule_meta_set(b, NFT_META_MARK, &conf->mark, sizeof(conf->mark));
	rule_end(b, NF_ACCEPT);
}

static void fill_prerouting(Batch *b, const GatewayNft *conf)
{
	b->chain = "prerouting";
	add_chain(b, NF_INET_PRE_ROUTING, PRIORITY_MANGLE, NULL);

	rule_begin(b);
	rule_meta_is_u32(b, NFT_META_IIF, conf->lo);
	rule_end(b, NF_ACCEPT);

	rule_begin(b);
	rule_meta_is_u32(b, NFT_META_IIF, conf->gw);
	rule_tcp_flags_are(b, TCP_SYN | TCP_ACK, TCP_SYN);
	rule_end(b, NF_DROP);

	to_listener(b, conf, conf->gw, NFPROTO_IPV4);
	to_listener(b, conf, conf->tun, NFPROTO_IPV4);
	if (!conf->ipv6)
		return;
	to_listener(b, conf, conf->gw, NFPROTO_IPV6);
	to_listener(b, conf, conf->tun, NFPROTO_IPV6);

	rule_begin(b);
	rule_meta_is_u32(b, NFT_META_IIF, conf->gw);
	rule_meta_is_u8(b, NFT_META_NFPROTO, NFPROTO_IPV6);
	rule_meta_is_u8(b, NFT_META_L4PROTO, IPPROTO_ICMPV6);
	rule_end(b, NF_ACCEPT);
}

int gateway_nft_load(const GatewayNft *conf)
{
	int r = load_table(NFPROTO_NETDEV, conf, fill_ingress);

	if (r < 0)
		return r;
	return load_table(NFPROTO_INET, conf, fill_prerouting);
}
