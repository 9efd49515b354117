/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* From a packet to addresses, ports and TCP fields. One cursor; each step checks bounds and moves
 * it on. Reads straight from the linear part where it reaches, by helper where not: nothing is
 * pulled, the packet is never changed. */
#ifndef SCAS_PARSE_H
#define SCAS_PARSE_H

#include "scas.h"

#include "bpf_endian.h"
#include "bpf_helpers.h"

#define INLINE static __always_inline

enum { MAX_TAGS = 2, MAX_EXTENSIONS = 6, MAX_HEADERS = 1024 };

struct packet {
	__be32 src[4];
	__be32 dst[4];
	__u32 off; /* the cursor */
	__u32 end; /* of the network packet: what follows is padding */
	__u32 seq;
	__u32 ack;
	__u32 options; /* offset of the TCP options */
	__u32 len;     /* payload bytes, from off on */
	__be16 sport;
	__be16 dport;
	__u16 window;
	__u8 flags;
	__u8 proto;
	__u8 later; /* fragment other than the first */
	__u8 tagged;
	__u8 v6;
	__u8 pad;
};

/* size, which is 1 to limit (a power of two, constant), in a form the verifier of Linux 6.1 follows:
 * it does not learn from a comparison with zero. */
INLINE __u32 bounded(__u32 size, const __u32 limit)
{
	asm volatile("" : "+r"(size));
	return ((size - 1) & (limit - 1)) + 1;
}

/* Reads sizeof(*to) bytes at off of the packet, to is a struct; non-zero: not there. It is cleared
 * before a helper writes it: the verifier of 6.18 does not follow where else the bytes came from, and
 * takes that for a bug of its own. */
#define READ(skb, offset, to)                                                                                          \
	({                                                                                                             \
		void *start_ = (void *)(long)(skb)->data;                                                              \
		void *end_ = (void *)(long)(skb)->data_end;                                                            \
		__u32 off_ = (offset);                                                                                 \
		typeof(to) from_ = start_ + (off_ & (MAX_HEADERS - 1));                                                \
		int err_ = 0;                                                                                          \
		if (off_ < MAX_HEADERS && (void *)(from_ + 1) <= end_)                                                 \
			*(to) = *from_;                                                                                \
		else {                                                                                                 \
			__builtin_memset(to, 0, sizeof(*(to)));                                                        \
			err_ = bpf_skb_load_bytes(skb, off_, to, sizeof(*(to)));                                       \
		}                                                                                                      \
		err_;                                                                                                  \
	})

/* Moves the cursor to the network header; its ethertype, or -1. */
INLINE int parse_link(struct __sk_buff *skb, struct packet *p)
{
	__u16 proto = bpf_ntohs(skb->protocol);

	p->off = link_header;
	p->tagged = skb->vlan_present != 0;
	for (int i = 0; i < MAX_TAGS; i++) {
		struct vlan_hdr vlan;

		if (proto != ETH_P_8021Q && proto != ETH_P_8021AD)
			return proto;
		if (READ(skb, p->off, &vlan))
			return -1;
		p->tagged = 1;
		p->off += sizeof(vlan);
		proto = bpf_ntohs(vlan.proto);
	}
	return proto;
}

/* End of a network packet that says it is total long: the frame may be padded, and a merged one
 * may be longer than the field can say. 0: cut short. */
INLINE __u32 packet_end(struct __sk_buff *skb, __u32 start, __u32 total)
{
	if (skb->gso_size || !total)
		return skb->len;
	return start + total <= skb->len ? start + total : 0;
}

INLINE int parse_ipv4(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr ip;
	__u32 ihl;

	if (READ(skb, p->off, &ip))
		return OUTCOME_MALFORMED;
	ihl = (ip.ver_ihl & 15) * 4;
	if (ip.ver_ihl >> 4 != 4 || ihl < sizeof(ip))
		return OUTCOME_MALFORMED;
	p->src[0] = p->src[1] = p->dst[0] = p->dst[1] = 0;
	p->src[2] = p->dst[2] = bpf_htonl(0xffff);
	p->src[3] = ip.saddr;
	p->dst[3] = ip.daddr;
	p->proto = ip.protocol;
	p->later = (ip.frag_off & bpf_htons(0x1fff)) != 0;
	p->v6 = 0;
	p->end = packet_end(skb, p->off, bpf_ntohs(ip.tot_len));
	p->off += ihl;
	return p->end ? OUTCOMES : OUTCOME_MALFORMED;
}

INLINE int parse_ipv6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6hdr ip;
	__u32 len;

	if (READ(skb, p->off, &ip))
		return OUTCOME_MALFORMED;
	if ((bpf_ntohl(ip.ver_class_flow) >> 28) != 6)
		return OUTCOME_MALFORMED;
	__builtin_memcpy(p->src, ip.saddr, sizeof(p->src));
	__builtin_memcpy(p->dst, ip.daddr, sizeof(p->dst));
	p->proto = ip.nexthdr;
	p->later = 0;
	p->v6 = 1;
	len = bpf_ntohs(ip.payload_len);
	p->end = packet_end(skb, p->off, len ? len + sizeof(ip) : 0);
	p->off += sizeof(ip);
	return p->end ? OUTCOMES : OUTCOME_MALFORMED;
}

/* Addresses and protocol of the packet: OUTCOMES, or the outcome that ends the work. */
INLINE int parse_network(struct __sk_buff *skb, struct packet *p)
{
	switch (parse_link(skb, p)) {
	case ETH_P_IP:
		return parse_ipv4(skb, p);
	case ETH_P_IPV6:
		return parse_ipv6(skb, p);
	default:
		return OUTCOME_NOT_IP;
	}
}

/* Moves the cursor over IPv6 extension headers to the transport header. */
INLINE int parse_extensions(struct __sk_buff *skb, struct packet *p)
{
	struct {
		__u8 next;
		__u8 len;
		__be16 frag;
	} ext;

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP)
			return OUTCOMES;
		if (p->proto != IPPROTO_HOPOPTS && p->proto != IPPROTO_ROUTING && p->proto != IPPROTO_DSTOPTS &&
		    p->proto != IPPROTO_FRAGMENT && p->proto != IPPROTO_AH)
			return OUTCOMES; /* a protocol, not ours */
		if (READ(skb, p->off, &ext))
			return OUTCOME_MALFORMED;
		if (p->proto == IPPROTO_FRAGMENT) {
			p->later = (ext.frag & bpf_htons(0xfff8)) != 0;
			p->off += 8;
		} else if (p->proto == IPPROTO_AH) {
			p->off += (ext.len + 2) * 4;
		} else {
			p->off += (ext.len + 1) * 8;
		}
		p->proto = ext.next;
		if (p->later)
			return OUTCOMES;
	}
	return OUTCOME_UNKNOWN_EXTENSION;
}

INLINE int parse_tcp(struct __sk_buff *skb, struct packet *p)
{
	struct tcphdr tcp;
	__u32 header;

	if (READ(skb, p->off, &tcp))
		return OUTCOME_MALFORMED;
	header = (tcp.doff_res >> 4) * 4;
	if (header < sizeof(tcp) || p->off + header > p->end)
		return OUTCOME_MALFORMED;
	p->sport = tcp.source;
	p->dport = tcp.dest;
	p->seq = bpf_ntohl(tcp.seq);
	p->ack = bpf_ntohl(tcp.ack_seq);
	p->window = bpf_ntohs(tcp.window);
	p->flags = tcp.flags;
	p->options = p->off + sizeof(tcp);
	p->off += header;
	p->len = p->end - p->off;
	return OUTCOMES;
}

INLINE int parse_udp(struct __sk_buff *skb, struct packet *p)
{
	struct udphdr udp;

	if (READ(skb, p->off, &udp))
		return OUTCOME_MALFORMED;
	p->sport = udp.source;
	p->dport = udp.dest;
	p->off += sizeof(udp);
	if (p->off > p->end)
		return OUTCOME_MALFORMED;
	p->len = p->end - p->off;
	return OUTCOMES;
}

/* Ports of the packet, and for TCP the rest of its header. */
INLINE int parse_transport(struct __sk_buff *skb, struct packet *p)
{
	int out = OUTCOMES;

	if (p->v6 && p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP)
		out = parse_extensions(skb, p);
	if (out != OUTCOMES)
		return out;
	if (p->later)
		return OUTCOME_LATER_FRAGMENT;
	if (p->proto == IPPROTO_TCP)
		return parse_tcp(skb, p);
	if (p->proto == IPPROTO_UDP)
		return parse_udp(skb, p);
	return OUTCOME_OTHER_PROTOCOL;
}

/* The key of the packet's flow, whichever way it goes. */
INLINE void make_key(const struct packet *p, const enum dir dir, struct flow_key *k)
{
	if (dir == TO_SERVER) {
		__builtin_memcpy(k->terminal, p->src, sizeof(k->terminal));
		__builtin_memcpy(k->server, p->dst, sizeof(k->server));
		k->terminal_port = p->sport;
		k->server_port = p->dport;
	} else {
		__builtin_memcpy(k->terminal, p->dst, sizeof(k->terminal));
		__builtin_memcpy(k->server, p->src, sizeof(k->server));
		k->terminal_port = p->dport;
		k->server_port = p->sport;
	}
	k->proto = p->proto;
	__builtin_memset(k->pad, 0, sizeof(k->pad));
}

INLINE enum service service_of(__be16 port)
{
	__u16 n = bpf_ntohs(port);

	return (service_ports[n >> 2] >> ((n & 3) * 2)) & 3;
}

#endif
