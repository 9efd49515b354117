/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The way of a packet through the hooks. What is nobody's business leaves first. */
#ifndef SCAS_LAN_H
#define SCAS_LAN_H

#include "cut.h"
#include "media.h"
#include "steer.h"
#include "walk.h"

/* What the terminal with this address may do; none: a stranger. */
INLINE struct subscriber *find_subscriber(const struct packet *p, const __be32 addr[4])
{
	struct addr_key k;

	if (!p->v6) {
		__builtin_memcpy(k.addr, addr, sizeof(k.addr));
	} else {
		for (int i = 0; i < 4; i++)
			k.addr[i] = addr[i] & ipv6_mask[i];
	}
	return bpf_map_lookup_elem(&subscribers, &k);
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
		f = flow_create(k, syn ? FLOW_SYN | (service == SERVICE_MMS ? FLOW_SAMPLE : 0) : 0, service, now);
		if (f && syn) {
			note(NOTE_FLOW_NEW);
			if (legs_active)
				bpf_map_delete_elem(&legs, k); /* the terminal's own now */
		}
		return f;
	}
	if (p->flags & TCP_RST)
		return 0; /* the last word on a connection nobody followed */
	f = flow_create(k, FLOW_SAMPLE, service, now);
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
	bpf_spin_lock(&f->lock);
	fresh = !(d->flags & DIR_SEQ) || (__s32)(end_seq(p) - d->highest) > 0;
	account_dir(d, p, &o, now);
	bpf_spin_unlock(&f->lock);
	return fresh;
}

/* Tells user space of a connection joined in its middle. */
INLINE void announce(struct tcp_flow *f, struct event *ev)
{
	__u8 flags = ev->tcp_flags;

	ev->kind = EVENT_TCP;
	ev->tcp_flags = 0;
	if (event_send(ev, 0, NOTE_EVENT_TCP))
		flow_set(f, FLOW_LOSSY);
	ev->tcp_flags = flags;
}

/* What of a server's segment goes up. */
INLINE void server_segment(struct __sk_buff *skb, const struct packet *p, const struct flow_key *k, struct tcp_flow *f,
			   struct event *ev, __u64 now)
{
	bool copied = copy_down(skb, f, p, ev, now);

	if (f->flags & FLOW_WALK) {
		if (walk_segment(skb, p, k, f, ev, now) || copied)
			return;
		event_begin(ev, k, p, TO_TERMINAL, now);
		ev->service = f->service;
		sample_tail(skb, f, p, ev, now);
	} else if (!copied && f->flags & FLOW_SAMPLE) {
		sample_tail(skb, f, p, ev, now);
	}
}

/* Works on a segment of a connection that is watched. */
INLINE int tcp_watch(struct __sk_buff *skb, const struct packet *p, const struct flow_key *k, struct tcp_flow *f,
		     const enum dir dir, __u64 now)
{
	struct scratch *s = scratch();
	bool joined = false, fresh;

	if (f && f->flags & FLOW_IGNORED && !(dir == TO_SERVER && is_syn(p)))
		return OUTCOME_TCP_IGNORED;
	f = watched(p, k, f, dir, &joined, now);
	if (!f || !s)
		return OUTCOME_TCP_UNTRACKED;
	fresh = account(skb, p, f, dir, now);
	if (!p->len && !joined && !(p->flags & (TCP_SYN | TCP_FIN | TCP_RST)))
		return OUTCOME_TCP;
	event_begin(&s->ev, k, p, dir, now);
	s->ev.service = f->service;
	if (joined)
		announce(f, &s->ev);
	if (dir == TO_SERVER && is_readable(skb, f, p, &s->ev))
		copy_up(skb, f, p, &s->ev, fresh, now);
	else if (dir == TO_TERMINAL && (f->service != SERVICE_MMSH || f->flags & FLOW_PLAYER))
		server_segment(skb, p, k, f, &s->ev, now);
	return OUTCOME_TCP;
}

/* Works on a subscriber's TCP segment on a service port. */
INLINE int tcp_hook(struct __sk_buff *skb, const struct packet *p, const struct flow_key *k, __u32 sub_flags,
		    const enum dir dir, __u64 now)
{
	struct tcp_flow *f = bpf_map_lookup_elem(&flows, k);
	int out;

	if (dir == TO_TERMINAL)
		return f && f->flags & FLOW_STEERED ? OUTCOME_STEER_STRAY : tcp_watch(skb, p, k, f, dir, now);
	out = steer_lan(skb, p, k, f, steer_always || sub_flags & SUB_ARMED, now);
	if (out != OUTCOMES)
		return out;
	return tcp_watch(skb, p, k, f, dir, now);
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

/* The way of a subscriber's datagram. What is known of it moves to the scratch map: the verifier
 * forgets by which way it got there, or it would follow each way to the end. */
INLINE int udp_packet(struct __sk_buff *skb, const struct packet *p, __u32 sub_flags, const enum dir dir)
{
	bool none = !(sub_flags & SUB_MEDIA) || is_no_media(skb, p);
	struct media *m = 0;
	int out = OUTCOME_OTHER_UDP;
	struct scratch *s;
	__u64 now;

	if (none && !(sub_flags & SUB_CUT))
		return OUTCOME_OTHER_UDP;
	s = scratch();
	if (!s)
		return OUTCOME_OTHER_UDP;
	make_key(p, dir, &s->k);
	if (!none)
		m = bpf_map_lookup_elem(&media_flows, &s->k);
	if (!m && !(sub_flags & (SUB_CUT | SUB_LEARN)))
		return OUTCOME_OTHER_UDP;
	s->p = *p;
	now = bpf_ktime_get_ns();
	if (!(sub_flags & SUB_ON))
		out = OUTCOME_STRANGER;
	else
		out = media_hook(skb, &s->p, &s->k, m, sub_flags, dir, now);
	if (sub_flags & SUB_CUT && is_cut(&s->k, dir, now))
		return OUTCOME_CUT; /* after it was counted: what its sender acknowledged stays known */
	return out;
}

/* The way of a subscriber's TCP segment. */
INLINE int tcp_packet(struct __sk_buff *skb, const struct packet *p, __u32 sub_flags, const enum dir dir)
{
	enum service service = service_of(dir == TO_SERVER ? p->dport : p->sport);
	int out = OUTCOME_OTHER_TCP;
	struct scratch *s;
	__u64 now;

	if (!(sub_flags & SUB_CUT) && !service)
		return OUTCOME_OTHER_TCP;
	s = scratch();
	if (!s)
		return OUTCOME_OTHER_TCP;
	make_key(p, dir, &s->k);
	s->p = *p;
	now = bpf_ktime_get_ns();
	if (!(sub_flags & SUB_ON))
		out = OUTCOME_STRANGER;
	else if (service)
		out = tcp_hook(skb, &s->p, &s->k, sub_flags, dir, now);
	if (sub_flags & SUB_CUT && is_cut(&s->k, dir, now))
		return OUTCOME_CUT;
	return out;
}

/* The way of a subscriber's packet: what it was for. */
INLINE int subscriber_packet(struct __sk_buff *skb, struct packet *p, __u32 sub_flags, const enum dir dir)
{
	int out = parse_transport(skb, p);

	if (out != OUTCOMES)
		return out;
	if (p->proto == IPPROTO_TCP)
		return tcp_packet(skb, p, sub_flags, dir);
	return udp_packet(skb, p, sub_flags, dir);
}

/* Either LAN hook. */
INLINE int lan_packet(struct __sk_buff *skb, const enum dir dir)
{
	struct packet p = {};
	struct subscriber *sub;
	int out;

	if (skb->mark & mark_bit)
		return OUTCOME_OWN;
	out = parse_network(skb, &p);
	if (out != OUTCOMES)
		return out;
	sub = find_subscriber(&p, dir == TO_SERVER ? p.src : p.dst);
	if (!sub)
		return OUTCOME_STRANGER;
	return subscriber_packet(skb, &p, sub->flags, dir);
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
