/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Finding the next `$` header again after a gap, a reply between the frames, or at the start: a
 * byte is taken for a header when channel, length, RTP version, payload type and SSRC fit. Without
 * a known SSRC, or with part of the header only, the headers that follow have to prove it. */
#ifndef SCAS_FIND_H
#define SCAS_FIND_H

#include "copy.h"

enum { SCAN_BYTES = MAX_COPY, SCANS_PER_INTERVAL = 8, SCANS_AT_ONCE = 64 };

/* One segment at work. */
struct walk_run {
	struct __sk_buff *skb;
	const struct packet *p;
	const struct flow_key *k;
	struct walk *w;
	struct event *ev;
	__u64 now;
	__u32 base; /* offset of the payload */
	__u32 len;  /* of the payload */
	__u32 seq;  /* of its first byte */
	__u32 at;   /* cursor in it */
	bool lost;
	bool lossy;
};

/* The announced RTP channel in this slot. */
INLINE struct channel *channel_at(struct walk *w, __u8 slot)
{
	return &w->ch[(slot - 1) & (MAX_CHANNELS - 1)];
}

INLINE bool is_rtp_slot(__u8 slot)
{
	return slot && slot < SLOT_RTCP;
}

/* 1 + index of the announced RTP channel with this number, 0: none. All eight are compared at once;
 * the lowest byte that is zero after the exclusive or is the one. */
INLINE __u8 rtp_slot(const struct walk *w, __u8 number)
{
	const __u64 ones = 0x0101010101010101ULL;
	__u64 x = w->numbers ^ number * ones;
	__u64 zero = (x - ones) & ~x & w->used;

	return ((zero & -zero) >> 7) * 0x0102030405060708ULL >> 56;
}

/* The slot of a channel number: as rtp_slot, or the same + SLOT_RTCP for the one after an RTP
 * channel, or 0. */
INLINE __u8 slot_of(const struct walk *w, __u8 number)
{
	__u8 slot = rtp_slot(w, number);

	if (slot)
		return slot;
	slot = rtp_slot(w, number - 1);
	return slot ? slot + SLOT_RTCP : 0;
}

INLINE __u32 ssrc_of(const __u8 *head)
{
	return (__u32)head[12] << 24 | head[13] << 16 | head[14] << 8 | head[15];
}

struct scan {
	struct walk *w;
	const __u8 *bytes;
	__u32 n;
	__u32 found;  /* every field fits, or the header after it proved it */
	__u32 maybe;  /* all but the SSRC fits */
	__u32 expect; /* where the header after maybe has to be */
	__u32 tail;   /* header cut by the end */
};

/* Whether a header may begin at b, of which left bytes are there. */
INLINE bool may_begin(struct walk *w, const __u8 *b, __u32 left)
{
	__u8 slot = left > 1 ? slot_of(w, b[1]) : 1;

	return is_rtp_slot(slot) && (left < 4 || (b[2] << 8 | b[3]) >= RTP_HEAD) && (left < 5 || b[4] >> 6 == 2) &&
	       (left < 6 || (b[5] & 0x7f) == channel_at(w, slot)->pt);
}

static int scan_byte(__u32 i, void *data)
{
	struct scan *s = data;
	const __u8 *b = s->bytes + (i & (SCAN_BYTES - 1));
	__u32 left = s->n - i;
	struct channel *ch;

	if (i >= s->n)
		return 1;
	if (i == s->expect) {
		if (b[0] == '$' && (left < 2 || slot_of(s->w, b[1]))) {
			s->found = s->maybe;
			return 1;
		}
		s->maybe = s->expect = SCAN_BYTES;
	}
	if (b[0] != '$' || !may_begin(s->w, b, left))
		return 0;
	if (left < 16) {
		if (s->tail >= SCAN_BYTES)
			s->tail = i;
		return 0;
	}
	ch = channel_at(s->w, slot_of(s->w, b[1]));
	if (ch->flags & CHANNEL_SSRC && ssrc_of(b) == ch->ssrc) {
		s->found = i;
		return 1;
	}
	if (s->maybe >= SCAN_BYTES) {
		s->maybe = i;
		s->expect = i + 4 + (b[2] << 8 | b[3]);
	}
	return 0;
}

/* Takes one search from the flow's budget. */
INLINE bool scan_take(struct walk *w, __u64 now)
{
	if (passed(w->scan_since, now, sample_ns)) {
		w->scan_since = now;
		if (w->scan_left < SCANS_PER_INTERVAL)
			w->scan_left = SCANS_PER_INTERVAL;
	}
	if (!w->scan_left)
		return false;
	w->scan_left--;
	return true;
}

/* Looks for a header from the cursor on and puts the walk there; false: none found. */
INLINE bool walk_find(struct walk_run *r)
{
	struct walk *w = r->w;
	struct scan s = {.w = w,
			 .bytes = r->ev->payload,
			 .found = SCAN_BYTES,
			 .maybe = SCAN_BYTES,
			 .expect = SCAN_BYTES,
			 .tail = SCAN_BYTES};
	__u32 at;

	w->step = 0;
	w->head_len = 0;
	w->doubt = 0;
	w->pend_at = 0;
	if (r->at >= r->len || !scan_take(w, r->now))
		return false;
	note(NOTE_WALK_SCAN);
	s.n = r->len - r->at;
	if (event_fill(r->ev, r->skb, r->base + r->at, s.n, SCAN_BYTES))
		return false;
	if (s.n > SCAN_BYTES) {
		s.n = SCAN_BYTES;
		bpf_loop(SCAN_BYTES, scan_byte, &s, 0);
		s.tail = SCAN_BYTES; /* cut short by us: what looks like a tail is none */
	} else {
		bpf_loop(SCAN_BYTES, scan_byte, &s, 0);
	}
	at = s.found < SCAN_BYTES ? s.found : s.maybe < SCAN_BYTES ? s.maybe : s.tail;
	if (at >= SCAN_BYTES)
		return false;
	if (s.found >= SCAN_BYTES)
		w->doubt = 2;
	note(NOTE_WALK_FOUND);
	w->step = 1;
	w->next = r->seq + r->at + at;
	r->at += at;
	r->lost = false;
	return true;
}

#endif
