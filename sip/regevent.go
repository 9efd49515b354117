package sip

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"scas/session"
)

// regEvents is the second source: it subscribes to the registration state of every registered
// user and makes the registry agree with what the registrar says (RFC 3680, TS 24.229
// 5.7.1.1). Safe for concurrent use.
type regEvents struct {
	reg   *registry
	sub   *subscriber
	count *counters
	log   *slog.Logger

	mu     sync.Mutex
	states map[string]*regState // by AoR
}

// regEventLife is longer than any registration (ims-sip 1.7).
const regEventLife = 600_000 * time.Second

// freshTime is how long a document that does not list a binding may still be older than it.
const freshTime = 2 * time.Second

func newRegEvents(s *stack, n *notifications, reg *registry) *regEvents {
	e := &regEvents{reg: reg, count: s.count, log: s.log, states: map[string]*regState{}}
	e.sub = newSubscriber(s, n, "reg", RegInfoType, regEventLife)
	e.sub.targetOf = e.target
	e.sub.notify = e.notified
	reg.works = e.sub.works
	reg.confirm = e.sub.refresh
	reg.onAdded = append(reg.onAdded, func(b session.Binding) {
		switch b.Source {
		case session.FromRegister: // a NOTIFY may not come by itself: ims-sip 1.7
			e.sub.refresh(b.AoR, confirmDelay)
		case session.FromRegEvent:
			e.sub.ensure(b.AoR)
		}
	})
	// A core that was restarted knows the terminals again when they register, and nothing of
	// our subscription.
	reg.onAgain = append(reg.onAgain, func(b session.Binding) {
		if b.Source == session.FromRegister {
			e.sub.recheck(b.AoR, confirmDelay)
		}
	})
	return e
}

func (e *regEvents) run(ctx context.Context) { e.sub.run(ctx) }

// target says where a user's state is subscribed to; nobody who is not registered.
func (e *regEvents) target(aor string) (target, bool) {
	if !e.reg.has(aor) {
		e.forget(aor)
		return target{}, false
	}
	if e.reg.cfg.Outbound != "" {
		return target{URI: aor}, true
	}
	to := e.reg.coreOf(aor)
	if to.URI == "" { // after a restart: the Path of a terminal begins with the user's S-CSCF
		for _, b := range e.reg.terminalsOf(aor) {
			if b.Source == session.FromRegister && len(b.Path) > 1 {
				to.Route = b.Path[:1]
			}
		}
	}
	to.URI = aor
	return to, true
}

func (e *regEvents) forget(aor string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.states, aor)
}

// notified takes one NOTIFY; those of one user come one after the other.
func (e *regEvents) notified(n notification) {
	if n.state == "terminated" {
		defer e.forget(n.key)
	}
	if len(n.body) == 0 || n.contentType != RegInfoType {
		if n.state == "terminated" && n.reason == "noresource" {
			e.ended(n.key)
		}
		return
	}
	doc, err := parseRegInfo(n.body)
	if err != nil {
		e.count.add("reginfo_bad")
		e.log.Debug("registration document refused", "aor", n.key, "err", err)
		return
	}
	e.mu.Lock()
	st := e.states[n.key]
	if st == nil || !st.have || doc.State == "full" && n.first {
		st = &regState{}
		e.states[n.key] = st
	}
	e.mu.Unlock()
	fresh, gap := st.apply(doc)
	if gap {
		e.count.add("reginfo_gaps")
		e.sub.refresh(n.key, 0)
	}
	if !fresh {
		e.count.add("reginfo_ignored")
		return
	}
	if !e.aboutUser(n.key, st) {
		e.count.add("reginfo_alien")
		e.log.Debug("registration document of another user refused", "aor", n.key)
		return
	}
	e.settle(n.key, st, doc.State == "full")
	st.prune()
	e.count.add("reginfo_taken")
}

// aboutUser reports whether the document names the user subscribed to.
func (e *regEvents) aboutUser(aor string, st *regState) bool {
	for _, r := range st.regs {
		id, err := parseIdentity(r.AoR)
		if err != nil {
			continue
		}
		if owner, ok := e.reg.userOf(id); ok && owner == aor {
			return true
		}
	}
	return false
}

// settle makes the registry agree with the document.
func (e *regEvents) settle(aor string, st *regState, full bool) {
	now := e.reg.now()
	e.reg.keepUser(aor)
	if ids := st.identities(); len(ids) > 0 {
		e.reg.link(append([]identity{identity(aor)}, ids...))
	}
	active, ended := st.contacts()
	if !st.registered() {
		e.ended(aor)
		return
	}
	for _, c := range active {
		e.show(aor, c, now)
	}
	e.reg.remove(aor, func(b session.Binding) bool {
		if b.Source == session.FromRegistrar || matches(b, active) {
			return false
		}
		if matches(b, ended) {
			return true
		}
		return full && e.older(aor, b, now)
	})
}

// older reports whether a binding that a full document does not list is old enough to be gone;
// for a younger one the whole state is asked for once more.
func (e *regEvents) older(aor string, b session.Binding, now time.Time) bool {
	if b.Since.Add(freshTime).Before(now) {
		return true
	}
	e.sub.refresh(aor, freshTime)
	return false
}

// ended removes what the registrar no longer has, but for a terminal that came a moment ago.
func (e *regEvents) ended(aor string) {
	now := e.reg.now()
	e.reg.registered(aor, now, target{})
	e.reg.remove(aor, func(b session.Binding) bool {
		return b.Source != session.FromRegistrar && e.older(aor, b, now)
	})
}

// show confirms a binding that the registrar has, or adds one that no REGISTER told of.
func (e *regEvents) show(aor string, c regContact, now time.Time) {
	bs := e.reg.terminalsOf(aor)
	i := slices.IndexFunc(bs, func(b session.Binding) bool { return b.Contact != "" && sameURI(b.Contact, c.URI) })
	if i < 0 && c.instance() != "" {
		i = slices.IndexFunc(bs, func(b session.Binding) bool { return sameInstance(b, c.instance()) })
	}
	var b session.Binding
	if i >= 0 {
		b = bs[i]
		if b.Source == session.FromRegistrar || b.Source == session.FromStatic {
			return
		}
		b.CSeq = 0 // the registrar's word, not an older REGISTER
	} else {
		b = session.Binding{
			Key: bindingKey(aor, c.instance(), c.param("reg-id"), c.URI), AoR: aor, Source: session.FromRegEvent,
		}
		if c.instance() != "" {
			b.Instance = session.Ptr(c.instance())
		}
		if u, ok := parseURI(c.URI); ok && e.reg.rules.admits(u.addr()) {
			b.IP = u.addr()
		} else {
			e.count.add("address_unknown")
		}
	}
	b.Contact = c.URI
	b.Confirmed = true
	if gruu := c.gruu(); gruu != "" {
		b.GRUU = session.Ptr(gruu)
	}
	if c.life() > 0 {
		b.Expires = session.Ptr(now.Add(c.life() + e.reg.grace()))
	} else if b.Expires == nil {
		b.Expires = session.Ptr(now.Add(time.Hour))
	}
	e.reg.confirmed(b)
}

// matches reports whether one of the contacts is the binding's: by URI, else by device when
// the document says nothing else of that device.
func matches(b session.Binding, contacts []regContact) bool {
	for _, c := range contacts {
		if b.Contact != "" && c.URI != "" && sameURI(b.Contact, c.URI) {
			return true
		}
	}
	for _, c := range contacts {
		if c.instance() != "" && sameInstance(b, c.instance()) {
			return true
		}
	}
	return false
}

// confirmed stores a binding as the registrar shows it, whatever REGISTER it came from.
func (g *registry) confirmed(b session.Binding) {
	g.mu.Lock()
	if old := g.byKey[b.Key]; old != nil {
		b.CallID, b.CSeq = old.CallID, old.CSeq
		b.Since = old.Since
		g.putLocked(&b)
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	g.put(b)
}

// grace is what is added to the life that the core says.
func (g *registry) grace() time.Duration { return g.cfg.Limits.Grace }
