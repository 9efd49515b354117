package main

import (
	"strings"

	"scas/admin"
)

// explained adds what the counters mean to those of each room.
func explained(all map[string]admin.Counters) map[string]admin.Counters {
	texts := map[string]map[string]string{
		"bpf": kernelHelp(), "splice": spliceHelp(), "store": storeHelp(), "tracer": tracerHelp(), "sip": sipHelp(), "mirror": sipHelp(),
	}
	for room, c := range all {
		known := texts[room]
		c.Help = func(name string) string {
			if room == "bpf" {
				return kernelText(known, name)
			}
			return known[name]
		}
		all[room] = c
	}
	return all
}

// kernelText says what a counter of the kernel half means. Those of a hook are the packets that
// came by it, each in one counter.
func kernelText(known map[string]string, name string) string {
	for hook, from := range map[string]string{
		"lan_in_": "Packets from terminals", "lan_out_": "Packets to terminals", "wan_in_": "Packets from the WAN while films are relayed",
	} {
		if what, ok := strings.CutPrefix(name, hook); ok {
			if text := outcomeHelp()[what]; text != "" {
				return from + ": " + text + "."
			}
			return ""
		}
	}
	return known[name]
}

func outcomeHelp() map[string]string {
	return map[string]string{
		"not_ip": "neither IPv4 nor IPv6, passed", "malformed": "headers cut short or impossible, passed", "stranger": "of an address that is not enrolled, untouched",
		"own": "sent by scas itself", "later_fragment": "not the first fragment, passed unread", "unknown_extension": "IPv6 extension headers unknown or too many, passed unread",
		"other_protocol": "neither TCP nor UDP", "other_tcp": "TCP of no service port", "other_udp": "UDP of no known film", "tcp": "of a watched connection",
		"tcp_ignored": "of a connection that is no film", "tcp_untracked": "of a connection there was no room for", "rtp": "media of a watched film", "rtcp": "RTCP of a watched film",
		"media_other": "of a film's ports, but no media of it", "cut": "dropped, the film has moved away", "steered": "handed to the splicer", "steer_gone": "of a relay that is gone, passed",
		"steer_stray": "from the server on a relayed connection, passed", "no_legs": "no film is relayed", "not_leg": "of no relayed film", "leg": "handed to a relay",
		"leg_gone": "of a relay that is gone, passed",
	}
}

func kernelHelp() map[string]string {
	return map[string]string{
		"ring_full": "Events dropped because this process did not read them in time; sessions become lossy.", "event_share": "Events left out because their terminal had its share of this second.",
		"flow_new": "Connections watched from their start.", "flow_joined": "Connections joined in their middle.", "flow_full": "Connections not watched for want of room.",
		"flow_share": "Connections not watched because their terminal has as many as it may.", "copy_bytes_limit": "Replies copied in part: over 1 MiB.",
		"copy_time_limit": "Replies copied in part: over 10 s.", "copy_rate_limit": "Signalling not copied: over the rate of this gateway.",
		"upload_limit": "Signalling of terminals not copied: over the rate of a connection.", "copy_failed": "Packets whose bytes could not be read.",
		"mmsh_no_player": "HTTP connections that are no player's, not read.", "media_full": "Media flows not watched for want of room.",
		"media_unreachable": "Times a terminal said by ICMP that it takes no media.", "steer_new": "Connections steered into the splicer.",
		"steer_no_listener": "Connections not steered: nobody listened.", "steer_assign_failed": "Connections not steered: the kernel refused.",
		"steer_unanswered": "Connections not steered: what the splicer answers does not come out, a packet filter drops it.",
		"steer_tagged":     "Connections not steered: they carry a VLAN tag, name the VLAN's device in gateway.lan.",
		"steer_local":      "Connections not steered: to this router itself.", "steer_recovered": "Relays found again after their record was lost.",
		"event_tcp": "Events with signalling.", "event_rtp": "Events with a sample of media.", "event_rtcp": "Events with RTCP.",
		"event_frame": "Events with a frame of interleaved media.", "event_tail": "Events with the rest of a segment that was searched.",
		"media_learned": "Server ports learned from the first packet.", "media_jump": "Jumps of RTP time.", "media_ssrc": "Changes of SSRC.",
		"media_seq": "Packets set aside: sequence number far off.", "rtcp_limit": "RTCP packets left out: over the rate of a flow.",
		"walk_gap": "Times interleaved media were out of step: bytes missing.", "walk_text": "Times interleaved media were out of step: no frame where one was due.",
		"walk_found": "Times interleaved media were in step again.", "walk_scan": "Segments searched for interleaved media.",
		"walk_bound": "Segments with more frames than are read.", "walk_channel": "Frames of channels nobody announced.",
		"record_busy": "Packets not accounted: another processor held the record.",
		"subscribers": "Addresses that are looked at.", "armed": "Terminals whose next connection is steered.", "media_flows": "Media flows watched now.",
		"legs": "Relayed connections to servers now.", "cuts": "Flows that are cut now.", "tcp_flows": "Connections watched now.",
		"ring_pending_bytes": "Bytes of events that wait to be read.",
	}
}

func tracerHelp() map[string]string {
	return map[string]string{
		"sessions": "Sessions found.", "rtp_packets": "RTP packets decoded; of a watched film only samples are.", "rtcp_packets": "RTCP packets decoded.",
		"media_packets": "Media packets of MMS decoded.", "undecoded": "Packets and messages that could not be read.", "gaps": "Places where signalling was missing.",
		"refused": "Connections and sessions not followed: over a bound.", "kernel_errors": "Calls of the kernel half that failed.", "connections": "Connections followed now.",
	}
}

func storeHelp() map[string]string {
	return map[string]string{
		"connected": "1 while the store answers.", "gateways": "Gateways in other processes that are there.", "queued": "Writes that wait.", "known": "Keys remembered.",
		"clock_apart_seconds": "How far the clock of another process is off, of the one that is furthest.", "rivals": "1 while another application server uses the store.",
		"writes": "Writes done.", "write_errors": "Writes that failed and are tried again.", "write_conflicts": "Writes decided again: somebody else had written.",
		"writes_dropped": "Writes lost: too many waited.", "writes_refused": "Writes given up: the store takes no such value.",
		"writes_outdated": "Writes left out: the store had it already, or something newer.", "log_entries": "Entries of the history written.",
		"orders_served": "Orders of application servers taken.", "orders_sent": "Orders given to gateways.", "reconnects": "Times the connection was lost and is back.",
	}
}

func sipHelp() map[string]string {
	return map[string]string{
		"bindings": "Registered terminals known.", "open": "Addresses admitted now.", "users": "Users known.", "subscriptions": "Subscriptions to registration states.",
		"gate_opened": "Addresses admitted.", "gate_closed": "Addresses no longer admitted.", "gate_errors": "Addresses the gateway could not be opened or closed for.",
		"untrusted": "Messages of peers that are not believed.", "rate_limited": "Messages left out: one source sent too many.", "digest_failed": "Wrong passwords.",
		"digest_locked": "Logins refused: too many wrong passwords.", "overload": "Requests refused: too many at a time.", "panics": "Requests that met a bug.",
		"store_failed": "Things the store did not take or give.", "offers": "Offers sent.", "orders_refused": "Orders refused.",
	}
}

func spliceHelp() map[string]string {
	return map[string]string{
		"connections_open": "Relayed connections now.", "transfers_open": "Transfers that have not ended.",
		"connections_accepted": "Connections taken.", "accept_errors": "Connections that could not be taken.", "connections_not_steered": "Connections refused: not steered by the kernel half.",
		"connections_refused": "Connections refused: all relays are in use.", "connections_over_share": "Connections refused: their terminal has its share.",
		"upstream_unreachable": "Servers that could not be reached for a terminal.", "upstream_terminal": "Servers called from the terminal's address.",
		"upstream_router": "Servers called from this router's address.", "upstream_fallback": "Servers called from this router's address after the terminal's did not do.",
		"bytes_from_terminal": "Bytes from terminals.", "bytes_to_server": "Bytes to servers.", "bytes_from_server": "Bytes from servers.", "bytes_to_terminal": "Bytes to terminals.",
		"bytes_dropped": "Bytes left out on the way.", "bytes_inserted": "Bytes added on the way.", "bytes_undelivered": "Bytes whose receiver was gone.",
		"directions_not_rtsp": "Directions passed on unread from where they were no RTSP.", "directions_not_mms": "Directions passed on unread from where they were no MMS.",
		"starts_rewritten": "Start requests rewritten.", "starts_rewritten_again": "Start requests of the same move rewritten again.",
		"starts_not_rewritable": "Start requests passed on as they were: live, or without a position.", "url_mismatch": "Start requests of targets for another URL.",
		"replies_held": "Replies held for the first packets.", "replies_repaired": "Replies whose RTP-Info was repaired.", "replies_late": "Replies let go before all first packets were seen.",
		"byes_sent": "RTCP BYE sent.", "byes_failed": "RTCP BYE that could not be sent.", "cuts_failed": "Flows that could not be cut, or not given free.",
		"teardowns_sent": "TEARDOWNs sent in a player's place.", "teardown_refused": "TEARDOWNs refused for want of credentials.", "teardown_failed": "TEARDOWNs that servers did not answer or refused.",
		"stops_sent": "MMS sessions stopped in a player's place.", "stop_failed": "MMS sessions whose server did not confirm the stop.", "streams_ended": "MMS players told that the film is over.",
		"segments_forged": "Segments sent that close a watched connection.", "segments_failed": "Segments of that kind that could not be sent.",
		"orders": "Orders taken.", "orders_refused": "Orders refused.", "transfers_done": "Films moved.", "transfers_failed": "Moves that failed.",
		"transfers_declined": "Moves the target's user declined.", "transfers_expired": "Moves whose target did not come.", "transfers_cancelled": "Moves called off.",
	}
}
