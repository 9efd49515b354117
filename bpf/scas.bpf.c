//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
// Entry points. What is done with a packet is in the headers, one job each.

#include "command.h"
#include "lan.h"

/* LAN ingress: terminal -> server. */
SEC("tc")
int lan_in(struct __sk_buff *skb)
{
	return leave(HOOK_LAN_IN, lan_packet(skb, TO_SERVER));
}

/* LAN egress: server -> terminal, as it is delivered. */
SEC("tc")
int lan_out(struct __sk_buff *skb)
{
	return leave(HOOK_LAN_OUT, lan_packet(skb, TO_TERMINAL));
}

/* WAN ingress: server -> our upstream legs. */
SEC("tc")
int wan_in(struct __sk_buff *skb)
{
	return leave(HOOK_WAN_IN, wan_packet(skb));
}

/* Not attached: user space runs it with a struct command for a packet. */
SEC("tc")
int run_command(struct __sk_buff *skb)
{
	return command_run(skb);
}

char __license[] SEC("license") = "Dual MIT/GPL";
