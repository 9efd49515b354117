/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Flows that are dropped for a time. */
#ifndef SCAS_CUT_H
#define SCAS_CUT_H

#include "maps.h"

INLINE bool cut_holds(const struct flow_key *k, const enum dir dir, __u64 now)
{
	struct cut *c = bpf_map_lookup_elem(&cuts, k);

	return c && now < c->until && c->dirs & (1U << dir);
}

/* True when packets of the flow in this direction are to be dropped now. A cut with server port 0
 * is of all of the server's ports. k is changed. */
INLINE bool is_cut(struct flow_key *k, const enum dir dir, __u64 now)
{
	if (cut_holds(k, dir, now))
		return true;
	k->server_port = 0;
	return cut_holds(k, dir, now);
}

#endif
