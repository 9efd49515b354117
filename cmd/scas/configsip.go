package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"scas/sip"
)

// sipConfig is what the file says of the SIP application server.
type sipConfig struct {
	on bool // the file has a section sip
	sip.Config
}

// sipKeys returns the keys of the section sip.
func sipKeys(c *sip.Config) []key {
	return []key{
		{name: "listen", list: true, read: texts(&c.Listen)},
		{name: "access", list: true, read: texts(&c.Access)},
		{name: "uri", read: text(&c.URI, 1, 256)},
		{name: "advertise", read: text(&c.Advertise, 1, 255)},
		{name: "trusted", list: true, read: texts(&c.Trusted)},
		{name: "outbound", read: text(&c.Outbound, 1, 256)},
		{name: "presence", read: text(&c.Presence, 1, 256)},
		{name: "terminals", list: true, read: prefixes(&c.Terminals)},
		{name: "never", list: true, read: prefixes(&c.Never)},
		{name: "registrar", read: yesOrNo(&c.Registrar)},
		{name: "users", list: true, read: readCredentials(&c.Users)},
		{name: "reg_event", read: yesOrNo(&c.RegEvent)},
		{name: "refuse", read: oneOf(&c.Refuse, []string{"silent", "403"}, nil)},
		{name: "unknown_users", read: oneOf(&c.UnknownUsers, []string{"200", "404"}, nil)},
		{name: "core_hop", read: yesOrNo(&c.CoreHop)},
		{name: "tls", sub: []key{
			{name: "certificate", read: path(&c.TLS.Certificate)},
			{name: "key", read: path(&c.TLS.Key)},
			{name: "client_ca", read: path(&c.TLS.ClientCA)},
			{name: "server_ca", read: path(&c.TLS.ServerCA)},
		}},
	}
}

func readCredentials(dst *[]sip.Credential) func(*reader, value) {
	return func(r *reader, v value) {
		*dst = nil
		for _, item := range r.list(v) {
			var u sip.Credential
			named := r.mapping(item, []key{
				{name: "aor", read: readAoR(&u.AoR)},
				{name: "user", read: text(&u.User, 1, 256)},
				{name: "password", read: text(&u.Password, 1, 256)},
				{name: "md5", read: hexDigest(&u.MD5, 32)},
				{name: "sha256", read: hexDigest(&u.SHA256, 64)},
				{name: "identities", list: true, read: texts(&u.Identities)},
			})
			switch {
			case named == nil:
			case !named["aor"]:
				r.bad(item, "aor is missing: the user's SIP address")
			case !named["password"] && !named["md5"] && !named["sha256"]:
				r.bad(item, "password is missing, or md5 or sha256 instead")
			}
			*dst = append(*dst, u)
		}
	}
}

// server returns what the application server is to know of c.
func (c config) server() sip.Config {
	s := c.SIP.Config
	for _, user := range c.Subscribers {
		s.Subscribers = append(s.Subscribers, user.AoR)
		for _, t := range user.Terminals {
			s.Static = append(s.Static, sip.StaticTerminal{AoR: user.AoR, Name: t.Name, IP: t.IP})
		}
	}
	return s
}

// checkSIP finds what is wrong with the section sip as a whole.
func (c *config) checkSIP(r *reader) {
	switch {
	case !c.SIP.on || len(c.Roles) > 0 && !c.hasRole(roleAS): // checkRoles tells
	case len(c.SIP.Terminals) == 0:
		r.wrong("sip.terminals", "is required: where the address of a terminal lies, as [10.10.0.0/16]")
	default:
		c.checkCredentials(r)
		if err := c.server().Validate(); err != nil && len(r.problems) == 0 {
			r.failed("sip", err)
		}
	}
}

func (c *config) checkCredentials(r *reader) {
	seen := map[string]bool{}
	for i, u := range c.SIP.Users {
		if seen[u.AoR] {
			r.wrong(fmt.Sprintf("sip.users[%d].aor", i), u.AoR+" is listed twice")
		}
		seen[u.AoR] = true
	}
}

// everybody reports whether the AoR of a subscriber stands for a whole domain.
func everybody(aor string) bool { return strings.HasPrefix(aor, "sip:*@") }

// said reports whether the section or anything in it was said.
func (r *reader) said(section string) bool {
	for path := range r.places {
		if path == section || strings.HasPrefix(path, section+".") {
			return true
		}
	}
	return false
}

// failed adds an error of a room whose text begins with the path of a key.
func (r *reader) failed(section string, err error) {
	path, text, ok := strings.Cut(err.Error(), ": ")
	if !ok || strings.Contains(path, " ") {
		path, text = section, err.Error()
	}
	r.wrong(path, text)
}

// texts reads a list of words without blanks.
func texts(dst *[]string) func(*reader, value) {
	return func(r *reader, v value) {
		out := []string{}
		for _, item := range r.list(v) {
			s := ""
			text(&s, 1, 256)(r, item)
			switch {
			case s == "":
			case strings.ContainsAny(s, " \t"):
				r.bad(item, quote(s)+" holds a blank")
			case slices.Contains(out, s):
				r.bad(item, s+" is listed twice")
			default:
				out = append(out, s)
			}
		}
		*dst = out
	}
}

// prefixes reads networks, 10.10.0.0/16, and single addresses.
func prefixes(dst *[]netip.Prefix) func(*reader, value) {
	return func(r *reader, v value) {
		out := []netip.Prefix{}
		for _, item := range r.list(v) {
			s, ok := r.scalar(item)
			if !ok {
				continue
			}
			p, err := netip.ParsePrefix(s)
			if a, aerr := netip.ParseAddr(s); aerr == nil && a.Zone() == "" {
				p, err = netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
			}
			if err != nil {
				r.bad(item, quote(s)+" is no network, as 10.10.0.0/16")
				continue
			}
			out = append(out, p.Masked())
		}
		*dst = out
	}
}

func yesOrNo(dst *bool) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		switch {
		case !ok:
		case s != "true" && s != "false":
			r.bad(v, quote(s)+" is neither true nor false")
		default:
			*dst = s == "true"
		}
	}
}

// hexDigest reads so many hexadecimal digits.
func hexDigest(dst *string, digits int) func(*reader, value) {
	return func(r *reader, v value) {
		s, ok := r.scalar(v)
		switch {
		case !ok:
		case len(s) != digits || strings.Trim(strings.ToLower(s), "0123456789abcdef") != "":
			r.bad(v, fmt.Sprintf("want %d hexadecimal digits: the hash of user:realm:password", digits))
		default:
			*dst = strings.ToLower(s)
		}
	}
}

// keepHistory is the default of state.keep.
const keepHistory = 720 * time.Hour

// terminalCount counts the terminals that are known without SIP.
func (c config) terminalCount() (n uint64) {
	for _, s := range c.Subscribers {
		n += uint64(len(s.Terminals))
	}
	return n
}
