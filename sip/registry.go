package sip

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"scas/session"
)

// registry knows which terminals each user of the service has. Facts come from third-party
// REGISTERs, reg event NOTIFYs, the own registrar, the store and the configuration; it makes
// the gateways and the store follow. Safe for concurrent use.
type registry struct {
	cfg     Config
	users   service
	rules   addressRules
	log     *slog.Logger
	count   *counters
	now     func() time.Time
	gate    *gatekeeper
	keep    *bindingStore
	onGone  []func(b session.Binding) // called without locks, after a binding is gone
	onAdded []func(b session.Binding) // and after one is new or came back with another address
	onAgain []func(b session.Binding) // and after one that is known was heard of again
	// confirm asks for proof of an unconfirmed binding; nil: no second source.
	confirm func(aor string, after time.Duration)
	// works reports whether the second source is heard for a user.
	works func(aor string) bool

	restored chan struct{} // closed when what the store kept is known

	mu     sync.Mutex // guards what follows; held together with the gatekeeper's only
	byKey  map[string]*session.Binding
	byAoR  map[string]*userEntry
	alias  map[identity]string // every identity of the implicit sets
	expiry *schedule           // of bindings, by key
	proof  *schedule           // of unconfirmed bindings, by key
	ends   *schedule           // of users that are gone unless a NOTIFY comes, by AoR
}

// userEntry is what is known of one user beside the bindings.
type userEntry struct {
	keys  map[string]struct{}
	ids   []identity
	until time.Time // registered until, whatever contacts are known
	core  target    // where the user's S-CSCF is
}

const (
	proofTime    = 60 * time.Second // an address that nobody confirms in this time is closed
	confirmDelay = 3 * time.Second  // after which a new binding is asked about
	goneWait     = 2 * time.Second  // a NOTIFY has so long to say that somebody is still there
	registryTick = 100 * time.Millisecond
	dueAtOnce    = 1000
)

func newRegistry(cfg Config, users service, store Store, gate Gate, log *slog.Logger, c *counters, now func() time.Time) *registry {
	return &registry{
		cfg: cfg, users: users, rules: newAddressRules(cfg), log: log, count: c, now: now,
		gate: newGatekeeper(gate, log, c), keep: newBindingStore(store, log, c), restored: make(chan struct{}),
		byKey: map[string]*session.Binding{}, byAoR: map[string]*userEntry{}, alias: map[identity]string{},
		expiry: newSchedule(), proof: newSchedule(), ends: newSchedule(),
	}
}

// run restores what the store kept, then lets bindings end in time, until ctx ends.
func (g *registry) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { g.gate.run(ctx) })
	g.static()
	wg.Go(func() {
		if kept, ok := g.keep.load(ctx); ok {
			g.restore(kept)
			close(g.restored)
		}
		g.keep.run(ctx, g)
	})
	tick := time.NewTicker(registryTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.expire()
		}
	}
}

// static takes in the terminals of the configuration: they hold their addresses for ever.
func (g *registry) static() {
	for _, t := range g.cfg.Static {
		id, err := parseIdentity(t.AoR)
		if err != nil {
			continue
		}
		g.put(session.Binding{
			Key: string(id) + " static " + t.Name, AoR: string(id), Name: t.Name, IP: t.IP.Unmap(),
			Source: session.FromStatic, Confirmed: true,
		})
	}
}

// restore takes in what the store kept of users the service still has.
func (g *registry) restore(kept []session.Binding) {
	now := g.now()
	for _, b := range kept {
		id := identity(b.AoR)
		if b.Source == session.FromStatic || !b.Live(now) || !g.users.has(append(identities(b.Identities), id)...) ||
			b.IP.IsValid() && !g.rules.admits(b.IP) {
			g.keep.mark(b.Key) // not in the registry: deleted
			continue
		}
		g.mu.Lock()
		_, newer := g.byKey[b.Key]
		g.mu.Unlock()
		if newer {
			continue
		}
		g.link(append(identities(b.Identities), id))
		b.Confirmed = false // until the core says so again
		g.put(b)
		g.count.add("bindings_restored")
	}
}

func identities(texts []string) []identity {
	out := make([]identity, 0, len(texts))
	for _, t := range texts {
		out = append(out, identity(t))
	}
	return out
}

// binding is for the store: the binding with that key and the name its user gave it, false
// when it is gone. Those of the configuration are stored for the gateways in other processes.
func (g *registry) binding(key string) (b session.Binding, ok bool) {
	g.mu.Lock()
	there, ok := g.byKey[key]
	if ok {
		b = there.Clone()
	}
	g.mu.Unlock()
	if ok && g.gate.naming != nil {
		b = g.gate.naming(b)
	}
	return b, ok
}

// userOf returns the AoR of the user of the service with that identity.
func (g *registry) userOf(id identity) (string, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if aor, ok := g.alias[id]; ok {
		return aor, true
	}
	return string(id), id != "" && g.users.has(id)
}

// terminalsOf returns the live bindings of a user, the oldest first.
func (g *registry) terminalsOf(aor string) []session.Binding {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.liveLocked(aor)
}

func (g *registry) liveLocked(aor string) []session.Binding {
	u := g.byAoR[aor]
	if u == nil {
		return nil
	}
	now := g.now()
	out := make([]session.Binding, 0, len(u.keys))
	for key := range u.keys {
		if b := g.byKey[key]; b.Live(now) {
			c := b.Clone()
			c.Identities = texts(u.ids)
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b session.Binding) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.Key, b.Key)
	})
	return out
}

func texts(ids []identity) []string {
	out := make([]string, 0, len(ids))
	for _, id := range ids {
		out = append(out, string(id))
	}
	return out
}

// all returns every live binding, by user and age.
func (g *registry) all() []session.Binding {
	g.mu.Lock()
	defer g.mu.Unlock()
	aors := make([]string, 0, len(g.byAoR))
	for aor := range g.byAoR {
		aors = append(aors, aor)
	}
	slices.Sort(aors)
	var out []session.Binding
	for _, aor := range aors {
		out = append(out, g.liveLocked(aor)...)
	}
	return out
}

// gauges adds what there is now.
func (g *registry) gauges(out map[string]uint64) {
	g.mu.Lock()
	out["bindings"], out["users"] = uint64(len(g.byKey)), uint64(len(g.byAoR))
	g.mu.Unlock()
	out["open"] = uint64(g.gate.size())
}

// renamed makes the gateways learn the names of a user's terminals again, and the store.
func (g *registry) renamed(aor string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, b := range g.liveLocked(aor) {
		g.gate.hold(*g.byKey[b.Key])
		g.keep.mark(b.Key)
	}
}

// markAll makes the store hold every binding again.
func (g *registry) markAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.byKey {
		g.keep.mark(key)
	}
}

// link notes that all ids are one user and returns its AoR: the one there is already, else
// the first that the operator subscribed, else the first sip one.
func (g *registry) link(ids []identity) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	ids = slices.DeleteFunc(slices.Clone(ids), func(id identity) bool { return id == "" })
	if len(ids) == 0 {
		return ""
	}
	aor := g.choose(ids)
	u := g.byAoR[aor]
	if u == nil {
		if len(g.byAoR) >= g.cfg.Limits.AoRs {
			g.count.add("users_over_limit")
			return ""
		}
		u = &userEntry{keys: map[string]struct{}{}}
		g.byAoR[aor] = u
	}
	for _, id := range append(ids, identity(aor)) {
		if other := g.alias[id]; other != "" && other != aor {
			g.merge(other, aor)
		}
		g.alias[id] = aor
		if !slices.Contains(u.ids, id) && len(u.ids) < maxIdentities {
			u.ids = append(u.ids, id)
		}
	}
	return aor
}

// maxIdentities bounds an implicit set.
const maxIdentities = 32

// choose picks the AoR for a set. g.mu is held.
func (g *registry) choose(ids []identity) string {
	for _, id := range ids {
		if g.users.users[id] {
			return string(id)
		}
	}
	for _, id := range ids {
		if aor, ok := g.alias[id]; ok {
			return aor
		}
	}
	for _, id := range ids {
		if strings.HasPrefix(string(id), "sip:") {
			return string(id)
		}
	}
	return string(ids[0])
}

// merge moves everything of one AoR to another that turned out to be the same user. g.mu is
// held.
func (g *registry) merge(from, to string) {
	old, u := g.byAoR[from], g.byAoR[to]
	if old == nil || u == nil {
		return
	}
	for key := range old.keys {
		b := *g.byKey[key]
		g.takeOut(key)
		b.AoR, b.Key = to, to+strings.TrimPrefix(key, from)
		if _, dup := g.byKey[b.Key]; !dup {
			g.putLocked(&b)
		}
	}
	for _, id := range old.ids {
		g.alias[id] = to
		if !slices.Contains(u.ids, id) {
			u.ids = append(u.ids, id)
		}
	}
	if u.until.Before(old.until) {
		u.until = old.until
	}
	delete(g.byAoR, from)
}
