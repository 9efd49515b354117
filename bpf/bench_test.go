package bpf

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket/layers"
)

// BenchmarkPrograms prints what one packet costs in each program, by kind of packet: the kernel's
// own measure over many runs of the same frame. "x-empty" is the ratio to a program that does
// nothing, "x-stranger" to the packet of a terminal that is not subscribed, measured in this run.
func BenchmarkPrograms(b *testing.B) {
	g := newBench(b)
	must(b, g.Subscribe(benchUE))
	must(b, g.Subscribe(benchU6))
	media := benchFlow(5000)
	media6 := Flow{netip.AddrPortFrom(benchU6, 40000), netip.AddrPortFrom(benchM6, 5000)}
	for _, f := range []Flow{media, media6} {
		must(b, g.WatchFlow(MediaFlow{Flow: f, PT: []byte{96}, ClockRate: 90000}))
	}
	for i := range 1000 { // the maps of a busy gateway
		a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		must(b, g.Subscribe(a))
		must(b, g.WatchFlow(MediaFlow{Flow: Flow{netip.AddrPortFrom(a, 40000), media.Server}}))
	}
	walked, inFrame := walkedFlow(b, g)
	quiet := benchFlow(8554)
	g.tcp(segment{flow: quiet, flags: FlagSYN, seq: 1})
	g.drain()
	stranger, stranger6 := netip.MustParseAddrPort("10.0.9.9:40000"), netip.MustParseAddrPort("[2001:db8:7::7]:40000")
	rtpPacket := append(packet(b, 96, 1, 2, 3), make([]byte, 1200)...)
	ts := []layers.TCPOption{{OptionType: 1}, {OptionType: 1}, {OptionType: 8, OptionLength: 10, OptionData: make([]byte, 8)}}
	empty, err := emptyProgram()
	must(b, err)
	defer empty.Close()
	prog := func(name string) *ebpf.Program { return g.kernel.program(name, false) }
	down := func(f Flow, payload []byte) []byte { return udpFrame(b, f.Server, f.Terminal, payload) }

	var zero, base float64
	for _, c := range []struct {
		name  string
		prog  *ebpf.Program
		frame []byte
	}{
		{"empty", empty, down(media, rtpPacket)},
		{"stranger in", prog(progLANIn), udpFrame(b, stranger, media.Server, rtpPacket)},
		{"stranger out", prog(progLANOut), udpFrame(b, media.Server, stranger, rtpPacket)},
		{"stranger in IPv6", prog(progLANIn), udpFrame(b, stranger6, media6.Server, rtpPacket)},
		{"other TCP in", prog(progLANIn), segment{flow: benchFlow(443)}.frame(b)},
		{"other TCP out", prog(progLANOut), segment{flow: benchFlow(443), dir: ToTerminal, payload: rtpPacket}.frame(b)},
		{"other UDP in", prog(progLANIn), udpFrame(b, media.Terminal, netip.AddrPortFrom(benchMS, 443), rtpPacket)},
		{"other UDP out", prog(progLANOut), udpFrame(b, netip.AddrPortFrom(benchMS, 443), media.Terminal, rtpPacket)},
		{"QUIC out", prog(progLANOut), udpFrame(b, netip.AddrPortFrom(benchMS, 443), media.Terminal, append([]byte{0x4f}, rtpPacket...))},
		{"RTP out", prog(progLANOut), down(media, rtpPacket)},
		{"RTP out IPv6", prog(progLANOut), down(media6, rtpPacket)},
		{"TCP ACK in", prog(progLANIn), segment{flow: quiet, seq: 2, ack: 1, options: ts}.frame(b)},
		{"TCP data out, not copied", prog(progLANOut), segment{flow: quiet, dir: ToTerminal, seq: 1, payload: rtpPacket, options: ts}.frame(b)},
		{"TCP data out, walked", prog(progLANOut), segment{flow: walked, dir: ToTerminal, seq: inFrame, payload: rtpPacket, options: ts}.frame(b)},
		{"WAN without legs", prog(progWANIn), down(media, rtpPacket)},
	} {
		b.Run(c.name, func(b *testing.B) {
			ns := perRun(b, c.prog, c.frame)
			switch c.name {
			case "empty":
				zero = ns
			case "stranger in":
				base = ns
			}
			b.ReportMetric(ns, "ns/packet")
			b.ReportMetric(ns/zero, "x-empty")
			if base > 0 {
				b.ReportMetric((ns-zero)/(base-zero), "x-stranger")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// perRun is the least of several averages: what disturbs only adds.
func perRun(b *testing.B, prog *ebpf.Program, frame []byte) float64 {
	best := time.Duration(1 << 62)
	const repeat = 200_000
	for range 7 {
		_, d, err := prog.Benchmark(frame, repeat, nil)
		must(b, err)
		best = min(best, d)
	}
	return float64(best.Nanoseconds())
}

// walkedFlow returns a connection whose walk is in step inside a large frame, and a sequence number
// in its middle.
func walkedFlow(b *testing.B, g *bench) (Flow, uint32) {
	f := g.startWalk(0, streamChannels)
	body := packet(b, 96, 1, 2, 0xabcd00)
	head := append([]byte{'$', 0, 0xff, 0xff}, body...)
	g.tcp(segment{flow: f, dir: ToTerminal, seq: 1, payload: append(head, bytes.Repeat([]byte{1}, 1000)...)})
	if s, _ := g.TCPStats(f); !s.InStep || s.NextFrame != 1+4+0xffff {
		b.Fatalf("record %+v", s)
	}
	return f, 1 + 1024
}
