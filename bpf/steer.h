/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Handing packets to sockets of ours: the terminal's to the listener and what it accepted, the
 * server's to upstream legs. The mark makes the policy rule deliver them here; a packet that got
 * the mark without a socket would be lost, so it is set only after sk_assign took it. */
#ifndef SCAS_STEER_H
#define SCAS_STEER_H

#include "tcp.h"

INLINE void release_socket(struct bpf_sock **sk)
{
	if (*sk)
		bpf_sk_release(*sk);
}

#define SOCKET_REF struct bpf_sock *__attribute__((cleanup(release_socket)))

/* The socket the packet would reach here; a listener bound to any address, too. */
INLINE struct bpf_sock *find_socket(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_sock_tuple t = {};

	if (p->v6) {
		__builtin_memcpy(t.ipv6.saddr, p->src, sizeof(t.ipv6.saddr));
		__builtin_memcpy(t.ipv6.daddr, p->dst, sizeof(t.ipv6.daddr));
		t.ipv6.sport = p->sport;
		t.ipv6.dport = p->dport;
		return bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	t.ipv4.saddr = p->src[3];
	t.ipv4.daddr = p->dst[3];
	t.ipv4.sport = p->sport;
	t.ipv4.dport = p->dport;
	return bpf_skc_lookup_tcp(skb, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
}

/* Gives the packet to the socket; false: the kernel would not. */
INLINE bool hand_over(struct __sk_buff *skb, struct bpf_sock *sk)
{
	if (bpf_sk_assign(skb, sk, 0)) {
		note(NOTE_STEER_ASSIGN_FAILED);
		return false;
	}
	skb->mark |= mark_bit;
	return true;
}

INLINE bool hand_to_listener(struct __sk_buff *skb, const struct packet *p)
{
	__u32 family = p->v6;
	SOCKET_REF sk = bpf_map_lookup_elem(&listeners, &family);

	if (!sk) {
		note(NOTE_STEER_NO_LISTENER);
		return false;
	}
	return hand_over(skb, sk);
}

/* True for a socket of the connection itself. One in TIME_WAIT is no exception, not even for a SYN:
 * the kernel takes no second one beside it. It answers the SYN with an ACK, the terminal that with
 * an RST, which ends it, and the next SYN finds the listener. */
INLINE bool is_connection(const struct bpf_sock *sk)
{
	return sk->state != BPF_TCP_LISTEN;
}

INLINE bool is_ours(struct bpf_sock *sk)
{
	struct bpf_sock *full = bpf_sk_fullsock(sk);

	return full && full->mark & mark_bit;
}

/* True when the packet is for this router itself: its own services are not steered. */
INLINE bool is_local(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_fib_lookup fib = {.ifindex = skb->ifindex, .l4_protocol = IPPROTO_TCP, .family = AF_INET};

	if (p->v6) {
		fib.family = AF_INET6;
		__builtin_memcpy(fib.ipv6_src, p->src, sizeof(fib.ipv6_src));
		__builtin_memcpy(fib.ipv6_dst, p->dst, sizeof(fib.ipv6_dst));
	} else {
		fib.ipv4_src = p->src[3];
		fib.ipv4_dst = p->dst[3];
	}
	return bpf_fib_lookup(skb, &fib, sizeof(fib), 0) == BPF_FIB_LKUP_RET_NOT_FWDED;
}

/* SYNs of a connection that the listener gets until one is passed on: a packet filter of the router
 * drops what is for the router, and the terminal is not to wait for ever. */
#define STEER_TRIES 2

/* A new connection of an armed terminal: to the listener, with a record first. */
INLINE int steer_syn(struct __sk_buff *skb, const struct packet *p, const struct flow_key *k, struct tcp_flow *f,
		     __u64 now)
{
	__u64 tries = is_new(f, p) || !(f->flags & FLOW_STEERED) ? 0 : f->up.packets;

	if (is_local(skb, p)) {
		note(NOTE_STEER_LOCAL);
		return OUTCOMES;
	}
	if (tries >= STEER_TRIES) {
		note(NOTE_STEER_UNANSWERED);
		return OUTCOMES;
	}
	f = flow_create(k, f, FLOW_STEERED | FLOW_SYN, service_of(k->server_port), now);
	if (!f)
		return OUTCOMES;
	f->up.isn = p->seq;
	f->up.flags = DIR_SYN;
	f->up.packets = tries + 1;
	if (!hand_to_listener(skb, p)) {
		flow_delete(k);
		return OUTCOMES;
	}
	note(NOTE_STEER_NEW);
	return OUTCOME_STEERED;
}

/* A packet of a connection that has its socket. f: its record, none when it was lost. */
INLINE int steer_connection(struct __sk_buff *skb, struct bpf_sock *sk, const struct flow_key *k, struct tcp_flow *f,
			    __u64 now)
{
	if (!f || !(f->flags & FLOW_STEERED)) {
		if (!is_ours(sk))
			return OUTCOMES;
		f = flow_create(k, f, FLOW_STEERED, service_of(k->server_port), now);
		note(NOTE_STEER_RECOVERED);
	}
	if (f) {
		f->up.last = now;
		f->up.packets++;
		if (sk->state != BPF_TCP_NEW_SYN_RECV)
			flow_set(f, FLOW_ESTABLISHED);
	}
	return hand_over(skb, sk) ? OUTCOME_STEERED : OUTCOMES;
}

/* Steers a terminal's packet. OUTCOMES: not ours to steer. */
INLINE int steer_lan(struct __sk_buff *skb, const struct packet *p, const struct flow_key *k, struct tcp_flow *f,
		     bool armed, __u64 now)
{
	bool steered = f && f->flags & FLOW_STEERED, syn = is_syn(p);
	SOCKET_REF sk = 0;

	if (!steered && (f || syn) && !(syn && armed && is_new(f, p)))
		return OUTCOMES;
	if (p->tagged) {
		note(NOTE_STEER_TAGGED);
		return OUTCOMES;
	}
	sk = find_socket(skb, p);
	if (sk && is_connection(sk))
		return steer_connection(skb, sk, k, f, now);
	if (syn && armed)
		return steer_syn(skb, p, k, f, now);
	if (!steered)
		return OUTCOMES;
	if (!syn && !(f->flags & FLOW_ESTABLISHED) && hand_to_listener(skb, p))
		return OUTCOME_STEERED; /* answers a SYN cookie: the listener makes the socket of it */
	if (syn)
		return OUTCOMES; /* begins a connection of its own */
	flow_delete(k);
	return OUTCOME_STEER_GONE;
}

/* Steers a server's packet to an upstream leg. */
INLINE int steer_leg(struct __sk_buff *skb, const struct packet *p, const struct flow_key *k)
{
	SOCKET_REF sk = 0;

	if (!bpf_map_lookup_elem(&legs, k))
		return OUTCOME_NOT_LEG;
	if (p->tagged) {
		note(NOTE_STEER_TAGGED);
		return OUTCOME_LEG_GONE;
	}
	sk = find_socket(skb, p);
	if (!sk || !is_connection(sk) || !hand_over(skb, sk))
		return OUTCOME_LEG_GONE;
	return OUTCOME_LEG;
}

#endif
