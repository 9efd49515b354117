/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The way of a packet through the hooks. What is nobody's business leaves first. */
#ifndef SCAS_LAN_H
#define SCAS_LAN_H

#include "cut.h"
#include "media.h"
#include "steer.h"
#include "unreach.h"
#include "walk.h"

/* The address as it is looked up: IPv6 is masked. */
INLINE void address_key(const struct packet *p, const enum dir dir, struct addr_key *k)
{
	const __be32 *addr = dir == TO_SERVER ? p->src : p->dst;

	if (!p->v6) {
		__builtin_memcpy(k->addr, addr, sizeof(k->addr));
	} else {
		for (int i = 0; i < 4; i++)
			k->addr[i] = addr[i] & ipv6_mask[i];
	}
}

/* The place of an address in the map of them, as addressSlot in Go. */
INLINE __u32 address_slot(const struct addr_key *k)
{
	__u32 x = k->addr[0] ^ k->addr[1] ^ k->addr[2] ^ k->addr[3];

	return x * 0x9e3779b1U >> 12;
}

/* What there may be for the address, enum address_bit; 0: it is a stranger's. */
INLINE __u32 address_bits(const struct addr_key *k)
{
	__u32 slot = address_slot(k), word = slot / ADDRESSES_PER_WORD;
	__u64 *bits = bpf_map_lookup_elem(&addresses, &word);

	return bits ? *bits >> slot % ADDRESSES_PER_WORD * 2 & 3 : 0;
}

/* What the packet's terminal may do, enum subscriber_flag; 0: a stranger. who is where the flow's
 * record keeps it, with the version of subscribers it is of in the upper half; may be none. */
INLINE __u32 terminal_flags(const struct addr_key *k, __u64 *who)
{
	__u32 version = *(volatile __u32 *)&subscribers_version;
	struct subscriber *sub;
	__u32 flags;

	if (who && *(volatile __u64 *)who >> 32 == version)
		return *(volatile __u64 *)who;
	sub = bpf_map_lookup_elem(&subscribers, k);
	flags = sub ? sub->flags : 0;
	if (who)
		*(volatile __u64 *)who = (__u64)version << 32 | flags;
	return flags;
}

/* The record of the packet's connection, made when there is none or its SYN begins a new one.
 * joined: it was made in the middle. */
INLINE struct tcp_flow *watched(const struct packet *p, const struct flow_key *k, struct tcp_flow *f,
				const enum dir dir, bool *joined, __u64 now)
{
	enum service service = service_of(k->server_port);
	bool syn = dir == TO_SERVER && is_syn(p);

	if (f && !(syn && (is_new(f, p) || f->flags & FLOW_STEERED)))
		return f;
	if (syn || service == SERVICE_MMSH) {
		f = flow_create(k, f, syn ? FLOW_SYN | (service == SERVICE_MMS ? FLOW_SAMPLE : 0) : 0, service, now);
		if (f && syn) {
			note(NOTE_FLOW_NEW);
			if (legs_active)
				bpf_map_delete_elem(&legs, k); /* the terminal's own now */
		}
		return f;
	}
	if (p->flags & TCP_RST)
		return 0; /* the last word on a connection nobody followed */
	f = flow_create(k, f, FLOW_SAMPLE, service, now);
	if (f)
		note(NOTE_FLOW_JOINED);
	*joined = f;
	return f;
}

/* Writes the segment into the record; true: it goes beyond what was seen of its direction. */
INLINE bool account(struct __sk_buff *skb, const struct packet *p, struct tcp_flow *f, const enum dir dir, __u64 now)
{
	struct tcp_dir *d = dir == TO_SERVER ? &f->up : &f->down;
	struct tcp_options o = {};
	bool fresh;

	parse_options(skb, p, &o);
	if (!record_lock(&f->turn)) {
		flow_set(f, FLOW_LOSSY);
		return true;
	}
	fresh = !(d->flags & DIR_SEQ) || (__s32)(end_seq(p) - d->highest) > 0;
	account_dir(d, p, &o, now);
	record_unlock(&f->turn);
	return fresh;
}

/* Tells user space of a connection joined in its middle. */
INLINE void announce(struct tcp_flow *f, const struct packet *p, const struct flow_key *k, const enum dir dir,
		     struct event *ev)
{
	event_tcp(ev, k, p, f, dir);
	ev->kind = EVENT_TCP;
	ev->tcp_flags = 0;
	if (event_send(ev, 0, NOTE_EVENT_TCP))
		flow_set(f, FLOW_LOSSY);
}

/* What of a server's segment goes up. */
INLINE void server_segment(struct __sk_buff *skb, const struct packet *p, const struct flow_key *k, struct tcp_flow *f,
			   struct event *ev, __u64 now)
{
	bool copied = copy_down(skb, f, p, k, ev, now);
	bool sample = f->flags & FLOW_WALK ? !walk_segment(skb, p, k, f, ev, now) : (f->flags & FLOW_SAMPLE) != 0;

	if (sample && !copied)
		sample_tail(skb, f, p, k, ev, now);
}

/* Works on a segment of a connection that is watched. */
INLINE int tcp_watch(struct __sk_buff *skb, struct scratch *s, struct tcp_flow *f, const enum dir dir, __u64 now)
{
	const struct packet *p = &s->p;
	const struct flow_key *k = &s->k;
	bool joined = false, fresh;

	if (f && f->flags & FLOW_IGNORED && !(dir == TO_SERVER && is_syn(p)))
		return OUTCOME_TCP_IGNORED;
	f = watched(p, k, f, dir, &joined, now);
	if (!f)
		return OUTCOME_TCP_UNTRACKED;
	fresh = account(skb, p, f, dir, now);
	if (!p->len && !joined && !(p->flags & (TCP_SYN | TCP_FIN | TCP_RST)))
		return OUTCOME_TCP;
	if (joined)
		announce(f, p, k, dir, &s->ev);
	if (dir == TO_SERVER && is_readable(skb, f, p, &s->ev))
		copy_up(skb, f, p, k, &s->ev, fresh, now);
	else if (dir == TO_TERMINAL && (f->service != SERVICE_MMSH || f->flags & FLOW_PLAYER))
		server_segment(skb, p, k, f, &s->ev, now);
	return OUTCOME_TCP;
}

/* Works on a subscriber's TCP segment on a service port, whose record is f if there is one. */
INLINE int tcp_hook(struct __sk_buff *skb, struct scratch *s, struct tcp_flow *f, __u32 sub_flags, const enum dir dir,
		    __u64 now)
{
	int out;

	if (dir == TO_TERMINAL)
		return f && f->flags & FLOW_STEERED ? OUTCOME_STEER_STRAY : tcp_watch(skb, s, f, dir, now);
	out = steer_lan(skb, &s->p, &s->k, f, steer_always || sub_flags & SUB_ARMED, now);
	if (out != OUTCOMES)
		return out;
	return tcp_watch(skb, s, f, dir, now);
}

/* True when the datagram can be nobody's media: RTP and RTCP begin with version 2 (RFC 3550 §5.1),
 * QUIC, DTLS, WireGuard and three in four others do not. */
INLINE bool is_no_media(struct __sk_buff *skb, const struct packet *p)
{
	struct {
		__u8 bytes[MIN_MEDIA];
	} head;

	return p->len < MIN_MEDIA || READ(skb, p->off, &head) || head.bytes[0] >> 6 != 2;
}

/* The way of a datagram. A known flow's record is asked first: it knows whose it is. What is known
 * of the packet moves to the scratch map: the verifier forgets by which way it got there, or it
 * would follow each way to the end. */
INLINE int udp_packet(struct __sk_buff *skb, const struct packet *p, const struct addr_key *addr, __u32 bits,
		      const enum dir dir)
{
	bool none = is_no_media(skb, p);
	struct scratch *s = scratch();
	struct media *m = 0;
	int out = OUTCOME_OTHER_UDP;
	__u32 flags;
	__u64 now;

	if (!s)
		return OUTCOME_OTHER_UDP;
	make_key(p, dir, &s->k);
	if (!none && bits & ADDRESS_MEDIA)
		m = bpf_map_lookup_elem(&media_flows, &s->k);
	flags = terminal_flags(addr, m ? &m->who : 0);
	if (!flags)
		return OUTCOME_STRANGER;
	if (!m && !(flags & SUB_CUT) && (none || !(flags & SUB_LEARN)))
		return OUTCOME_OTHER_UDP;
	s->p = *p;
	s->addr = *addr;
	now = bpf_ktime_get_ns();
	if (!(flags & SUB_ON))
		out = OUTCOME_STRANGER;
	else
		out = media_hook(skb, &s->p, &s->k, m, flags, dir, now);
	if (flags & SUB_CUT && is_cut(&s->k, dir, now))
		return OUTCOME_CUT; /* after it was counted: what its sender acknowledged stays known */
	return out;
}

/* As is_cut, of a segment. A cut is of one connection: it ends when the terminal uses its port for
 * a new one. */
INLINE bool is_cut_tcp(struct scratch *s, const enum dir dir)
{
	if (dir == TO_SERVER && is_syn(&s->p))
		bpf_map_delete_elem(&cuts, &s->k);
	return is_cut(&s->k, dir, bpf_ktime_get_ns());
}

/* The way of a TCP segment. */
INLINE int tcp_packet(struct __sk_buff *skb, const struct packet *p, const struct addr_key *addr, const enum dir dir)
{
	enum service service = service_of(dir == TO_SERVER ? p->dport : p->sport);
	int out = OUTCOME_OTHER_TCP;
	struct scratch *s = scratch();
	struct tcp_flow *f = 0;
	__u32 flags;
	__u64 now;

	if (!s)
		return OUTCOME_OTHER_TCP;
	make_key(p, dir, &s->k);
	if (service)
		f = bpf_map_lookup_elem(&flows, &s->k);
	flags = terminal_flags(addr, f ? &f->who : 0);
	if (!flags)
		return OUTCOME_STRANGER;
	if (!(flags & SUB_CUT) && !service)
		return OUTCOME_OTHER_TCP;
	s->p = *p;
	s->addr = *addr;
	now = tick_now(s);
	if (!(flags & SUB_ON))
		out = OUTCOME_STRANGER;
	else if (service)
		out = tcp_hook(skb, s, f, flags, dir, now);
	if (flags & SUB_CUT && is_cut_tcp(s, dir))
		return OUTCOME_CUT;
	return out;
}

/* The way of a packet that is neither TCP nor UDP, or not to be read; out says which. */
INLINE int no_transport(struct __sk_buff *skb, const struct packet *p, const struct addr_key *addr, __u32 bits,
			const enum dir dir, int out)
{
	if (!terminal_flags(addr, 0))
		return OUTCOME_STRANGER;
	if (dir == TO_SERVER && out == OUTCOME_OTHER_PROTOCOL && bits & ADDRESS_MEDIA)
		media_unreachable(skb, p);
	return out;
}

/* Either LAN hook. */
INLINE int lan_packet(struct __sk_buff *skb, const enum dir dir)
{
	struct packet p = {};
	struct addr_key addr;
	__u32 bits;
	int out;

	if (skb->mark & mark_bit)
		return OUTCOME_OWN;
	out = parse_network(skb, &p);
	if (out != OUTCOMES)
		return out;
	address_key(&p, dir, &addr);
	bits = address_bits(&addr);
	if (!bits)
		return OUTCOME_STRANGER;
	out = parse_transport(skb, &p);
	if (out != OUTCOMES)
		return no_transport(skb, &p, &addr, bits, dir, out);
	if (p.proto == IPPROTO_TCP)
		return tcp_packet(skb, &p, &addr, dir);
	return udp_packet(skb, &p, &addr, bits, dir);
}

/* The WAN hook: only what goes to upstream legs of ours matters. */
INLINE int wan_packet(struct __sk_buff *skb)
{
	struct packet p = {};
	struct flow_key k;
	int out;

	if (!legs_active)
		return OUTCOME_NO_LEGS;
	out = parse_network(skb, &p);
	if (out != OUTCOMES)
		return out;
	if (p.proto != IPPROTO_TCP && !p.v6)
		return OUTCOME_NOT_LEG;
	out = parse_transport(skb, &p);
	if (out != OUTCOMES)
		return out;
	if (p.proto != IPPROTO_TCP || !service_of(p.sport))
		return OUTCOME_NOT_LEG;
	make_key(&p, TO_TERMINAL, &k);
	return steer_leg(skb, &p, &k);
}

#endif
