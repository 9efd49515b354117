package sip

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"scas/session"
)

// gatekeeper counts who holds which address and makes the Gate follow: an address opens with
// its first holder and closes with its last. Bindings only mark what they want; one goroutine
// calls the Gate, so its order is the order of events. Safe for concurrent use.
type gatekeeper struct {
	gate  Gate // nil: none
	log   *slog.Logger
	count *counters
	wake  chan struct{}
	// naming gives a binding the name its user chose; nil: none. Called without locks.
	naming func(b session.Binding) session.Binding

	mu      sync.Mutex
	holders map[netip.Addr]map[string]session.Binding // by binding key
	open    map[netip.Addr]session.Binding            // as the Gate was told
	dirty   map[netip.Addr]struct{}
}

// gateRetry is how long after an error the Gate is asked again.
const gateRetry = time.Second

func newGatekeeper(g Gate, log *slog.Logger, c *counters) *gatekeeper {
	return &gatekeeper{
		gate: g, log: log, count: c, wake: make(chan struct{}, 1),
		holders: map[netip.Addr]map[string]session.Binding{},
		open:    map[netip.Addr]session.Binding{}, dirty: map[netip.Addr]struct{}{},
	}
}

// hold makes b a holder of its address, if it has one.
func (g *gatekeeper) hold(b session.Binding) {
	if !b.IP.IsValid() {
		return
	}
	g.mu.Lock()
	if g.holders[b.IP] == nil {
		g.holders[b.IP] = map[string]session.Binding{}
	}
	g.holders[b.IP][b.Key] = b
	g.mark(b.IP)
	g.mu.Unlock()
}

// release takes the binding with that key off an address.
func (g *gatekeeper) release(key string, ip netip.Addr) {
	if !ip.IsValid() {
		return
	}
	g.mu.Lock()
	delete(g.holders[ip], key)
	if len(g.holders[ip]) == 0 {
		delete(g.holders, ip)
	}
	g.mark(ip)
	g.mu.Unlock()
}

func (g *gatekeeper) mark(ip netip.Addr) {
	g.dirty[ip] = struct{}{}
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// run calls the Gate until ctx ends.
func (g *gatekeeper) run(ctx context.Context) {
	retry := time.NewTicker(gateRetry)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		case <-retry.C:
		}
		g.work(ctx)
	}
}

// work brings every dirty address to what it should be; an error leaves it dirty.
func (g *gatekeeper) work(ctx context.Context) {
	for _, ip := range g.takeDirty() {
		if ctx.Err() != nil {
			return
		}
		if err := g.settle(ip); err != nil {
			g.count.add("gate_errors")
			g.log.Warn("gateway not told of an address", "err", cause(err))
			g.mu.Lock()
			g.dirty[ip] = struct{}{}
			g.mu.Unlock()
		}
	}
}

func (g *gatekeeper) takeDirty() []netip.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]netip.Addr, 0, len(g.dirty))
	for ip := range g.dirty {
		out = append(out, ip)
	}
	g.dirty = map[netip.Addr]struct{}{}
	return out
}

// settle tells the Gate about one address when it does not know.
func (g *gatekeeper) settle(ip netip.Addr) error {
	g.mu.Lock()
	var want session.Binding // the newest holder speaks for the address
	wanted := false
	for _, b := range g.holders[ip] {
		if !wanted || b.Since.After(want.Since) || b.Since.Equal(want.Since) && b.Key > want.Key {
			want, wanted = b, true
		}
	}
	told, isOpen := g.open[ip]
	g.mu.Unlock()
	if wanted && g.naming != nil {
		want = g.naming(want)
	}

	switch {
	case wanted && isOpen && told.Key == want.Key && told.AoR == want.AoR && told.Name == want.Name:
		return nil
	case !wanted && !isOpen:
		return nil
	case wanted:
		if g.gate != nil {
			if err := g.gate.Open(want); err != nil {
				return err
			}
		}
		g.count.add("gate_opened")
		g.mu.Lock()
		g.open[ip] = want
		g.mu.Unlock()
	default:
		if g.gate != nil {
			if err := g.gate.Close(told); err != nil {
				return err
			}
		}
		g.count.add("gate_closed")
		g.mu.Lock()
		delete(g.open, ip)
		g.mu.Unlock()
	}
	return nil
}

// size returns how many addresses are open.
func (g *gatekeeper) size() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open)
}
