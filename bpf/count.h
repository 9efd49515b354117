/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Counters, and the way out of a program. */
#ifndef SCAS_COUNT_H
#define SCAS_COUNT_H

#include "maps.h"
#include "parse.h"

/* TCX_NEXT and TC_ACT_UNSPEC, TCX_DROP and TC_ACT_SHOT: the same numbers for both ways of
 * attaching. */
enum verdict { VERDICT_NEXT = -1, VERDICT_DROP = 2 };

INLINE void count(__u32 index)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &index);

	if (n)
		(*n)++;
}

INLINE void note(const enum note n)
{
	count(HOOKS * OUTCOMES + n);
}

/* The one way out: counts why, and passes the packet on unless it was cut. */
INLINE int leave(const enum hook hook, enum outcome why)
{
	count(hook * OUTCOMES + why);
	return why == OUTCOME_CUT ? VERDICT_DROP : VERDICT_NEXT;
}

INLINE struct scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}

#endif
