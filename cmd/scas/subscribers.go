package main

import (
	"net/netip"
	"sync"

	"scas/admin"
	"scas/session"
)

// directory knows the enrolled terminals: those of the configuration. Safe for concurrent
// use: it never changes.
type directory struct {
	v6       int // gateway.ipv6_prefix
	list     []admin.Terminal
	byPrefix map[netip.Prefix]admin.Terminal
}

func newDirectory(c config) *directory {
	d := &directory{v6: c.Gateway.IPv6Prefix, byPrefix: map[netip.Prefix]admin.Terminal{}}
	for _, s := range c.Subscribers {
		for _, t := range s.Terminals {
			x := admin.Terminal{AoR: session.Ptr(s.AoR), Name: t.Name, IP: t.IP, Source: "static"}
			d.list = append(d.list, x)
			d.byPrefix[maskAddr(t.IP, d.v6)] = x
		}
	}
	return d
}

// Lookup returns the terminal that a stands for, by the same key as the kernel's.
func (d *directory) Lookup(a netip.Addr) (admin.Terminal, bool) {
	t, ok := d.byPrefix[maskAddr(a.Unmap(), d.v6)]
	return t, ok
}

// name returns what a record says of the terminal with address a.
func (d *directory) name(a netip.Addr) (name, aor string) {
	t, ok := d.Lookup(a)
	if !ok {
		return "", ""
	}
	return t.Name, *t.AoR
}

// terminals is the directory together with what each terminal does at the moment.
type terminals struct {
	*directory
	sessions interface{ List() []session.Record }
}

// Terminals returns the enrolled terminals; one is active while it plays.
func (t terminals) Terminals() []admin.Terminal {
	newest := map[netip.Prefix]session.Record{}
	for _, r := range t.sessions.List() { // the oldest first
		key := maskAddr(r.Terminal.IP, t.v6)
		if last, ok := newest[key]; !ok || r.State == session.Playing || last.State != session.Playing {
			newest[key] = r
		}
	}
	out := make([]admin.Terminal, len(t.list))
	for i, x := range t.list {
		if r, ok := newest[maskAddr(x.IP, t.v6)]; ok {
			x.Active, x.UserAgent = r.State == session.Playing, r.UserAgent
		}
		out[i] = x
	}
	return out
}

// readiness says whether the gateway watches.
type readiness struct {
	mu  sync.Mutex
	err error
}

func (r *readiness) set(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *readiness) get() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
