package ims

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The Diameter that a Cx interface needs: RFC 6733 §3, §4 and TS 29.229 §6.

const (
	cxApplication = 16777216
	vendor3GPP    = 10415
	maxDiameter   = 1 << 20 // bytes of a message; ours are 4 KiB
)

// Commands (RFC 6733 §3.1, TS 29.229 §6.1).
const (
	cmdCapabilities = 257
	cmdWatchdog     = 280
	cmdDisconnect   = 282
	cmdUAR          = 300
	cmdSAR          = 301
	cmdLIR          = 302
	cmdMAR          = 303
	cmdRTR          = 304
)

// Attributes (RFC 6733 §4.5, TS 29.229 §6.3).
const (
	avpUserName           = 1
	avpDigestRealm        = 104
	avpDigestQoP          = 110
	avpDigestAlgorithm    = 111
	avpDigestHA1          = 121
	avpHostIP             = 257
	avpAuthApplication    = 258
	avpVendorApplication  = 260
	avpSessionID          = 263
	avpOriginHost         = 264
	avpSupportedVendor    = 265
	avpVendorID           = 266
	avpResult             = 268
	avpProduct            = 269
	avpAuthState          = 277
	avpDestinationRealm   = 283
	avpDestinationHost    = 293
	avpOriginRealm        = 296
	avpExperimental       = 297
	avpExperimentalCode   = 298
	avpPublicIdentity     = 601
	avpServerName         = 602
	avpUserData           = 606
	avpAuthItems          = 607
	avpAuthScheme         = 608
	avpAuthItem           = 612
	avpItemNumber         = 613
	avpAssignment         = 614
	avpDeregistration     = 615
	avpReasonCode         = 616
	avpReasonInfo         = 617
	avpDigestAuthenticate = 635
)

const (
	resultSuccess     = 2001
	resultUnsupported = 3001
	resultUserUnknown = 5001 // experimental, TS 29.229 §6.2.2.1
)

// avp is one attribute.
type avp struct {
	code, vendor uint32
	data         []byte
}

func text(code uint32, s string) avp          { return avp{code: code, data: []byte(s)} }
func number(code, n uint32) avp               { return avp{code: code, data: binary.BigEndian.AppendUint32(nil, n)} }
func group(code uint32, members ...avp) avp   { return avp{code: code, data: appendAVPs(nil, members)} }
func (a avp) of(vendor uint32) avp            { a.vendor = vendor; return a }
func textCx(code uint32, s string) avp        { return text(code, s).of(vendor3GPP) }
func numberCx(code, n uint32) avp             { return number(code, n).of(vendor3GPP) }
func groupCx(code uint32, members ...avp) avp { return group(code, members...).of(vendor3GPP) }

func appendAVPs(b []byte, all []avp) []byte {
	for _, a := range all {
		flags, head := uint32(0x40), 8 // mandatory
		if a.vendor != 0 {
			flags, head = 0xc0, 12
		}
		b = binary.BigEndian.AppendUint32(b, a.code)
		b = binary.BigEndian.AppendUint32(b, flags<<24|uint32(head+len(a.data)))
		if a.vendor != 0 {
			b = binary.BigEndian.AppendUint32(b, a.vendor)
		}
		b = append(b, a.data...)
		for len(b)%4 != 0 { // a message is whole words, so its length tells
			b = append(b, 0)
		}
	}
	return b
}

var errAVP = errors.New("diameter: attribute cut short")

func parseAVPs(b []byte) (all []avp, err error) {
	for len(b) >= 8 {
		a := avp{code: binary.BigEndian.Uint32(b)}
		word := binary.BigEndian.Uint32(b[4:])
		head, length := 8, int(word&0xffffff)
		if word>>31 == 1 {
			head = 12
		}
		if length < head || length > len(b) {
			return nil, errAVP
		}
		if head == 12 {
			a.vendor = binary.BigEndian.Uint32(b[8:])
		}
		a.data = b[head:length]
		all = append(all, a)
		b = b[min(len(b), (length+3)&^3):]
	}
	if len(b) > 0 {
		return nil, errAVP
	}
	return all, nil
}

// diameter is one message.
type diameter struct {
	request              bool
	command, application uint32
	hop, end             uint32 // identifiers, copied into the answer
	avps                 []avp
}

func (m diameter) first(code uint32) []byte {
	for _, a := range m.avps {
		if a.code == code {
			return a.data
		}
	}
	return nil
}

func (m diameter) text(code uint32) string { return string(m.first(code)) }

// number returns the first attribute as Unsigned32; 0 when there is none.
func (m diameter) number(code uint32) uint32 {
	if d := m.first(code); len(d) == 4 {
		return binary.BigEndian.Uint32(d)
	}
	return 0
}

func (m diameter) marshal() []byte {
	flags := uint32(0)
	if m.request {
		flags |= 0x80
	}
	if m.application != 0 {
		flags |= 0x40 // proxiable
	}
	b := make([]byte, 20, 1024)
	binary.BigEndian.PutUint32(b[4:], flags<<24|m.command)
	binary.BigEndian.PutUint32(b[8:], m.application)
	binary.BigEndian.PutUint32(b[12:], m.hop)
	binary.BigEndian.PutUint32(b[16:], m.end)
	b = appendAVPs(b, m.avps)
	binary.BigEndian.PutUint32(b, 1<<24|uint32(len(b)))
	return b
}

// readDiameter reads one message; io.EOF between two.
func readDiameter(r io.Reader) (m diameter, err error) {
	var head [20]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, err
	}
	word := binary.BigEndian.Uint32(head[:])
	length := int(word & 0xffffff)
	if word>>24 != 1 || length < len(head) || length > maxDiameter {
		return m, fmt.Errorf("diameter: no message: % x", head[:4])
	}
	body := make([]byte, length-len(head))
	if _, err := io.ReadFull(r, body); err != nil {
		return m, err
	}
	word = binary.BigEndian.Uint32(head[4:])
	m = diameter{
		request: word>>31 == 1, command: word & 0xffffff, application: binary.BigEndian.Uint32(head[8:]),
		hop: binary.BigEndian.Uint32(head[12:]), end: binary.BigEndian.Uint32(head[16:]),
	}
	m.avps, err = parseAVPs(body)
	return m, err
}
