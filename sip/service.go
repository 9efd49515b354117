package sip

import (
	"context"
	"maps"
	"slices"
	"time"

	"scas/session"
)

// maxMessages bounds the messages of ours that wait for their answer.
const maxMessages = 2000

// newOrders returns the service of a server that has all it needs of the rest.
func newOrders(cfg Config, deps Deps, st *stack, dir directory) *orders {
	o := &orders{
		cfg: cfg, rules: newAddressRules(cfg), log: st.log, count: st.count, now: st.now, stack: st, dir: dir,
		mover: deps.Mover, sessions: deps.Sessions, transfers: deps.Transfers, store: deps.Store,
		offerTime: deps.OfferTimeout, attachTime: deps.AttachTimeout, slots: make(chan struct{}, maxMessages),
		watching: make(chan struct{}),
		renamed:  func(string) {},
		users:    map[string]*user{}, kept: map[string]session.User{}, offers: map[string]*offer{}, referrals: map[string]*referral{},
	}
	if o.cfg.Limits.Messages <= 0 {
		o.cfg.Limits.Messages = messagesBurst
	}
	if o.offerTime <= 0 {
		o.offerTime = time.Minute
	}
	if o.attachTime <= 0 {
		o.attachTime = 30 * time.Second
	}
	o.background, o.stop = context.WithCancel(context.Background())
	st.handle("MESSAGE", o.message)
	st.handle("REFER", o.refer)
	st.handle("SUBSCRIBE", o.subscribe)
	return o
}

// run serves until ctx ends: it restores what users chose, follows transfers and presence.
// It returns when nothing of it runs any more.
func (o *orders) run(ctx context.Context) {
	defer o.end()
	o.restore(ctx)
	o.wg.Go(func() { o.watch(ctx) })
	o.wg.Go(func() { o.follow(ctx) })
	if r, ok := o.store.(returning); ok {
		o.wg.Go(func() { o.refill(ctx, r.Returned(ctx)) })
	}
	if o.presence != nil {
		o.wg.Go(func() { o.presence.run(ctx) })
	}
	<-ctx.Done()
}

// end stops what waits for the network and waits for it.
func (o *orders) end() {
	o.mu.Lock()
	o.ended = true
	o.mu.Unlock()
	o.stop()
	o.wg.Wait()
}

// restore reads the users' settings; it tries again while the store is down.
func (o *orders) restore(ctx context.Context) {
	for {
		users, err := o.store.Users(ctx)
		if err == nil {
			o.mu.Lock()
			for _, kept := range users {
				o.kept[kept.AoR] = kept
			}
			o.mu.Unlock()
			o.late(o.everyone())
			return
		}
		o.log.Warn("users not read", "err", err)
		if !sleep(ctx, time.Second) {
			return
		}
	}
}

// refill gives a store that came back the settings that it has lost, until ctx ends.
func (o *orders) refill(ctx context.Context, returned <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-returned:
		}
		there, err := o.store.Users(ctx)
		if err != nil {
			continue // it is away again
		}
		for _, lost := range o.chosen(there) {
			if err := o.store.PutUser(ctx, lost); err != nil {
				o.count.add("store_failed")
			}
		}
	}
}

// chosen returns what users chose, but for those that are there.
func (o *orders) chosen(there []session.User) (all []session.User) {
	known := map[string]bool{}
	for _, u := range there {
		known[u.AoR] = true
	}
	o.mu.Lock()
	users := slices.Collect(maps.Values(o.users))
	for aor, kept := range o.kept {
		if !known[aor] {
			all = append(all, kept.Clone())
		}
	}
	o.mu.Unlock()
	for _, u := range users {
		u.mu.Lock()
		if s := u.settings; !known[u.aor] && (s.Auto || len(s.Names)+len(s.Forms) > 0) {
			all = append(all, s.Clone())
		}
		u.mu.Unlock()
	}
	return all
}

// late gives settings to users that asked for something before the store was read; what they
// chose meanwhile stays.
func (o *orders) late(known []*user) {
	for _, u := range known {
		o.mu.Lock()
		kept, ok := o.kept[u.aor]
		delete(o.kept, u.aor)
		o.mu.Unlock()
		if !ok {
			continue
		}
		u.mu.Lock()
		chosen := u.settings
		u.restore(kept, o.now())
		for k, v := range chosen.Names {
			u.settings.Names[k] = v
		}
		for k, v := range chosen.Forms {
			u.settings.Forms[k] = v
		}
		u.settings.Auto = u.settings.Auto || chosen.Auto
		u.mu.Unlock()
		o.renamed(u.aor)
	}
}

// name returns a user's bindings, one of each terminal, with their names and which is active.
func (o *orders) name(aor string, bs []session.Binding) []session.Binding {
	u := o.user(aor)
	u.mu.Lock()
	defer u.mu.Unlock()
	out := u.named(bs)
	active := u.activity.active(out, "", o.now())
	for i := range out {
		if active != "" {
			out[i].Active = session.Ptr(out[i].Key == active)
		}
	}
	return out
}
