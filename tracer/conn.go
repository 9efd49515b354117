package tracer

import (
	"time"

	"scas/bpf"
	"scas/tracer/rtsp"
)

// speaks is what a connection was found to carry.
type speaks uint8

const (
	speaksUnknown speaks = iota
	speaksOurs           // its dialogue knows
	speaksOther          // not ours
)

// maxPending bounds the requests without a reply that one connection may make us keep.
const maxPending = 64

// conn is one control connection: two directions of bytes, and what is spoken on it.
type conn struct {
	flow      bpf.Flow
	speaks    speaks
	talk      dialogue // nil until the connection is recognised
	toServer  half
	toViewer  half
	userAgent string
	sessions  []*sess // those this connection controls, newest last
	steered   bool
	touched   time.Time
	sampled   uint32 // sequence number behind the newest sample of the server's bytes
	samples   bool   // there was one
	requests  uint32 // the kernel's request counter, as of the newest event
	counted   bool   // there was one

	// of RTSP
	pending  []request
	content  *content
	channels map[uint8]channel
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
	looked int // of RTSP: so many bytes of buf are the beginning of a head without its end
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
		h.buf, h.synced, h.looked = nil, false, 0
	}
	if c.speaks == speaksUnknown && dir == bpf.ToServer {
		b = d.recognise(c, h, b, at)
	}
	if c.speaks != speaksOurs || len(b) == 0 {
		return
	}
	if len(h.buf) > 0 {
		h.buf = append(h.buf, b...)
		b = h.buf
	}
	rest := c.talk.units(dir, h, b, at)
	h.buf = append(h.buf[:0], rest...)
	if len(h.buf) == 0 && cap(h.buf) > 8<<10 {
		h.buf = nil // a long body is not kept for the life of the connection
	}
}
