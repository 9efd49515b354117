package main

import (
	"net/netip"
	"slices"
	"strings"

	"scas/session"
)

// key is one key of the configuration file. Exactly one of sub, read and reserved is set,
// reserved possibly together with read for what a reserved key may hold all the same.
type key struct {
	name     string
	sub      []key                         // keys of a mapping
	read     func(r *reader, v value)      // reads a value and stores it
	list     bool                          // the value is a list: a,b will do in the environment
	reserved string                        // the part, not built yet, that the key is for
	allowed  func(r *reader, v value) bool // of a reserved key: values that say nothing
}

// The parts that no issue has asked for yet.
const (
	partXDP      = "the XDP fast path"
	partRetarget = "retargeting of one server session"
	partPlayers  = "player profiles of your own"
)

// configKeys returns the keys of the file, which store into c.
func configKeys(c *config) []key {
	g, t := &c.Gateway, &c.Transfer
	return []key{
		{name: "node", read: text(&c.Node, 1, 64)},
		{name: "roles", list: true, read: readRoles(&c.Roles)},
		{name: "gateway", sub: []key{
			{name: "lan", list: true, read: interfaces(&g.LAN)},
			{name: "wan", list: true, read: interfaces(&g.WAN)},
			{name: "services", sub: []key{
				{name: "rtsp", list: true, read: ports(&g.RTSP, 1)},
				{name: "mms", list: true, read: ports(&g.MMS, 0)},
				{name: "mmsh", list: true, read: ports(&g.MMSH, 0)},
			}},
			{name: "steer", read: oneOf(&g.Steer, []string{"transfer", "always"}, nil)},
			{name: "upstream", read: oneOf(&g.Upstream, []string{"auto", "terminal", "router"}, nil)},
			{name: "attach", read: oneOf(&g.Attach, []string{"auto", "tcx", "clsact"}, nil)},
			{name: "hook", read: oneOf(new(string), []string{"auto", "tc"}, map[string]string{"xdp": partXDP})},
			{name: "sample_interval", read: duration(&g.SampleInterval, limits{min: "10ms", max: "1m"})},
			{name: "mark", read: oneBit(&g.Mark)},
			{name: "ipv6_prefix", read: number(&g.IPv6Prefix, 1, 128)},
			{name: "table", read: number(&g.Table, 1, 1<<31-1)},
			{name: "rule_priority", read: number(&g.RulePriority, 1, 32765)},
			{name: "players", list: true, reserved: partPlayers, allowed: emptyList},
		}},
		{name: "transfer", sub: []key{
			{name: "overlap", read: duration(&t.Overlap, limits{min: "0s", max: "30s"})},
			{name: "settle", read: duration(&t.Settle, limits{min: "100ms", max: "1m"})},
			{name: "offer_timeout", read: duration(&t.OfferTimeout, limits{min: "1s", max: "1h"})},
			{name: "attach_timeout", read: duration(&t.AttachTimeout, limits{min: "1s", max: "1h"})},
			{name: "mode", read: oneOf(new(string), []string{"resume"}, map[string]string{"retarget": partRetarget})},
		}},
		{name: "sip", sub: sipKeys(&c.SIP.Config)},
		{name: "subscribers", list: true, read: readSubscribers(&c.Subscribers)},
		{name: "api", sub: []key{
			{name: "listen", read: listenAddress(&c.API.Listen)},
			{name: "socket", read: path(&c.API.Socket)},
			{name: "token", read: text(&c.API.Token, minToken, 4096)},
			{name: "token_file", read: path(&c.API.TokenFile)},
		}},
		{name: "state", sub: []key{
			{name: "dir", read: path(&c.State.Dir)},
			{name: "servers", list: true, read: storeURLs(&c.State.Servers)},
			{name: "credentials", read: path(&c.State.Credentials)},
			{name: "ca", read: path(&c.State.CA)},
			{name: "keep", read: duration(&c.State.Keep, limits{min: "1h", max: "87600h"})},
		}},
	}
}

func emptyList(_ *reader, v value) bool {
	items, ok := v.items()
	return ok && len(items) == 0
}

func readRoles(dst *[]string) func(*reader, value) {
	return func(r *reader, v value) {
		*dst = nil
		for _, item := range r.list(v) {
			var role string
			if oneOf(&role, []string{roleGateway, roleAS}, nil)(r, item); slices.Contains(*dst, role) {
				r.bad(item, role+" is listed twice")
			}
			*dst = append(*dst, role)
		}
		if len(*dst) == 0 && len(r.problems) == 0 {
			r.bad(v, "must hold gateway, or as, or both")
		}
	}
}

func readSubscribers(dst *[]subscriber) func(*reader, value) {
	return func(r *reader, v value) {
		*dst = nil
		for _, item := range r.list(v) {
			var s subscriber
			named := r.mapping(item, []key{
				{name: "aor", read: readAoR(&s.AoR)},
				{name: "terminals", list: true, read: readTerminals(&s.Terminals)},
			})
			if named != nil && !named["aor"] {
				r.bad(item, "aor is missing: the user's SIP address")
			}
			r.places[item.path] = r.position(item.node)
			*dst = append(*dst, s)
		}
	}
}

func readTerminals(dst *[]session.Terminal) func(*reader, value) {
	return func(r *reader, v value) {
		for _, item := range r.list(v) {
			var t session.Terminal
			named := r.mapping(item, []key{
				{name: "name", read: readTerminalName(&t.Name)},
				{name: "ip", read: readTerminalAddr(&t.IP)},
			})
			for _, need := range []string{"name", "ip"} {
				if named != nil && !named[need] {
					r.bad(item, need+" is missing")
				}
			}
			*dst = append(*dst, t)
		}
	}
}

func readAoR(dst *string) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		if !ok {
			return
		}
		rest, isSIP := strings.CutPrefix(s, "sip:")
		user, host, hasUser := strings.Cut(rest, "@")
		if !isSIP || !hasUser || user == "" || host == "" || strings.ContainsAny(s, " \t<>\"") || len(s) > 256 {
			r.bad(v, quote(s)+" is no address of record: want sip:USER@DOMAIN")
			return
		}
		*dst = s
	}
}

// readTerminalName reads a name a user can type: letters, digits, '-', '_' and '.', at most 32.
func readTerminalName(dst *string) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		if !ok {
			return
		}
		fits := s != "" && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == ""
		if _, err := netip.ParseAddr(s); err == nil || !fits {
			r.bad(v, quote(s)+" is no name of a terminal: want up to 32 letters, digits, '-', '_' or '.'")
			return
		}
		*dst = s
	}
}

func readTerminalAddr(dst *netip.Addr) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		if !ok {
			return
		}
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			r.bad(v, quote(s)+" is no IP address")
		case a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast():
			r.bad(v, s+" cannot be the address of a terminal behind the gateway")
		default:
			*dst = a.Unmap()
		}
	}
}
