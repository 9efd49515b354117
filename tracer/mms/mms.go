// Package mms is the wire grammar of Microsoft's streaming protocols: MMS over TCP
// ([MS-MMSP], mms:// and mmst://), MMS over HTTP ([MS-WMSP], mmsh://), and as much of ASF
// (rev. 01.20) as the position of a viewer needs.
//
// It is lossless: every unit keeps the bytes it came in, an unknown message or chunk too, and
// a change (the start of a StartPlaying, the digits of stream-time, a sequence number) touches
// the bytes of that value only. It is tolerant where real clients asked for it.
//
// It knows nothing of sockets, clocks, connections or sessions: nothing is remembered between
// two calls. All functions are pure.
package mms

import (
	"errors"
	"fmt"
)

// Bounds of one unit. A longer one is a *LimitError.
const (
	// MaxMessage bounds a TcpMessageHeader with its messages; the clients' buffers are of 64 KiB.
	MaxMessage = 64<<10 + messageFrame
	// MaxData is the longest data packet (16-bit length, header included).
	MaxData = 1<<16 - 1
	// MaxHead bounds the head of an HTTP request or reply; the recorded ones stay below 512 bytes.
	MaxHead = 16 << 10
	// MaxChunk is the longest MMSH chunk with its four bytes of header.
	MaxChunk = chunkHeader + 1<<16 - 1
	// MaxHeader bounds an ASF file header. libmms takes 16 KiB, VLC and Windows more.
	MaxHeader = 256 << 10
)

// ErrShort says that the unit goes on after the last byte given.
var ErrShort = errors.New("mms: unit is not complete")

// ErrNotMMS says that no unit begins here.
var ErrNotMMS = errors.New("mms: not an MMS unit")

// ErrFields says that a message ends before the fields its MID has.
var ErrFields = errors.New("mms: message ends before its fields")

// ErrNotASF says that bytes are no ASF header or data packet.
var ErrNotASF = errors.New("mms: not ASF")

// LimitError is a unit that exceeds a bound. The stream cannot be framed after it.
type LimitError struct {
	Part  string // "message" or "head"
	Size  int64  // bytes announced or seen so far
	Limit int64  // bytes allowed
}

// Error names the part and both sizes.
func (e *LimitError) Error() string {
	return fmt.Sprintf("mms: %s of %d bytes exceeds %d", e.Part, e.Size, e.Limit)
}
