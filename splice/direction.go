package splice

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"scas/bpf"
)

// lane is what the protocol of a connection does with the bytes of one direction. Its methods run
// in the direction's goroutine.
type lane interface {
	// received is called with everything read, before anything else.
	received(b []byte)
	// feed takes bytes that were read, in order, and lets go on what may.
	feed(b []byte) error
	// kept returns since when something unfinished is kept back, zero when nothing is.
	kept() time.Time
	// release lets go on what is kept back.
	release() error
	// deadline is when the lane wants tick to be called, zero for never.
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
	lane     lane // opening until the protocol is known
	in       *source
	mail     chan func()

	deaf  bool      // dst takes nothing any more
	limit time.Time // read deadline that is set on src
	heard time.Time // since the connection is half closed: when bytes came last
	wakes atomic.Uint64
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
	d.lane.over(reset)
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
			d.lane.received(b)
			if ferr := d.lane.feed(b); ferr != nil {
				return ferr
			}
			d.in.done()
		}
		if err != nil {
			if ferr := d.lane.release(); ferr != nil {
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
	if len(d.mail) > 0 {
		d.adopt() // a letter is for the protocol
	}
	for len(d.mail) > 0 {
		(<-d.mail)()
	}
	other := d.r.other(d)
	if d.limit.IsZero() && !other.ended() && !d.r.finishing.Load() && d.lane.kept().IsZero() && d.lane.deadline().IsZero() {
		return nil // the way of media
	}
	now := time.Now()
	if other.ended() && d.heard.IsZero() {
		d.heard = now
	}
	switch due, kept := d.lane.deadline(), d.lane.kept(); {
	case d.deaf && other.ended():
		return net.ErrClosed
	case d.r.finishing.Load() && !now.Before(d.r.finishBy()):
		return errFinished
	case !d.heard.IsZero() && now.Sub(d.heard) >= idleHalf:
		return errFinished
	case !due.IsZero() && !now.Before(due):
		return d.lane.tick(now)
	case !kept.IsZero() && now.Sub(kept) >= requestHold:
		d.r.s.count.requestsReleased.Add(1)
		return d.lane.release()
	}
	return nil
}

// wanted returns when the next read has to return at the latest, zero for never.
func (d *direction) wanted() time.Time {
	first := d.lane.deadline()
	add := func(t time.Time) {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	if d.r.finishing.Load() {
		add(d.r.finishBy())
	}
	if kept := d.lane.kept(); !kept.IsZero() {
		add(kept.Add(requestHold))
	}
	if !d.heard.IsZero() {
		add(d.heard.Add(idleHalf))
	}
	return first
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
	d.lane.wrote(n)
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
