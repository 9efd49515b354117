/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The walk over the `$` headers (RFC 2326 §10.12) of what a server sends: 16 bytes a frame are
 * read, its length leads to the next one. */
#ifndef SCAS_WALK_H
#define SCAS_WALK_H

#include "find.h"

enum { MAX_FRAMES = 512 };

INLINE bool channel_due(struct channel *ch, int news, __u64 now)
{
	if (news)
		ch->flags |= CHANNEL_NEWS;
	if (!(ch->flags & CHANNEL_SAMPLE) && !(news & NEWS_FIRST) && !passed(ch->sampled, now, sample_ns) &&
	    (!(ch->flags & CHANNEL_NEWS) || !passed(ch->sampled, now, sample_ns / 16)))
		return false;
	ch->sampled = now;
	ch->flags &= ~(CHANNEL_SAMPLE | CHANNEL_NEWS);
	return true;
}

/* Writes one frame into its channel; true: its head goes up. */
INLINE bool channel_account(struct channel *ch, const struct rtp *r, __u32 len, __u32 frame_seq, __u32 elapsed,
			    __u64 now)
{
	int news = NEWS_NONE;

	if (!(ch->flags & CHANNEL_SSRC) || ch->ssrc != r->ssrc) {
		if (ch->flags & CHANNEL_MEDIA)
			news |= NEWS_SSRC;
		ch->ssrc = r->ssrc;
		ch->flags = (ch->flags | CHANNEL_SSRC) & ~(CHANNEL_MEDIA | CHANNEL_FIRST);
	}
	if (ch->flags & CHANNEL_MEDIA && is_jump(ch->rtptime, r->rtptime, elapsed, ch->clock_rate)) {
		ch->max_rtptime = r->rtptime;
		news |= NEWS_JUMP;
	}
	if (!(ch->flags & CHANNEL_FIRST)) {
		ch->first = now;
		ch->first_seq = r->seq;
		ch->first_rtptime = ch->max_rtptime = r->rtptime;
		ch->first_frame_seq = frame_seq;
		news |= NEWS_FIRST;
	}
	if ((__s32)(r->rtptime - ch->max_rtptime) > 0)
		ch->max_rtptime = r->rtptime;
	ch->rtptime = r->rtptime;
	ch->seq = r->seq;
	ch->frame_seq = frame_seq;
	ch->frame_len = len;
	ch->last = now;
	ch->packets++;
	ch->bytes += len;
	ch->flags |= CHANNEL_MEDIA | CHANNEL_FIRST;
	return channel_due(ch, news, now);
}

/* Sends the frame's head: 12 bytes from the header, then size bytes at off of the packet. */
INLINE void frame_send(struct walk_run *r, const __u8 *head, __u32 frame_seq, __u64 at, __u32 off, __u32 size)
{
	struct event *ev = r->ev;

	event_begin(ev, r->k, r->p, TO_TERMINAL, at == r->now ? bpf_ktime_get_ns() : at);
	ev->kind = EVENT_FRAME;
	ev->service = SERVICE_RTSP;
	ev->channel = head[1];
	ev->seq = frame_seq;
	ev->length = head[2] << 8 | head[3];
	if (size > MAX_HEAD - RTP_HEAD)
		size = MAX_HEAD - RTP_HEAD;
	if (size && bpf_skb_load_bytes(r->skb, off, ev->payload + RTP_HEAD, bounded(size, MAX_HEAD)))
		size = 0;
	__builtin_memcpy(ev->payload, head + 4, RTP_HEAD);
	if (event_send(ev, RTP_HEAD + size, NOTE_EVENT_FRAME))
		r->lossy = true;
}

/* Takes note of the RTP frame with this header; size bytes of it follow at off of the packet. */
INLINE void frame_take(struct walk_run *r, struct channel *ch, const __u8 *head, __u32 frame_seq, __u64 at, __u32 off,
		       __u32 size)
{
	const struct rtp_wire *wire = (const void *)(head + 4);
	__u64 idle = passed(ch->last, at, 0) ? at - ch->last : 0;
	struct rtp rtp;
	__u32 elapsed;

	rtp_read(wire, &rtp);
	elapsed = to_ticks(idle < 3600 * SECOND ? idle : 3600 * SECOND, ticks_of(ch->clock_rate));
	if (channel_account(ch, &rtp, head[2] << 8 | head[3], frame_seq, elapsed, at))
		frame_send(r, head, frame_seq, at, off, size);
}

/* Sends an RTCP frame that lies whole in this segment, size bytes at off of the packet. */
INLINE void rtcp_frame(struct walk_run *r, __u32 off, __u32 size)
{
	struct walk *w = r->w;
	struct event *ev = r->ev;

	event_begin(ev, r->k, r->p, TO_TERMINAL, bpf_ktime_get_ns());
	ev->kind = EVENT_RTCP;
	ev->service = SERVICE_RTSP;
	ev->channel = w->head[1];
	ev->seq = w->next;
	ev->length = size;
	if (passed(w->rtcp_since, r->now, SECOND)) {
		w->rtcp_since = r->now;
		w->rtcp_left = RTCP_PER_SECOND;
	}
	if (!w->rtcp_left) {
		note(NOTE_RTCP_LIMIT);
		return;
	}
	w->rtcp_left--;
	if (event_fill(ev, r->skb, off, size, MAX_RTCP) ||
	    event_send(ev, size < MAX_RTCP ? size : MAX_RTCP, NOTE_EVENT_RTCP))
		r->lossy = true;
}

/* A header proved by the one after it. */
INLINE void take_pending(struct walk_run *r)
{
	struct walk *w = r->w;

	if (!w->pend_at)
		return;
	frame_take(r, channel_at(w, slot_of(w, w->pend[1])), w->pend, w->pend_seq, w->pend_at, 0, 0);
	w->pend_at = 0;
}

/* Works on a whole RTP header; false: it is none after all. */
INLINE bool rtp_frame(struct walk_run *r, struct channel *ch, __u32 len, __u32 off, __u32 size)
{
	struct walk *w = r->w;
	bool pt = (w->head[5] & 0x7f) == ch->pt;

	if (w->head[4] >> 6 != 2 || (w->doubt && !pt))
		return false;
	if (w->doubt && ch->flags & CHANNEL_SSRC && ssrc_of(w->head) == ch->ssrc) {
		w->pend_at = 0;
		w->doubt = 0;
	}
	if (w->doubt == 2) {
		__builtin_memcpy(w->pend, w->head, sizeof(w->pend));
		w->pend_seq = w->next;
		w->pend_at = r->now;
		w->doubt = 1;
		return true;
	}
	w->doubt = 0;
	take_pending(r);
	if (pt)
		frame_take(r, ch, w->head, w->next, r->now, off, size < len - RTP_HEAD ? size : len - RTP_HEAD);
	return true;
}

/* Works on the n bytes of a header that are there, size bytes of the packet follow at off. False:
 * it is none. *n becomes 16 when no more of it is needed. */
INLINE bool walk_header(struct walk_run *r, __u32 *n, __u32 off, __u32 size)
{
	struct walk *w = r->w;
	__u32 len = w->head[2] << 8 | w->head[3];
	__u8 slot = slot_of(w, w->head[1]);

	if (!slot) {
		note(NOTE_WALK_CHANNEL);
		return false;
	}
	if (is_rtp_slot(slot)) {
		if (len < RTP_HEAD)
			return false;
		return *n < 16 || rtp_frame(r, channel_at(w, slot), len, off, size);
	}
	w->doubt = 0;
	take_pending(r);
	if (w->next + 4 - r->seq <= r->len && w->next + 4 + len - r->seq <= r->len)
		rtcp_frame(r, r->base + (w->next + 4 - r->seq), len);
	*n = 16;
	return true;
}

/* Reads one header at the cursor and moves on to the next; 1: no more in this segment. */
static int walk_step(__u32 i, void *data)
{
	struct walk_run *r = data;
	struct walk *w = r->w;
	__u32 left = r->len - r->at, n = w->head_len, take;

	if (!left || n > 15)
		return 1;
	take = 16 - n < left ? 16 - n : left;
	r->lost = true;
	if (bpf_skb_load_bytes(r->skb, r->base + r->at, w->head + n, bounded(take, sizeof(w->pend))))
		return 1;
	n += take;
	if (w->head[0] != '$' || (n >= 4 && !walk_header(r, &n, r->base + r->at + take, left - take)))
		return 1;
	r->lost = false;
	if (n < 16) { /* goes on in the next segment */
		w->head_len = n;
		r->at = r->len;
		return 1;
	}
	w->head_len = 0;
	w->next += 4 + (w->head[2] << 8 | w->head[3]);
	r->at = w->next - r->seq;
	return r->at >= r->len;
}

/* Where in the segment the walk goes on; false: nowhere. Out of step: r->lost. */
INLINE bool walk_enter(struct walk_run *r)
{
	struct walk *w = r->w;
	__u32 want = w->next + w->head_len;

	r->at = 0;
	r->lost = !w->step;
	if (!w->step)
		return true;
	if ((__s32)(r->seq + r->len - want) <= 0)
		return false; /* inside a frame, or seen before */
	if ((__s32)(want - r->seq) < 0) {
		note(NOTE_WALK_GAP);
		w->gaps++;
		w->step = 0;
		r->lost = true;
		return true;
	}
	r->at = want - r->seq;
	return true;
}

/* Goes from header to header, and looks for one when out of step. */
INLINE void walk_on(struct walk_run *r)
{
	if (!r->lost)
		bpf_loop(MAX_FRAMES, walk_step, r, 0);
	if (r->lost) {
		if (r->w->step)
			note(NOTE_WALK_TEXT);
		if (walk_find(r))
			bpf_loop(MAX_FRAMES, walk_step, r, 0);
	}
	if (r->lost) {
		r->w->step = 0;
	} else if (r->at < r->len) {
		note(NOTE_WALK_BOUND);
		r->w->step = 0;
	}
}

/* Walks over one segment of the server's. False: the walk is out of step, a sample has to do. */
INLINE bool walk_segment(struct __sk_buff *skb, const struct packet *p, const struct flow_key *k, struct tcp_flow *f,
			 struct event *ev, __u64 now)
{
	struct walk_run r = {.skb = skb,
			     .p = p,
			     .k = k,
			     .w = &f->walk,
			     .ev = ev,
			     .now = now,
			     .base = p->off,
			     .len = p->len,
			     .seq = p->seq};
	bool step = true;

	if (!p->len)
		return true;
	if (!record_lock(&f->turn)) {
		flow_set(f, FLOW_LOSSY);
		return true;
	}
	if (walk_enter(&r)) {
		walk_on(&r);
		step = r.w->step;
	}
	record_unlock(&f->turn);
	if (r.lossy)
		flow_set(f, FLOW_LOSSY);
	return step;
}

#endif
