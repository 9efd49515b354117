package rtsp

import (
	"bytes"
	"encoding/binary"
)

// Kind tells the units of a stream apart.
type Kind uint8

const (
	// KindRequest is a request in either direction.
	KindRequest Kind = iota + 1
	// KindResponse is a reply in either direction.
	KindResponse
	// KindFrame is an interleaved frame: '$', channel, length, payload (RFC 2326 §10.12).
	KindFrame
	// KindEmpty is one stray line end between two units; it means nothing but has to be kept.
	KindEmpty
)

// String returns the name of the kind in lower case.
func (k Kind) String() string {
	switch k {
	case KindRequest:
		return "request"
	case KindResponse:
		return "response"
	case KindFrame:
		return "frame"
	case KindEmpty:
		return "empty"
	}
	return "unknown"
}

const (
	frameMagic  = '$'
	frameHeader = 4
)

// Unit is one request, reply, interleaved frame or stray line end.
type Unit struct {
	Kind    Kind
	Raw     []byte   // every byte of the unit; aliases the input
	Channel uint8    // of a frame
	Payload []byte   // of a frame, without the four bytes of header; aliases the input
	Message *Message // of a request or reply; owns its bytes
}

// Next returns the first unit of b and its length n in bytes.
//
// ErrShort: b is the beginning of a unit; n is then the length it will have once that is
// known, else 0. Every proper prefix of a unit gives ErrShort. An empty b does too.
// ErrNotRTSP (also *LengthError): no unit can begin with b. *LimitError: the unit exceeds
// MaxHead or MaxBody.
//
// How the stream was cut into calls does not change the units. A frame or an incomplete unit
// costs no allocation.
func Next(b []byte) (u Unit, n int, err error) {
	if len(b) == 0 {
		return Unit{}, 0, ErrShort
	}
	switch b[0] {
	case frameMagic:
		return nextFrame(b)
	case '\n':
		return Unit{Kind: KindEmpty, Raw: b[:1:1]}, 1, nil
	case '\r':
		return nextEmpty(b)
	}
	return nextMessage(b)
}

func nextFrame(b []byte) (Unit, int, error) {
	if len(b) < frameHeader {
		return Unit{}, 0, ErrShort
	}
	n := frameHeader + int(binary.BigEndian.Uint16(b[2:]))
	if len(b) < n {
		return Unit{}, n, ErrShort
	}
	return Unit{Kind: KindFrame, Raw: b[:n:n], Channel: b[1], Payload: b[frameHeader:n:n]}, n, nil
}

func nextEmpty(b []byte) (Unit, int, error) {
	if len(b) < 2 {
		return Unit{}, 0, ErrShort
	}
	n := 1
	if b[1] == '\n' {
		n = 2
	}
	return Unit{Kind: KindEmpty, Raw: b[:n:n]}, n, nil
}

func nextMessage(b []byte) (Unit, int, error) {
	if !mayStart(b) {
		return Unit{}, 0, ErrNotRTSP
	}
	head := headEnd(b)
	if head < 0 {
		if len(b) >= MaxHead {
			return Unit{}, 0, &LimitError{Part: "head", Size: int64(len(b)), Limit: MaxHead}
		}
		return Unit{}, 0, ErrShort
	}
	body, err := contentLength(b[:head])
	if err != nil {
		return Unit{}, 0, err
	}
	n := head + body
	if len(b) < n {
		return Unit{}, n, ErrShort
	}
	m, _ := newMessage(string(b[:head]), bytes.Clone(b[head:n]))
	kind := KindResponse
	if m.IsRequest() {
		kind = KindRequest
	}
	return Unit{Kind: kind, Raw: b[:n:n], Message: m}, n, nil
}
