package splice

import (
	"bytes"
	"encoding/binary"
	"errors"

	"scas/session"
	"scas/tracer/rtsp"
)

// step says what the bytes are that a walker took.
type step uint8

const (
	stepFrame   step = iota // bytes of an interleaved frame; walker.whole tells whether it ended
	stepPart                // bytes of a message that goes on
	stepMessage             // the last bytes of walker.unit: a message or a stray line end
	stepBlind               // bytes that cannot be framed; nothing after them can
)

const (
	frameHeader = 4                // '$', channel, length (RFC 2326 §10.12)
	rtpHeader   = 12               // RFC 3550 §5.1
	firstLine   = 128              // bytes of a start line judged piece by piece
	headNeeded  = frameHeader + 12 // what is kept of a frame
)

// frame is what is read of an interleaved frame.
type frame struct {
	channel uint8
	rtp     bool // long enough for an RTP header of version 2
	seq     session.Seq
	rtptime session.RTPTime
}

// walker finds where the units of one direction begin and end, however the stream is cut. Of
// a frame it reads the first 16 bytes, of a message it keeps a copy until it is whole, which
// package rtsp bounds. A frame costs no allocation. Not safe for concurrent use.
type walker struct {
	head  [headNeeded]byte
	have  int // bytes of the frame taken so far, the header included
	size  int // of the frame with its header, once have >= frameHeader
	whole bool
	last  frame // the newest frame whose first bytes were seen

	msg    []byte // the message so far
	need   int    // its length, 0 while unknown
	judged bool   // its first line was accepted whole
	read   uint64 // bytes of messages that the grammar looked at, again and again where they come in pieces
	unit   rtsp.Unit

	blind bool
}

// boundary reports whether the next byte begins a new unit.
func (w *walker) boundary() bool { return w.have == 0 && len(w.msg) == 0 }

// step takes bytes from the beginning of b, which must not be empty, up to the end of the
// unit at most. n is 0 only with a stray carriage return that the call before took.
func (w *walker) step(b []byte) (n int, s step) {
	switch {
	case w.blind:
		return len(b), stepBlind
	case w.have > 0, len(w.msg) == 0 && b[0] == '$':
		return w.frame(b), stepFrame
	}
	return w.message(b)
}

func (w *walker) frame(b []byte) (n int) {
	w.whole = false
	if w.have < headNeeded {
		n = copy(w.head[w.have:], b)
		if w.have+n >= frameHeader {
			w.size = frameHeader + int(binary.BigEndian.Uint16(w.head[2:]))
			n = min(n, max(w.size-w.have, frameHeader-w.have))
		}
		w.have += n
	}
	if w.have >= frameHeader {
		rest := min(w.size-w.have, len(b)-n)
		n += rest
		w.have += rest
	}
	if w.have >= frameHeader && w.have == w.size {
		w.whole = true
		w.last = parseFrame(w.head[:min(w.size, headNeeded)])
		w.have = 0
	}
	return n
}

func parseFrame(h []byte) frame {
	f := frame{channel: h[1]}
	if len(h) == frameHeader+rtpHeader && h[frameHeader]&0xc0 == 0x80 {
		f.rtp = true
		f.seq = session.Seq(binary.BigEndian.Uint16(h[frameHeader+2:]))
		f.rtptime = session.RTPTime(binary.BigEndian.Uint32(h[frameHeader+4:]))
	}
	return f
}

func (w *walker) message(b []byte) (n int, s step) {
	if len(w.msg) == 0 {
		return w.first(b)
	}
	if w.msg[0] == '\r' {
		return w.stray(b)
	}
	if w.need > 0 {
		return w.take(min(w.need-len(w.msg), len(b)), b)
	}
	return w.take(w.untilHead(b), b)
}

// first handles the beginning of a message, which most often is all of it.
func (w *walker) first(b []byte) (int, step) {
	u, n, err := rtsp.Next(b)
	switch {
	case err == nil:
		w.unit = u
		return n, stepMessage
	case !errors.Is(err, rtsp.ErrShort):
		w.msg = append(w.msg[:0], b...)
		return w.lost(len(b))
	}
	w.msg = append(w.msg[:0], b...)
	w.need, w.judged = n, bytes.IndexByte(b, '\n') >= 0
	return len(b), stepPart
}

// stray ends a carriage return at the end of a chunk: with the line feed, or without.
func (w *walker) stray(b []byte) (int, step) {
	n := 0
	if b[0] == '\n' {
		n = 1
	}
	raw := append([]byte{'\r'}, b[:n]...)
	w.msg = w.msg[:0]
	w.unit = rtsp.Unit{Kind: rtsp.KindEmpty, Raw: raw}
	return n, stepMessage
}

// untilHead returns how many bytes of b belong to the message for sure: up to the end of its
// head, or of its first line, or all.
func (w *walker) untilHead(b []byte) int {
	tail := w.msg[max(len(w.msg)-2, 0):]
	for i, c := range b {
		if c != '\n' {
			continue
		}
		if !w.judged {
			return i + 1
		}
		var before [2]byte // the two bytes before this line feed
		switch {
		case i >= 2:
			before = [2]byte(b[i-2 : i])
		case i == 1:
			before = [2]byte{tail[len(tail)-1], b[0]}
		case len(tail) == 2:
			before = [2]byte(tail)
		default:
			before[1] = tail[0]
		}
		if before[1] == '\n' || before == [2]byte{'\n', '\r'} {
			return i + 1
		}
	}
	return len(b)
}

// take adds the first n bytes of b to the message and asks the grammar when there is
// something to ask.
func (w *walker) take(n int, b []byte) (int, step) {
	w.msg = append(w.msg, b[:n]...)
	line := w.msg[len(w.msg)-1] == '\n'
	switch {
	case w.need > 0 && len(w.msg) < w.need:
		return n, stepPart
	case w.need > 0 || len(w.msg) >= rtsp.MaxHead || w.headEnds():
	case w.judged || !line && len(w.msg) > firstLine:
		return n, stepPart
	}
	w.read += uint64(len(w.msg))
	u, size, err := rtsp.Next(w.msg)
	switch {
	case err == nil:
		w.unit = u
		w.reset()
		return n, stepMessage
	case errors.Is(err, rtsp.ErrShort):
		w.need, w.judged = size, w.judged || line
		return n, stepPart
	}
	return w.lost(n)
}

// headEnds reports whether the message so far ends with a blank line.
func (w *walker) headEnds() bool {
	return bytes.HasSuffix(w.msg, []byte("\n\n")) || bytes.HasSuffix(w.msg, []byte("\n\r\n"))
}

// lost ends the framing. What was taken of the unit is in msg.
func (w *walker) lost(n int) (int, step) {
	w.blind = true
	return n, stepBlind
}

// reset forgets the message; a long one gives its memory back.
func (w *walker) reset() {
	w.need, w.judged = 0, false
	if cap(w.msg) > 8<<10 {
		w.msg = nil
		return
	}
	w.msg = w.msg[:0]
}
