/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What user space asks of a flow's record. It runs here, so that a record has one writer. */
#ifndef SCAS_COMMAND_H
#define SCAS_COMMAND_H

#include "find.h"

enum { ERR_NO_FLOW = 2, ERR_IO = 5, ERR_BUSY = 16, ERR_INVALID = 22 }; /* ENOENT EIO EBUSY EINVAL */

INLINE int stop_copy(struct tcp_flow *f, __u32 upto)
{
	if ((__s32)(f->requests - upto) <= 0)
		flow_clear(f, FLOW_COPY);
	return 0;
}

/* Puts what user space knows of a channel in place; what was seen of it stays. */
INLINE void set_channel(struct walk *w, const struct channel_spec *spec)
{
	__u8 slot = rtp_slot(w, spec->number);
	struct channel *ch;

	if (!slot) {
		__u32 shift = (w->count & (MAX_CHANNELS - 1)) * 8;

		if (w->count >= MAX_CHANNELS)
			return;
		w->numbers |= (__u64)spec->number << shift;
		w->used |= 0x80ULL << shift;
		slot = ++w->count;
	}
	ch = channel_at(w, slot);
	ch->number = spec->number;
	ch->pt = spec->pt;
	ch->clock_rate = spec->clock_rate;
	if (spec->ssrc && spec->ssrc != ch->ssrc) {
		ch->ssrc = spec->ssrc;
		ch->flags = CHANNEL_SSRC;
	}
	ch->flags |= CHANNEL_SAMPLE;
}

INLINE int set_channels(struct tcp_flow *f, const struct command *c)
{
	if (!record_lock(&f->turn))
		return ERR_BUSY;
	for (int i = 0; i < MAX_CHANNELS; i++)
		if (i < c->arg)
			set_channel(&f->walk, &c->ch[i]);
	f->walk.scan_left = SCANS_AT_ONCE;
	record_unlock(&f->turn);
	flow_set(f, FLOW_WALK);
	return 0;
}

/* Arms a sample, and with reset starts first and highest anew, on every channel. */
INLINE int arm_channels(struct tcp_flow *f, bool reset)
{
	struct walk *w = &f->walk;

	if (!record_lock(&f->turn))
		return ERR_BUSY;
	for (int i = 0; i < MAX_CHANNELS; i++) {
		if (reset)
			w->ch[i].flags &= ~CHANNEL_FIRST;
		w->ch[i].flags |= CHANNEL_SAMPLE;
	}
	w->scan_left = SCANS_AT_ONCE;
	record_unlock(&f->turn);
	return 0;
}

INLINE int command_tcp(const struct command *c)
{
	struct tcp_flow *f = bpf_map_lookup_elem(&flows, &c->flow);

	if (!f)
		return ERR_NO_FLOW;
	switch (c->op) {
	case OP_STOP_COPY:
		return stop_copy(f, c->arg);
	case OP_COPY:
		copy_open(f, bpf_ktime_get_ns());
		return 0;
	case OP_IGNORE:
		flow_set(f, FLOW_IGNORED);
		return 0;
	case OP_CHANNELS:
		return set_channels(f, c);
	case OP_SAMPLE:
		flow_set(f, FLOW_SAMPLE);
		f->sample_next = 0;
		return arm_channels(f, false);
	case OP_SAMPLE_HIT:
		f->sample_left = 0;
		return 0;
	case OP_RESET:
		return arm_channels(f, true);
	}
	return ERR_INVALID;
}

INLINE int command_udp(const struct command *c)
{
	struct media *m = bpf_map_lookup_elem(&media_flows, &c->flow);

	if (!m)
		return ERR_NO_FLOW;
	if (!record_lock(&m->turn))
		return ERR_BUSY;
	if (c->op == OP_RESET)
		m->flags &= ~MEDIA_FIRST;
	m->flags |= MEDIA_SAMPLE;
	record_unlock(&m->turn);
	return c->op == OP_SAMPLE || c->op == OP_RESET ? 0 : ERR_INVALID;
}

/* Puts the number of records of the terminal in place. */
INLINE int command_share(const struct command *c)
{
	struct share *s = bpf_map_lookup_elem(&shares, &c->flow.terminal);

	if (!s)
		return ERR_NO_FLOW;
	*(volatile __u32 *)&s->flows = c->arg;
	return 0;
}

/* Reads the command from the packet that carries it and does it; 0 or an errno. */
INLINE int command_run(struct __sk_buff *skb)
{
	struct command c;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &c, sizeof(c)))
		return ERR_IO;
	if (c.op == OP_SHARE)
		return command_share(&c);
	return c.flow.proto == IPPROTO_TCP ? command_tcp(&c) : command_udp(&c);
}

#endif
