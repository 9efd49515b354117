/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The record of a TCP connection, kept per packet and before any drop. */
#ifndef SCAS_TCP_H
#define SCAS_TCP_H

#include "event.h"

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };
enum {
	OPTION_END = 0,
	OPTION_NOP = 1,
	OPTION_MSS = 2,
	OPTION_WSCALE = 3,
	OPTION_SACK = 4,
	OPTION_TS = 8,
	OPTION_MPTCP = 30
};
enum { MAX_OPTIONS = 40 };

/* What the options of one segment said. */
struct tcp_options {
	__u32 tsval;
	__u16 mss;
	__u16 flags; /* enum tcp_dir_flag */
	__u8 wscale;
};

struct option_run {
	struct tcp_options *o;
	__u32 at;
	__u32 end;
	__u8 bytes[64]; /* slack: an option cut short reads zeroes */
};

INLINE void parse_option(struct option_run *r, __u32 at, __u8 kind)
{
	const __u8 *b = r->bytes;

	switch (kind) {
	case OPTION_MSS:
		r->o->mss = b[at + 2] << 8 | b[at + 3];
		break;
	case OPTION_WSCALE:
		r->o->wscale = b[at + 2];
		r->o->flags |= DIR_WSCALE;
		break;
	case OPTION_SACK:
		r->o->flags |= DIR_SACK;
		break;
	case OPTION_TS:
		r->o->tsval = (__u32)b[at + 2] << 24 | b[at + 3] << 16 | b[at + 4] << 8 | b[at + 5];
		r->o->flags |= DIR_TS | DIR_TSVAL;
		break;
	case OPTION_MPTCP:
		r->o->flags |= DIR_MPTCP;
		break;
	}
}

static int next_option(__u32 i, void *data)
{
	struct option_run *r = data;
	__u32 at = r->at;
	__u8 kind, len;

	if (at >= MAX_OPTIONS || at >= r->end)
		return 1;
	kind = r->bytes[at];
	if (kind == OPTION_END)
		return 1;
	if (kind == OPTION_NOP) {
		r->at = at + 1;
		return 0;
	}
	len = r->bytes[at + 1];
	if (len < 2 || at + len > r->end)
		return 1;
	parse_option(r, at, kind);
	r->at = at + len;
	return 0;
}

/* Reads the options of the segment; unreadable ones count as none. */
INLINE void parse_options(struct __sk_buff *skb, const struct packet *p, struct tcp_options *o)
{
	struct option_run r = {.o = o, .end = p->off - p->options};
	__u32 len = r.end;
	struct {
		__be32 lead;
		__be32 tsval;
		__be32 tsecr;
	} ts;

	if (len == sizeof(ts) && !(p->flags & TCP_SYN)) { /* NOP NOP TS, what nearly every segment has */
		if (READ(skb, p->options, &ts))
			return;
		if (ts.lead == bpf_htonl(0x0101080a)) {
			o->tsval = bpf_ntohl(ts.tsval);
			o->flags |= DIR_TSVAL;
			return;
		}
	}
	if (!len || len > MAX_OPTIONS)
		return;
	if (bpf_skb_load_bytes(skb, p->options, r.bytes, bounded(len, sizeof(r.bytes))))
		return;
	bpf_loop(MAX_OPTIONS, next_option, &r, 0);
}

INLINE bool is_syn(const struct packet *p)
{
	return (p->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

/* Sequence number after the segment. */
INLINE __u32 end_seq(const struct packet *p)
{
	return p->seq + p->len + ((p->flags & TCP_SYN) != 0) + ((p->flags & TCP_FIN) != 0);
}

/* Writes one segment into the direction it belongs to. Call with the flow's lock held. */
INLINE void account_dir(struct tcp_dir *d, const struct packet *p, const struct tcp_options *o, __u64 now)
{
	__u32 end = end_seq(p);

	d->packets++;
	d->bytes += p->len;
	d->last = now;
	if (!(p->flags & TCP_RST) && (!(d->flags & DIR_SEQ) || (__s32)(end - d->highest) > 0)) {
		d->highest = end;
		d->flags |= DIR_SEQ;
	}
	if (p->flags & TCP_ACK && !(p->flags & TCP_RST) && (!(d->flags & DIR_ACK) || (__s32)(p->ack - d->ack) >= 0)) {
		d->ack = p->ack;
		d->window = p->window;
		d->flags |= DIR_ACK;
	}
	if (o->flags & DIR_TSVAL && (!(d->flags & DIR_TSVAL) || (__s32)(o->tsval - d->tsval) > 0)) {
		d->tsval = o->tsval;
		d->tsval_at = bpf_ktime_get_ns(); /* once for each value, which last a millisecond or more */
		d->flags |= DIR_TSVAL;
	}
	if (p->flags & TCP_SYN) {
		d->isn = p->seq;
		d->mss = o->mss;
		d->wscale = o->wscale;
		d->flags |= DIR_SYN | o->flags;
	}
	if (p->flags & TCP_FIN)
		d->flags |= DIR_FIN;
	if (p->flags & TCP_RST)
		d->flags |= DIR_RST;
}

/* Puts a new record in place of what there was, which is old; the record, or none when there is no
 * room, or none for this terminal. */
INLINE struct tcp_flow *flow_create(const struct flow_key *k, const struct tcp_flow *old, __u32 flags,
				    enum service service, __u64 now)
{
	struct scratch *s = scratch();
	struct share *share = old ? 0 : share_of(s);
	struct tcp_flow *fresh;

	if (!s)
		return 0;
	if (!old && !share_has_flow(share)) {
		note(NOTE_FLOW_SHARE);
		return 0;
	}
	fresh = &s->flow;
	__builtin_memset(fresh, 0, sizeof(*fresh));
	fresh->flags = flags;
	fresh->service = service;
	fresh->up.last = now;
	if (bpf_map_update_elem(&flows, k, fresh, BPF_ANY)) {
		note(NOTE_FLOW_FULL);
		return 0;
	}
	if (share)
		__sync_fetch_and_add(&share->flows, 1);
	return bpf_map_lookup_elem(&flows, k);
}

/* Deletes a record that the programs made and nobody needs. */
INLINE void flow_delete(const struct flow_key *k)
{
	struct share *share = share_of(scratch());

	if (!bpf_map_delete_elem(&flows, k) && share)
		__sync_fetch_and_add(&share->flows, -1);
}

/* A SYN that begins a connection other than the recorded one. */
INLINE bool is_new(const struct tcp_flow *f, const struct packet *p)
{
	return !f || !(f->up.flags & DIR_SYN) || f->up.isn != p->seq;
}

/* Sets flags of the record that is not this packet's alone. */
INLINE void flow_set(struct tcp_flow *f, __u32 flags)
{
	__sync_fetch_and_or(&f->flags, flags);
}

INLINE void flow_clear(struct tcp_flow *f, __u32 flags)
{
	__sync_fetch_and_and(&f->flags, ~flags);
}

#endif
