package tracer

import (
	"bytes"
	"errors"
	"time"

	"scas/bpf"
	"scas/tracer/rtsp"
)

// speaks is what a connection was found to carry.
type speaks uint8

const (
	speaksUnknown speaks = iota
	speaksRTSP
	speaksOpaque // TLS, RTSP over HTTP: shown, not read
	speaksOther  // not ours
)

// Bounds on what one connection may make us keep.
const (
	maxPending = 64 // requests without a reply
	maxGuess   = 16 // bytes that decide what a connection carries
)

// conn is one control connection: two directions of bytes, and the requests that wait for
// their replies.
type conn struct {
	flow      bpf.Flow
	speaks    speaks
	toServer  half
	toViewer  half
	pending   []request
	content   *content
	userAgent string
	sessions  []*sess // those this connection controls, newest last
	channels  map[uint8]channel
	steered   bool
	touched   time.Time
}

// channel is what an interleaved channel carries.
type channel struct {
	s    *sess
	t    *track
	rtcp bool
}

// request is what has to be remembered of a request until its reply.
type request struct {
	cseq    int
	haveSeq bool
	at      time.Time
	msg     *rtsp.Message
}

// half is one direction of a connection.
type half struct {
	order  order
	buf    []byte // the beginning of a unit that is not complete
	synced bool
	closed bool
}

func (c *conn) half(d bpf.Dir) *half {
	if d == bpf.ToServer {
		return &c.toServer
	}
	return &c.toViewer
}

// bytes takes bytes of one direction in order and reads the units in them.
func (d *Decoder) bytes(c *conn, dir bpf.Dir, b []byte, at time.Time, hole bool) {
	c.touched = at
	h := c.half(dir)
	if hole {
		h.buf, h.synced = nil, false
	}
	if c.speaks == speaksUnknown && dir == bpf.ToServer {
		b = d.recognise(c, h, b, at)
	}
	if c.speaks != speaksRTSP || len(b) == 0 {
		return
	}
	if len(h.buf) > 0 {
		h.buf = append(h.buf, b...)
		b = h.buf
	}
	rest := d.units(c, dir, h, b, at)
	h.buf = append(h.buf[:0], rest...)
	if len(h.buf) == 0 && cap(h.buf) > 8<<10 {
		h.buf = nil // a long body is not kept for the life of the connection
	}
}

// recognise decides by the first bytes of the terminal what a connection carries, and
// returns the bytes to be read.
func (d *Decoder) recognise(c *conn, h *half, b []byte, at time.Time) []byte {
	b = append(h.buf, b...)
	h.buf = nil
	switch {
	case rtsp.LooksLikeTLS(b):
		d.opaque(c, protocolTLS, b, at)
		return nil
	case rtsp.LooksLikeHTTP(b):
		d.tunnel(c, b, at)
		return nil
	}
	_, _, err := rtsp.Next(b)
	switch {
	case err == nil || errors.Is(err, rtsp.ErrShort) && len(b) >= maxGuess:
		c.speaks = speaksRTSP
		h.synced = true
		return b
	case errors.Is(err, rtsp.ErrShort):
		h.buf = b
		return nil
	}
	if i := resync(c, b); i >= 0 { // joined in the middle of a message
		c.speaks, h.synced = speaksRTSP, true
		return b[i:]
	}
	d.notOurs(c)
	return nil
}

// units reads the units at the front of b and returns what is left of it.
func (d *Decoder) units(c *conn, dir bpf.Dir, h *half, b []byte, at time.Time) []byte {
	for len(b) > 0 {
		if !h.synced {
			i := resync(c, b)
			if i < 0 {
				return b[max(0, len(b)-resyncTail):]
			}
			b, h.synced = b[i:], true
		}
		u, n, err := rtsp.Next(b)
		switch {
		case errors.Is(err, rtsp.ErrShort):
			return b
		case err != nil:
			d.stats.Undecoded++
			h.synced = false
			b = b[1:]
			continue
		}
		b = b[n:]
		d.unit(c, dir, u, at)
	}
	return nil
}

func (d *Decoder) unit(c *conn, dir bpf.Dir, u rtsp.Unit, at time.Time) {
	switch {
	case u.Kind == rtsp.KindFrame:
		d.frame(c, dir, u.Channel, u.Payload, at)
	case u.Kind == rtsp.KindRequest && dir == bpf.ToServer:
		d.request(c, u.Message, at)
	case u.Kind == rtsp.KindResponse && dir == bpf.ToTerminal:
		d.reply(c, u.Message, at)
	}
	// Requests of the server and the answers to them change nothing: no player obeys one.
}

// resyncTail is how much of an unreadable run is kept: a marker may be cut.
const resyncTail = 64

// resync returns where in b a unit begins when the bytes before are unknown, or -1: at a
// start line, or at an interleaved frame that leads to another one or to the end.
func resync(c *conn, b []byte) int {
	best := -1
	if i := bytes.Index(b, []byte("RTSP/")); i >= 0 {
		if i+9 <= len(b) && b[i+8] == ' ' {
			best = i
		} else if j := bytes.LastIndexByte(b[:i], '\n') + 1; j < i {
			best = j
		}
	}
	for i := 0; i+4 <= len(b) && (best < 0 || i < best); i++ {
		if b[i] == '$' && c.knows(b[i+1]) && leadsOn(c, b[i:]) {
			return i
		}
	}
	return best
}

func (c *conn) knows(ch uint8) bool {
	_, ok := c.channels[ch]
	return ok
}

// leadsOn reports whether the frame at the front of b ends at b's end or at another frame.
func leadsOn(c *conn, b []byte) bool {
	n := 4 + int(b[2])<<8 + int(b[3])
	switch {
	case n < 12 || n > len(b):
		return false
	case n == len(b):
		return b[4]&0xc0 == 0x80
	}
	return b[n] == 'R' || b[n] == '$' && n+1 < len(b) && c.knows(b[n+1])
}

// take removes and returns the request a reply answers: that with its CSeq, or else the
// oldest (a reply without CSeq is matched by order).
func (c *conn) take(m *rtsp.Message) (request, bool) {
	cseq, ok := m.CSeq()
	for i, r := range c.pending {
		if !ok || r.haveSeq && r.cseq == cseq {
			c.pending = append(c.pending[:i], c.pending[i+1:]...)
			return r, true
		}
	}
	return request{}, false
}
