package tracer

import (
	"slices"
	"strings"
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

// Bounds on the requests without a reply that one connection may make us keep.
const (
	maxPending     = 64
	maxPendingSize = 64 << 10 // bytes
)

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
	charged   int // bytes it counts for among those that are kept
	touched   time.Time
	sampled   uint32    // sequence number behind the newest sample of the server's bytes
	samples   bool      // there was one
	early     []Segment // of the server, ahead of what they acknowledge
	gaps      bool      // there was a hole in it
	holed     time.Time // bytes of the server were missed then, and what they may have said was not settled
	requests  uint32    // the kernel's request counter, as of the newest event
	counted   bool      // there was one

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

// request is what has to be remembered of a request until its reply: no more than is asked for
// then.
type request struct {
	cseq    int
	haveSeq bool
	method  string
	url     string
	// headers
	session, transport, span, scale, speed string

	at      time.Time
	assumed bool // it was carried out without a reply
}

// remember copies what is needed of a request, which may be large.
func remember(m *rtsp.Message) request {
	get := func(name string) string { return strings.Clone(m.Get(name)) }
	r := request{
		method: strings.Clone(m.Method()), url: strings.Clone(m.URL()),
		session: get("Session"), transport: get("Transport"), span: get("Range"), scale: get("Scale"), speed: get("Speed"),
	}
	r.cseq, r.haveSeq = m.CSeq()
	return r
}

func (r *request) size() int {
	return len(r.method) + len(r.url) + len(r.session) + len(r.transport) + len(r.span) + len(r.scale) + len(r.speed)
}

// wait adds a request to those without a reply, and forgets the oldest where there are too many
// or they are too large. It returns how many it forgot.
func (c *conn) wait(r request) (forgot int) {
	c.pending = append(c.pending, r)
	size := 0
	for i := len(c.pending) - 1; i >= 0; i-- {
		size += c.pending[i].size()
		if len(c.pending)-i > maxPending || size > maxPendingSize {
			c.pending = slices.Delete(c.pending, 0, i+1)
			return i + 1
		}
	}
	return 0
}

// half is one direction of a connection.
type half struct {
	order  order
	buf    []byte // the beginning of a unit that is not complete
	synced bool
	closed bool
	looked int  // of RTSP: so many bytes of buf are the beginning of a head without its end
	line   bool // of RTSP: they are the beginning of its first line
	need   int  // of RTSP: the length of the unit that buf begins, 0 while that is not known
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
		h.buf, h.synced, h.looked, h.need = nil, false, 0, 0
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
	if len(rest) == 0 || len(rest) != len(b) || len(h.buf) != len(b) { // else all of buf stays
		h.buf = append(h.buf[:0], rest...)
	}
	if len(h.buf) == 0 && cap(h.buf) > 8<<10 {
		h.buf = nil // a long body is not kept for the life of the connection
	}
}
