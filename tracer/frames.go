package tracer

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"scas/bpf"
	"scas/tracer/mms"
)

// frames decodes link-layer frames and feeds a Decoder: what the sources that see whole
// frames share. It allocates nothing per frame. Not safe for concurrent use.
type frames struct {
	d       *Decoder
	link    layers.LinkType // of the frame that comes
	parsers map[gopacket.LayerType]*gopacket.DecodingLayerParser
	eth     layers.Ethernet
	sll     layers.LinuxSLL
	loop    layers.Loopback
	vlan    layers.Dot1Q
	pppoe   pppoe
	ppp     ppp
	mpls    mpls
	ip4     layers.IPv4
	ip6     layers.IPv6
	ext6    extension6
	frag6   fragment6
	tcp     layers.TCP
	udp     layers.UDP
	payload gopacket.Payload
	seen    []gopacket.LayerType

	// What takes the segments and datagrams: the Decoder's methods.
	each     func(Segment)
	datagram func(Datagram)
}

// newFrames returns a decoder of frames of a link type.
func newFrames(d *Decoder, link layers.LinkType) *frames {
	return &frames{
		d: d, link: link, each: d.Segment, datagram: d.Datagram, ext6: newExtension6(),
		parsers: map[gopacket.LayerType]*gopacket.DecodingLayerParser{},
	}
}

// parser returns the parser of frames that begin with a layer.
func (f *frames) parser(first gopacket.LayerType) *gopacket.DecodingLayerParser {
	p, ok := f.parsers[first]
	if !ok {
		p = gopacket.NewDecodingLayerParser(first, &f.eth, &f.sll, &f.loop, &f.vlan, &f.pppoe, &f.ppp, &f.mpls,
			&f.ip4, &f.ip6, &f.ext6, &f.frag6, &f.tcp, &f.udp, &f.payload)
		p.IgnoreUnsupported = true
		f.parsers[first] = p
	}
	return p
}

// frame takes one frame captured at a time. What is neither TCP nor UDP is passed over; of a packet in
// fragments the first one is read.
func (f *frames) frame(b []byte, at time.Time) {
	st := &f.d.stats
	st.Packets++
	st.Bytes += uint64(len(b))
	first, b := outermost(f.link, b)
	if err := f.parser(first).DecodeLayers(b, &f.seen); err != nil {
		st.Undecoded++
		return
	}
	var src, dst netip.Addr
	for _, l := range f.seen {
		switch l {
		case layers.LayerTypeIPv4:
			src, _ = netip.AddrFromSlice(f.ip4.SrcIP)
			dst, _ = netip.AddrFromSlice(f.ip4.DstIP)
			f.fragment4(src, dst, at)
		case layers.LayerTypeIPv6:
			src, _ = netip.AddrFromSlice(f.ip6.SrcIP)
			dst, _ = netip.AddrFromSlice(f.ip6.DstIP)
		case layers.LayerTypeIPv6Fragment:
			if f.frag6.later {
				st.Fragments++
			}
		case layers.LayerTypeTCP:
			f.segment(src, dst, at)
		case layers.LayerTypeUDP:
			f.packet(src, dst, at)
		}
	}
	if !src.IsValid() {
		st.NotIP++
	}
}

// fragment4 reads the first fragment of an IPv4 packet, which gopacket leaves undecoded.
func (f *frames) fragment4(src, dst netip.Addr, at time.Time) {
	switch {
	case f.ip4.FragOffset != 0:
		f.d.stats.Fragments++
	case f.ip4.Flags&layers.IPv4MoreFragments == 0:
	case f.ip4.Protocol == layers.IPProtocolTCP && f.tcp.DecodeFromBytes(f.ip4.Payload, gopacket.NilDecodeFeedback) == nil:
		f.segment(src, dst, at)
	case f.ip4.Protocol == layers.IPProtocolUDP && f.udp.DecodeFromBytes(f.ip4.Payload, gopacket.NilDecodeFeedback) == nil:
		f.packet(src, dst, at)
	}
}

func (f *frames) segment(from, to netip.Addr, at time.Time) {
	t := &f.tcp
	src, dst := netip.AddrPortFrom(from, uint16(t.SrcPort)), netip.AddrPortFrom(to, uint16(t.DstPort))
	s := Segment{Seq: t.Seq, Ack: t.Ack, Payload: t.Payload, At: at}
	for _, x := range []struct {
		on   bool
		flag uint8
	}{{t.FIN, FIN}, {t.SYN, SYN}, {t.RST, RST}, {t.ACK, ACK}} {
		if x.on {
			s.Flags |= x.flag
		}
	}
	var ok bool
	if s.Flow, s.Dir, ok = f.d.side(src, dst, s.Flags, s.Payload); ok {
		f.each(s)
	}
}

// side tells which end of a TCP connection is the terminal: the one that opened it, the one
// that does not have a service port, or, in the middle of a connection on any port, the one
// that sends requests.
func (d *Decoder) side(src, dst netip.AddrPort, flags uint8, payload []byte) (bpf.Flow, bpf.Dir, bool) {
	out, in := bpf.Flow{Terminal: src, Server: dst}, bpf.Flow{Terminal: dst, Server: src}
	_, toService := d.cfg.Services[dst.Port()]
	_, fromService := d.cfg.Services[src.Port()]
	switch {
	case flags&(SYN|ACK) == SYN && (d.cfg.AnyPort || toService):
		return out, bpf.ToServer, true
	case d.conns[out] != nil:
		return out, bpf.ToServer, true
	case d.conns[in] != nil:
		return in, bpf.ToTerminal, true
	case toService:
		return out, bpf.ToServer, true
	case fromService:
		return in, bpf.ToTerminal, true
	case !d.cfg.AnyPort:
	case bytes.Contains(payload, []byte(" RTSP/")), looksMMSH(payload) == yes:
		return out, bpf.ToServer, true
	case bytes.HasPrefix(payload, []byte("RTSP/")):
		return in, bpf.ToTerminal, true
	default:
		switch way, ok := mms.MessageDir(payload); {
		case ok && way == mms.ToServer:
			return out, bpf.ToServer, true
		case ok:
			return in, bpf.ToTerminal, true
		}
	}
	return bpf.Flow{}, 0, false
}

// packet takes one UDP packet of which it is not known who is the terminal.
func (f *frames) packet(from, to netip.Addr, at time.Time) {
	d, payload := f.d, f.udp.Payload
	src, dst := netip.AddrPortFrom(from, uint16(f.udp.SrcPort)), netip.AddrPortFrom(to, uint16(f.udp.DstPort))
	in := bpf.Flow{Terminal: dst, Server: src}
	if _, ok := d.media[in]; ok || len(d.learning) > 0 {
		f.datagram(Datagram{Flow: in, Dir: bpf.ToTerminal, Payload: payload, At: at})
		if ok {
			return
		}
	}
	out := bpf.Flow{Terminal: src, Server: dst}
	if _, ok := d.media[out]; ok {
		f.datagram(Datagram{Flow: out, Dir: bpf.ToServer, Payload: payload, At: at})
	}
}
