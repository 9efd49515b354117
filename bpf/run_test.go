package bpf

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/pion/rtcp"
)

// bench is a gateway without devices: its programs are run on frames by hand.
type bench struct {
	tb testing.TB
	*Gateway
}

func newBench(tb testing.TB, change ...func(*Config)) *bench {
	tb.Helper()
	root(tb)
	cfg := DefaultConfig()
	cfg.LAN, cfg.WAN = []string{"lan0"}, []string{"wan0"}
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	cfg.SampleInterval = time.Minute // no samples but those with a reason
	for _, f := range change {
		f(&cfg)
	}
	g := newGateway(cfg)
	must(tb, g.load(false))
	tb.Cleanup(func() { must(tb, g.Close()) })
	return &bench{tb, g}
}

// run sends one frame through a program: its verdict.
func (b *bench) run(prog string, frame []byte) int32 {
	b.tb.Helper()
	v, err := b.kernel.program(prog, false).Run(&ebpf.RunOptions{Data: frame})
	must(b.tb, err)
	return int32(v)
}

// The bench's terminal and server.
var (
	benchUE = netip.MustParseAddr("10.0.0.2")
	benchMS = netip.MustParseAddr("192.0.2.9")
	benchU6 = netip.MustParseAddr("2001:db8:1::2")
	benchM6 = netip.MustParseAddr("2001:db8:9::9")
)

// frame puts layers on Ethernet; the first one says which type.
func frame(tb testing.TB, ls ...gopacket.SerializableLayer) []byte {
	tb.Helper()
	eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6)}
	switch ls[0].(type) {
	case *layers.IPv4:
		eth.EthernetType = layers.EthernetTypeIPv4
	case *layers.IPv6:
		eth.EthernetType = layers.EthernetTypeIPv6
	case *layers.Dot1Q:
		eth.EthernetType = layers.EthernetTypeDot1Q
	case *layers.ARP:
		eth.EthernetType = layers.EthernetTypeARP
	}
	buf := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true}
	must(tb, gopacket.SerializeLayers(buf, opts, append([]gopacket.SerializableLayer{eth}, ls...)...))
	return buf.Bytes()
}

// network returns the IP header between two addresses.
func network(src, dst netip.Addr, proto layers.IPProtocol) gopacket.SerializableLayer {
	if src.Is4() {
		return &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
}

func udpFrame(tb testing.TB, src, dst netip.AddrPort, payload []byte) []byte {
	return frame(tb, network(src.Addr(), dst.Addr(), layers.IPProtocolUDP),
		&layers.UDP{SrcPort: layers.UDPPort(src.Port()), DstPort: layers.UDPPort(dst.Port())}, gopacket.Payload(payload))
}

// segment is a TCP segment to be sent through a program.
type segment struct {
	flow    Flow
	dir     Dir
	seq     uint32
	ack     uint32
	flags   uint8
	payload []byte
	options []layers.TCPOption
}

func (s segment) frame(tb testing.TB) []byte {
	src, dst := s.flow.Terminal, s.flow.Server
	if s.dir == ToTerminal {
		src, dst = dst, src
	}
	flags := s.flags
	if flags == 0 {
		flags = FlagACK
	}
	return frame(tb, network(src.Addr(), dst.Addr(), layers.IPProtocolTCP), &layers.TCP{
		SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()), Seq: s.seq, Ack: s.ack, Window: 512,
		FIN: flags&FlagFIN != 0, SYN: flags&FlagSYN != 0, RST: flags&FlagRST != 0, PSH: flags&FlagPSH != 0,
		ACK: flags&FlagACK != 0, Options: s.options,
	}, gopacket.Payload(s.payload))
}

// tcp sends a segment through the hook of its direction.
func (b *bench) tcp(s segment) int32 {
	b.tb.Helper()
	prog := progLANIn
	if s.dir == ToTerminal {
		prog = progLANOut
	}
	return b.run(prog, s.frame(b.tb))
}

// drain returns the events that wait.
func (b *bench) drain() (evs []Event) {
	b.tb.Helper()
	for b.events.ring.AvailableBytes() > 0 {
		evs = append(evs, next(b.tb, b.Gateway, "event", func(*Event) bool { return true }))
	}
	return evs
}

func benchFlow(port uint16) Flow {
	return Flow{Terminal: netip.AddrPortFrom(benchUE, 40000), Server: netip.AddrPortFrom(benchMS, port)}
}

// outcomeCase is one frame and how it leaves a hook.
type outcomeCase struct {
	name, prog, want string
	frame            []byte
	verdict          int32
}

const (
	pass = -1
	drop = 2
)

// TestOutcomes: each frame leaves by the way it should, is counted once, and is not changed.
func TestOutcomes(t *testing.T) {
	b := newBench(t)
	must(t, b.Subscribe(benchUE))
	must(t, b.Subscribe(benchU6))
	media := benchFlow(5000)
	must(t, b.WatchFlow(MediaFlow{Flow: media, PT: []byte{96}}))
	must(t, b.WatchFlow(MediaFlow{Flow: Flow{netip.AddrPortFrom(benchU6, 40000), netip.AddrPortFrom(benchM6, 5000)}, PT: []byte{96}}))
	cut := benchFlow(5002)
	must(t, b.CutFlow(UDP, cut, CutToTerminal, time.Hour))
	for _, c := range append(ipv4Cases(t, media, cut), ipv6Cases(t)...) {
		t.Run(c.name, func(t *testing.T) {
			before := b.Stats()
			if got := b.run(c.prog, c.frame); got != c.verdict {
				t.Errorf("verdict %d, want %d", got, c.verdict)
			}
			after := b.Stats()
			for name := range after {
				if d := after[name] - before[name]; (name == c.prog+"_"+c.want) != (d == 1) && isOutcome(name) {
					t.Errorf("%s went up by %d, want 1 for %s only", name, d, c.want)
				}
			}
		})
	}
}

func isOutcome(name string) bool {
	for _, prog := range []string{progLANIn, progLANOut, progWANIn} {
		if len(name) > len(prog) && name[:len(prog)+1] == prog+"_" {
			return true
		}
	}
	return false
}

func ipv4Cases(t *testing.T, media, cut Flow) []outcomeCase {
	up := func(port uint16, payload string) []byte {
		return udpFrame(t, media.Terminal, netip.AddrPortFrom(benchMS, port), []byte(payload))
	}
	down := func(f Flow, payload []byte) []byte { return udpFrame(t, f.Server, f.Terminal, payload) }
	tcp := func(port uint16) []byte { return segment{flow: benchFlow(port), flags: FlagSYN}.frame(t) }
	rtpPacket := packet(t, 96, 1, 2, 3)
	tagged := func(n int) []byte {
		var ls []gopacket.SerializableLayer
		for i := range n {
			typ := layers.EthernetTypeDot1Q
			if i == n-1 {
				typ = layers.EthernetTypeIPv4
			}
			ls = append(ls, &layers.Dot1Q{VLANIdentifier: uint16(100 + i), Type: typ})
		}
		return frame(t, append(ls, network(benchMS, benchUE, layers.IPProtocolUDP), &layers.UDP{SrcPort: 5000, DstPort: 40000}, gopacket.Payload(rtpPacket))...)
	}
	withOptions := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: benchMS.AsSlice(), DstIP: benchUE.AsSlice(),
		Options: []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}}
	fragment := func(off uint16) []byte {
		ip := network(benchMS, benchUE, layers.IPProtocolUDP).(*layers.IPv4)
		ip.FragOffset, ip.Flags = off, layers.IPv4MoreFragments
		return frame(t, ip, &layers.UDP{SrcPort: 5000, DstPort: 40000}, gopacket.Payload(rtpPacket))
	}
	cutShort := segment{flow: benchFlow(554), flags: FlagSYN}.frame(t)[:14+20+10]
	badHeader := segment{flow: benchFlow(554), flags: FlagSYN}.frame(t)
	badHeader[14+20+12] = 0x40 // TCP header of 16 bytes
	arp := frame(t, &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		SourceHwAddress: make([]byte, 6), SourceProtAddress: make([]byte, 4), DstHwAddress: make([]byte, 6), DstProtAddress: make([]byte, 4)})
	rr := report(t, &rtcp.ReceiverReport{SSRC: 1})
	stranger := udpFrame(t, netip.MustParseAddrPort("10.0.0.3:1"), netip.MustParseAddrPort("192.0.2.9:554"), nil)
	return []outcomeCase{
		{"ARP", progLANIn, "not_ip", arp, pass},
		{"stranger", progLANIn, "stranger", stranger, pass},
		{"stranger down", progLANOut, "stranger", stranger, pass},
		{"ICMP", progLANIn, "other_protocol", frame(t, network(benchUE, benchMS, layers.IPProtocolICMPv4), gopacket.Payload(make([]byte, 8))), pass},
		{"HTTPS", progLANIn, "other_tcp", tcp(443), pass},
		{"RTSP", progLANIn, "tcp", tcp(554), pass},
		{"RTSP on the last port of the list", progLANIn, "tcp", tcp(8554), pass},
		{"port beside the service", progLANIn, "other_tcp", tcp(555), pass},
		{"TCP cut short", progLANIn, "malformed", cutShort, pass},
		{"TCP header too short", progLANIn, "malformed", badHeader, pass},
		{"DNS", progLANIn, "other_udp", up(53, "query"), pass},
		{"media", progLANOut, "rtp", down(media, rtpPacket), pass},
		{"other payload type", progLANOut, "media_other", down(media, packet(t, 97, 1, 2, 3)), pass},
		{"not RTP", progLANOut, "other_udp", down(media, []byte("something else")), pass},
		{"empty datagram", progLANOut, "other_udp", down(media, nil), pass},
		{"RTCP mixed in", progLANOut, "rtcp", down(media, rr), pass},
		{"RTCP back", progLANIn, "rtcp", up(5000, string(rr)), pass},
		{"hole punching", progLANIn, "other_udp", up(5000, "\xce\xfa\xed\xfe hello"), pass},
		{"version 2 from the terminal", progLANIn, "media_other", up(5000, string(rtpPacket)), pass},
		{"VLAN", progLANOut, "rtp", tagged(1), pass},
		{"QinQ", progLANOut, "rtp", tagged(2), pass},
		{"three tags", progLANOut, "not_ip", tagged(3), pass},
		{"IP options", progLANOut, "rtp", frame(t, withOptions, &layers.UDP{SrcPort: 5000, DstPort: 40000}, gopacket.Payload(rtpPacket)), pass},
		{"first fragment", progLANOut, "rtp", fragment(0), pass},
		{"later fragment", progLANOut, "later_fragment", fragment(64), pass},
		{"cut", progLANOut, "cut", down(cut, rtpPacket), drop},
		{"cut, other direction", progLANIn, "other_udp", up(5002, "x"), pass},
		{"WAN without legs", progWANIn, "no_legs", down(media, rtpPacket), pass},
	}
}

func ipv6Cases(t *testing.T) []outcomeCase {
	rtpPacket := packet(t, 96, 1, 2, 3)
	udp := &layers.UDP{SrcPort: 5000, DstPort: 40000}
	ip := func(next layers.IPProtocol) gopacket.SerializableLayer { return network(benchM6, benchU6, next) }
	// An extension header of 8 bytes that leads to the next protocol.
	ext := func(next layers.IPProtocol, tail ...byte) gopacket.Payload {
		return append(gopacket.Payload{byte(next), 0, 0, 0, 0, 0, 0, 0}[:8-len(tail)], tail...)
	}
	body := append([]byte{0x13, 0x88, 0x9c, 0x40, 0, byte(8 + len(rtpPacket)), 0, 0}, rtpPacket...) // ports 5000, 40000
	chain := func(first layers.IPProtocol, exts ...gopacket.Payload) []byte {
		ls := []gopacket.SerializableLayer{ip(first)}
		var all gopacket.Payload
		for _, e := range exts {
			all = append(all, e...)
		}
		return frame(t, append(ls, append(all, body...))...)
	}
	const hop, dst, frag, udpProto = layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Destination, layers.IPProtocolIPv6Fragment, layers.IPProtocolUDP
	neighbour := network(netip.MustParseAddr("2001:db8:1::99"), benchM6, layers.IPProtocolTCP)
	return []outcomeCase{
		{"v6 media", progLANOut, "rtp", frame(t, ip(udpProto), udp, gopacket.Payload(rtpPacket)), pass},
		{"v6 stranger", progLANOut, "stranger", frame(t, network(benchU6, benchM6, udpProto), udp), pass},
		{"v6 same prefix", progLANIn, "other_tcp", frame(t, neighbour, &layers.TCP{SrcPort: 1, DstPort: 443, SYN: true}), pass},
		{"v6 options", progLANOut, "rtp", chain(hop, ext(dst), ext(udpProto)), pass},
		{"v6 first fragment", progLANOut, "rtp", chain(frag, gopacket.Payload{byte(udpProto), 0, 0, 1, 0, 0, 0, 1}), pass},
		{"v6 later fragment", progLANOut, "later_fragment", chain(frag, gopacket.Payload{byte(udpProto), 0, 1, 1, 0, 0, 0, 1}), pass},
		{"v6 too many headers", progLANOut, "unknown_extension", chain(dst, ext(dst), ext(dst), ext(dst), ext(dst), ext(dst), ext(udpProto)), pass},
		{"v6 ESP", progLANOut, "other_protocol", chain(layers.IPProtocolESP), pass},
	}
}

// TestOwnPackets: a packet with our mark passes a cut, and is nobody's to count.
func TestOwnPackets(t *testing.T) {
	b := newBench(t)
	must(t, b.Subscribe(benchUE))
	f := benchFlow(5000)
	must(t, b.WatchFlow(MediaFlow{Flow: f}))
	must(t, b.CutFlow(UDP, f, CutBoth, time.Hour))
	raw := udpFrame(t, f.Server, f.Terminal, packet(t, 96, 1, 2, 3))
	// The first members of struct __sk_buff.
	ctx := struct{ Len, PktType, Mark uint32 }{Mark: b.cfg.Mark | 7}
	v, err := b.kernel.program(progLANOut, false).Run(&ebpf.RunOptions{Data: raw, Context: ctx})
	must(t, err)
	if int32(v) != pass {
		t.Errorf("verdict %d of our own packet", int32(v))
	}
	if got := b.run(progLANOut, raw); got != drop {
		t.Errorf("verdict %d of the server's packet", got)
	}
	if s := b.Stats(); s["lan_out_own"] != 1 || s["lan_out_cut"] != 1 {
		t.Errorf("counters %s", nonZero(s))
	}
	if s, _ := b.MediaStats(f); s.Packets != 1 {
		t.Errorf("%d packets, want 1: a cut flow is counted", s.Packets)
	}
	must(t, b.UncutFlow(UDP, f))
	if got := b.run(progLANOut, raw); got != pass {
		t.Errorf("verdict %d after UncutFlow", got)
	}
}
