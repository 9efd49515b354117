package kv

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"scas/session"
)

// gateway keeps the addresses that WatchBindings opens, as a gateway process does.
type gateway struct {
	mu     sync.Mutex
	open   map[string]session.Binding
	synced bool
	puts   int
}

func watch(t testing.TB, s *Store) *gateway {
	g := &gateway{open: map[string]session.Binding{}}
	ctx, cancel := context.WithCancel(context.Background())
	changes := s.WatchBindings(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for c := range changes {
			g.take(c)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return g
}

func (g *gateway) take(c BindingChange) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case c.Synced:
		g.synced = true
	case c.Gone:
		delete(g.open, c.Key)
	default:
		g.open[c.Key] = *c.Binding
		g.puts++
	}
}

// has reports whether exactly the bindings with these numbers are open.
func (g *gateway) has(numbers ...int) func() bool {
	return func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, n := range numbers {
			if _, ok := g.open[binding(n).Key]; !ok {
				return false
			}
		}
		return g.synced && len(g.open) == len(numbers)
	}
}

func TestWatchBindings(t *testing.T) {
	d := startServer(t)
	as, gw := member(t, "as1", d.url()), member(t, "gw1", d.url())
	ctx := t.Context()
	as.PutBinding(ctx, binding(1))
	flush(t, as)
	g := watch(t, gw)
	await(t, "first one", g.has(1))

	as.PutBinding(ctx, binding(2))
	await(t, "second one", g.has(1, 2))
	as.DeleteBinding(ctx, binding(1).Key)
	await(t, "deletion", g.has(2))

	await(t, "a gateway that starts later", watch(t, gw).has(2))
}

func TestWatchOfNothing(t *testing.T) {
	await(t, "synced", watch(t, embeddedStore(t, t.TempDir())).has())
}

// TestWatchExpiry: nobody deletes what ran out.
func TestWatchExpiry(t *testing.T) {
	var ahead atomic.Int64
	c := testConfig("gw1")
	c.Dir = t.TempDir()
	c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	s := open(t, c)
	until := func(n int, d time.Duration) {
		b := binding(n)
		b.CSeq += uint32(d / time.Hour)
		b.Expires = session.Ptr(time.Now().Add(d))
		if err := s.PutBinding(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	until(1, time.Hour)
	until(2, 3*time.Hour)
	until(3, -time.Hour)
	flush(t, s)
	g := watch(t, s)
	await(t, "those that live", g.has(1, 2))
	ahead.Store(int64(2 * time.Hour))
	await(t, "expiry", g.has(2))
	until(1, 5*time.Hour)
	await(t, "registered again", g.has(1, 2))
}

// TestWatchStoreAway stops the store, changes what it holds behind the watcher's back, and
// has it come back: only the difference is told, and nothing runs out meanwhile.
func TestWatchStoreAway(t *testing.T) {
	var ahead, asked atomic.Int64
	d := startServer(t)
	c := testConfig("gw1")
	c.Servers = []string{d.url()}
	c.Now = func() time.Time {
		asked.Add(1)
		return time.Now().Add(time.Duration(ahead.Load()))
	}
	gw := open(t, c)
	as := member(t, "as1", d.url())
	ctx := t.Context()
	for i := range 3 {
		b := binding(i)
		b.Expires = session.Ptr(time.Now().Add(time.Hour))
		as.PutBinding(ctx, b)
	}
	flush(t, as)
	g := watch(t, gw)
	await(t, "all", g.has(0, 1, 2))

	d.stop()
	await(t, "loss seen", func() bool { return gw.Ready() != nil && as.Ready() != nil })
	as.DeleteBinding(ctx, binding(0).Key)
	for i := 1; i < 4; i++ {
		b := binding(i)
		b.CSeq++
		b.Expires = session.Ptr(time.Now().Add(3 * time.Hour))
		as.PutBinding(ctx, b)
	}
	ahead.Store(int64(2 * time.Hour)) // those the watcher knows have run out
	before := asked.Load()
	await(t, "it looks what has run out", func() bool { return asked.Load() > before+4 })
	if !g.has(0, 1, 2)() {
		t.Error("ran out while the store was away")
	}
	d.start()
	await(t, "the difference", g.has(1, 2, 3))
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.puts > 6 {
		t.Errorf("told %d times, want 6", g.puts)
	}
}
