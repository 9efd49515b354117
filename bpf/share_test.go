package bpf

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// The bench's other terminals.
var (
	benchOther = netip.MustParseAddr("10.0.0.3")
	benchNear  = netip.MustParseAddr("2001:db8:1::77") // of the prefix of benchU6
)

// flood begins n connections of a terminal, or joins them in their middle.
func (b *bench) flood(from netip.Addr, server netip.Addr, first, n int, flags uint8) {
	b.tb.Helper()
	for i := range n {
		f := Flow{netip.AddrPortFrom(from, uint16(first+i)), netip.AddrPortFrom(server, 554)}
		if v := b.tcp(segment{flow: f, flags: flags, payload: []byte("x")[:flags&FlagACK>>4]}); v != pass {
			b.tb.Fatalf("verdict %d", v)
		}
	}
}

// TestFlowShare: a terminal that opens connections without end, or makes believe they are open, takes
// a share of the records and not those of others; what it opens beyond plays on unwatched.
func TestFlowShare(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to netip.Addr
		flags    uint8
		made     string
	}{
		{"SYN", benchUE, benchMS, FlagSYN, "flow_new"},
		{"joined", benchUE, benchMS, FlagACK, "flow_joined"},
		{"SYN IPv6", benchU6, benchM6, FlagSYN, "flow_new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, func(cfg *Config) { cfg.MaxFlows = 256 })
			share := b.cfg.flowShare()
			if share != 64 {
				t.Fatalf("share %d", share)
			}
			for _, a := range []netip.Addr{benchUE, benchU6, benchOther} {
				must(t, b.Subscribe(a))
			}
			b.flood(c.from, c.to, 1000, 300, c.flags)
			b.flood(c.from, c.to, 1000, 10, c.flags) // those it has are no new ones
			s := b.Stats()
			if s[c.made] != uint64(share) || s["flow_share"] != uint64(300-share) || s["lan_in_tcp_untracked"] != s["flow_share"] || s["flow_full"] != 0 {
				t.Errorf("counters %s", nonZero(s))
			}
			if c.from == benchU6 { // another address of its own is not another terminal
				b.flood(benchNear, c.to, 1000, 5, c.flags)
				if n := b.Stats()["flow_share"]; n != s["flow_share"]+5 {
					t.Errorf("%d refused, want 5 more than %d", n, s["flow_share"])
				}
			}
			f := Flow{netip.AddrPortFrom(benchOther, 40000), netip.AddrPortFrom(benchMS, 554)}
			b.tcp(segment{flow: f, flags: FlagSYN, seq: 99})
			if st, ok := b.TCPStats(f); !ok || !st.SynSeen {
				t.Error("the other terminal's connection is not watched")
			}
		})
	}
}

// TestFlowShareComesBack: what the reaper deletes may be taken again, whatever was counted; a
// terminal near its share loses what was never answered sooner; a registration anew makes no new
// share; and of who left nothing stays.
func TestFlowShareComesBack(t *testing.T) {
	b := newBench(t, func(cfg *Config) { cfg.MaxFlows = 256 })
	share := b.cfg.flowShare()
	must(t, b.Subscribe(benchUE))
	must(t, b.Subscribe(benchOther))
	b.flood(benchUE, benchMS, 1000, share+1, FlagSYN)
	b.flood(benchOther, benchMS, 1000, 1, FlagSYN)
	must(t, b.Unsubscribe(benchUE))
	must(t, b.Subscribe(benchUE))
	r := newReaper()
	must(t, b.reapFlows(r, monotonic()))
	b.flood(benchUE, benchMS, 3000, 1, FlagSYN)
	if s := b.Stats(); s["flow_share"] != 2 || s["tcp_flows"] != uint64(share+1) {
		t.Errorf("counters %s", nonZero(s))
	}
	must(t, b.reapFlows(r, monotonic()+uint64(closedKeep+time.Second)))
	if n := b.Stats()["tcp_flows"]; n != 1 {
		t.Errorf("%d records after what was never answered got old, want the other terminal's alone", n)
	}
	must(t, b.reapFlows(r, monotonic()+uint64(halfOpenKeep+time.Second)))
	b.flood(benchUE, benchMS, 4000, share+3, FlagSYN)
	if s := b.Stats(); s["flow_share"] != 5 {
		t.Errorf("counters %s, want 3 more refused: all had gone", nonZero(s))
	}
	must(t, b.Unsubscribe(benchUE))
	must(t, b.reapFlows(r, monotonic()+uint64(halfOpenKeep+time.Second)))
	var left scasShare
	k, _ := subscriberKey(benchUE, 64)
	if err := b.kernel.m("shares").Lookup(k, &left); err == nil || len(b.left) != 0 {
		t.Errorf("%v: left %+v, %d terminals", err, left, len(b.left))
	}
}

// TestEventShare: a terminal that has more sent up than it may loses its own: counted, marked, and
// nobody else's.
func TestEventShare(t *testing.T) {
	b := newBench(t, func(cfg *Config) { cfg.CopyRate, cfg.RingBytes = 1<<20, 16<<20 })
	f := b.connect(554)
	must(t, b.Subscribe(benchOther))
	other := Flow{netip.AddrPortFrom(benchOther, 40000), f.Server}
	b.tcp(segment{flow: other, flags: FlagSYN, seq: 99})
	part := bytes.Repeat([]byte("x"), 3000)
	for end := time.Now().Add(deadline); b.Stats()["event_share"] == 0 && time.Now().Before(end); { // a second may end meanwhile
		for i := range 800 {
			f.Terminal = netip.AddrPortFrom(benchUE, uint16(20000+i/80)) // the bytes of one connection have a bound of their own
			b.tcp(segment{flow: f, seq: 100 + uint32(i*len(part)), payload: part})
		}
	}
	s := b.Stats()
	if s["event_share"] == 0 || s["ring_full"] != 0 {
		t.Fatalf("counters %s", nonZero(s))
	}
	if st, _ := b.TCPStats(f); !st.Lossy {
		t.Error("the flow that lost bytes is not marked")
	}
	b.tcp(segment{flow: other, seq: 100, payload: []byte(describe)})
	b.tcp(segment{flow: other, dir: ToTerminal, seq: 1000, payload: []byte("reply")})
	var all []Event
	for _, e := range b.drain() {
		if e.Flow == other {
			all = append(all, e)
		}
	}
	if st, _ := b.TCPStats(other); st.Lossy || string(payloads(all, ToServer)) != describe || string(payloads(all, ToTerminal)) != "reply" {
		t.Errorf("the other terminal's exchange: lossy %v, %d events", st.Lossy, len(all))
	}
}

// TestCopyShare: what a terminal may have no more of is not taken from the node's rate.
func TestCopyShare(t *testing.T) {
	b := newBench(t, func(cfg *Config) { cfg.RingBytes = 16 << 20 })
	f := b.connect(554)
	b.tcp(segment{flow: f, seq: 100, payload: []byte(describe)})
	k, err := subscriberKey(benchUE, 64)
	must(t, err)
	var sh scasShare
	must(t, b.kernel.m("shares").Lookup(k, &sh))
	sh.Since, sh.Used = monotonic()+uint64(time.Hour), uint64(b.cfg.eventShare())
	must(t, b.kernel.m("shares").Put(k, sh))
	b.drain()
	b.tcp(segment{flow: f, dir: ToTerminal, seq: 1000, payload: bytes.Repeat([]byte("x"), 1000)})
	var rate scasRate
	must(t, b.kernel.m("copy_rates").Lookup(uint32(0), &rate))
	st, _ := b.TCPStats(f)
	if s := b.Stats(); s["event_share"] != 1 || rate.Used != 0 || !st.Lossy || st.Copying {
		t.Errorf("counters %s; %d bytes of the rate; %+v", nonZero(s), rate.Used, st)
	}
}

// TestMediaShare: endless SETUPs of one terminal leave room for those of others.
func TestMediaShare(t *testing.T) {
	b := newBench(t, func(cfg *Config) { cfg.MaxFlows = 256 })
	media := func(ue netip.Addr, server uint16, port int) MediaFlow {
		return MediaFlow{Flow: Flow{netip.AddrPortFrom(ue, uint16(port)), netip.AddrPortFrom(benchMS, server)}}
	}
	share := b.cfg.mediaShare()
	for i := range share / 4 {
		must(t, b.WatchFlow(media(benchUE, 6000, 2000+i)))
	}
	for i := range share * 3 / 8 { // each makes another one
		must(t, b.WatchFlow(media(benchUE, 0, 3000+i)))
	}
	if err := b.WatchFlow(media(benchUE, 6000, 5000)); !errors.Is(err, ErrTooMany) {
		t.Errorf("%v, want %v", err, ErrTooMany)
	}
	must(t, b.WatchFlow(media(benchUE, 6000, 2000))) // again
	must(t, b.WatchFlow(media(benchOther, 6000, 5000)))
	must(t, b.UnwatchFlow(media(benchUE, 6000, 2000).Flow))
	must(t, b.WatchFlow(media(benchUE, 6000, 5000)))
	if s := b.Stats(); s["media_over_share"] != 1 {
		t.Errorf("counters %s", nonZero(s))
	}
}

// TestLegShare: a terminal that opens and closes relayed connections leaves legs for others.
func TestLegShare(t *testing.T) {
	b := newBench(t)
	leg := func(ue netip.Addr, i int) Flow {
		return Flow{netip.AddrPortFrom(ue, uint16(1000+i)), netip.AddrPortFrom(benchMS, 554)}
	}
	share := shareOf(maxLegs, legParts, legLeast)
	for i := range share {
		must(t, b.AddLeg(leg(benchUE, i)))
		must(t, b.RemoveLeg(leg(benchUE, i)))
	}
	must(t, b.AddLeg(leg(benchUE, 0))) // is known still
	if err := b.AddLeg(leg(benchUE, share)); !errors.Is(err, ErrTooMany) {
		t.Errorf("%v, want %v", err, ErrTooMany)
	}
	must(t, b.AddLeg(leg(benchOther, 0)))
	must(t, b.reap(newReaper(), time.Now().Add(2*legLinger)))
	must(t, b.AddLeg(leg(benchUE, share)))
	if s := b.Stats(); s["legs_over_share"] != 1 || s["legs"] != 3 || len(b.legsOf) != 2 {
		t.Errorf("counters %s", nonZero(s))
	}
}

// TestShareOf: one part of a large table, enough of a middling one, a quarter of a small one.
func TestShareOf(t *testing.T) {
	for _, c := range []struct{ size, want int }{{131072, 2048}, {1 << 20, 16384}, {8192, 1024}, {1024, 256}, {2, 1}} {
		if got := shareOf(c.size, flowParts, flowLeast); got != c.want {
			t.Errorf("of %d: %d, want %d", c.size, got, c.want)
		}
	}
}

// TestFloodBesideAFilm: while one terminal opens real connections as fast as it can, all of the
// signalling of another one's new session comes up.
func TestFloodBesideAFilm(t *testing.T) {
	l := newLab(t)
	cfg := l.config()
	g := l.open(cfg)
	hostile := netip.MustParseAddr("10.78.1.3")
	l.ue.addr("eth0", hostile.String()+"/24")
	must(t, g.Subscribe(netip.MustParseAddr(ueIP[0])))
	must(t, g.Subscribe(hostile))
	ln := l.ms.listen(msIP[0] + ":554")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }() // with the listener
		}
	}()
	share := cfg.flowShare()
	for range int(cfg.MaxFlows) + 50 { // more than the table holds
		_, err := l.ue.dial(hostile.String()+":0", msIP[0]+":554")
		must(t, err)
	}
	s := g.Stats()
	if s["flow_new"] != uint64(share) || s["flow_share"] == 0 || s["flow_full"] != 0 {
		t.Errorf("counters %s", nonZero(s))
	}
	ue, ms, f := l.connect(0, 8554)
	send(t, ue, []byte(describe))
	receive(t, ms, len(describe))
	send(t, ms, bytes.Repeat([]byte("v=0\r\n"), 100))
	receive(t, ue, 500)
	of := func(want func(*Event) bool) func(*Event) bool {
		return func(e *Event) bool { return e.Flow == f && want(e) }
	}
	next(t, g, "SYN", of(func(e *Event) bool { return e.TCPFlags == FlagSYN }))
	next(t, g, "request", of(func(e *Event) bool { return string(e.Payload) == describe }))
	reply := next(t, g, "reply", of(func(e *Event) bool { return e.Dir == ToTerminal && len(e.Payload) > 0 }))
	if st, ok := g.TCPStats(f); !ok || st.Lossy || !bytes.HasPrefix(reply.Payload, []byte("v=0")) {
		t.Errorf("record %+v", st)
	}
}

// TestVersionStays: endless SETUPs of one terminal do not cost the packets of all others a lookup
// each: what changes nothing in its entry makes no new version.
func TestVersionStays(t *testing.T) {
	b := newBench(t)
	must(t, b.Subscribe(benchUE))
	media := func(port int) Flow {
		return Flow{netip.AddrPortFrom(benchUE, uint16(port)), netip.AddrPortFrom(benchMS, 6000)}
	}
	must(t, b.WatchFlow(MediaFlow{Flow: media(2000)}))
	before := b.version
	for i := range 100 {
		must(t, b.WatchFlow(MediaFlow{Flow: media(3000 + i)}))
	}
	must(t, b.CutFlow(UDP, media(2000), CutToTerminal, time.Hour))
	must(t, b.CutFlow(UDP, media(3000), CutToTerminal, time.Hour))
	must(t, b.Subscribe(benchUE))
	if b.version != before+1 {
		t.Errorf("version %d after one change, it was %d", b.version, before)
	}
	k, err := subscriberKey(benchUE, 64)
	must(t, err)
	flags := func() (s scasSubscriber) {
		must(t, b.kernel.m("subscribers").Lookup(k, &s))
		return s
	}
	if got, want := flags().Flags, b.terminals[k].flags(); got != want || want&uint32(scasSubscriberFlagSUB_CUT) == 0 {
		t.Errorf("entry %b, want %b", got, want)
	}
	for i := range 100 {
		must(t, b.UnwatchFlow(media(3000+i)))
	}
	must(t, b.UnwatchFlow(media(2000)))
	if got := flags().Flags; got&uint32(scasSubscriberFlagSUB_MEDIA) != 0 || b.version != before+2 {
		t.Errorf("entry %b, version %d", got, b.version)
	}
}
