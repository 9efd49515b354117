package bpf

import (
	"errors"
	"fmt"
	"time"
)

// How long a removed leg's packets still reach its socket: TIME_WAIT (60 s in Linux) and a bit.
const legLinger = 65 * time.Second

// Sizes of the kernel's maps, as in maps.h.
const (
	maxLegs = 65536
	maxCuts = 16384
)

// AddLeg announces an upstream socket of ours bound to f.Terminal and to be connected to f.Server:
// server -> terminal packets of f are handed to it at WAN ingress. Call it before connect. Errors:
// ErrTooMany.
func (g *Gateway) AddLeg(f Flow) error {
	f = unmapped(f)
	k, err := keyOf(TCP, f)
	if err != nil {
		return fmt.Errorf("add leg: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	of, _ := subscriberKey(f.Terminal.Addr(), g.cfg.IPv6Prefix) // keyOf found it good
	_, again := g.legs[f]
	if !again && g.legsOf[of] >= shareOf(maxLegs, legParts, legLeast) {
		return fmt.Errorf("add leg %v: %w", f, g.shareError("legs"))
	}
	if err := g.steer(); err != nil {
		return fmt.Errorf("add leg %v: %w", f, err)
	}
	if err := full(g.kernel.m("legs").Put(k, uint32(1))); err != nil {
		return fmt.Errorf("add leg %v: %w", f, err)
	}
	if g.legs[f] = (time.Time{}); !again {
		g.legsOf[of]++
	}
	return g.writeLegs()
}

// RemoveLeg is the reverse of AddLeg. Packets of the flow are handed on for another minute while
// its socket still lives (TIME_WAIT). Errors: ErrNoFlow.
func (g *Gateway) RemoveLeg(f Flow) error {
	f = unmapped(f)
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.legs[f]; !ok {
		return fmt.Errorf("remove leg %v: %w", f, ErrNoFlow)
	}
	g.legs[f] = time.Now().Add(legLinger)
	return nil
}

// writeLegs tells the WAN hook whether there is anything to look for. Call with g.mu held.
func (g *Gateway) writeLegs() error { return g.kernel.legs.Set(uint32(len(g.legs))) }

// reapSteering takes out the legs whose time is over, and the WAN hook when there are none and no
// terminal is armed.
func (g *Gateway) reapSteering(now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.reapLegs(now); err != nil {
		return err
	}
	if g.cfg.SteerAlways || len(g.legs) > 0 {
		return nil
	}
	for _, t := range g.terminals {
		if t.armed {
			return nil
		}
	}
	return g.host.wan(false)
}

// reapLegs takes out the legs whose time is over. Call with g.mu held.
func (g *Gateway) reapLegs(now time.Time) error {
	before := len(g.legs)
	for f, until := range g.legs {
		if until.IsZero() || now.Before(until) {
			continue
		}
		k, err := keyOf(TCP, f)
		if err == nil {
			err = gone(g.kernel.m("legs").Delete(k))
		}
		if err != nil {
			return fmt.Errorf("remove leg %v: %w", f, err)
		}
		delete(g.legs, f)
		of, _ := subscriberKey(f.Terminal.Addr(), g.cfg.IPv6Prefix)
		if g.legsOf[of]--; g.legsOf[of] == 0 {
			delete(g.legsOf, of)
		}
	}
	if len(g.legs) == before {
		return nil
	}
	return g.writeLegs()
}

// cutID names a cut.
type cutID struct {
	proto Proto
	flow  Flow
}

// CutFlow drops the packets of f in the directions d for the time given, at LAN ingress and egress
// and after they were counted; packets with our mark pass. A second call replaces the first one.
// The terminal need not be subscribed; server port 0 cuts all of the server's ports off from the
// terminal's. Errors: ErrTooMany.
func (g *Gateway) CutFlow(p Proto, f Flow, d CutDir, for_ time.Duration) error {
	f = unmapped(f)
	k, err := keyOf(p, f)
	if err != nil {
		return fmt.Errorf("cut: %w", err)
	}
	if d&CutBoth == 0 || for_ <= 0 {
		return fmt.Errorf("cut %v %v: nothing to drop", p, f)
	}
	id := cutID{p, f}
	return g.change("cut", f.Terminal.Addr(), func(t *terminal) error {
		rec := scasCut{Until: monotonic() + uint64(for_), Dirs: uint32(d & CutBoth)}
		sub, _ := subscriberKey(f.Terminal.Addr(), g.cfg.IPv6Prefix) // change found it good
		_, again := g.cuts[id]
		if !again && t.cuts >= shareOf(maxCuts, cutParts, cutLeast) {
			return g.shareError("cuts")
		}
		if !again {
			t.cuts++
			if err := g.writeTerminal(sub, t); err != nil { // no room for a terminal that was none
				return err
			}
		}
		if err := full(g.kernel.m("cuts").Put(k, rec)); err != nil {
			if !again {
				t.cuts--
				err = errors.Join(err, g.writeTerminal(sub, t))
			}
			return err
		}
		g.cuts[id] = time.Now().Add(for_)
		return nil
	})
}

// UncutFlow is the reverse of CutFlow. Errors: ErrNoFlow when the flow is not cut, or not any more.
func (g *Gateway) UncutFlow(p Proto, f Flow) error {
	id := cutID{p, unmapped(f)}
	k, err := keyOf(p, f)
	if err != nil {
		return fmt.Errorf("uncut: %w", err)
	}
	return g.change("uncut", id.flow.Terminal.Addr(), func(t *terminal) error {
		if _, ok := g.cuts[id]; !ok {
			return ErrNoFlow
		}
		delete(g.cuts, id)
		t.cuts--
		return gone(g.kernel.m("cuts").Delete(k))
	})
}

// TrimCut has the cut of a flow end after for_ at the latest. Errors: ErrNoFlow when the flow is not
// cut, or not any more.
func (g *Gateway) TrimCut(p Proto, f Flow, for_ time.Duration) error {
	id := cutID{p, unmapped(f)}
	k, err := keyOf(p, f)
	if err != nil {
		return fmt.Errorf("trim cut: %w", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	until, ok := g.cuts[id]
	if !ok {
		return fmt.Errorf("trim cut %v %v: %w", p, f, ErrNoFlow)
	}
	at := time.Now().Add(for_)
	if !at.Before(until) {
		return nil
	}
	var rec scasCut
	m := g.kernel.m("cuts")
	if err := m.Lookup(k, &rec); err != nil {
		return fmt.Errorf("trim cut %v %v: %w", p, f, err)
	}
	rec.Until = monotonic() + uint64(max(for_, 0))
	if err := m.Put(k, rec); err != nil {
		return fmt.Errorf("trim cut %v %v: %w", p, f, err)
	}
	g.cuts[id] = at
	return nil
}

// FreeMedia lifts every cut of UDP packets between f.Terminal and the server of f, whatever the
// server's port: new media are to flow there. That there is none is no error.
func (g *Gateway) FreeMedia(f Flow) error {
	f = unmapped(f)
	g.mu.Lock()
	var ids []cutID
	for id := range g.cuts {
		if id.proto == UDP && id.flow.Terminal == f.Terminal && id.flow.Server.Addr() == f.Server.Addr() {
			ids = append(ids, id)
		}
	}
	g.mu.Unlock()
	var errs []error
	for _, id := range ids {
		if err := g.UncutFlow(UDP, id.flow); !errors.Is(err, ErrNoFlow) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// expiredCuts returns the cuts whose time is over.
func (g *Gateway) expiredCuts(now time.Time) (ids []cutID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, until := range g.cuts {
		if now.After(until) {
			ids = append(ids, id)
		}
	}
	return ids
}
