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
	parser  *gopacket.DecodingLayerParser
	eth     layers.Ethernet
	sll     layers.LinuxSLL
	vlan    layers.Dot1Q
	ip4     layers.IPv4
	ip6     layers.IPv6
	tcp     layers.TCP
	udp     layers.UDP
	payload gopacket.Payload
	seen    []gopacket.LayerType

	// What takes the segments and datagrams: the Decoder's methods.
	each     func(Segment)
	datagram func(Datagram)
}

// newFrames returns a decoder of frames whose first layer is first: layers.LayerTypeEthernet,
// LayerTypeLinuxSLL, LayerTypeIPv4 or LayerTypeIPv6.
func newFrames(d *Decoder, first gopacket.LayerType) *frames {
	f := &frames{d: d, each: d.Segment, datagram: d.Datagram}
	f.parser = gopacket.NewDecodingLayerParser(first, &f.eth, &f.sll, &f.vlan, &f.ip4, &f.ip6, &f.tcp, &f.udp, &f.payload)
	f.parser.IgnoreUnsupported = true
	return f
}

// frame takes one frame captured at a time. Later IP fragments and whatever is neither TCP
// nor UDP are passed over.
func (f *frames) frame(b []byte, at time.Time) {
	f.d.stats.Packets++
	f.d.stats.Bytes += uint64(len(b))
	if err := f.parser.DecodeLayers(b, &f.seen); err != nil {
		f.d.stats.Undecoded++
		return
	}
	var src, dst netip.Addr
	for _, l := range f.seen {
		switch l {
		case layers.LayerTypeIPv4:
			if f.ip4.FragOffset != 0 {
				return
			}
			src, _ = netip.AddrFromSlice(f.ip4.SrcIP)
			dst, _ = netip.AddrFromSlice(f.ip4.DstIP)
		case layers.LayerTypeIPv6:
			src, _ = netip.AddrFromSlice(f.ip6.SrcIP)
			dst, _ = netip.AddrFromSlice(f.ip6.DstIP)
		case layers.LayerTypeTCP:
			f.segment(netip.AddrPortFrom(src, uint16(f.tcp.SrcPort)), netip.AddrPortFrom(dst, uint16(f.tcp.DstPort)), at)
		case layers.LayerTypeUDP:
			f.packet(netip.AddrPortFrom(src, uint16(f.udp.SrcPort)), netip.AddrPortFrom(dst, uint16(f.udp.DstPort)), f.udp.Payload, at)
		}
	}
}

func (f *frames) segment(src, dst netip.AddrPort, at time.Time) {
	t := &f.tcp
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
func (f *frames) packet(src, dst netip.AddrPort, payload []byte, at time.Time) {
	d := f.d
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
