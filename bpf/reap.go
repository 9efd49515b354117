package bpf

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
)

// How long a TCP record stays without packets, by what the connection came to.
const (
	halfOpenKeep = time.Minute
	ignoredKeep  = 2 * time.Minute
	idleKeep     = time.Hour
	crowdedKeep  = 5 * time.Minute // when the table, or the terminal's share of it, is three quarters full
	reapEvery    = time.Second
	reapBatch    = 4096 // records looked at each time, of 1 KiB: a full table takes half a minute
)

// reaper deletes records of dead connections; the kernel half only adds.
type reaper struct {
	cursor *ebpf.MapBatchCursor
	keys   []scasFlowKey
	values []scasTcpFlow
	seen   uint64                 // records in the round under way
	count  uint64                 // records of the last full round
	of     map[scasAddrKey]uint32 // those of each terminal in the round under way
	had    map[scasAddrKey]uint32 // and in the last one

	unanswered uint64 // of the counter, when it was last told
}

func newReaper() *reaper {
	return &reaper{
		cursor: new(ebpf.MapBatchCursor),
		keys:   make([]scasFlowKey, reapBatch),
		values: make([]scasTcpFlow, reapBatch),
		of:     make(map[scasAddrKey]uint32),
	}
}

func (g *Gateway) reapLoop(ctx context.Context) {
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	r := newReaper()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err := g.reap(r, now); err != nil {
				g.log.Warn("reap kernel records", "err", err)
			}
			if n := g.counter("steer_unanswered"); n > r.unanswered {
				r.unanswered = n
				g.log.Warn("nothing answers the connections that are steered: let the packet filter's input chain accept packets with this mark",
					"mark", fmt.Sprintf("%#x", g.cfg.Mark))
			}
		}
	}
}

func (g *Gateway) reap(r *reaper, now time.Time) error {
	var errs []error // none of them keeps the rest from being reaped
	g.clock.follow()
	for _, id := range g.expiredCuts(now) {
		if err := g.UncutFlow(id.proto, id.flow); err != nil && !errors.Is(err, ErrNoFlow) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, g.reapSteering(now))
	return errors.Join(append(errs, g.reapFlows(r, monotonic()))...)
}

func (g *Gateway) reapFlows(r *reaper, now uint64) error {
	m := g.kernel.m("flows")
	n, err := m.BatchLookup(r.cursor, r.keys, r.values, nil)
	done := errors.Is(err, ebpf.ErrKeyNotExist)
	if err != nil && !done {
		r.cursor, r.seen, r.of = new(ebpf.MapBatchCursor), 0, make(map[scasAddrKey]uint32)
		return err
	}
	crowded := max(r.count, r.seen) > uint64(g.cfg.MaxFlows)/4*3
	most := uint32(g.cfg.flowShare() / 4 * 3)
	for i := range n {
		k := g.terminalKey(&r.keys[i])
		if !isDead(&r.values[i], now, crowded || max(r.had[k], r.of[k]) > most) {
			r.seen++
			r.of[k]++
			continue
		}
		if err := gone(m.Delete(r.keys[i])); err != nil {
			return err
		}
		r.of[k] += 0 // its count changed
	}
	if !done {
		return nil
	}
	r.cursor = new(ebpf.MapBatchCursor)
	r.count, r.seen = r.seen, 0
	r.had, r.of = r.of, make(map[scasAddrKey]uint32)
	g.mu.Lock()
	g.flowCount = r.count
	g.mu.Unlock()
	return g.correctShares(r.had)
}

// isDead reports whether nothing more is to come of the record.
func isDead(f *scasTcpFlow, now uint64, crowded bool) bool {
	last := max(f.Up.Last, f.Down.Last)
	if last >= now {
		return false
	}
	idle := time.Duration(now - last)
	both := f.Up.Flags & f.Down.Flags
	either := f.Up.Flags | f.Down.Flags
	switch {
	case f.Flags&uint32(scasFlowFlagFLOW_STEERED) != 0: // of its end nothing is seen here
		return idle > idleKeep || crowded && idle > halfOpenKeep // found again by its socket should it speak up
	case both&uint16(scasTcpDirFlagDIR_FIN) != 0 || either&uint16(scasTcpDirFlagDIR_RST) != 0:
		return idle > closedKeep
	case f.Flags&uint32(scasFlowFlagFLOW_IGNORED) != 0:
		return idle > ignoredKeep
	case f.Down.Packets == 0 || f.Up.Packets == 0:
		return idle > halfOpenKeep || crowded && idle > closedKeep
	case crowded:
		return idle > crowdedKeep
	}
	return idle > idleKeep
}
