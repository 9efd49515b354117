package sip

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"scas/session"
)

// put stores a binding under its key; false: it is older than what is known, or one too many.
// A binding of the same contact under another key goes: it was less well known.
func (g *registry) put(b session.Binding) bool {
	g.mu.Lock()
	gone, added, refused := g.enter(&b)
	g.mu.Unlock()
	if refused != "" {
		g.count.add(refused)
		return false
	}
	for _, x := range gone {
		if x.IP != b.IP {
			g.tellGone(x)
		}
	}
	told := g.onAgain
	if added {
		g.count.add("bindings_added")
		told = g.onAdded
	}
	for _, f := range told {
		f(b.Clone())
	}
	return true
}

// enter puts b in the place of what it replaces; refused is the counter of why not. g.mu is
// held.
func (g *registry) enter(b *session.Binding) (gone []session.Binding, added bool, refused string) {
	u := g.byAoR[b.AoR]
	if u == nil {
		u = &userEntry{keys: map[string]struct{}{}, ids: []identity{identity(b.AoR)}}
		g.byAoR[b.AoR] = u
		g.alias[identity(b.AoR)] = b.AoR
	}
	old, known := g.byKey[b.Key]
	if known && old.CallID == b.CallID && b.CSeq != 0 && b.CSeq <= old.CSeq {
		return nil, false, "bindings_stale"
	}
	for key := range u.keys {
		x := g.byKey[key]
		if key != b.Key && b.Contact != "" && x.Source != session.FromStatic && sameURI(x.Contact, b.Contact) && !bothInstances(*x, *b) {
			if !known {
				old, known = x, true
			}
			gone = append(gone, *x)
			g.takeOut(key)
		}
	}
	if !known && len(u.keys) >= g.cfg.Limits.Bindings {
		return gone, false, "bindings_over_limit"
	}
	b.Since = g.now()
	if known {
		inherit(b, *old)
	}
	g.putLocked(b)
	return gone, !known || old.IP != b.IP, ""
}

// inherit keeps what a newer registration of the same terminal does not say.
func inherit(b *session.Binding, old session.Binding) {
	b.Since = old.Since
	b.Confirmed = b.Confirmed || old.Confirmed && old.IP == b.IP
	b.GRUU = cmp.Or(b.GRUU, old.GRUU)
	b.Active = cmp.Or(b.Active, old.Active)
}

// bothInstances reports that two bindings name different devices.
func bothInstances(a, b session.Binding) bool {
	return a.Instance != nil && b.Instance != nil && *a.Instance != *b.Instance
}

// putLocked enters b everywhere. g.mu is held.
func (g *registry) putLocked(b *session.Binding) {
	if old := g.byKey[b.Key]; old != nil && old.IP != b.IP {
		g.gate.release(b.Key, old.IP)
	}
	g.byKey[b.Key] = b
	g.byAoR[b.AoR].keys[b.Key] = struct{}{}
	if b.Expires != nil {
		g.expiry.set(b.Key, *b.Expires)
	} else {
		g.expiry.drop(b.Key)
	}
	if b.Confirmed || b.Source == session.FromRegistrar || b.Source == session.FromStatic {
		g.proof.drop(b.Key)
	} else {
		g.proof.sooner(b.Key, g.now().Add(proofTime))
	}
	g.gate.hold(*b)
	g.keep.mark(b.Key)
}

// takeOut removes a binding from everywhere. g.mu is held.
func (g *registry) takeOut(key string) {
	b := g.byKey[key]
	if b == nil {
		return
	}
	delete(g.byKey, key)
	if u := g.byAoR[b.AoR]; u != nil {
		delete(u.keys, key)
	}
	g.expiry.drop(key)
	g.proof.drop(key)
	g.gate.release(key, b.IP)
	g.keep.mark(key)
}

// remove removes bindings of a user that match, and returns how many.
func (g *registry) remove(aor string, match func(b session.Binding) bool) int {
	var gone []session.Binding
	g.mu.Lock()
	if u := g.byAoR[aor]; u != nil {
		for key := range u.keys {
			if b := g.byKey[key]; b.Source != session.FromStatic && match(*b) {
				gone = append(gone, *b)
				g.takeOut(key)
			}
		}
		g.forgetEmpty(aor)
	}
	g.mu.Unlock()
	for _, b := range gone {
		g.tellGone(b)
	}
	return len(gone)
}

// forgetEmpty forgets a user without bindings who is not registered either. g.mu is held.
func (g *registry) forgetEmpty(aor string) {
	u := g.byAoR[aor]
	if u == nil || len(u.keys) > 0 || u.until.After(g.now()) {
		return
	}
	for _, id := range u.ids {
		if g.alias[id] == aor {
			delete(g.alias, id)
		}
	}
	delete(g.byAoR, aor)
	g.ends.drop(aor)
}

func (g *registry) tellGone(b session.Binding) {
	g.count.add("bindings_removed")
	for _, f := range g.onGone {
		f(b)
	}
}

// expire ends what has run out: bindings, addresses nobody confirmed, users nobody vouched for.
func (g *registry) expire() {
	now := g.now()
	g.mu.Lock()
	var gone []session.Binding
	for _, key := range g.expiry.due(now, dueAtOnce) {
		if b := g.byKey[key]; b != nil {
			g.count.add("bindings_expired")
			gone = append(gone, *b)
			g.takeOut(key)
			g.forgetEmpty(b.AoR)
		}
	}
	unproven := g.proof.due(now, dueAtOnce)
	ended := g.ends.due(now, dueAtOnce)
	g.mu.Unlock()
	for _, b := range gone {
		g.tellGone(b)
	}
	for _, key := range unproven {
		g.unproven(key)
	}
	for _, aor := range ended {
		g.count.add("users_ended")
		g.remove(aor, func(session.Binding) bool { return true })
	}
}

// unproven removes a binding that the second source, which works, did not show.
func (g *registry) unproven(key string) {
	g.mu.Lock()
	b := g.byKey[key]
	g.mu.Unlock()
	if b == nil || g.works == nil || !g.works(b.AoR) {
		return
	}
	g.count.add("bindings_unconfirmed")
	g.log.Debug("binding not confirmed by the registrar, removed", "aor", b.AoR)
	g.remove(b.AoR, func(x session.Binding) bool { return x.Key == key && !x.Confirmed })
}

// registered notes that a user is registered until a time, and where its S-CSCF is.
func (g *registry) registered(aor string, until time.Time, core target) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if u := g.byAoR[aor]; u != nil {
		u.until = until
		if core.URI != "" {
			u.core = core
		}
	}
	g.ends.drop(aor)
}

// endUnless removes a user's bindings unless keepUser is called within a while.
func (g *registry) endUnless(aor string, after time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byAoR[aor] != nil {
		g.ends.set(aor, g.now().Add(after))
	}
}

func (g *registry) keepUser(aor string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ends.drop(aor)
}

// coreOf is where a user's S-CSCF is; the zero target when no REGISTER told.
func (g *registry) coreOf(aor string) target {
	g.mu.Lock()
	defer g.mu.Unlock()
	if u := g.byAoR[aor]; u != nil {
		return u.core
	}
	return target{}
}

// has reports whether the user has an entry: registered, or with bindings.
func (g *registry) has(aor string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.byAoR[aor] != nil
}

// bindingKey names a binding: by device and flow where the terminal says so, else by contact.
func bindingKey(aor, instance, regID, contact string) string {
	if instance == "" {
		return aor + " " + contactKey(contact)
	}
	if regID == "" {
		return aor + " " + strings.ToLower(instance)
	}
	return aor + " " + strings.ToLower(instance) + " " + regID
}

// flowParam marks the pseudo route of a terminal of our own registrar: the connection or
// address its REGISTER came from, and the listener it came in by.
const flowParam = "x-scas-listener"

// flow writes that route.
func flow(peer netip.AddrPort, transport, listener string) string {
	return "<sip:" + peer.String() + ";transport=" + transport + ";" + flowParam + "=" + strings.ReplaceAll(listener, "://", "+") + ";lr>"
}

// targetOf returns how exactly this terminal is reached, by its GRUU or else by its contact
// and the way its REGISTER came (ims-sip 3.3); false when it has neither.
func (g *registry) targetOf(b session.Binding) (target, bool) {
	if b.Source == session.FromRegistrar && len(b.Path) == 1 {
		u, ok := parseURI(b.Path[0])
		port, err := netip.ParseAddrPort(strings.TrimPrefix(hostPort(u), " "))
		if ok && err == nil {
			return target{
				URI: b.Contact, Transport: param(u.params, "transport"), Address: port,
				Listener: strings.Replace(param(u.params, flowParam), "+", "://", 1),
			}, true
		}
	}
	if b.GRUU != nil && *b.GRUU != "" {
		return target{URI: *b.GRUU}, true
	}
	if b.Contact == "" {
		return target{}, false
	}
	route := slices.Clone(b.Path)
	if !g.cfg.CoreHop && len(route) > 1 {
		route = route[len(route)-1:]
	}
	if len(route) == 0 {
		if core := g.coreOf(b.AoR); core.URI != "" && g.cfg.Outbound == "" {
			route = core.Route
		}
	}
	return target{URI: b.Contact, Route: route}, true
}

func hostPort(u uriParts) string {
	port := u.port
	if port == "" {
		port = "5060"
	}
	return u.host + ":" + port
}
