package splice

import (
	"time"

	"scas/tracer/rtsp"
)

// role is what differs between the two directions of RTSP.
type role interface {
	// withhold is asked at the first byte of a message: shall it be kept until it is whole?
	withhold() bool
	// message is called with every message, in order. sent is false when it was withheld: the
	// result is then what goes on instead, nil for nothing.
	message(m *rtsp.Message, sent bool) []byte
	// frame is called at the end of every interleaved frame.
	frame(f frame)
	// output takes bytes that go on. It writes or queues them.
	output(b []byte) error

	// What follows is as in lane.
	received(b []byte)
	deadline() time.Time
	tick(now time.Time) error
	wrote(n int)
	over(reset bool)
}

// channels are some of those that a connection can have interleaved.
type channels [4]uint64

func (c *channels) add(n uint8)     { c[n>>6] |= 1 << (n & 63) }
func (c channels) has(n uint8) bool { return c[n>>6]>>(n&63)&1 != 0 }

func (c *channels) join(d channels) {
	for i := range c {
		c[i] |= d[i]
	}
}

// rtspLane cuts one direction of RTSP into messages and interleaved frames.
type rtspLane struct {
	role
	d *direction
	w walker

	withheld bool      // the message under way is kept back
	since    time.Time // when its first byte came
	discard  channels  // whose frames are thrown away from the next boundary on
	dropping bool      // the frame under way is thrown away
	half     bool      // its first byte is kept back: the next one tells
	inject   []byte    // to be written at the next boundary, before it
}

func (l *rtspLane) kept() time.Time {
	if !l.withheld {
		return time.Time{}
	}
	return l.since
}

// feed takes bytes that were read through the framing and lets go on what may.
func (l *rtspLane) feed(b []byte) error {
	if err := l.second(b[0]); err != nil {
		return err
	}
	from := 0 // b[from:i] goes on
	for i := 0; i < len(b) && !l.w.blind; {
		if l.w.boundary() {
			cut, err := l.begin(b[i:], b[from:i])
			if err != nil {
				return err
			}
			if cut {
				from = i
			}
		}
		n, s := l.w.step(b[i:])
		i += n
		switch s {
		case stepFrame:
			if l.dropping {
				l.d.r.s.count.dropped.Add(uint64(n))
				from = i
			} else if l.w.whole {
				l.role.frame(l.w.last)
			}
		case stepPart:
			if l.withheld {
				from = i
			}
		case stepMessage:
			out, err := l.unit()
			if err != nil {
				return err
			}
			if out {
				from = i
			}
		case stepBlind:
			l.d.r.s.count.notRTSP.Add(1)
			if l.withheld {
				from = i
				if err := l.release(); err != nil {
					return err
				}
			}
			l.w.msg = nil
		}
	}
	return l.pass(b[from:])
}

// begin decides about the unit that b begins with. ahead are bytes before it that may go on; cut
// tells that they did.
func (l *rtspLane) begin(b, ahead []byte) (cut bool, err error) {
	frame, some := b[0] == '$', l.discard != channels{}
	l.half = frame && some && len(b) == 1
	l.dropping = l.half || frame && some && l.discard.has(b[1])
	l.withheld = !frame && l.role.withhold()
	if !l.dropping && !l.withheld && l.inject == nil {
		return false, nil
	}
	if err := l.pass(ahead); err != nil {
		return true, err
	}
	if l.withheld {
		l.since = time.Now()
	}
	return true, l.injectNow()
}

// second decides about a frame of which only the first byte had come. c is the second.
func (l *rtspLane) second(c byte) error {
	if !l.half {
		return nil
	}
	if l.discard.has(c) {
		l.half = false
		return nil
	}
	return l.giveBack()
}

// giveBack lets the first byte of a frame go on that is not thrown away.
func (l *rtspLane) giveBack() error {
	l.half, l.dropping = false, false
	l.d.r.s.count.inserted.Add(1) // it was counted as dropped
	return l.pass([]byte{'$'})
}

// unit handles a whole message. cut tells that it went on already, or will not.
func (l *rtspLane) unit() (cut bool, err error) {
	u := l.w.unit
	sent := !l.withheld
	l.withheld = false
	switch {
	case u.Message == nil && sent:
		return false, nil
	case u.Message == nil:
		return true, l.pass(u.Raw)
	}
	out := l.role.message(u.Message, sent)
	if sent {
		return false, nil
	}
	if err := l.pass(out); err != nil {
		return true, err
	}
	return true, l.injectNow()
}

// release lets the message go on that is kept back.
func (l *rtspLane) release() error {
	if l.half {
		return l.giveBack()
	}
	if !l.withheld {
		return nil
	}
	l.withheld = false
	return l.pass(l.w.msg)
}

// injectNow writes what is to be written at a boundary.
func (l *rtspLane) injectNow() error {
	b := l.inject
	if b == nil {
		return nil
	}
	l.inject = nil
	l.d.r.s.count.inserted.Add(uint64(len(b)))
	return l.pass(b)
}

// put writes b at the next boundary, which may be now. Nothing of a message that is kept back
// has gone on yet, so before it is a boundary too.
func (l *rtspLane) put(b []byte) error {
	l.inject = append(l.inject, b...)
	if l.w.blind || !l.w.boundary() && !l.withheld {
		return nil
	}
	return l.injectNow()
}

func (l *rtspLane) pass(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return l.output(b)
}
