package tracer

import (
	"encoding/binary"
	"errors"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// What stands before the IP header of a frame: Ethernet with tags, what Linux writes for devices without
// Ethernet, loopback, PPP, PPPoE (RFC 2516), MPLS (RFC 3032). gopacket decodes some of these only into
// packets it allocates.

// Link types that gopacket has no name for.
const (
	linkSLL2   = layers.LinkType(276 & 0xff) // gopacket keeps 8 bits; 20 itself is not assigned
	linkRawBSD = layers.LinkType(12)
	linkRawOld = layers.LinkType(14)
)

// sll2Head is the length of the header of Linux cooked captures, version 2.
const sll2Head = 20

// readable reports whether frames of a link type are read.
func readable(l layers.LinkType) bool {
	switch l {
	case layers.LinkTypeEthernet, layers.LinkTypeLinuxSLL, linkSLL2, layers.LinkTypeNull, layers.LinkTypeLoop,
		layers.LinkTypePPP, layers.LinkTypePPP_HDLC, layers.LinkTypePPPEthernet,
		layers.LinkTypeRaw, linkRawBSD, linkRawOld, layers.LinkTypeIPv4, layers.LinkTypeIPv6:
		return true
	}
	return false
}

// outermost returns the first layer of a frame, and the frame from there on; LayerTypeZero for none.
func outermost(l layers.LinkType, b []byte) (gopacket.LayerType, []byte) {
	switch l {
	case layers.LinkTypeEthernet:
		return layers.LayerTypeEthernet, b
	case layers.LinkTypeLinuxSLL:
		return layers.LayerTypeLinuxSLL, b
	case layers.LinkTypeNull, layers.LinkTypeLoop:
		return layers.LayerTypeLoopback, b
	case layers.LinkTypePPP, layers.LinkTypePPP_HDLC:
		return layers.LayerTypePPP, b
	case layers.LinkTypePPPEthernet:
		return layers.LayerTypePPPoE, b
	case linkSLL2:
		if len(b) < sll2Head {
			break
		}
		return layers.EthernetType(binary.BigEndian.Uint16(b)).LayerType(), b[sll2Head:]
	case layers.LinkTypeRaw, linkRawBSD, linkRawOld, layers.LinkTypeIPv4, layers.LinkTypeIPv6:
		return ipLayer(b), b
	}
	return gopacket.LayerTypeZero, b
}

// ipLayer tells the version of an IP packet.
func ipLayer(b []byte) gopacket.LayerType {
	switch {
	case len(b) > 0 && b[0]>>4 == 4:
		return layers.LayerTypeIPv4
	case len(b) > 0 && b[0]>>4 == 6:
		return layers.LayerTypeIPv6
	}
	return gopacket.LayerTypeZero
}

var errShort = errors.New("header cut short")

// pppoe decodes the header of PPPoE; of discovery nothing comes next.
type pppoe struct {
	layers.BaseLayer
	session bool
}

func (*pppoe) CanDecode() gopacket.LayerClass { return layers.LayerTypePPPoE }

func (p *pppoe) DecodeFromBytes(b []byte, _ gopacket.DecodeFeedback) error {
	const head = 6
	if len(b) < head {
		return errShort
	}
	p.session = b[0] == 0x11 && b[1] == 0
	p.BaseLayer = layers.BaseLayer{Contents: b[:head], Payload: b[head:min(head+int(binary.BigEndian.Uint16(b[4:])), len(b))]}
	return nil
}

func (p *pppoe) NextLayerType() gopacket.LayerType {
	if !p.session {
		return gopacket.LayerTypeZero
	}
	return layers.LayerTypePPP
}

// ppp decodes the header of PPP: address and control, if there, and the protocol, one byte or two
// (RFC 1661 §2, RFC 1662 §3.1).
type ppp struct {
	layers.BaseLayer
	protocol uint16
}

func (*ppp) CanDecode() gopacket.LayerClass { return layers.LayerTypePPP }

func (p *ppp) DecodeFromBytes(b []byte, _ gopacket.DecodeFeedback) error {
	n := 0
	if len(b) > 2 && b[0] == 0xff && b[1] == 0x03 {
		n = 2
	}
	switch {
	case len(b) > n && b[n]&1 == 1:
		p.protocol, n = uint16(b[n]), n+1
	case len(b) > n+1:
		p.protocol, n = binary.BigEndian.Uint16(b[n:]), n+2
	default:
		return errShort
	}
	p.BaseLayer = layers.BaseLayer{Contents: b[:n], Payload: b[n:]}
	return nil
}

func (p *ppp) NextLayerType() gopacket.LayerType {
	switch p.protocol {
	case 0x21:
		return layers.LayerTypeIPv4
	case 0x57:
		return layers.LayerTypeIPv6
	case 0x281:
		return layers.LayerTypeMPLS
	}
	return gopacket.LayerTypeZero
}

// mpls decodes one label; behind the last one IP is told by its version.
type mpls struct {
	layers.BaseLayer
	last bool
}

func (*mpls) CanDecode() gopacket.LayerClass { return layers.LayerTypeMPLS }

func (m *mpls) DecodeFromBytes(b []byte, _ gopacket.DecodeFeedback) error {
	const head = 4
	if len(b) < head {
		return errShort
	}
	m.last = b[2]&1 == 1
	m.BaseLayer = layers.BaseLayer{Contents: b[:head], Payload: b[head:]}
	return nil
}

func (m *mpls) NextLayerType() gopacket.LayerType {
	if !m.last {
		return layers.LayerTypeMPLS
	}
	return ipLayer(m.Payload)
}

// fragment6 decodes the fragment header of IPv6 (RFC 8200 §4.5): behind that of the first fragment the
// transport header comes next.
type fragment6 struct {
	layers.BaseLayer
	next  layers.IPProtocol
	later bool
}

func (*fragment6) CanDecode() gopacket.LayerClass { return layers.LayerTypeIPv6Fragment }

func (f *fragment6) DecodeFromBytes(b []byte, _ gopacket.DecodeFeedback) error {
	const head = 8
	if len(b) < head {
		return errShort
	}
	f.next, f.later = layers.IPProtocol(b[0]), binary.BigEndian.Uint16(b[2:])>>3 != 0
	f.BaseLayer = layers.BaseLayer{Contents: b[:head], Payload: b[head:]}
	return nil
}

func (f *fragment6) NextLayerType() gopacket.LayerType {
	if f.later {
		return gopacket.LayerTypeFragment
	}
	return f.next.LayerType()
}

// extension6 passes over the other extension headers of IPv6.
type extension6 struct {
	layers.IPv6ExtensionSkipper
	class gopacket.LayerClass
}

func (x *extension6) CanDecode() gopacket.LayerClass { return x.class }

func newExtension6() extension6 {
	return extension6{class: gopacket.NewLayerClass([]gopacket.LayerType{
		layers.LayerTypeIPv6HopByHop, layers.LayerTypeIPv6Routing, layers.LayerTypeIPv6Destination,
	})}
}
