package lab

import (
	"encoding/binary"
	"fmt"
)

// asfPacket is one ASF data packet, taken apart (ASF specification §5.2).
type asfPacket struct {
	send     uint32 // ms
	duration uint16 // ms
	padding  int    // bytes at its end
	padAt    int    // offset of the padding's length field
	padWidth int    // of that field, 0: none
	payloads []asfPayload
}

// asfPayload is a media object, or a piece of one.
type asfPayload struct {
	stream int
	key    bool
	object uint32
	offset uint32 // of data in its object
	size   uint32 // of the object
	pts    uint32 // presentation time with preroll, ms
	timed  bool   // pts and size are known
	data   []byte
}

// asfReader reads fields and remembers when there were too few bytes.
type asfReader struct {
	b     []byte
	at    int
	short bool
}

func (r *asfReader) take(n int) []byte {
	if r.short || n < 0 || r.at+n > len(r.b) {
		r.short = true
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

// number reads an integer of a length type: nothing, BYTE, WORD or DWORD.
func (r *asfReader) number(kind byte) uint32 {
	var v uint32
	for i, c := range r.take([4]int{0, 1, 2, 4}[kind&3]) {
		v |= uint32(c) << (8 * i)
	}
	return v
}

// parseASFPacket takes a packet apart. Padding may be missing at its end.
func parseASFPacket(b []byte) (asfPacket, error) {
	var p asfPacket
	r := &asfReader{b: b}
	if len(b) > 0 && b[0]&0x80 != 0 {
		r.take(1 + int(b[0]&0x0f))
	}
	types := r.take(2)
	if types == nil {
		return p, fmt.Errorf("packet of %d bytes: %w", len(b), ErrASF)
	}
	lengths, properties := types[0], types[1]
	r.number(lengths >> 5) // packet length
	r.number(lengths >> 1) // sequence
	p.padAt = r.at
	p.padding = int(r.number(lengths >> 3))
	p.padWidth = r.at - p.padAt
	p.send = r.number(3)
	p.duration = uint16(r.number(2))
	count, lengthType := 1, byte(0)
	if lengths&1 != 0 {
		if f := r.take(1); f != nil {
			count, lengthType = int(f[0]&0x3f), f[0]>>6
		}
	}
	for range count {
		p.payload(r, properties, lengthType)
	}
	if r.short {
		return p, fmt.Errorf("packet ends early: %w", ErrASF)
	}
	return p, nil
}

// payload reads one payload; lengthType 0: it goes to the padding.
func (p *asfPacket) payload(r *asfReader, properties, lengthType byte) {
	head := r.take(1)
	if head == nil {
		return
	}
	x := asfPayload{stream: int(head[0] & 0x7f), key: head[0]&0x80 != 0}
	x.object = r.number(properties >> 4)
	x.offset = r.number(properties >> 2)
	replicated := r.take(int(r.number(properties)))
	n := len(r.b) - r.at - p.padding
	if lengthType != 0 {
		n = int(r.number(lengthType))
	}
	data := r.take(n)
	if r.short {
		return
	}
	switch {
	case len(replicated) == 1: // compressed: offset is the time of the first of several whole objects
		pts := x.offset
		x.offset, x.timed = 0, true
		for in := (&asfReader{b: data}); in.at < len(data); pts += uint32(replicated[0]) {
			x.pts, x.data = pts, in.take(int(in.number(1)))
			x.size = uint32(len(x.data))
			if in.short {
				r.short = true
				return
			}
			p.payloads = append(p.payloads, x)
		}
		return
	case len(replicated) >= 8:
		x.timed = true
		x.size = binary.LittleEndian.Uint32(replicated)
		x.pts = binary.LittleEndian.Uint32(replicated[4:])
	}
	x.data = data
	p.payloads = append(p.payloads, x)
}

// stripASF appends a packet without its padding, whose length becomes zero (mms.md 2.1).
func stripASF(b, packet []byte) []byte {
	from := len(b)
	p, err := parseASFPacket(packet)
	if err != nil || p.padding == 0 || p.padding > len(packet) {
		return append(b, packet...)
	}
	b = append(b, packet[:len(packet)-p.padding]...)
	clear(b[from+p.padAt : from+p.padAt+p.padWidth])
	return b
}
