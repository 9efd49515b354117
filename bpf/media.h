/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Packets of known UDP media flows. */
#ifndef SCAS_MEDIA_H
#define SCAS_MEDIA_H

#include "rtphead.h"

/* One datagram at work. */
struct datagram {
	struct __sk_buff *skb;
	const struct packet *p;
	const struct flow_key *k;
	struct media *m;
	__u64 now;
	__u32 off;
	__u32 len;
	__u32 stride; /* of merged datagrams */
	__u32 left;
	int out;
};

INLINE void media_lossy(struct media *m)
{
	__sync_fetch_and_or(&m->flags, MEDIA_LOSSY);
}

/* Sends at most max bytes (a constant) of the datagram. */
INLINE void media_event(struct datagram *g, enum dir dir, enum event_kind kind, const __u32 max, const enum note n)
{
	struct scratch *s = scratch();

	if (!s)
		return;
	event_begin(&s->ev, g->k, g->p, dir, g->now);
	s->ev.kind = kind;
	s->ev.length = g->len;
	if (event_fill(&s->ev, g->skb, g->off, g->len, max) || event_send(&s->ev, g->len < max ? g->len : max, n))
		media_lossy(g->m);
}

/* Sends the packet whole, within the flow's rate. */
INLINE int rtcp_packet(struct datagram *g, const enum dir dir)
{
	struct media *m = g->m;

	m->last = g->now;
	if (dir == TO_SERVER)
		m->rtcp_up++;
	else
		m->rtcp_down++;
	if (passed(m->rtcp_since, g->now, SECOND)) {
		m->rtcp_since = g->now;
		m->rtcp_left = RTCP_PER_SECOND;
	}
	if (!m->rtcp_left) {
		note(NOTE_RTCP_LIMIT);
		return OUTCOME_RTCP;
	}
	m->rtcp_left--;
	media_event(g, dir, EVENT_RTCP, MAX_RTCP, NOTE_EVENT_RTCP);
	return OUTCOME_RTCP;
}

/* Whether this packet's head goes up. Call with the lock held. A flow that is always news is held
 * to sixteen samples an interval. */
INLINE bool sample_due(struct media *m, int news, __u64 now)
{
	if (news)
		m->flags |= MEDIA_NEWS;
	if (!(m->flags & MEDIA_SAMPLE) && !(news & NEWS_FIRST) && !passed(m->sampled, now, sample_ns) &&
	    (!(m->flags & MEDIA_NEWS) || !passed(m->sampled, now, sample_ns / 16)))
		return false;
	m->sampled = now;
	m->flags &= ~(MEDIA_SAMPLE | MEDIA_NEWS);
	return true;
}

INLINE void note_news(int news)
{
	if (news & NEWS_SSRC)
		note(NOTE_MEDIA_SSRC);
	if (news & NEWS_JUMP)
		note(NOTE_MEDIA_JUMP);
	if (news & NEWS_SEQ)
		note(NOTE_MEDIA_SEQ);
}

INLINE int rtp_packet(struct datagram *g, const struct rtp_wire *w)
{
	struct media *m = g->m;
	struct rtp r;
	__u32 arrival;
	bool sample;
	int news;

	rtp_read(w, &r);
	if (!takes_pt(m, r.pt))
		return OUTCOME_MEDIA_OTHER;
	arrival = to_ticks(g->now, m->ticks);
	if (!record_lock(&m->turn)) {
		media_lossy(m);
		return OUTCOME_RTP;
	}
	news = media_account(m, &r, g->len, arrival, g->now);
	sample = sample_due(m, news & ~NEWS_SEQ, g->now);
	record_unlock(&m->turn);
	if (news)
		note_news(news);
	if (sample)
		media_event(g, TO_TERMINAL, EVENT_RTP, MAX_HEAD, NOTE_EVENT_RTP);
	return OUTCOME_RTP;
}

/* Works on the datagram at g->off. */
INLINE int one_datagram(struct datagram *g, const enum dir dir)
{
	struct rtp_wire w = {};
	bool rtcp;

	if (g->len < MIN_MEDIA || READ(g->skb, g->off, (__u64 *)&w))
		return OUTCOME_MEDIA_OTHER;
	if (w.vpxcc >> 6 != 2)
		return OUTCOME_MEDIA_OTHER;
	rtcp = is_rtcp_type(w.mpt);
	if (rtcp)
		return rtcp_packet(g, dir);
	if (dir == TO_SERVER || g->m->flags & MEDIA_RTCP || g->len < RTP_HEAD || READ(g->skb, g->off, &w))
		return OUTCOME_MEDIA_OTHER;
	return rtp_packet(g, &w);
}

static int next_datagram(__u32 i, void *data)
{
	struct datagram *g = data;

	g->len = g->left < g->stride ? g->left : g->stride;
	g->out = one_datagram(g, TO_TERMINAL);
	g->off += g->len;
	g->left -= g->len;
	return !g->left;
}

/* True when the packet is what the pattern waits for. */
INLINE bool is_wanted(struct __sk_buff *skb, const struct packet *p, const struct media *pattern)
{
	struct rtp_wire w = {};

	if (p->len < MIN_MEDIA || READ(skb, p->off, (__u64 *)&w) || w.vpxcc >> 6 != 2)
		return false;
	if (pattern->flags & MEDIA_RTCP)
		return is_rtcp_type(w.mpt);
	return p->len >= RTP_HEAD && !is_rtcp_type(w.mpt) && takes_pt(pattern, w.mpt & 0x7f);
}

/* Makes a flow of the first packet that fits a pattern with unknown server port. */
INLINE struct media *media_learn(struct __sk_buff *skb, const struct packet *p, const struct flow_key *k)
{
	struct flow_key any = *k;
	struct scratch *s = scratch();
	struct media *pattern, *m;

	any.server_port = 0;
	pattern = bpf_map_lookup_elem(&media_flows, &any);
	if (!pattern || !s || pattern->learned || !is_wanted(skb, p, pattern))
		return 0;
	if (__sync_val_compare_and_swap(&pattern->learned, 0, (__u32)k->server_port))
		return 0; /* another processor was first, with this port or another one */
	m = &s->media;
	__builtin_memset(m, 0, sizeof(*m));
	m->pt_mask[0] = pattern->pt_mask[0];
	m->pt_mask[1] = pattern->pt_mask[1];
	m->clock_rate = pattern->clock_rate;
	m->ticks = pattern->ticks;
	m->flags = pattern->flags & ~MEDIA_LEARN;
	m->bad_seq = NO_SEQ;
	if (bpf_map_update_elem(&media_flows, k, m, BPF_NOEXIST)) {
		note(NOTE_MEDIA_FULL);
		pattern->learned = 0;
		return 0;
	}
	note(NOTE_MEDIA_LEARNED);
	return bpf_map_lookup_elem(&media_flows, k);
}

/* Works on a subscriber's UDP packet of the flow k. m: its record, none when it is not known. */
INLINE int media_hook(struct __sk_buff *skb, const struct packet *p, const struct flow_key *k, struct media *m,
		      __u32 sub_flags, const enum dir dir, __u64 now)
{
	struct datagram g = {
		.skb = skb, .p = p, .k = k, .m = m, .now = now, .off = p->off, .len = p->len, .left = p->len};

	if (!g.m && dir == TO_TERMINAL && sub_flags & SUB_LEARN)
		g.m = media_learn(skb, p, k);
	if (!g.m)
		return OUTCOME_OTHER_UDP;
	g.stride = skb->gso_size;
	if (dir == TO_SERVER || !g.stride)
		return one_datagram(&g, dir);
	bpf_loop(MAX_DATAGRAMS, next_datagram, &g, 0);
	return g.out;
}

#endif
