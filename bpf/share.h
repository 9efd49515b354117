/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What one terminal may take of what all share: records of connections, and bytes that go up. */
#ifndef SCAS_SHARE_H
#define SCAS_SHARE_H

#include "lock.h"

/* The share of the terminal whose packet is at work; none for one that is not admitted any more. */
INLINE struct share *share_of(const struct scratch *s)
{
	return s ? bpf_map_lookup_elem(&shares, &s->addr) : 0;
}

/* Whether size more bytes may go up for the terminal in this second. */
INLINE bool share_has(__u64 now, __u32 size)
{
	struct share *s = share_of(scratch());

	return s && (passed(s->since, now, SECOND) || s->used + size <= event_share);
}

/* Takes size bytes from what may go up for the terminal in a second; false: used up. Several
 * processors may open the second together, which costs a little accuracy and nothing else. */
INLINE bool share_take(__u64 now, __u32 size)
{
	struct share *s = share_of(scratch());

	if (!s)
		return false;
	if (passed(s->since, now, SECOND)) {
		s->since = now;
		s->used = 0;
	}
	return __sync_fetch_and_add(&s->used, size) + size <= event_share;
}

/* Whether the terminal may have one more record of a connection. They are counted up where they are
 * made; user space, which deletes them, counts all it finds and puts that in place (OP_SHARE). */
INLINE bool share_has_flow(const struct share *s)
{
	return s && (__s32) * (volatile __u32 *)&s->flows < (__s32)flow_share;
}

#endif
