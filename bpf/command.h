/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What user space asks of a flow's record. It runs here, so that a record has one writer. */
#ifndef SCAS_COMMAND_H
#define SCAS_COMMAND_H

#include "find.h"

enum { ERR_NO_FLOW = 2, ERR_IO = 5, ERR_FULL = 7, ERR_INVALID = 22 }; /* ENOENT EIO E2BIG EINVAL */

INLINE int stop_copy(struct tcp_flow *f, __u32 upto)
{
	if ((__s32)(f->requests - upto) <= 0)
		flow_clear(f, FLOW_COPY);
	return 0;
}

/* Puts what user space knows of a channel in place; what was seen of it stays. */
INLINE void set_channel(struct walk *w, const struct channel_spec *spec)
{
	__u8 slot = w->slots[spec->number];
	struct channel *ch;

	if (!is_rtp_slot(slot)) {
		if (w->count >= MAX_CHANNELS)
			return;
		slot = ++w->count;
		w->slots[spec->number] = slot;
		if (!w->slots[(__u8)(spec->number + 1)])
			w->slots[(__u8)(spec->number + 1)] = slot + SLOT_RTCP;
	}
	ch = channel_at(w, slot);
	ch->number = spec->number;
	ch->pt = spec->pt;
	ch->clock_rate = spec->clock_rate;
	ch->ticks = ticks_of(spec->clock_rate);
	if (spec->ssrc && spec->ssrc != ch->ssrc) {
		ch->ssrc = spec->ssrc;
		ch->flags = CHANNEL_SSRC;
	}
	ch->flags |= CHANNEL_SAMPLE;
}

INLINE struct walk *walk_create(const struct flow_key *k)
{
	__u32 zero = 0;
	__u64 *fresh = bpf_map_lookup_elem(&zeroes, &zero);

	if (!fresh)
		return 0;
	if (bpf_map_update_elem(&walks, k, fresh, BPF_NOEXIST))
		return 0;
	return bpf_map_lookup_elem(&walks, k);
}

INLINE int set_channels(struct tcp_flow *f, const struct command *c)
{
	struct walk *w = bpf_map_lookup_elem(&walks, &c->flow);

	if (!w)
		w = walk_create(&c->flow);
	if (!w)
		return ERR_FULL;
	for (int i = 0; i < MAX_CHANNELS; i++)
		if (i < c->arg)
			set_channel(w, &c->ch[i]);
	w->scan_left = SCANS_AT_ONCE;
	flow_set(f, FLOW_WALK);
	return 0;
}

/* Arms a sample, and with reset starts first and highest anew, on every channel. */
INLINE void arm_channels(const struct flow_key *k, bool reset)
{
	struct walk *w = bpf_map_lookup_elem(&walks, k);

	if (!w)
		return;
	for (int i = 0; i < MAX_CHANNELS; i++) {
		if (reset)
			w->ch[i].flags &= ~CHANNEL_FIRST;
		w->ch[i].flags |= CHANNEL_SAMPLE;
	}
	w->scan_left = SCANS_AT_ONCE;
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
		arm_channels(&c->flow, false);
		return 0;
	case OP_SAMPLE_HIT:
		f->sample_left = 0;
		return 0;
	case OP_RESET:
		arm_channels(&c->flow, true);
		return 0;
	}
	return ERR_INVALID;
}

INLINE int command_udp(const struct command *c)
{
	struct media *m = bpf_map_lookup_elem(&media_flows, &c->flow);

	if (!m)
		return ERR_NO_FLOW;
	bpf_spin_lock(&m->lock);
	if (c->op == OP_RESET)
		m->flags &= ~MEDIA_FIRST;
	m->flags |= MEDIA_SAMPLE;
	bpf_spin_unlock(&m->lock);
	return c->op == OP_SAMPLE || c->op == OP_RESET ? 0 : ERR_INVALID;
}

/* Reads the command from the packet that carries it and does it; 0 or an errno. */
INLINE int command_run(struct __sk_buff *skb)
{
	struct command c;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &c, sizeof(c)))
		return ERR_IO;
	return c.flow.proto == IPPROTO_TCP ? command_tcp(&c) : command_udp(&c);
}

#endif
