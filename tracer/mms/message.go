package mms

import (
	"encoding/binary"
	"fmt"
)

// Message is one MMS message inside a TcpMessageHeader. It shares the memory of the unit it was
// read from.
type Message struct {
	MID MID
	Seq uint16 // of the header; counts the messages of one direction
	raw []byte // the whole unit
	at  int    // of chunkLen in raw
	end int
}

// messageAt returns the message that begins at offset at of unit raw. A chunkLen that lies is
// held to the unit.
func messageAt(raw []byte, at int) Message {
	end := len(raw)
	if n := uint64(binary.LittleEndian.Uint32(raw[at:])) * 8; n >= 8 && n < uint64(end-at) {
		end = at + int(n)
	}
	return Message{
		MID: MID(binary.LittleEndian.Uint32(raw[at+4:])), Seq: binary.LittleEndian.Uint16(raw[20:]),
		raw: raw, at: at, end: end,
	}
}

// More returns the message that follows m under the same header. Clients never send two, servers
// hardly ever; zero padding is none.
func (m Message) More() (Message, bool) {
	if m.end+8 > len(m.raw) {
		return Message{}, false
	}
	next := messageAt(m.raw, m.end)
	return next, next.MID != 0
}

// Raw returns the bytes of the unit the message came in.
func (m Message) Raw() []byte { return m.raw }

// TimeSent returns the sender's clock in the header: milliseconds by the specification, garbage
// of some servers.
func (m Message) TimeSent() uint64 { return binary.LittleEndian.Uint64(m.raw[24:]) }

// SetSeq renumbers the unit of m in place: what follows an injected message counts one more.
func (m *Message) SetSeq(seq uint16) {
	m.Seq = seq
	binary.LittleEndian.PutUint16(m.raw[20:], seq)
}

// fields returns what follows the MID.
func (m Message) fields() []byte { return m.raw[m.at+8 : m.end] }

// Body is a message by its fields: one of the structs of this package, by pointer.
type Body interface {
	// MID returns the number of the message.
	MID() MID
	code(*coder)
}

// Decode reads the fields of m into x, which must be of the message's MID. ErrFields: the
// message ends too early; x then holds what there was.
func (m Message) Decode(x Body) error {
	if x.MID() != m.MID {
		return fmt.Errorf("decode %v as %v: %w", m.MID, x.MID(), ErrFields)
	}
	c := coder{b: m.fields()}
	x.code(&c)
	if c.short {
		return fmt.Errorf("decode %v of %d bytes: %w", m.MID, len(m.raw), ErrFields)
	}
	return nil
}

// HR returns the result code of a server's message that begins with one; 0 for all others.
func (m Message) HR() HRESULT {
	f := m.fields()
	if m.MID>>16 != 4 || m.MID == MIDSecurityChallenge || m.MID == MIDPing || len(f) < 4 {
		return OK
	}
	return HRESULT(binary.LittleEndian.Uint32(f))
}

// Stamp is what the header of a message says besides its size.
type Stamp struct {
	Seq      uint16
	TimeSent uint64 // milliseconds since the first message
}

// Append appends message x to b, with its header.
func Append(b []byte, s Stamp, x Body) []byte {
	start := len(b)
	b = append(b, 1, 0, 0, 0)
	b = append(b, signature...)
	b = append(b, 0, 0, 0, 0)
	b = append(b, seal...)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, s.Seq)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, s.TimeSent)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(x.MID()))
	c := coder{b: b, at: len(b), write: true}
	x.code(&c)
	b = c.b
	for (len(b)-start)%8 != 0 {
		b = append(b, 0)
	}
	size := len(b) - start
	binary.LittleEndian.PutUint32(b[start+8:], uint32(size-messageFrame))
	binary.LittleEndian.PutUint32(b[start+16:], uint32(size-messageFrame)/8) // what all clients send
	binary.LittleEndian.PutUint32(b[start+messageHeader:], uint32(size-messageHeader)/8)
	return b
}
