package mms

import "encoding/binary"

// Dir is the direction of a stream.
type Dir uint8

// The directions. Only the server sends data packets.
const (
	ToServer Dir = iota
	ToViewer
)

// Kind tells the units of an MMST stream apart.
type Kind uint8

const (
	// KindMessage is a TcpMessageHeader with its message, or several.
	KindMessage Kind = iota + 1
	// KindData is a data packet: a piece of the ASF header, or one ASF data packet.
	KindData
)

// String returns the name of the kind in lower case.
func (k Kind) String() string {
	switch k {
	case KindMessage:
		return "message"
	case KindData:
		return "data"
	}
	return "unknown"
}

// Unit is one message or data packet.
type Unit struct {
	Kind    Kind
	Raw     []byte  // every byte of the unit; aliases the input
	Message Message // of KindMessage: the first one
	Data    Data    // of KindData
	Payload []byte  // of KindData: what follows its header; aliases the input
}

const (
	signature = "\xce\xfa\x0b\xb0" // 0xB00BFACE, at byte 4
	seal      = "MMS "             // at byte 12

	messageFrame  = 16 // bytes before those that messageLength counts
	messageHeader = 32 // TcpMessageHeader
	messageLeast  = 40 // header, chunkLen and MID
	dataHeader    = 8
)

// Next returns the first unit of b, one direction of an MMST connection, and its length n in
// bytes.
//
// ErrShort: b is the beginning of a unit; n is then the length it will have once that is known,
// else 0. Every proper prefix of a unit gives ErrShort, and an empty b does. ErrNotMMS: no unit
// can begin with b. *LimitError: the unit exceeds MaxMessage. The unit costs no allocation.
func Next(b []byte, dir Dir) (u Unit, n int, err error) {
	if len(b) < dataHeader {
		if dir == ToServer && len(b) > 4 && string(b[4:]) != signature[:len(b)-4] {
			return Unit{}, 0, ErrNotMMS
		}
		return Unit{}, 0, ErrShort
	}
	if string(b[4:8]) == signature {
		return nextMessage(b)
	}
	if dir == ToServer {
		return Unit{}, 0, ErrNotMMS
	}
	d := parseData(b)
	n = int(d.Size)
	switch {
	case n < dataHeader:
		return Unit{}, 0, ErrNotMMS
	case len(b) < n:
		return Unit{}, n, ErrShort
	}
	return Unit{Kind: KindData, Raw: b[:n:n], Data: d, Payload: b[dataHeader:n:n]}, n, nil
}

func nextMessage(b []byte) (Unit, int, error) {
	if have := b[min(12, len(b)):min(16, len(b))]; string(have) != seal[:len(have)] {
		return Unit{}, 0, ErrNotMMS
	}
	if len(b) < 12 {
		return Unit{}, 0, ErrShort
	}
	size := binary.LittleEndian.Uint32(b[8:])
	switch {
	case size > MaxMessage-messageFrame:
		return Unit{}, 0, &LimitError{Part: "message", Size: int64(size) + messageFrame, Limit: MaxMessage}
	case size < messageLeast-messageFrame || size%8 != 0:
		return Unit{}, 0, ErrNotMMS
	}
	n := int(size) + messageFrame
	if len(b) < n {
		return Unit{}, n, ErrShort
	}
	raw := b[:n:n]
	return Unit{Kind: KindMessage, Raw: raw, Message: messageAt(raw, messageHeader)}, n, nil
}

// Data is the header of a data packet ([MS-MMSP] 2.2.2, [MS-WMSP] 2.2.3.1).
type Data struct {
	LocationID  uint32 // number of the ASF data packet in the file, or of the piece of the header
	Incarnation uint8  // of the StartPlaying or ReadBlock it answers
	Flags       uint8  // media: counts up; header: 04 more follow, 0C last
	Size        uint16 // of the whole, this header included
}

// AFFlags of the pieces of an ASF header.
const (
	FlagMore   = 0x04
	FlagSingle = 0x08
	FlagLast   = 0x0C
)

// ParseData returns the data packet header at the front of b. ok is false when b is too short
// or the size does not even cover the header.
func ParseData(b []byte) (d Data, ok bool) {
	if len(b) < dataHeader {
		return Data{}, false
	}
	d = parseData(b)
	return d, d.Size >= dataHeader
}

func parseData(b []byte) Data {
	return Data{
		LocationID: binary.LittleEndian.Uint32(b), Incarnation: b[4], Flags: b[5],
		Size: binary.LittleEndian.Uint16(b[6:]),
	}
}

// Append appends the data packet with header d and payload, whose length sets Size. A payload
// beyond MaxData-8 bytes is cut.
func (d Data) Append(b, payload []byte) []byte {
	payload = payload[:min(len(payload), MaxData-dataHeader)]
	b = binary.LittleEndian.AppendUint32(b, d.LocationID)
	b = append(b, d.Incarnation, d.Flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(dataHeader+len(payload)))
	return append(b, payload...)
}

// SetLocationID changes the number of the data packet raw in place. libmms takes the number of
// the first media packet for the zero of the file and counts its byte seeks from it.
func SetLocationID(raw []byte, id uint32) {
	if len(raw) >= dataHeader {
		binary.LittleEndian.PutUint32(raw, id)
	}
}
