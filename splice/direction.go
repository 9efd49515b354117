package splice

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"scas/bpf"
	"scas/tracer/rtsp"
)

// role is what differs between the two directions. Its methods run in the direction's
// goroutine.
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
	// received is called with everything read, before anything else.
	received(b []byte)
	// deadline is when the role wants tick to be called, zero for never.
	deadline() time.Time
	tick(now time.Time) error
	// wrote is called after each write.
	wrote(n int)
	// over is called when the source has ended, before that is passed on.
	over(reset bool)
}

// direction is one way of a relay: one goroutine, from one leg to the other.
type direction struct {
	r        *relay
	dir      bpf.Dir
	src, dst *net.TCPConn
	role     role
	in       *source
	w        walker
	mail     chan func()

	withheld bool      // the message under way is kept back
	since    time.Time // when its first byte came
	discard  bool      // frames are thrown away from the next boundary on
	dropping bool      // the frame under way is thrown away
	inject   []byte    // to be written at the next boundary, before it
	deaf     bool      // dst takes nothing any more
	limit    time.Time // read deadline that is set on src
	heard    time.Time // since the connection is half closed: when bytes came last
	wakes    atomic.Uint64
}

// requestHold is how long an unfinished message is kept back: a whole one comes in one piece
// or, typed by hand or sent byte by byte, within seconds.
const requestHold = 5 * time.Second

// errFinished ends a direction in order.
var errFinished = errors.New("finished")

func newDirection(r *relay, dir bpf.Dir, src, dst *net.TCPConn, from *buffers) (*direction, error) {
	in, err := newSource(src, from)
	return &direction{r: r, dir: dir, src: src, dst: dst, in: in, mail: make(chan func(), 16)}, err
}

// do has fn run in the direction's goroutine. It is false when the relay has ended; fn may
// then not run.
func (d *direction) do(fn func()) bool {
	select {
	case d.mail <- fn:
		d.wake()
		return true
	case <-d.r.gone:
		return false
	}
}

// wake makes a pending read return.
func (d *direction) wake() {
	d.wakes.Add(1)
	d.src.SetReadDeadline(longAgo())
}

func longAgo() time.Time { return time.Unix(1, 0) }

// run relays until the source ends.
func (d *direction) run() {
	err := d.pump()
	reset := d.r.reset[d.dir].Load() || !errors.Is(err, io.EOF) && !errors.Is(err, errFinished)
	d.role.over(reset)
	d.r.ended[d.dir].Store(true)
	d.r.s.t.StreamClosed(d.r.flow, d.dir, d.r.s.now())
	if reset {
		d.r.abort()
		return
	}
	d.dst.CloseWrite()
	d.r.other(d).wake() // it watches a half-closed connection from now on
}

func (d *direction) ended() bool { return d.r.ended[d.dir].Load() }

// pump relays. The error is io.EOF when the source sent FIN, errFinished, or what ended it.
func (d *direction) pump() error {
	for {
		b, err := d.read()
		if len(b) > 0 {
			d.role.received(b)
			if ferr := d.feed(b); ferr != nil {
				return ferr
			}
			d.in.done()
		}
		if err != nil {
			if ferr := d.release(); ferr != nil {
				return ferr
			}
			return err
		}
	}
}

// read waits for bytes. In between it runs what is in the mailbox and what the role's
// deadline asks for.
func (d *direction) read() ([]byte, error) {
	for {
		wakes := d.wakes.Load()
		if err := d.errands(); err != nil {
			return nil, err
		}
		if want := d.wanted(); !want.Equal(d.limit) {
			d.src.SetReadDeadline(want)
			d.limit = want
		}
		if d.wakes.Load() != wakes {
			continue // the deadline just set may have hidden it
		}
		b, err := d.in.next()
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			if !d.heard.IsZero() {
				d.heard = time.Now()
			}
			return b, err
		}
		d.limit = longAgo() // passed, or set by wake: set it anew in any case
	}
}

// errands runs the mailbox and what is due.
func (d *direction) errands() error {
	for len(d.mail) > 0 {
		(<-d.mail)()
	}
	other := d.r.other(d)
	if d.limit.IsZero() && !other.ended() && !d.r.finishing.Load() && !d.withheld && d.role.deadline().IsZero() {
		return nil // the way of media
	}
	now := time.Now()
	if other.ended() && d.heard.IsZero() {
		d.heard = now
	}
	switch due := d.role.deadline(); {
	case d.deaf && other.ended():
		return net.ErrClosed
	case d.r.finishing.Load() && !now.Before(d.r.finishBy()):
		return errFinished
	case !d.heard.IsZero() && now.Sub(d.heard) >= idleHalf:
		return errFinished
	case !due.IsZero() && !now.Before(due):
		return d.role.tick(now)
	case d.withheld && now.Sub(d.since) >= requestHold:
		d.r.s.count.requestsReleased.Add(1)
		return d.release()
	}
	return nil
}

// wanted returns when the next read has to return at the latest, zero for never.
func (d *direction) wanted() time.Time {
	first := d.role.deadline()
	add := func(t time.Time) {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	if d.r.finishing.Load() {
		add(d.r.finishBy())
	}
	if d.withheld {
		add(d.since.Add(requestHold))
	}
	if !d.heard.IsZero() {
		add(d.heard.Add(idleHalf))
	}
	return first
}

// feed takes bytes that were read through the framing and lets go on what may.
func (d *direction) feed(b []byte) error {
	from := 0 // b[from:i] goes on
	for i := 0; i < len(b) && !d.w.blind; {
		if d.w.boundary() {
			cut, err := d.begin(b[i], b[from:i])
			if err != nil {
				return err
			}
			if cut {
				from = i
			}
		}
		n, s := d.w.step(b[i:])
		i += n
		switch s {
		case stepFrame:
			if d.dropping {
				d.r.s.count.dropped.Add(uint64(n))
				from = i
			} else if d.w.whole {
				d.role.frame(d.w.last)
			}
		case stepPart:
			if d.withheld {
				from = i
			}
		case stepMessage:
			out, err := d.unit()
			if err != nil {
				return err
			}
			if out {
				from = i
			}
		case stepBlind:
			d.r.s.count.notRTSP.Add(1)
			if d.withheld {
				from = i
				if err := d.release(); err != nil {
					return err
				}
			}
			d.w.msg = nil
		}
	}
	return d.pass(b[from:])
}

// begin decides about the unit whose first byte is c. ahead are bytes before it that may go
// on; cut tells that they did.
func (d *direction) begin(c byte, ahead []byte) (cut bool, err error) {
	d.dropping = c == '$' && d.discard
	d.withheld = c != '$' && d.role.withhold()
	if !d.dropping && !d.withheld && d.inject == nil {
		return false, nil
	}
	if err := d.pass(ahead); err != nil {
		return true, err
	}
	if d.withheld {
		d.since = time.Now()
	}
	return true, d.injectNow()
}

// unit handles a whole message. cut tells that it went on already, or will not.
func (d *direction) unit() (cut bool, err error) {
	u := d.w.unit
	sent := !d.withheld
	d.withheld = false
	switch {
	case u.Message == nil && sent:
		return false, nil
	case u.Message == nil:
		return true, d.pass(u.Raw)
	}
	out := d.role.message(u.Message, sent)
	if sent {
		return false, nil
	}
	if err := d.pass(out); err != nil {
		return true, err
	}
	return true, d.injectNow()
}

// release lets the message go on that is kept back.
func (d *direction) release() error {
	if !d.withheld {
		return nil
	}
	d.withheld = false
	return d.pass(d.w.msg)
}

// injectNow writes what is to be written at a boundary.
func (d *direction) injectNow() error {
	b := d.inject
	if b == nil {
		return nil
	}
	d.inject = nil
	d.r.s.count.inserted.Add(uint64(len(b)))
	return d.pass(b)
}

// put writes b at the next boundary, which may be now. Nothing of a message that is kept back
// has gone on yet, so before it is a boundary too.
func (d *direction) put(b []byte) error {
	d.inject = append(d.inject, b...)
	if d.w.blind || !d.w.boundary() && !d.withheld {
		return nil
	}
	return d.injectNow()
}

func (d *direction) pass(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return d.role.output(b)
}

// write writes to dst. What dst does not take any more is counted: the reading side of that
// leg will see why, and ends the relay.
func (d *direction) write(b []byte) error {
	count := &d.r.s.count
	if d.deaf || d.r.finishing.Load() {
		count.undelivered.Add(uint64(len(b)))
		return nil
	}
	n, err := d.dst.Write(b)
	d.role.wrote(n)
	if err == nil {
		return nil
	}
	count.undelivered.Add(uint64(len(b) - n))
	if d.r.finishing.Load() {
		return nil
	}
	d.deaf = true
	d.r.reset[1-d.dir].Store(true)
	if d.r.other(d).ended() {
		return err
	}
	other := d.r.other(d)
	other.dst.SetWriteDeadline(time.Now().Add(flushMax)) // it may be stuck and not see it
	other.wake()
	return nil
}
