package kv

import (
	"context"
	"time"

	"scas/session"
)

// BindingChange is what WatchBindings tells. Exactly one of Binding, Gone and Synced is set.
type BindingChange struct {
	Key     string           // "" with Synced
	Binding *session.Binding // new, or with a new value
	Gone    bool             // deleted, or ran out
	Synced  bool             // all that was stored at the beginning has been told
}

// expiryTick is how late a binding may be told to have run out.
const expiryTick = 250 * time.Millisecond

// refill is how long after the store is back nothing runs out: application servers write
// then what they could not write before.
const refill = 3 * time.Second

// refillAll is how long what the store has lost stays told: application servers write it again
// when they see that the store is back. Longer than they take to find it again (store.go).
const refillAll = 15 * time.Second

// WatchBindings tells the stored bindings and each change of them until ctx ends, when it
// closes the channel. A binding that runs out is told gone although nobody deleted it: an
// application server that died closes nothing. While the store itself is away nothing is
// told and nothing runs out, because nobody could have told of a refresh; what happened
// meanwhile is told when it is back. What it has lost by then without a trace, its files, is
// told gone after a while unless it is written again. The reader has to read: the rest waits.
func (s *Store) WatchBindings(ctx context.Context) <-chan BindingChange {
	out := make(chan BindingChange, 64)
	w := &bindingWatch{s: s, out: out, live: map[string]session.Binding{}, lost: map[string]time.Time{}}
	facts := make(chan func(ctx context.Context))
	hand := func(f func(ctx context.Context)) {
		select {
		case facts <- f:
		case <-ctx.Done():
		}
	}
	go follow(ctx, s, bindingsBucket, follower[session.Binding]{
		put:     func(key string, b session.Binding) { hand(func(ctx context.Context) { w.put(ctx, key, b) }) },
		gone:    func(key string) { hand(func(ctx context.Context) { w.end(ctx, key) }) },
		missing: func(key string) { hand(func(context.Context) { w.lost[key] = s.cfg.Now().Add(refillAll) }) },
		current: func(yes bool) { hand(func(ctx context.Context) { w.current(ctx, yes) }) },
	})
	go w.run(ctx, facts)
	return out
}

// bindingWatch adds expiry to what the bucket tells. One goroutine owns it.
type bindingWatch struct {
	s      *Store
	out    chan<- BindingChange
	live   map[string]session.Binding // told and not gone, by the bucket's key
	lost   map[string]time.Time       // until when they are waited for, by the bucket's key
	synced bool                       // Synced was told
	hold   bool                       // not everything is told that the store has
	until  time.Time                  // nothing runs out before
}

func (w *bindingWatch) run(ctx context.Context, facts <-chan func(ctx context.Context)) {
	defer close(w.out)
	tick := time.NewTicker(expiryTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-facts:
			f(ctx)
		case <-tick.C:
			w.expire(ctx)
		}
	}
}

func (w *bindingWatch) put(ctx context.Context, key string, b session.Binding) {
	_, told := w.live[key]
	delete(w.lost, key)
	switch {
	case b.Live(w.s.cfg.Now()):
		w.live[key] = b
		w.tell(ctx, BindingChange{Key: b.Key, Binding: &b})
	case told:
		w.live[key] = b // expire decides
	}
}

func (w *bindingWatch) current(ctx context.Context, yes bool) {
	w.hold = !yes
	if yes && !w.synced {
		w.synced = true
		w.tell(ctx, BindingChange{Synced: true})
	}
}

// end tells that the binding under the bucket's key is gone, once.
func (w *bindingWatch) end(ctx context.Context, key string) {
	delete(w.lost, key)
	if b, ok := w.live[key]; ok {
		delete(w.live, key)
		w.tell(ctx, BindingChange{Key: b.Key, Gone: true})
	}
}

func (w *bindingWatch) expire(ctx context.Context) {
	now := w.s.cfg.Now()
	if w.hold || !w.s.nc.IsConnected() {
		w.until = now.Add(refill)
	}
	if now.Before(w.until) {
		return
	}
	for key, b := range w.live {
		if !b.Live(now) {
			w.end(ctx, key)
		}
	}
	for key, until := range w.lost {
		if !now.Before(until) {
			w.end(ctx, key)
		}
	}
}

func (w *bindingWatch) tell(ctx context.Context, c BindingChange) {
	select {
	case w.out <- c:
	case <-ctx.Done():
	}
}
