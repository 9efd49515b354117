package bpf

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// TestLegs: on the WAN only flows of legs matter, and a leg without a socket lets packets go on.
func TestLegs(t *testing.T) {
	b := newBench(t)
	f := benchFlow(554)
	must(t, b.AddLeg(f))
	b.run(progWANIn, segment{flow: f, dir: ToTerminal}.frame(t))
	b.run(progWANIn, segment{flow: benchFlow(8554), dir: ToTerminal}.frame(t))
	b.run(progWANIn, segment{flow: benchFlow(443), dir: ToTerminal}.frame(t))
	if s := b.Stats(); s["wan_in_leg_gone"] != 1 || s["wan_in_not_leg"] != 2 {
		t.Errorf("counters %s", nonZero(s))
	}
	must(t, b.RemoveLeg(f))
	b.run(progWANIn, segment{flow: f, dir: ToTerminal}.frame(t))
	if n := b.Stats()["wan_in_leg_gone"]; n != 2 {
		t.Errorf("%d, want 2: TIME_WAIT still needs its packets", n)
	}
	must(t, b.reap(newReaper(), time.Now().Add(2*legLinger)))
	b.run(progWANIn, segment{flow: f, dir: ToTerminal}.frame(t))
	if n := b.Stats()["wan_in_no_legs"]; n != 1 {
		t.Errorf("%d packets past the legs, want 1", n)
	}
}

// TestReaper: records of ended connections go, others stay.
func TestReaper(t *testing.T) {
	b := newBench(t)
	must(t, b.Subscribe(benchUE))
	live, ended, half := benchFlow(554), benchFlow(8554), benchFlow(1755)
	for _, f := range []Flow{live, ended} {
		b.tcp(segment{flow: f, flags: FlagSYN})
		b.tcp(segment{flow: f, flags: FlagSYN | FlagACK, dir: ToTerminal})
	}
	b.tcp(segment{flow: half, flags: FlagSYN})
	b.tcp(segment{flow: ended, flags: FlagRST})
	must(t, b.Channels(ended, []Channel{{Number: 0, PT: 96}}))
	r := newReaper()
	for _, c := range []struct {
		after time.Duration
		want  map[Flow]bool
	}{
		{0, map[Flow]bool{live: true, ended: true, half: true}},
		{closedKeep + time.Second, map[Flow]bool{live: true, half: true}},
		{halfOpenKeep + time.Second, map[Flow]bool{live: true}},
		{idleKeep + time.Second, map[Flow]bool{}},
	} {
		must(t, b.reapFlows(r, monotonic()+uint64(c.after)))
		for _, f := range []Flow{live, ended, half} {
			if _, ok := b.TCPStats(f); ok != c.want[f] {
				t.Errorf("after %v: record of %v is there: %v", c.after, f, ok)
			}
		}
	}
}

// TestCrowdedReaper: a steered connection whose end nobody sees does not keep its place for an
// hour when others need it.
func TestCrowdedReaper(t *testing.T) {
	f := scasTcpFlow{Flags: uint32(scasFlowFlagFLOW_STEERED)}
	f.Up.Last = 1
	after := func(d time.Duration, crowded bool) bool { return isDead(&f, 1+uint64(d+time.Second), crowded) }
	if after(halfOpenKeep, false) || !after(idleKeep, false) {
		t.Error("wrong while there is room")
	}
	if after(halfOpenKeep/2, true) || !after(halfOpenKeep, true) {
		t.Error("wrong when crowded")
	}
}

// TestFlowsFull: without room for a record a connection goes on unwatched, and is not steered.
func TestFlowsFull(t *testing.T) {
	b := newBench(t, func(cfg *Config) { cfg.MaxFlows = 2 })
	for i := range byte(64) {
		f := benchFlow(554)
		f.Terminal = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, i}), 30000)
		must(t, b.Subscribe(f.Terminal.Addr()))
		if v := b.tcp(segment{flow: f, flags: FlagSYN}); v != pass {
			t.Fatalf("verdict %d", v)
		}
	}
	s := b.Stats()
	if s["lan_in_tcp_untracked"] == 0 || s["flow_full"] != s["lan_in_tcp_untracked"] || s["lan_in_tcp"]+s["lan_in_tcp_untracked"] != 64 {
		t.Errorf("counters %s", nonZero(s))
	}
	must(t, b.reapFlows(newReaper(), monotonic()+uint64(halfOpenKeep+time.Second)))
	must(t, b.Subscribe(benchUE))
	b.tcp(segment{flow: benchFlow(554), flags: FlagSYN})
	if n := b.Stats()["lan_in_tcp"]; n != s["lan_in_tcp"]+1 {
		t.Errorf("%d watched, want one more than %d once there is room", n, s["lan_in_tcp"])
	}
}

// TestCutWithoutRoom: a cut that is refused leaves nothing, and keeps nothing from being reaped.
func TestCutWithoutRoom(t *testing.T) {
	terminal := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}) }
	b := newBench(t, func(cfg *Config) { cfg.MaxSubscribers = cutParts })
	for i := range cutParts {
		must(t, b.Subscribe(terminal(i)))
	}
	f := benchFlow(554)
	if err := b.CutFlow(TCP, f, CutBoth, time.Second); !errors.Is(err, ErrTooMany) {
		t.Errorf("%v, want %v: no room for the terminal", err, ErrTooMany)
	}
	if n := b.Stats()["cuts"]; n != 0 || len(b.terminals) != cutParts {
		t.Errorf("%d cuts, %d terminals", n, len(b.terminals))
	}
	for i := range maxCuts {
		f.Terminal = netip.AddrPortFrom(terminal(i%cutParts), uint16(i+1))
		must(t, b.CutFlow(TCP, f, CutBoth, time.Second))
	}
	f.Terminal = netip.AddrPortFrom(terminal(0), 20000)
	if err := b.CutFlow(TCP, f, CutBoth, time.Second); !errors.Is(err, ErrTooMany) || b.Stats()["cuts_over_share"] != 1 {
		t.Errorf("%v, want %v", err, ErrTooMany)
	}
	for i := range cutParts {
		must(t, b.Unsubscribe(terminal(i)))
	}
	must(t, b.reap(newReaper(), time.Now().Add(time.Minute)))
	if n := b.Stats()["cuts"]; n != 0 || len(b.terminals) != 0 {
		t.Errorf("%d cuts of %d terminals after their time", n, len(b.terminals))
	}
}
