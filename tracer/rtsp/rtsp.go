// Package rtsp is the wire grammar of RTSP 1.0 (RFC 2326) and 2.0 (RFC 7826): how one
// direction of a control connection falls into requests, replies and interleaved frames,
// and what the headers and the SDP say that matter for moving a session.
//
// It is lossless: what it reads it gives back byte for byte, and a change of one header
// changes the bytes of that value only. It is tolerant where the captures of real programs
// asked for it and keeps what it does not understand.
//
// It knows nothing of sockets, clocks, connections or sessions: nothing is remembered between
// two calls, and matching a reply to its request is left to the caller. All functions are
// pure; a Message must not be changed by two goroutines at once.
package rtsp

import (
	"errors"
	"fmt"
)

// Bounds of one unit. A longer one is a *LimitError; the recorded heads stay below 512 bytes,
// the bodies below 1200.
const (
	// MaxHead bounds the start line, the headers and the blank line together, in bytes.
	MaxHead = 64 << 10
	// MaxBody bounds a body, in bytes.
	MaxBody = 128 << 10
	// MaxFrame is the longest interleaved frame with its four bytes of header (16-bit length).
	MaxFrame = frameHeader + 1<<16 - 1
)

// ErrShort says that the unit goes on after the last byte given.
var ErrShort = errors.New("rtsp: unit is not complete")

// ErrNotRTSP says that no unit begins here and none can be found after it: hand the rest of
// the stream through untouched.
var ErrNotRTSP = errors.New("rtsp: not an RTSP unit")

// LimitError is a unit that exceeds a bound. The stream cannot be framed after it.
type LimitError struct {
	Part  string // "head" or "body"
	Size  int64  // bytes announced or seen so far
	Limit int64  // bytes allowed
}

// Error names the part and both sizes.
func (e *LimitError) Error() string {
	return fmt.Sprintf("rtsp: %s of %d bytes exceeds %d", e.Part, e.Size, e.Limit)
}

// LengthError is a message whose Content-Length is no number or is given twice with different
// values: two readers may disagree on where the next unit begins. It is also ErrNotRTSP.
type LengthError struct {
	Value string // the offending header value
}

// Error quotes the value.
func (e *LengthError) Error() string {
	return fmt.Sprintf("rtsp: content-length %q is ambiguous", e.Value)
}

// Unwrap returns ErrNotRTSP: framing ends here as well.
func (e *LengthError) Unwrap() error { return ErrNotRTSP }

// HeaderError is a header value that its grammar does not allow.
type HeaderError struct {
	Header string // canonical name, e.g. "Transport"
	Value  string // the value as it stood in the message
	Reason string
}

// Error names header, value and reason.
func (e *HeaderError) Error() string {
	return fmt.Sprintf("rtsp: %s %q: %s", e.Header, e.Value, e.Reason)
}
