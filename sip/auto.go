package sip

import (
	"context"
	"time"

	"scas/session"
)

// autoTick is how often the automatic mover looks whether a film should follow its user: finer
// than the hysteresis of 5 s, coarse enough to cost nothing.
const autoTick = 500 * time.Millisecond

// observe takes a presence document of a user.
func (o *orders) observe(aor string, doc presenceDoc) {
	terminals := o.dir.terminalsOf(aor)
	if len(terminals) == 0 {
		return
	}
	u, now := o.user(aor), o.now()
	u.mu.Lock()
	u.activity.forget(terminals)
	u.activity.observe(doc, terminals, now)
	u.check = now
	u.mu.Unlock()
}

// activeOf returns which of a user's terminals the user is at, "" when nothing tells.
func (o *orders) activeOf(aor string, terminals []session.Binding) (key string) {
	o.mu.Lock()
	u := o.users[aor]
	o.mu.Unlock()
	if u == nil {
		return ""
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.activity.active(terminals, "", o.now())
}

// follow makes films follow their users until ctx ends.
func (o *orders) follow(ctx context.Context) {
	tick, sweep := time.NewTicker(autoTick), time.NewTicker(time.Minute)
	defer tick.Stop()
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			o.sweep()
		case <-tick.C:
			for _, u := range o.due() {
				o.followOne(u)
			}
		}
	}
}

// everyone returns the users that are remembered.
func (o *orders) everyone() []*user {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := make([]*user, 0, len(o.users))
	for _, u := range o.users {
		all = append(all, u)
	}
	return all
}

// sweep forgets users who have had no terminal for so long that no number and no order of
// theirs is remembered any more. What they chose is kept.
func (o *orders) sweep() {
	now := o.now()
	o.sweepReferrals(now)
	for _, u := range o.everyone() {
		here := len(o.dir.terminalsOf(u.aor)) > 0
		u.mu.Lock()
		if here || len(u.offers) > 0 || u.empty.IsZero() {
			u.empty = now
		}
		gone, kept := now.Sub(u.empty) > numberRest, u.settings.Clone()
		u.mu.Unlock()
		if !gone {
			continue
		}
		o.mu.Lock()
		delete(o.users, u.aor)
		if kept.Auto || len(kept.Names)+len(kept.Forms) > 0 {
			o.kept[u.aor] = kept
		}
		o.mu.Unlock()
	}
}

// due returns the users that asked for it and have something to decide.
func (o *orders) due() []*user {
	now := o.now()
	var out []*user
	for _, u := range o.everyone() {
		u.mu.Lock()
		if u.settings.Auto && !u.check.IsZero() && !now.Before(u.check) {
			u.check = time.Time{}
			out = append(out, u)
		}
		u.mu.Unlock()
	}
	return out
}

// followOne decides for one user: the newest session that plays is the one that follows.
func (o *orders) followOne(u *user) {
	if !u.work.TryLock() { // the user is giving an order: that counts
		u.mu.Lock()
		u.check = o.now()
		u.mu.Unlock()
		return
	}
	defer u.work.Unlock()
	terminals := o.terminals(u)
	for _, r := range o.records(u) {
		if r.State != session.Playing || r.Opaque || r.URL == nil || !offerable(*r.URL) {
			continue
		}
		if to, ok := o.wanted(u, r, terminals); ok && o.openOffers(u) == 0 {
			now := o.now()
			u.mu.Lock()
			u.activity.autoMoved(r.ID, now)
			u.mu.Unlock()
			o.count.add("auto_moves")
			if code := o.begin(u, nil, r, to, session.Auto); code != "" {
				o.count.add("auto_refused")
			}
		}
		return
	}
}

// wanted returns the terminal a session should follow its user to now.
func (o *orders) wanted(u *user, r session.Record, terminals []session.Binding) (session.Binding, bool) {
	stay := ""
	for _, b := range terminals {
		if b.IP == r.Terminal.IP {
			stay = b.Key
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	key, again := u.activity.decide(r.ID, stay, r.Started, terminals, o.now())
	if u.check.IsZero() || again.Before(u.check) {
		u.check = again
	}
	for _, b := range terminals {
		if b.Key == key && key != "" && b.IP.IsValid() && b.Contact != "" {
			return b, true
		}
	}
	return session.Binding{}, false
}
