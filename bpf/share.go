package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// What one terminal may take of a table, as a part of it, and what it may always take unless the
// table is small: a browser opens a hundred connections to port 80, a household behind one address
// plays some films at a time.
const (
	flowParts, flowLeast   = 64, 1024
	mediaParts, mediaLeast = 256, 256
	cutParts, cutLeast     = 64, 64
	legParts, legLeast     = 8, 64
)

// What one terminal may have sent up in a second: a part of the copy rate, and what is enough for
// signalling where that is small.
const (
	eventParts = 16
	eventLeast = 1 << 20
)

// shareOf returns what one terminal gets of a table of size entries: one part, but least of them,
// and never more than a quarter of a small table.
func shareOf(size, parts, least int) int {
	return max(min(max(size/parts, least), size/4), 1)
}

// flowShare returns how many records of TCP connections one terminal gets.
func (c Config) flowShare() int { return shareOf(int(c.MaxFlows), flowParts, flowLeast) }

// mediaShare returns how many UDP media flows one terminal gets.
func (c Config) mediaShare() int { return shareOf(int(c.MaxFlows), mediaParts, mediaLeast) }

// eventShare returns how many bytes of records are sent up for one terminal in a second.
func (c Config) eventShare() uint32 { return max(c.CopyRate/eventParts, eventLeast) }

// shareError counts what a terminal did not get, and says so. Call with g.mu held.
func (g *Gateway) shareError(of string) error {
	g.overShare[of]++
	return fmt.Errorf("this terminal's share: %w", ErrTooMany)
}

// openShare makes the entry of a terminal that is admitted; one that is there stays, with what it
// counted. Call with g.mu held.
func (g *Gateway) openShare(k scasAddrKey) error {
	delete(g.left, k)
	err := g.kernel.m("shares").Update(k, scasShare{}, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil
	}
	return full(err)
}

// correctShares puts the number of each terminal's records that a round over all of them found in
// place, and deletes the entries of terminals that left and have none. A record made meanwhile, behind
// the round, is counted by the next one: until then its terminal may have one more.
func (g *Gateway) correctShares(counts map[scasAddrKey]uint32) error {
	for k, n := range counts {
		if err := g.correctShare(k, n); err != nil {
			return err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for k := range g.left {
		if counts[k] > 0 || g.closed {
			continue
		}
		if err := gone(g.kernel.m("shares").Delete(k)); err != nil {
			return err
		}
		delete(g.left, k)
	}
	return nil
}

func (g *Gateway) correctShare(k scasAddrKey, count uint32) error {
	packet := commandPacket(&scasCommand{Flow: scasFlowKey{Terminal: k.Addr}, Op: uint32(scasOpOP_SHARE), Arg: count})
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	errno, err := g.runCommand(packet)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) { // none: it left
		return fmt.Errorf("correct the share of %v: %w", addrOf(k.Addr), err)
	}
	return nil
}

// terminalKey returns whose share a record counts in.
func (g *Gateway) terminalKey(k *scasFlowKey) scasAddrKey {
	sub := scasAddrKey{Addr: k.Terminal}
	if !addrOf(k.Terminal).Is4() {
		for i, m := range g.mask {
			sub.Addr[i] &= m
		}
	}
	return sub
}
