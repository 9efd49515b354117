/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* RTP heads (RFC 3550 §5.1) and the record of a UDP media flow (§6.4.1, A.1, A.3, A.8). Version,
 * payload type, sequence number, timestamp and SSRC are read, nothing else. */
#ifndef SCAS_RTPHEAD_H
#define SCAS_RTPHEAD_H

#include "event.h"

enum {
	RTP_HEAD = 12,
	MIN_MEDIA = 8, /* an RTCP packet with nothing in it */
	MAX_DROPOUT = 3000,
	MAX_MISORDER = 100,
	NO_SEQ = 1 << 16,
	RTCP_PER_SECOND = 20,
	MAX_DATAGRAMS = 64
};
enum { RTCP_FIRST = 200, RTCP_LAST = 207 }; /* SR to XR; RFC 5761 §4 keeps RTP off them */

struct rtp {
	__u32 rtptime;
	__u32 ssrc;
	__u16 seq;
	__u8 pt;
	__u8 pad;
};

struct rtp_wire {
	__u8 vpxcc;
	__u8 mpt;
	__be16 seq;
	__be32 rtptime;
	__be32 ssrc;
};

INLINE void rtp_read(const struct rtp_wire *w, struct rtp *r)
{
	r->rtptime = bpf_ntohl(w->rtptime);
	r->ssrc = bpf_ntohl(w->ssrc);
	r->seq = bpf_ntohs(w->seq);
	r->pt = w->mpt & 0x7f;
	r->pad = 0;
}

INLINE bool is_rtcp_type(__u8 second_byte)
{
	return second_byte >= RTCP_FIRST && second_byte <= RTCP_LAST;
}

INLINE bool takes_pt(const struct media *m, __u8 pt)
{
	__u64 mask = pt < 64 ? m->pt_mask[0] : m->pt_mask[1];

	return mask >> (pt & 63) & 1;
}

/* A clock's ticks in a nanosecond, times 2^32, without a division: 2305843009 is 2^61 / 10^9. */
INLINE __u64 ticks_of(__u32 clock_rate)
{
	return clock_rate * 2305843009ULL >> 29;
}

/* Nanoseconds as ticks of a clock, wrapping, without a division: good to 1 in 30000 at 8 kHz, and
 * all that is made of it are differences. */
INLINE __u32 to_ticks(__u64 ns, __u64 ticks)
{
	return (ns >> 32) * ticks + ((ns & 0xffffffff) * ticks >> 32);
}

/* True when the timestamp moved by more than one second of clock against the wall. */
INLINE bool is_jump(__u32 from, __u32 to, __u32 elapsed, __u32 clock_rate)
{
	__s32 d = to - from;

	return d < -(__s32)clock_rate || (d > 0 && (__u32)d > elapsed + clock_rate);
}

INLINE void media_restart(struct media *m, __u16 seq)
{
	m->ext = m->flags & MEDIA_SEEN ? (m->ext | 0xffff) + 1 + seq : seq;
	m->base = m->ext;
	m->received = 0;
	m->bad_seq = NO_SEQ;
}

/* Takes a sequence number (RFC 3550 A.1): 1 newest, 0 late or again, -1 far off and set aside. */
INLINE int media_seq(struct media *m, __u16 seq)
{
	__u16 d = seq - (__u16)m->ext;

	if (d < MAX_DROPOUT) {
		m->ext += d;
		m->bad_seq = NO_SEQ;
		return d != 0;
	}
	if (d > NO_SEQ - MAX_MISORDER)
		return 0;
	if (seq != m->bad_seq) {
		m->bad_seq = (__u16)(seq + 1);
		return -1;
	}
	m->lost += m->ext - m->base + 1 - m->received;
	media_restart(m, seq);
	return 1;
}

INLINE void media_jitter(struct media *m, __u32 rtptime, __u32 arrival)
{
	__u32 transit = arrival - rtptime;
	__s32 d = transit - m->transit;

	if (m->flags & MEDIA_SEEN) {
		if (d < 0)
			d = -d;
		m->jitter += d - ((m->jitter + 8) >> 4);
	}
	m->transit = transit;
	m->arrival = arrival;
}

enum media_news { NEWS_NONE, NEWS_FIRST = 1, NEWS_SSRC = 2, NEWS_JUMP = 4, NEWS_SEQ = 8 };

/* What the newest packet by sequence says about time. */
INLINE int media_newest(struct media *m, const struct rtp *r, __u32 elapsed, __u64 now)
{
	int news = NEWS_NONE;

	if (m->flags & MEDIA_SEEN && is_jump(m->rtptime, r->rtptime, elapsed, m->clock_rate)) {
		m->max_rtptime = r->rtptime;
		news |= NEWS_JUMP;
	}
	if (!(m->flags & MEDIA_FIRST)) {
		m->first = now;
		m->first_seq = r->seq;
		m->first_rtptime = m->max_rtptime = r->rtptime;
		news |= NEWS_FIRST;
	}
	if ((__s32)(r->rtptime - m->max_rtptime) > 0)
		m->max_rtptime = r->rtptime;
	m->rtptime = r->rtptime;
	m->pt = r->pt;
	m->flags |= MEDIA_SEEN | MEDIA_FIRST;
	return news;
}

/* Writes one RTP packet into the record; what is new about it. Call with the lock held. arrival is
 * now in ticks of the clock. */
INLINE int media_account(struct media *m, const struct rtp *r, __u32 len, __u32 arrival, __u64 now)
{
	__u32 elapsed = arrival - m->arrival;
	int news = NEWS_NONE, newest;

	m->last = now;
	m->packets++;
	m->bytes += len;
	if (!(m->flags & MEDIA_SEEN)) {
		media_restart(m, r->seq);
		m->ssrc = r->ssrc;
		newest = 1;
	} else if (m->ssrc != r->ssrc) {
		m->lost += m->ext - m->base + 1 - m->received;
		media_restart(m, r->seq);
		m->ssrc = r->ssrc;
		m->ssrc_changes++;
		m->flags &= ~(MEDIA_SEEN | MEDIA_FIRST);
		news = NEWS_SSRC;
		newest = 1;
	} else {
		newest = media_seq(m, r->seq);
	}
	if (newest < 0)
		return NEWS_SEQ;
	m->received++;
	media_jitter(m, r->rtptime, arrival);
	if (newest)
		news |= media_newest(m, r, elapsed, now);
	return news;
}

#endif
