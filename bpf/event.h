/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Records for user space. */
#ifndef SCAS_EVENT_H
#define SCAS_EVENT_H

#include "share.h"

enum {
	EVENT_HEAD = sizeof(struct event) - MAX_COPY,
	EVENT_COST = 256, /* of a terminal's share besides the payload: what a record costs its reader */
};

/* Sets all of the record's head but kind and payload. */
INLINE void event_begin(struct event *ev, const struct flow_key *k, const struct packet *p, const enum dir dir,
			__u64 now)
{
	ev->at = now;
	ev->flow = *k;
	ev->seq = p->seq;
	ev->ack = p->ack;
	ev->requests = 0;
	ev->length = p->len;
	ev->size = 0;
	ev->kind = EVENT_NONE;
	ev->dir = dir;
	ev->tcp_flags = p->flags;
	ev->channel = 0;
	ev->service = SERVICE_NONE;
	ev->pad = 0;
}

/* Sends the head and size bytes already in the payload; non-zero: the ring is full, or the terminal
 * had its share of it. */
INLINE int event_send(struct event *ev, __u32 size, const enum note kind)
{
	if (size > MAX_COPY)
		size = MAX_COPY;
	ev->size = size;
	if (!share_take(ev->at, EVENT_COST + size)) {
		note(NOTE_EVENT_SHARE);
		return -1;
	}
	if (bpf_ringbuf_output(&ring, ev, EVENT_HEAD + (size ? bounded(size, MAX_COPY) : 0), 0)) {
		note(NOTE_RING_FULL);
		return -1;
	}
	note(kind);
	return 0;
}

/* Reads size bytes at off of the packet, at most max (a constant power of two), into the payload. */
INLINE int event_fill(struct event *ev, struct __sk_buff *skb, __u32 off, __u32 size, const __u32 max)
{
	if (size > max)
		size = max;
	if (!size)
		return 0;
	if (bpf_skb_load_bytes(skb, off, ev->payload, bounded(size, max))) {
		note(NOTE_COPY_FAILED);
		return -1;
	}
	return 0;
}

struct chunks {
	struct __sk_buff *skb;
	struct event *ev;
	__u32 off;
	__u32 left;
	__u32 flags;
	int err;
};

static int send_chunk(__u32 i, void *data)
{
	struct chunks *c = data;
	__u32 size = c->left < MAX_COPY ? c->left : MAX_COPY;

	if (event_fill(c->ev, c->skb, c->off, size, MAX_COPY)) {
		c->err = -1;
		return 1;
	}
	c->left -= size;
	c->off += size;
	c->ev->tcp_flags = c->left ? c->flags & ~7U : c->flags; /* FIN, SYN, RST belong to the last one */
	if (event_send(c->ev, size, NOTE_EVENT_TCP))
		c->err = -1;
	c->ev->seq += size;
	return !c->left;
}

/* Sends the first size bytes of the segment's payload as records of at most MAX_COPY bytes, one
 * without payload when size is 0. Non-zero: something was lost. */
INLINE int event_segment(struct event *ev, struct __sk_buff *skb, const struct packet *p, __u32 size)
{
	struct chunks c = {.skb = skb, .ev = ev, .off = p->off, .left = size, .flags = p->flags};

	ev->kind = EVENT_TCP;
	bpf_loop(256, send_chunk, &c, 0);
	return c.err;
}

#endif
