package bpf

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// TestCutAnyPort: server port 0 cuts every port of the server.
func TestCutAnyPort(t *testing.T) {
	b := newBench(t)
	f := benchFlow(5000)
	any := Flow{f.Terminal, netip.AddrPortFrom(f.Server.Addr(), 0)}
	must(t, b.CutFlow(UDP, any, CutToTerminal, time.Hour))
	other := Flow{netip.AddrPortFrom(benchUE, 40002), f.Server}
	for f, want := range map[Flow]int32{f: drop, benchFlow(6000): drop, other: pass} {
		if got := b.run(progLANOut, udpFrame(t, f.Server, f.Terminal, []byte("x"))); got != want {
			t.Errorf("%v: verdict %d, want %d", f, got, want)
		}
	}
	must(t, b.UncutFlow(UDP, any))
	if len(b.terminals) != 0 {
		t.Errorf("left: %v", b.terminals)
	}
}

// TestFreeMedia: new media on ports that are cut flow at once, and what is no longer cut is not
// trimmed.
func TestFreeMedia(t *testing.T) {
	b := newBench(t)
	f, other := benchFlow(5000), Flow{netip.AddrPortFrom(benchUE, 40002), benchFlow(5000).Server}
	any := Flow{f.Terminal, netip.AddrPortFrom(f.Server.Addr(), 0)}
	cut := func(f Flow) bool {
		return b.run(progLANOut, udpFrame(t, f.Server, f.Terminal, []byte("x"))) == drop
	}
	must(t, b.FreeMedia(f))
	for _, c := range []Flow{f, any, other} {
		must(t, b.CutFlow(UDP, c, CutToTerminal, time.Hour))
	}
	must(t, b.CutFlow(TCP, f, CutToTerminal, time.Hour))
	must(t, b.FreeMedia(f))
	if cut(f) || !cut(other) {
		t.Errorf("cut %v, the other flow %v", cut(f), cut(other))
	}
	if err := b.TrimCut(UDP, f, time.Second); !errors.Is(err, ErrNoFlow) {
		t.Errorf("trimmed: %v", err)
	}
	must(t, b.TrimCut(UDP, other, 2*time.Hour))
	if !cut(other) || time.Until(b.cuts[cutID{UDP, other}]) > time.Hour {
		t.Errorf("a cut is longer than it was")
	}
	must(t, b.TrimCut(UDP, other, 0))
	if cut(other) {
		t.Error("still cut")
	}
	if _, ok := b.cuts[cutID{TCP, f}]; !ok {
		t.Error("the control connection is free too")
	}
}

// TestCutExpires: a cut ends by itself.
func TestCutExpires(t *testing.T) {
	b := newBench(t)
	f := benchFlow(554)
	must(t, b.CutFlow(TCP, f, CutToServer, 50*time.Millisecond)) // not even subscribed
	s := segment{flow: f, payload: []byte("x")}
	if got := b.tcp(s); got != drop {
		t.Errorf("verdict %d", got)
	}
	eventually(t, b.Gateway, "packets pass again", func() bool { return b.tcp(s) == pass })
	must(t, b.reap(newReaper(), time.Now().Add(time.Second)))
	if len(b.cuts) != 0 || len(b.terminals) != 0 {
		t.Errorf("left: %v %v", b.cuts, b.terminals)
	}
	if got := b.Stats()["lan_in_stranger"]; got == 0 {
		t.Error("the terminal of an expired cut is no stranger")
	}
}

// TestCutEndsWithSYN: what is cut is one connection; the next one from the same port is another.
func TestCutEndsWithSYN(t *testing.T) {
	b := newBench(t)
	f := b.connect(554)
	must(t, b.CutFlow(TCP, f, CutBoth, time.Hour))
	for dir, want := range map[Dir]int32{ToServer: drop, ToTerminal: drop} {
		if got := b.tcp(segment{flow: f, dir: dir, seq: 5000, payload: []byte("old")}); got != want {
			t.Errorf("%v: verdict %d, want %d", dir, got, want)
		}
	}
	if got := b.tcp(segment{flow: f, dir: ToTerminal, seq: 1, flags: FlagSYN}); got != drop {
		t.Errorf("a SYN of the server: verdict %d", got)
	}
	for _, s := range []segment{
		{flow: f, seq: 90_000, flags: FlagSYN},
		{flow: f, dir: ToTerminal, seq: 70_000, ack: 90_001, flags: FlagSYN | FlagACK},
		{flow: f, seq: 90_001, ack: 70_001, payload: []byte("new")},
	} {
		if got := b.tcp(s); got != pass {
			t.Errorf("%v: verdict %d", s, got)
		}
	}
	if err := b.UncutFlow(TCP, f); err != nil {
		t.Errorf("the cut as it was asked for: %v", err)
	}
	if len(b.cuts) != 0 {
		t.Errorf("left: %v", b.cuts)
	}
}
