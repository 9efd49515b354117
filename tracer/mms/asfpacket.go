package mms

import "encoding/binary"

// Packet is what an ASF data packet says of time. Times are in milliseconds as they stand in
// the packet; presentation times include the preroll, the send time does not.
type Packet struct {
	SendTime uint32
	Duration uint16
	First    uint32 // smallest presentation time, valid with Timed
	Last     uint32 // largest
	Timed    bool   // a payload that tells its presentation time was read
	Key      bool   // a key frame begins in the packet
	Payloads int    // read; fewer than there are when the packet is cut
	Cut      bool   // the last payload goes on after the bytes given
}

// Bits of the packet's flags.
const (
	errorCorrection = 0x80
	multiple        = 0x01
)

// ParsePacket reads an ASF data packet, with its padding or without, whole or cut short: every
// read is bounded by the bytes that are there. ErrShort: not even the send time is there.
// ErrNotASF: no packet begins so. It allocates nothing.
func ParsePacket(b []byte) (Packet, error) {
	r := fields{b: b}
	if len(b) > 0 && b[0]&errorCorrection != 0 {
		if b[0]&0x60 != 0 { // length type other than 0 is reserved
			return Packet{}, ErrNotASF
		}
		r.skip(1 + int(b[0]&0x0f))
	}
	ltf, pf := r.u8(), r.u8()
	if !r.cut && (ltf&errorCorrection != 0 || pf>>6 != 1) {
		return Packet{}, ErrNotASF
	}
	r.sized(ltf >> 5) // packet length
	r.sized(ltf >> 1) // sequence
	padding := r.sized(ltf >> 3)
	p := Packet{SendTime: r.u32(), Duration: uint16(r.u16())}
	if r.cut {
		return Packet{}, ErrShort
	}
	if uint64(padding) < uint64(len(b)-r.at) {
		r.b = b[:len(b)-int(padding)]
	}
	p.payloads(&r, ltf&multiple != 0, pf)
	return p, nil
}

func (p *Packet) payloads(r *fields, many bool, pf uint8) {
	n, lengthType := 1, uint8(0)
	if many {
		flags := r.u8()
		n, lengthType = int(flags&0x3f), flags>>6
	}
	for range n {
		if r.cut || r.at >= len(r.b) {
			p.Cut = p.Cut || r.cut || p.Payloads < n
			return
		}
		p.payload(r, many, lengthType, pf)
	}
	p.Cut = r.cut
}

// payload reads one payload and passes over its data.
func (p *Packet) payload(r *fields, many bool, lengthType, pf uint8) {
	stream := r.u8()
	r.sized(pf >> 4) // media object number
	offset := r.sized(pf >> 2)
	replicated := r.sized(pf)
	at := r.at
	r.skip(int(min(replicated, MaxChunk)))
	size := uint32(len(r.b) - r.at)
	if many {
		size = r.sized(lengthType)
	}
	if r.cut {
		p.cutPayload(r, at, replicated)
		return
	}
	p.Payloads++
	switch {
	case replicated >= 8:
		p.time(binary.LittleEndian.Uint32(r.b[at+4:]))
		p.Key = p.Key || stream&0x80 != 0 && offset == 0
	case replicated == 1: // compressed: the offset is the time of the first object
		n := r.objects(int(min(size, MaxChunk)))
		p.time(offset)
		p.time(offset + (max(n, 1)-1)*uint32(r.b[at]))
		p.Key = p.Key || stream&0x80 != 0
	}
	r.skip(int(min(size, MaxChunk)))
}

// cutPayload takes the time of a payload whose head is there in part.
func (p *Packet) cutPayload(r *fields, at int, replicated uint32) {
	if replicated >= 8 && at+8 <= len(r.b) {
		p.time(binary.LittleEndian.Uint32(r.b[at+4:]))
	}
}

func (p *Packet) time(ms uint32) {
	if !p.Timed {
		p.First, p.Last, p.Timed = ms, ms, true
		return
	}
	p.First, p.Last = min(p.First, ms), max(p.Last, ms)
}

// fields reads little-endian fields of a packet. What is not there reads as 0 and sets cut.
type fields struct {
	b   []byte
	at  int
	cut bool
}

func (r *fields) skip(n int) {
	if n > len(r.b)-r.at {
		r.at, r.cut = len(r.b), true
		return
	}
	r.at += n
}

func (r *fields) u8() uint8 {
	if r.skip(1); r.cut {
		return 0
	}
	return r.b[r.at-1]
}

func (r *fields) u16() uint32 {
	if r.skip(2); r.cut {
		return 0
	}
	return uint32(binary.LittleEndian.Uint16(r.b[r.at-2:]))
}

func (r *fields) u32() uint32 {
	if r.skip(4); r.cut {
		return 0
	}
	return binary.LittleEndian.Uint32(r.b[r.at-4:])
}

// sized reads a field whose size the low two bits of kind tell: none, 1, 2 or 4 bytes.
func (r *fields) sized(kind uint8) uint32 {
	switch kind & 3 {
	case 1:
		return uint32(r.u8())
	case 2:
		return r.u16()
	case 3:
		return r.u32()
	}
	return 0
}

// objects counts the objects of a compressed payload of size bytes, without moving on.
func (r *fields) objects(size int) uint32 {
	end := min(r.at+size, len(r.b))
	n := uint32(0)
	for at := r.at; at < end; at += 1 + int(r.b[at]) {
		n++
	}
	return n
}
