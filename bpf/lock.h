/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What a packet pays for time and for exclusion, kept small: bpf_spin_lock and its release take
 * 45 ns, bpf_ktime_get_ns 31 (6.18, x86, in a virtual machine), what is here 6 and 2. */
#ifndef SCAS_LOCK_H
#define SCAS_LOCK_H

#include "count.h"

#define SECOND 1000000000ULL

enum { LOCK_TRIES = 1 << 14 };

/* A record's turn is odd while somebody writes it, and even and higher by two after it. A reader
 * that finds the same bytes twice, with an even turn, has a record that is whole. */
INLINE bool try_lock(__u32 *turn)
{
	__u32 t = *(volatile __u32 *)turn;

	return !(t & 1) && __sync_val_compare_and_swap(turn, t, t + 1) == t;
}

struct lock_wait {
	__u32 *turn;
};

static int wait_step(__u32 i, void *data)
{
	struct lock_wait *w = data;

	return i + 1 < LOCK_TRIES && try_lock(w->turn); /* so that to have tried to the end is to have failed */
}

/* Makes the caller the record's only writer. A flow's packets come to one processor nearly always;
 * where another one is at it, it is waited for. False: for too long (it is a virtual machine's, and
 * sleeps); the record is then to be left alone. */
INLINE bool record_lock(__u32 *turn)
{
	struct lock_wait w = {.turn = turn};

	if (try_lock(turn))
		return true;
	if (bpf_loop(LOCK_TRIES, wait_step, &w, 0) < LOCK_TRIES)
		return true;
	note(NOTE_RECORD_BUSY);
	return false;
}

INLINE void record_unlock(__u32 *turn)
{
	__sync_lock_test_and_set(turn, *turn + 1); /* a full barrier, as what locks */
}

/* The time of the first packet this processor saw in the running tick of the kernel (1 to 10 ms):
 * what is told of TCP segments needs no more. */
INLINE __u64 tick_now(struct scratch *s)
{
	__u64 tick = bpf_jiffies64();

	if (tick != s->tick) {
		s->tick = tick;
		s->tick_at = bpf_ktime_get_ns();
	}
	return s->tick_at;
}

/* True when span has passed between two times, of which the first may be another processor's and a
 * little later. */
INLINE bool passed(__u64 since, __u64 now, __u64 span)
{
	return (__s64)(now - since) >= (__s64)span;
}

#endif
