/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Flows that are dropped for a time. */
#ifndef SCAS_CUT_H
#define SCAS_CUT_H

#include "maps.h"

/* True when packets of the flow in this direction are to be dropped now. */
static __always_inline bool is_cut(const struct flow_key *k, const enum dir dir, __u64 now)
{
	struct cut *c = bpf_map_lookup_elem(&cuts, k);

	return c && now < c->until && c->dirs & (1U << dir);
}

#endif
