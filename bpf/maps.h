/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Every map: key -> value, who writes, when an entry dies, why this size. Sizes here are the
 * defaults; Go sets them from its configuration before load. */
#ifndef SCAS_MAPS_H
#define SCAS_MAPS_H

#include "parse.h"

/* Address after masking -> what the terminal may do. Go writes; dies by Unsubscribe, or with its
 * last cut. Size: subscribers of one gateway. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct addr_key);
	__type(value, struct subscriber);
} subscribers SEC(".maps");

/* Address as in subscribers -> its share. Go creates it with the subscriber and deletes it when the
 * terminal is none and has no flow any more; the programs count, Go corrects (OP_SHARE). Size:
 * twice as subscribers, for those that left. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct addr_key);
	__type(value, struct share);
} shares SEC(".maps");

/* Slot of an address (address_slot) -> two bits, enum address_bit: what nobody can be looking for
 * leaves without a lookup in subscribers. Go writes, with subscribers. Size: 65 536 subscribers
 * leave nine strangers in ten out. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ADDRESS_SLOTS / ADDRESSES_PER_WORD);
	__type(key, __u32);
	__type(value, __u64);
} addresses SEC(".maps");

/* TCP connection of a subscriber on a service port -> its record. The programs create and write;
 * Go's reaper deletes closed and idle ones. Not LRU: a crowd of new connections must not push out
 * old ones. Size: 2.5 connections for each of 50 000 sessions. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct flow_key);
	__type(value, struct tcp_flow);
} flows SEC(".maps");

/* UDP flow -> its record; server port 0 is a pattern that makes flows. Go creates and deletes
 * (WatchFlow, UnwatchFlow), the programs write and add learned ones. Size as flows. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 131072);
	__type(key, struct flow_key);
	__type(value, struct media);
} media_flows SEC(".maps");

/* Flow -> until when it is dropped. Go writes and deletes; a SYN of the terminal deletes it too. An
 * entry past its time does nothing.
 * Size: a few flows for each transfer of the last minutes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct flow_key);
	__type(value, struct cut);
} cuts SEC(".maps");

/* Flow of an upstream leg bound to the terminal's address -> 1. Go writes; dies a minute after
 * RemoveLeg (TIME_WAIT), or when the terminal opens the same flow itself. Size: steered films. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct flow_key);
	__type(value, __u32);
} legs SEC(".maps");

/* 0: IPv4, 1: IPv6 -> our listening socket. Go writes; dies with the socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} listeners SEC(".maps");

enum { COUNTERS = HOOKS * OUTCOMES + NOTES };

/* enum outcome of each hook, then enum note -> count. The programs write, Go reads. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* All records for user space, oldest first. Go reads. Size: 2000 full copies. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
	__type(value, struct event);
} ring SEC(".maps");

/* What does not fit on the stack, with slack for reads of 16 bytes past the payload. */
struct scratch {
	struct event ev;
	__u8 slack[16];
	struct packet p;
	struct flow_key k;
	struct addr_key addr; /* of the terminal, masked */
	struct tcp_flow flow;
	struct media media;
	__u64 tick;    /* the tick of the kernel in which now */
	__u64 tick_at; /* was this (tick_now) */
};

/* 0 -> scratch of the traffic hooks. Valid within one program run. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

/* 0 -> bytes copied node-wide in the second that began at since. The programs write; two CPUs
 * may both open a second, which costs a little accuracy and nothing else. */
struct rate {
	__u64 since;
	__u64 used;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rate);
} copy_rates SEC(".maps");

#endif
