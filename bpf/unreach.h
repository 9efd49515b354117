/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* A terminal's word that media did not reach a socket of it: Destination Unreachable of ICMP
 * (RFC 792) and ICMPv6 (RFC 4443 §3.1), with the head of the datagram it is about. */
#ifndef SCAS_UNREACH_H
#define SCAS_UNREACH_H

#include "count.h"

enum { ICMP_HEAD = 8, ICMP_UNREACH = 3, ICMP_UNREACH_NEEDFRAG = 4, ICMP6_UNREACH = 1 };

INLINE bool is_unreachable(struct __sk_buff *skb, const struct packet *p)
{
	struct {
		__u8 type;
		__u8 code;
	} icmp;

	if (READ(skb, p->off, &icmp))
		return false;
	if (p->v6)
		return p->proto == IPPROTO_ICMPV6 && icmp.type == ICMP6_UNREACH;
	return p->proto == IPPROTO_ICMP && icmp.type == ICMP_UNREACH && icmp.code != ICMP_UNREACH_NEEDFRAG;
}

/* Writes into the record of an RTP flow that its terminal, which sent the packet p, did not take a
 * datagram of it. */
INLINE void media_unreachable(struct __sk_buff *skb, const struct packet *p)
{
	struct scratch *s = scratch();
	struct media *m;

	if (!s || !is_unreachable(skb, p))
		return;
	__builtin_memset(&s->p, 0, sizeof(s->p));
	s->p.off = p->off + ICMP_HEAD;
	/* What is quoted may be cut short, which makes it malformed but leaves its header read. */
	if (p->v6)
		parse_ipv6(skb, &s->p);
	else
		parse_ipv4(skb, &s->p);
	if (s->p.proto != IPPROTO_UDP || s->p.later)
		return;
	parse_udp(skb, &s->p);
	make_key(&s->p, TO_TERMINAL, &s->k);
	for (int i = 0; i < 4; i++)
		if (s->k.terminal[i] != p->src[i])
			return;
	m = bpf_map_lookup_elem(&media_flows, &s->k);
	if (!m || m->flags & (MEDIA_RTCP | MEDIA_LEARN))
		return;
	m->unreachable = bpf_ktime_get_ns();
	note(NOTE_MEDIA_UNREACHABLE);
}

#endif
