package splice

// A protocol is a grammar package, a file or two of this package that know it, and one line of
// protocols. The transfer machine (transfer.go, attempt.go), the legs and the relaying know
// none.

import (
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
	"scas/tracer/rtsp"
)

// protocol is one way to control a session.
type protocol interface {
	// looks judges the first bytes of a terminal.
	looks(b []byte) verdict
	// open begins to read a relayed connection.
	open(r *relay) talk
	// moves reports whether it controls the sessions of p.
	moves(p session.Protocol) bool
	// end ends a session whose viewer has left, so that its player ends cleanly and its server
	// forgets it. r is the relay of the control connection; nil: the session is only watched.
	end(x *ender, r *relay)
}

// talk is a relayed connection as its protocol reads it.
type talk interface {
	// lanes frame the two directions, hold replies, and show start requests to the transfer.
	lanes() (up, down lane)
}

// start is a start request of a target.
type start interface {
	// names reports whether it is for the content of m; d is the session it is of, if known.
	names(m *move, d tracer.Detail, known bool) bool
	// key tells the tries of a player apart: a second start request with the same key is the
	// viewer's seek. turn counts them where one player makes several connections, else it is 0:
	// only a higher one is a seek then.
	key(r *relay) (k startKey, turn uint32)
	// session is the id of its session on the connection, "" for the only one.
	session() string
	agent() string
	// rewrite makes it start at a place, and returns where it does then: scale is the server's, and
	// may be coarser. It is false, and nothing is changed, when that cannot be.
	rewrite(scale rtsp.Scale, at time.Duration) (time.Duration, bool)
}

// verdict is what a protocol says of the first bytes of a terminal.
type verdict uint8

const (
	no      verdict = iota
	perhaps         // more bytes will tell
	yes
)

// protocols returns all that are spoken. The first that does not say no decides; the last takes
// what is left, and relays unread what it cannot read.
func protocols() []protocol {
	return []protocol{
		mmst{},
		mmsh{},
		rtspProtocol{},
	}
}

// recognise returns what a terminal speaks, nil while that is open.
func (s *Splicer) recognise(b []byte) protocol {
	last := len(s.protocols) - 1
	for _, p := range s.protocols[:last] {
		switch p.looks(b) {
		case perhaps:
			return nil
		case yes:
			return p
		}
	}
	return s.protocols[last]
}

// protocolOf returns what controls a kind of session, nil when nothing here does.
func (s *Splicer) protocolOf(kind session.Protocol) protocol {
	for _, p := range s.protocols {
		if p.moves(kind) {
			return p
		}
	}
	return nil
}

// speak settles the protocol of a connection. The first call counts: it is the terminal's first
// bytes, or the server's when it speaks first, which none of ours does.
func (r *relay) speak(p protocol) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.talk == nil {
		r.talk = p.open(r)
	}
}

// spoken returns the talk of the connection, nil before its protocol is known.
func (r *relay) spoken() talk {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.talk
}

// adopt gives a direction the lane of its protocol, once that is known.
func (d *direction) adopt() {
	if _, waits := d.lane.(*opening); !waits {
		return
	}
	t := d.r.spoken()
	if t == nil {
		return
	}
	up, down := t.lanes()
	if d.dir == bpf.ToServer {
		d.lane = up
	} else {
		d.lane = down
	}
}

// common is what upward and downward have of a lane.
type common interface {
	received(b []byte)
	deadline() time.Time
	tick(now time.Time) error
	wrote(n int)
	over(reset bool)
}

// opening is the lane of a connection whose protocol is not known yet.
type opening struct {
	common
	d     *direction
	buf   []byte
	since time.Time
}

func (o *opening) feed(b []byte) error {
	r := o.d.r
	if o.d.dir == bpf.ToServer && r.spoken() == nil {
		if o.since.IsZero() {
			o.since = time.Now()
		}
		o.buf = append(o.buf, b...)
		p := r.s.recognise(o.buf)
		if p == nil {
			return nil
		}
		b = o.buf
		r.speak(p)
	}
	return o.become(b)
}

// become feeds b to the lane that takes over.
func (o *opening) become(b []byte) error {
	o.buf = nil
	o.d.r.speak(o.d.r.s.protocols[len(o.d.r.s.protocols)-1])
	o.d.adopt()
	if len(b) == 0 {
		return nil
	}
	return o.d.lane.feed(b)
}

func (o *opening) kept() time.Time {
	if len(o.buf) == 0 {
		return time.Time{}
	}
	return o.since
}

// release gives up waiting: the last protocol takes it.
func (o *opening) release() error {
	if len(o.buf) == 0 {
		return nil
	}
	if err := o.become(o.buf); err != nil {
		return err
	}
	return o.d.lane.release()
}
