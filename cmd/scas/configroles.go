package main

import (
	"net/url"
	"slices"
	"strings"
)

// The roles of a process.
const (
	roleGateway = "gateway"
	roleAS      = "as"
)

func (c config) hasRole(role string) bool { return slices.Contains(c.Roles, role) }

// watches reports whether this process is a gateway; without roles it is.
func (c config) watches() bool { return len(c.Roles) == 0 || c.hasRole(roleGateway) }

// shared reports whether the store is one that other processes use as well.
func (c config) shared() bool { return len(c.State.Servers) > 0 }

// checkRoles finds roles that do not go with the sections of the file.
func (c *config) checkRoles(r *reader) {
	c.SIP.on = r.said("sip")
	as := c.hasRole(roleAS)
	switch {
	case as && !c.SIP.on:
		r.wrong("roles", "as needs the section sip: where to listen, and whom to trust")
	case len(c.Roles) > 0 && !as && c.SIP.on:
		r.wrong("roles", "must hold as, for there is a section sip")
	case !c.watches() && r.said("gateway"):
		r.wrong("roles", "must hold gateway, for there is a section gateway")
	case !c.watches() && !c.shared():
		r.wrong("roles", "as alone needs state.servers: the store through which it reaches its gateways, as [nats://192.0.2.7:4222]")
	case len(c.Roles) > 0 && !as && !c.shared() && c.terminalCount() == 0:
		r.wrong("roles", "gateway alone needs state.servers, where an application server tells of terminals, or terminals under subscribers")
	}
	for _, file := range []struct{ key, name string }{{"state.credentials", c.State.Credentials}, {"state.ca", c.State.CA}} {
		if file.name != "" && !c.shared() {
			r.wrong(file.key, "is for state.servers, and there are none")
		}
	}
}

// storeURLs reads the addresses of NATS servers.
func storeURLs(dst *[]string) func(*reader, value) {
	return func(r *reader, v value) {
		out := []string{}
		for _, item := range r.list(v) {
			s, ok := r.scalar(item)
			if !ok {
				continue
			}
			u, err := url.Parse(s)
			switch {
			case err != nil || u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
				r.bad(item, "is no address of a NATS server, as nats://192.0.2.7:4222 or tls://nats.example:4222") // it may hold a password
			case slices.Contains(out, s):
				r.bad(item, "is listed twice")
			default:
				out = append(out, s)
			}
		}
		*dst = out
	}
}

// summary says in one line what the configuration is of.
func (c config) summary() string {
	what := []string{"node " + c.Node}
	if c.watches() {
		what = append(what, "LAN "+strings.Join(c.Gateway.LAN, " "), "WAN "+strings.Join(c.Gateway.WAN, " "))
	} else {
		what = append(what, "application server at "+strings.Join(c.SIP.Listen, " "))
	}
	named := uint64(0)
	for _, s := range c.Subscribers {
		if domain, all := strings.CutPrefix(s.AoR, "sip:*@"); all {
			what = append(what, "everybody of "+domain)
		} else {
			named++
		}
	}
	switch {
	case named > 0:
		what = append(what, plural(named, "user")+" with "+plural(c.terminalCount(), "terminal"))
	case c.watches() && c.shared() && !c.SIP.on:
		what = append(what, "users and terminals from the store")
	case named == uint64(len(c.Subscribers)) && len(c.SIP.Users) == 0:
		what = append(what, "no user")
	}
	if n := uint64(len(c.SIP.Users)); n > 0 {
		what = append(what, plural(n, "user")+" with a password")
	}
	return strings.Join(what, ", ")
}
