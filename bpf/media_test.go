package bpf

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"golang.org/x/sys/unix"
)

// packet returns an RTP packet with 40 bytes of payload.
func packet(tb testing.TB, pt uint8, seq uint16, rtptime, ssrc uint32) []byte {
	tb.Helper()
	p := rtp.Packet{
		Header:  rtp.Header{Version: 2, PayloadType: pt, SequenceNumber: seq, Timestamp: rtptime, SSRC: ssrc},
		Payload: bytes.Repeat([]byte{0xa5}, 40),
	}
	b, err := p.Marshal()
	must(tb, err)
	return b
}

func report(tb testing.TB, p rtcp.Packet) []byte {
	tb.Helper()
	b, err := p.Marshal()
	must(tb, err)
	return b
}

// mediaPair opens the terminal's and the server's UDP socket.
func (l *lab) mediaPair(family, uePort, msPort int) (ue, ms *net.UDPConn, f Flow) {
	u := netip.AddrPortFrom(netip.MustParseAddr(ueIP[family]), uint16(uePort))
	m := netip.AddrPortFrom(netip.MustParseAddr(msIP[family]), uint16(msPort))
	return l.ue.udp(u.String()), l.ms.udp(m.String()), Flow{Terminal: u, Server: m}
}

// deliver sends a datagram and waits for it at the other end.
func deliver(tb testing.TB, from, to *net.UDPConn, b []byte) {
	tb.Helper()
	_, err := from.WriteToUDPAddrPort(b, addrPort(to.LocalAddr()))
	must(tb, err)
	receive(tb, to, len(b))
}

// TestMediaFlow sends RTP and RTCP over real sockets through the gateway.
func TestMediaFlow(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		l := newLab(t)
		g := l.open(l.config())
		ue, ms, f := l.mediaPair(family, 40000, 50000)
		ueC, msC, fC := l.mediaPair(family, 40001, 50001)
		must(t, g.Subscribe(f.Terminal.Addr()))
		must(t, g.WatchFlow(MediaFlow{Flow: f, PT: []byte{96}, ClockRate: 90000}))
		must(t, g.WatchFlow(MediaFlow{Flow: fC, RTCP: true}))

		for i := range 10 { // wraps after the fifth
			deliver(t, ms, ue, packet(t, 96, uint16(65531+i), uint32(0xffffff00+100*i), 7))
		}
		e := next(t, g, "first sample", func(*Event) bool { return true })
		var p rtp.Packet
		if e.Kind != EventRTP || e.Flow != f || e.Dir != ToTerminal || p.Unmarshal(e.Payload) != nil ||
			p.SequenceNumber != 65531 || e.Length != 52 {
			t.Errorf("sample %+v, packet %+v", e, p.Header)
		}
		s, ok := g.MediaStats(f)
		if !ok || s.ExtSeq != 65540 || s.RTPTime != 0xffffff00+900-1<<32 || s.MaxRTPTime != s.RTPTime || s.SSRC != 7 ||
			s.PT != 96 || s.Packets != 10 || s.Bytes != 520 || s.Lost != 0 || s.FirstSeq != 65531 ||
			s.FirstRTPTime != 0xffffff00 || s.Server != 50000 || s.Lossy {
			t.Errorf("record %+v", s)
		}

		must(t, g.Reset(f))
		deliver(t, ms, ue, packet(t, 96, 9, 5_000_000, 7))
		e = next(t, g, "sample after reset", func(e *Event) bool { return e.Kind == EventRTP })
		if p.Unmarshal(e.Payload) != nil || p.SequenceNumber != 9 {
			t.Errorf("packet %+v", p.Header)
		}
		if s, _ = g.MediaStats(f); s.FirstSeq != 9 || s.FirstRTPTime != 5_000_000 || s.Lost != 4 {
			t.Errorf("record %+v", s)
		}

		sr := report(t, &rtcp.SenderReport{SSRC: 7, RTPTime: 5_000_000})
		rr := report(t, &rtcp.ReceiverReport{SSRC: 8, Reports: []rtcp.ReceptionReport{{SSRC: 7}}})
		deliver(t, msC, ueC, sr)
		deliver(t, ueC, msC, rr)
		for range 2 {
			e := next(t, g, "RTCP", func(e *Event) bool { return e.Kind == EventRTCP })
			want := map[Dir][]byte{ToTerminal: sr, ToServer: rr}[e.Dir]
			if e.Flow != fC || !bytes.Equal(e.Payload, want) || e.Length != len(want) {
				t.Errorf("RTCP event %+v, want %x", e, want)
			}
		}
		if s, _ := g.MediaStats(fC); s.RTCPToServer != 1 || s.RTCPToTerm != 1 || s.Packets != 0 {
			t.Errorf("RTCP record %+v", s)
		}

		must(t, g.UnwatchFlow(f))
		if _, ok := g.MediaStats(f); ok {
			t.Error("record after UnwatchFlow")
		}
		deliver(t, ms, ue, packet(t, 96, 10, 5_000_100, 7))
		if n := g.Stats()["lan_out_other_udp"]; n != 1 {
			t.Errorf("%d packets of no flow, want 1", n)
		}
	})
}

// TestLearn finds the server's port by the first packet that fits.
func TestLearn(t *testing.T) {
	l := newLab(t)
	g := l.open(l.config())
	ue, ms, f := l.mediaPair(0, 40000, 50000)
	must(t, g.Subscribe(f.Terminal.Addr()))
	unknown := Flow{f.Terminal, netip.AddrPortFrom(f.Server.Addr(), 0)}
	must(t, g.WatchFlow(MediaFlow{Flow: unknown, PT: []byte{96}}))

	deliver(t, ms, ue, []byte("no RTP at all"))
	deliver(t, ms, ue, packet(t, 97, 1, 0, 7))
	if s, ok := g.MediaStats(unknown); !ok || s.Server != 0 || s.HaveMedia {
		t.Errorf("record %+v, %v", s, ok)
	}
	deliver(t, ms, ue, packet(t, 96, 2, 100, 7))
	deliver(t, ms, ue, packet(t, 96, 3, 200, 7))
	for _, name := range []Flow{unknown, f} {
		if s, ok := g.MediaStats(name); !ok || s.Server != 50000 || s.Packets != 2 || s.FirstSeq != 2 {
			t.Errorf("record of %v: %+v, %v", name, s, ok)
		}
	}
	e := next(t, g, "sample", func(*Event) bool { return true })
	if e.Flow != f {
		t.Errorf("event of %v, want %v", e.Flow, f)
	}
	must(t, g.Reset(unknown))
	if s, _ := g.MediaStats(f); s.HaveFirst {
		t.Error("reset of the pattern did not reach the flow")
	}
	must(t, g.UnwatchFlow(unknown))
	if _, ok := g.MediaStats(f); ok {
		t.Error("the learned flow outlived its pattern")
	}
}

// TestWatchAgain starts the record anew and keeps the count of flows right.
func TestWatchAgain(t *testing.T) {
	l := newLab(t)
	g := l.open(l.config())
	ue, ms, f := l.mediaPair(0, 40000, 50000)
	must(t, g.Subscribe(f.Terminal.Addr()))
	for range 2 {
		must(t, g.WatchFlow(MediaFlow{Flow: f}))
		deliver(t, ms, ue, packet(t, 96, 1, 100, 7))
		if s, _ := g.MediaStats(f); s.Packets != 1 {
			t.Errorf("%d packets, want 1", s.Packets)
		}
	}
	must(t, g.Unsubscribe(f.Terminal.Addr()))
	deliver(t, ms, ue, packet(t, 96, 2, 100, 7))
	must(t, g.Subscribe(f.Terminal.Addr()))
	deliver(t, ms, ue, packet(t, 96, 3, 100, 7))
	if s, _ := g.MediaStats(f); s.Packets != 2 {
		t.Errorf("%d packets, want 2: one came while nobody was subscribed", s.Packets)
	}
	must(t, g.UnwatchFlow(f))
	must(t, g.Unsubscribe(f.Terminal.Addr()))
	if len(g.terminals) != 0 {
		t.Errorf("left behind: %+v", g.terminals)
	}
}

// TestManyFlows: a full map is said, and what is in it goes on.
func TestManyFlows(t *testing.T) {
	l := newLab(t)
	cfg := l.config()
	cfg.MaxFlows = 4
	g := l.open(cfg)
	_, _, f := l.mediaPair(0, 40000, 50000)
	var last error
	for i := range 16 {
		f.Server = netip.AddrPortFrom(f.Server.Addr(), uint16(1000+i))
		if last = g.WatchFlow(MediaFlow{Flow: f}); last != nil {
			break
		}
	}
	if last == nil {
		t.Fatal("sixteen flows in a map for four")
	}
	if n := g.Stats()["media_flows"]; n == 0 || n >= 16 {
		t.Errorf("%d flows", n)
	}
}

// TestMediaMerged: datagrams that pass as one packet (UDP segmentation offload) are counted one by one.
func TestMediaMerged(t *testing.T) {
	l := newLab(t)
	g := l.open(l.config())
	ue, ms, f := l.mediaPair(0, 40000, 50000)
	must(t, g.Subscribe(f.Terminal.Addr()))
	must(t, g.WatchFlow(MediaFlow{Flow: f, PT: []byte{96}}))
	var all []byte
	for i := range 20 {
		all = append(all, packet(t, 96, uint16(100+i), uint32(i), 7)...)
	}
	size := len(all) / 20
	rc, err := ms.SyscallConn()
	must(t, err)
	must(t, rc.Control(func(fd uintptr) {
		must(t, unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size))
	}))
	_, err = ms.WriteToUDPAddrPort(all, f.Terminal)
	must(t, err)
	for range 20 {
		receive(t, ue, size)
	}
	s, _ := g.MediaStats(f)
	if s.Packets != 20 || s.ExtSeq != 119 || s.Lost != 0 || s.RTPTime != 19 || s.Bytes != uint64(len(all)) {
		t.Errorf("record %+v", s)
	}
	t.Logf("%d packets at LAN egress for 20 datagrams", g.Stats()["lan_out_rtp"])
}

// TestUnreachable: a terminal that has closed its port says so by ICMP, of its own flows only.
func TestUnreachable(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		l := newLab(t)
		g := l.open(l.config())
		ue, ms, f := l.mediaPair(family, 40000, 50000)
		ueC, msC, fC := l.mediaPair(family, 40001, 50001)
		must(t, g.Subscribe(f.Terminal.Addr()))
		must(t, g.WatchFlow(MediaFlow{Flow: f, PT: []byte{96}}))
		must(t, g.WatchFlow(MediaFlow{Flow: fC, RTCP: true}))
		deliver(t, ms, ue, packet(t, 96, 1, 100, 7))
		if s, _ := g.MediaStats(f); !s.Unreachable.IsZero() {
			t.Errorf("unreachable at %v: the terminal took it", s.Unreachable)
		}

		must(t, ueC.Close())
		must(t, ue.Close())
		_, err := msC.WriteToUDPAddrPort(report(t, &rtcp.SenderReport{SSRC: 7}), fC.Terminal)
		must(t, err)
		for size := range 3 { // the kernel quotes as much as it may: nothing of it matters but the head
			p := append(packet(t, 96, uint16(2+size), 200, 7), make([]byte, 600*size)...)
			sent := time.Now()
			eventually(t, g, "word of the terminal", func() bool {
				_, err := ms.WriteToUDPAddrPort(p, f.Terminal)
				must(t, err)
				s, _ := g.MediaStats(f)
				return s.Unreachable.After(sent)
			})
		}
		if s, _ := g.MediaStats(fC); !s.Unreachable.IsZero() {
			t.Error("RTCP counts too")
		}
		if n := g.Stats()["media_unreachable"]; n < 3 {
			t.Errorf("counted %d", n)
		}
	})
}

// TestUnreachableForged: what does not quote a flow of its sender says nothing.
func TestUnreachableForged(t *testing.T) {
	b := newBench(t)
	f := benchFlow(5000)
	must(t, b.Subscribe(f.Terminal.Addr()))
	must(t, b.WatchFlow(MediaFlow{Flow: f}))
	quote := udpFrame(t, f.Server, f.Terminal, packet(t, 96, 1, 100, 7))[14:]
	icmp := func(src netip.Addr, typ, code uint8, quote []byte) []byte {
		return frame(t, network(src, f.Server.Addr(), layers.IPProtocolICMPv4),
			&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, code)}, gopacket.Payload(quote))
	}
	other := netip.MustParseAddr("10.0.0.3")
	must(t, b.Subscribe(other))
	tcp := append([]byte(nil), quote...)
	tcp[9] = 6
	for name, raw := range map[string][]byte{
		"another terminal":     icmp(other, 3, 3, quote),
		"echo":                 icmp(benchUE, 8, 0, quote),
		"fragmentation needed": icmp(benchUE, 3, 4, quote),
		"nothing quoted":       icmp(benchUE, 3, 3, nil),
		"header cut short":     icmp(benchUE, 3, 3, quote[:19]),
		"ports cut short":      icmp(benchUE, 3, 3, quote[:24]),
		"TCP":                  icmp(benchUE, 3, 3, tcp),
	} {
		if got := b.run(progLANIn, raw); got != pass {
			t.Errorf("%s: verdict %d", name, got)
		}
		if s, _ := b.MediaStats(f); !s.Unreachable.IsZero() {
			t.Fatalf("%s: taken for the terminal's word", name)
		}
	}
	b.run(progLANIn, icmp(benchUE, 3, 13, quote[:28])) // RFC 792: the header and 8 bytes
	if s, _ := b.MediaStats(f); s.Unreachable.IsZero() {
		t.Error("not noticed")
	}
}
