package bpf

import (
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// TestRecordWhole reads a record while two processors write it: it is never torn, and no packet is
// missing in the end.
func TestRecordWhole(t *testing.T) {
	b := newBench(t)
	must(t, b.Subscribe(benchUE))
	f := benchFlow(5000)
	must(t, b.WatchFlow(MediaFlow{Flow: f, PT: []byte{96}, ClockRate: 90000}))
	raw := udpFrame(t, f.Server, f.Terminal, packet(t, 96, 1, 2, 3))
	size := uint64(len(packet(t, 96, 1, 2, 3)))
	const writers, rounds, repeat = 2, 20, 2000
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range rounds {
				if _, err := b.kernel.program(progLANOut, false).Run(&ebpf.RunOptions{Data: raw, Repeat: repeat}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	for reads := 0; ; {
		select {
		case <-done:
			s, ok := b.MediaStats(f)
			busy := b.Stats()["record_busy"]
			if !ok || s.Packets+busy != writers*rounds*repeat {
				t.Errorf("%d packets and %d refused, want %d; %d reads", s.Packets, busy, writers*rounds*repeat, reads)
			}
			return
		default:
		}
		if s, ok := b.MediaStats(f); ok && s.Bytes != s.Packets*size {
			t.Fatalf("torn: %d packets of %d bytes are %d", s.Packets, size, s.Bytes)
		}
		reads++
		runtime.Gosched()
	}
}

// TestRecordBusy: a record that is held for too long is passed by, counted, and marked.
func TestRecordBusy(t *testing.T) {
	b := newBench(t)
	must(t, b.Subscribe(benchUE))
	f := benchFlow(5000)
	must(t, b.WatchFlow(MediaFlow{Flow: f, PT: []byte{96}}))
	k, err := keyOf(UDP, f)
	must(t, err)
	var rec scasMedia
	m := b.kernel.m("media_flows")
	must(t, m.Lookup(&k, &rec))
	rec.Turn = 1
	must(t, m.Put(&k, &rec))
	if got := b.run(progLANOut, udpFrame(t, f.Server, f.Terminal, packet(t, 96, 1, 2, 3))); got != pass {
		t.Errorf("verdict %d", got)
	}
	if n := b.Stats()["record_busy"]; n != 1 {
		t.Errorf("%d packets not accounted, want 1", n)
	}
	if _, ok := b.MediaStats(f); ok {
		t.Error("a record that is being written was read")
	}
	must(t, m.Lookup(&k, &rec))
	if rec.Packets != 0 || rec.Flags&uint32(scasMediaFlagMEDIA_LOSSY) == 0 {
		t.Errorf("record %+v", rec)
	}
}

// TestKnownFlowOfAStranger: what a flow's record knows of its terminal ends with the subscription.
func TestKnownFlowOfAStranger(t *testing.T) {
	b := newBench(t)
	udp, tcp := benchFlow(5000), benchFlow(554)
	must(t, b.WatchFlow(MediaFlow{Flow: udp, PT: []byte{96}}))
	media := udpFrame(t, udp.Server, udp.Terminal, packet(t, 96, 1, 2, 3))
	both := func() {
		b.run(progLANOut, media)
		b.tcp(segment{flow: tcp, flags: FlagSYN})
		b.tcp(segment{flow: tcp, seq: 1})
	}
	for i, want := range []uint64{0, 1, 1, 2} {
		if i%2 == 1 {
			must(t, b.Subscribe(benchUE))
		} else if i > 0 {
			must(t, b.Unsubscribe(benchUE))
		}
		both()
		both()
		s := b.Stats()
		if s["lan_out_rtp"] != 2*want || s["lan_in_tcp"] != 4*want {
			t.Errorf("after change %d: %s", i, nonZero(s))
		}
	}
}

// TestAddressesShareASlot: an address goes, another one of its slot stays.
func TestAddressesShareASlot(t *testing.T) {
	b := newBench(t)
	key := func(a netip.Addr) uint32 {
		k, err := subscriberKey(a, b.cfg.IPv6Prefix)
		must(t, err)
		return addressSlot(k)
	}
	one := netip.MustParseAddr("10.0.0.2")
	other := one.Next()
	for key(other) != key(one) {
		other = other.Next()
	}
	seen := func(a netip.Addr) bool {
		before := b.Stats()["lan_in_other_tcp"]
		b.tcp(segment{flow: Flow{netip.AddrPortFrom(a, 40000), netip.AddrPortFrom(benchMS, 443)}})
		return b.Stats()["lan_in_other_tcp"] > before
	}
	must(t, b.Subscribe(one))
	if !seen(one) || seen(other) {
		t.Errorf("%v is seen: %v; %v, of its slot, is: %v", one, seen(one), other, seen(other))
	}
	must(t, b.Subscribe(other))
	must(t, b.Unsubscribe(one))
	if seen(one) || !seen(other) {
		t.Errorf("%v is seen: %v; %v is: %v", one, seen(one), other, seen(other))
	}
	must(t, b.Unsubscribe(other))
	if seen(other) || len(b.addresses.of)+len(b.addresses.counts) != 0 {
		t.Errorf("left: %v %v", b.addresses.of, b.addresses.counts)
	}
}

// TestLearnOnce: a flow whose server port is unknown becomes one flow, though first packets come
// from two ports on two processors.
func TestLearnOnce(t *testing.T) {
	for range 20 {
		b := newBench(t)
		must(t, b.Subscribe(benchUE))
		any := Flow{benchFlow(1).Terminal, netip.AddrPortFrom(benchMS, 0)}
		must(t, b.WatchFlow(MediaFlow{Flow: any, PT: []byte{96}}))
		var all sync.WaitGroup
		for port := range uint16(2) {
			raw := udpFrame(t, netip.AddrPortFrom(benchMS, 5000+port), any.Terminal, packet(t, 96, 1, 2, 3))
			all.Go(func() {
				if _, err := b.kernel.program(progLANOut, false).Run(&ebpf.RunOptions{Data: raw, Repeat: 100}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if s := b.Stats(); s["media_learned"] != 1 || s["media_full"] != 0 || s["lan_out_rtp"] < 1 {
			t.Fatalf("counters %s", nonZero(s))
		}
		must(t, b.UnwatchFlow(any))
		var k scasFlowKey
		var m scasMedia
		if b.kernel.m("media_flows").Iterate().Next(&k, &m) {
			t.Fatalf("left: %v", flowOf(&k))
		}
		must(t, b.Close())
	}
}

// TestWANHookOnDemand: the WAN hook is there while a terminal is armed or a leg exists.
func TestWANHookOnDemand(t *testing.T) {
	for _, clsact := range []bool{false, true} {
		t.Run(map[bool]string{false: "auto", true: "clsact"}[clsact], func(t *testing.T) {
			l := newLab(t)
			cfg := l.config()
			cfg.Attach = attachBy(clsact)
			g := l.open(cfg)
			ue := netip.MustParseAddr(ueIP[0])
			must(t, g.Subscribe(ue))
			hooked := func() bool {
				for _, line := range l.gw.state() {
					if strings.HasPrefix(line, "tcx wan0") && !strings.HasSuffix(line, " 0") || strings.Contains(line, "filter wan0") {
						return true
					}
				}
				return false
			}
			if hooked() {
				t.Error("hooked before anything is steered")
			}
			leg := Flow{netip.AddrPortFrom(ue, 40000), netip.MustParseAddrPort(msIP[0] + ":554")}
			for _, c := range []struct {
				on, off func() error
			}{
				{func() error { return g.Arm(ue) }, func() error { return g.Disarm(ue) }},
				{func() error { return g.AddLeg(leg) }, func() error { return g.RemoveLeg(leg) }},
			} {
				must(t, c.on())
				must(t, g.reap(newReaper(), time.Now()))
				if !hooked() {
					t.Error("not hooked")
				}
				must(t, c.off())
				must(t, g.reap(newReaper(), time.Now().Add(2*legLinger)))
				if hooked() {
					t.Error("still hooked")
				}
			}
			must(t, g.Close())
		})
	}
}
