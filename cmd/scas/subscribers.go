package main

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"scas/admin"
	"scas/session"
)

// directory knows which user and terminal an address stands for: the configuration says so, or
// a registration does, which goes before it while it lasts. Addresses that the kernel cannot
// tell apart are one place. Safe for concurrent use.
type directory struct {
	v6 int // gateway.ipv6_prefix

	mu     sync.RWMutex // guards what follows
	static []admin.Terminal
	fixed  map[netip.Prefix]admin.Terminal
	bound  map[netip.Prefix]map[netip.Addr]session.Binding
}

func newDirectory(c config) *directory {
	d := &directory{v6: c.Gateway.IPv6Prefix, fixed: map[netip.Prefix]admin.Terminal{}, bound: map[netip.Prefix]map[netip.Addr]session.Binding{}}
	for _, s := range c.Subscribers {
		for _, t := range s.Terminals {
			x := admin.Terminal{AoR: session.Ptr(s.AoR), Name: t.Name, IP: t.IP, Source: session.FromStatic}
			d.static = append(d.static, x)
			d.fixed[d.place(t.IP)] = x
		}
	}
	return d
}

// place returns the key by which the kernel knows a.
func (d *directory) place(a netip.Addr) netip.Prefix { return maskAddr(a.Unmap(), d.v6) }

// bind makes an address stand for a terminal.
func (d *directory) bind(b session.Binding) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.place(b.IP)
	if d.bound[p] == nil {
		d.bound[p] = map[netip.Addr]session.Binding{}
	}
	d.bound[p][b.IP] = b
}

// unbind is the reverse of bind.
func (d *directory) unbind(a netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.place(a)
	if delete(d.bound[p], a); len(d.bound[p]) == 0 {
		delete(d.bound, p)
	}
}

// at returns what is bound to a.
func (d *directory) at(a netip.Addr) (session.Binding, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	b, ok := d.bound[d.place(a)][a]
	return b, ok
}

// shared reports whether the place of a stays admitted without what is bound to a itself.
func (d *directory) shared(a netip.Addr) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p := d.place(a)
	_, fixed := d.fixed[p]
	others := len(d.bound[p])
	if _, there := d.bound[p][a]; there {
		others--
	}
	return fixed || others > 0
}

// Lookup returns the terminal that a stands for. Of several at one place it is the one with
// that very address, else the newest.
func (d *directory) Lookup(a netip.Addr) (admin.Terminal, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p := d.place(a)
	if b, ok := d.bound[p][a.Unmap()]; ok {
		return shownBinding(b), true
	}
	if all := slices.Collect(maps.Values(d.bound[p])); len(all) > 0 {
		return shownBinding(slices.MaxFunc(all, func(a, b session.Binding) int {
			return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Key, b.Key))
		})), true
	}
	t, ok := d.fixed[p]
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

// configured returns the terminals that the configuration names.
func (d *directory) configured() []admin.Terminal { return slices.Clone(d.static) }

// shownBinding is b as the API shows it.
func shownBinding(b session.Binding) admin.Terminal {
	return admin.Terminal{
		AoR: session.Ptr(b.AoR), Name: b.Name, IP: b.IP, Instance: b.Instance, Source: b.Source,
		Expires: b.Expires, UserAgent: b.UserAgent,
	}
}

// terminals is the directory together with what each terminal does at the moment.
type terminals struct {
	*directory
	sessions interface{ List() []session.Record }
	bindings func() []session.Binding // of the application server, static ones as well; nil: there is none
	static   bool                     // it does not know those of this configuration
}

// Terminals returns the enrolled terminals; one is active while it plays.
func (t terminals) Terminals() []admin.Terminal {
	newest := map[netip.Prefix]session.Record{}
	for _, r := range t.sessions.List() { // the oldest first
		key := t.place(r.Terminal.IP)
		if last, ok := newest[key]; !ok || r.State == session.Playing || last.State != session.Playing {
			newest[key] = r
		}
	}
	out := t.known()
	for i, x := range out {
		if !x.IP.IsValid() {
			continue
		}
		if r, ok := newest[t.place(x.IP)]; ok {
			if out[i].Active = r.State == session.Playing; x.UserAgent == nil {
				out[i].UserAgent = r.UserAgent
			}
		}
	}
	return out
}

func (t terminals) known() []admin.Terminal {
	if t.bindings == nil {
		return t.configured()
	}
	all := t.bindings()
	out := make([]admin.Terminal, 0, len(all))
	taken := map[netip.Prefix]bool{}
	for _, b := range all {
		out = append(out, shownBinding(b))
		if b.IP.IsValid() {
			taken[t.place(b.IP)] = true
		}
	}
	if t.static {
		out = append(out, slices.DeleteFunc(t.configured(), func(x admin.Terminal) bool { return taken[t.place(x.IP)] })...)
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
