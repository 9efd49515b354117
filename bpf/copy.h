/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Which payload of a TCP connection goes up: all of the terminal's, and after each of its requests
 * the server's, within bounds. */
#ifndef SCAS_COPY_H
#define SCAS_COPY_H

#include "rtphead.h"
#include "tcp.h"

enum {
	COPY_BYTES = 1 << 20,
	COPY_SECONDS = 10,
	UPLOAD_BYTES = 256 << 10,
	MMSH_HEAD = 512,
	SAMPLE_SEGMENTS = 8,
	SAMPLE_MIN = 16
};

/* Takes size bytes from the node's rate; false: used up for this second. */
INLINE bool rate_take(__u64 now, __u32 size)
{
	__u32 zero = 0;
	struct rate *r = bpf_map_lookup_elem(&copy_rates, &zero);

	if (!r)
		return false;
	if (passed(r->since, now, SECOND)) {
		r->since = now;
		r->used = 0;
	}
	return __sync_fetch_and_add(&r->used, size) < copy_rate;
}

/* Sets all of the record's head but kind and payload. */
INLINE void event_tcp(struct event *ev, const struct flow_key *k, const struct packet *p, const struct tcp_flow *f,
		      const enum dir dir)
{
	event_begin(ev, k, p, dir, bpf_ktime_get_ns());
	ev->service = f->service;
	ev->requests = f->requests;
}

struct frames {
	struct __sk_buff *skb;
	__u32 off;
	__u32 left;
	bool other;
};

static int next_frame(__u32 i, void *data)
{
	struct frames *f = data;
	struct {
		__u8 dollar;
		__u8 channel;
		__be16 len;
	} head;
	__u32 size;

	if (!f->left)
		return 1;
	if (f->left < sizeof(head) || bpf_skb_load_bytes(f->skb, f->off, &head, sizeof(head)) || head.dollar != '$') {
		f->other = true;
		return 1;
	}
	size = sizeof(head) + bpf_ntohs(head.len);
	if (size > f->left) { /* goes on in the next segment */
		f->left = 0;
		return 1;
	}
	f->off += size;
	f->left -= size;
	return 0;
}

/* True when the segment may hold (a part of) a request: it is not made of `$` frames alone. */
INLINE bool is_request(struct __sk_buff *skb, const struct packet *p)
{
	struct frames f = {.skb = skb, .off = p->off, .left = p->len};

	bpf_loop(64, next_frame, &f, 0);
	return f.other || f.left;
}

struct search {
	const __u8 *bytes;
	bool found;
};

static int search_player(__u32 i, void *data)
{
	struct search *s = data;
	const __u8 *b = s->bytes + (i & (MMSH_HEAD - 1));

	if (b[0] == 'N' && b[1] == 'S')
		s->found = b[2] == 'P' && b[3] == 'l' && b[4] == 'a' && b[5] == 'y' && b[6] == 'e' && b[7] == 'r';
	else if (b[0] == 'x' && b[1] == 'C')
		s->found = b[2] == 'l' && b[3] == 'i' && b[4] == 'e' && b[5] == 'n' && b[6] == 't' && b[7] == 'G' &&
			   b[8] == 'U' && b[9] == 'I' && b[10] == 'D';
	return s->found;
}

/* True when the connection may be read: always but on mmsh ports, there only after a player's
 * signature was seen in the first 512 bytes of payload. */
INLINE bool is_readable(struct __sk_buff *skb, struct tcp_flow *f, const struct packet *p, struct event *ev)
{
	struct search s = {.bytes = ev->payload};
	__u32 size = p->len;

	if (f->service != SERVICE_MMSH || f->flags & FLOW_PLAYER)
		return true;
	if (!size)
		return false;
	if (size > MMSH_HEAD)
		size = MMSH_HEAD;
	__builtin_memset(ev->payload, 0, MMSH_HEAD + 16);
	if (event_fill(ev, skb, p->off, size, MMSH_HEAD))
		return false;
	bpf_loop(MMSH_HEAD, search_player, &s, 0);
	if (s.found) {
		flow_set(f, FLOW_PLAYER | FLOW_SAMPLE);
		return true;
	}
	f->mmsh_seen += size;
	if (f->mmsh_seen >= MMSH_HEAD) {
		flow_set(f, FLOW_IGNORED);
		note(NOTE_MMSH_NO_PLAYER);
	}
	return false;
}

/* Opens the window for the server's reply. */
INLINE void copy_open(struct tcp_flow *f, __u64 now)
{
	f->requests++;
	f->copy_left = COPY_BYTES;
	f->copy_until = now + COPY_SECONDS * SECOND;
	flow_set(f, FLOW_COPY);
}

/* Sends what of a terminal's segment is wanted. fresh: it goes beyond what was seen. */
INLINE void copy_up(struct __sk_buff *skb, struct tcp_flow *f, const struct packet *p, const struct flow_key *k,
		    struct event *ev, bool fresh, __u64 now)
{
	__u32 size = p->len;

	if (size && fresh && is_request(skb, p))
		copy_open(f, now);
	if (passed(f->upload_since, now, SECOND)) {
		f->upload_since = now;
		f->upload_left = UPLOAD_BYTES;
	}
	if (size > f->upload_left) {
		note(NOTE_UPLOAD_LIMIT);
		flow_set(f, FLOW_LOSSY);
		size = f->upload_left;
	}
	f->upload_left -= size;
	if (!size && !(p->flags & (TCP_SYN | TCP_FIN | TCP_RST)))
		return;
	event_tcp(ev, k, p, f, TO_SERVER);
	if (event_segment(ev, skb, p, size))
		flow_set(f, FLOW_LOSSY);
}

/* How many of the server's bytes may be copied now; closes the window at its bounds. */
INLINE __u32 copy_allowed(struct tcp_flow *f, const struct packet *p, __u64 now)
{
	if (!(f->flags & FLOW_COPY) || !p->len)
		return 0;
	if (now > f->copy_until) {
		note(NOTE_COPY_TIME_LIMIT);
	} else if (p->len > f->copy_left) {
		note(NOTE_COPY_BYTES_LIMIT);
	} else if (!share_has(now, p->len)) {
		note(NOTE_EVENT_SHARE);
	} else if (!rate_take(now, p->len)) {
		note(NOTE_COPY_RATE_LIMIT);
	} else {
		f->copy_left -= p->len;
		return p->len;
	}
	flow_set(f, FLOW_LOSSY);
	flow_clear(f, FLOW_COPY);
	return 0;
}

/* Sends what of a server's segment is wanted as signalling; true: its payload went up. */
INLINE bool copy_down(struct __sk_buff *skb, struct tcp_flow *f, const struct packet *p, const struct flow_key *k,
		      struct event *ev, __u64 now)
{
	__u32 size = copy_allowed(f, p, now);

	if (!size && !(p->flags & (TCP_SYN | TCP_FIN | TCP_RST)))
		return false;
	event_tcp(ev, k, p, f, TO_TERMINAL);
	if (event_segment(ev, skb, p, size))
		flow_set(f, FLOW_LOSSY);
	return size != 0;
}

/* Sends the tail of a server's segment when a sample is due: eight segments an interval until user
 * space says that one was of use. */
INLINE void sample_tail(struct __sk_buff *skb, struct tcp_flow *f, const struct packet *p, const struct flow_key *k,
			struct event *ev, __u64 now)
{
	__u32 size = p->len;

	if (size < SAMPLE_MIN)
		return;
	if (passed(f->sample_next, now, 0)) {
		f->sample_next = now + sample_ns;
		f->sample_left = SAMPLE_SEGMENTS;
	}
	if (!f->sample_left || !share_has(now, MAX_TAIL) || !rate_take(now, MAX_TAIL))
		return;
	f->sample_left--;
	if (size > MAX_TAIL)
		size = MAX_TAIL;
	if (event_fill(ev, skb, p->off + p->len - size, size, MAX_TAIL))
		return;
	event_tcp(ev, k, p, f, TO_TERMINAL);
	ev->kind = EVENT_TAIL;
	ev->seq = p->seq + p->len - size;
	if (event_send(ev, size, NOTE_EVENT_TAIL))
		flow_set(f, FLOW_LOSSY);
}

#endif
