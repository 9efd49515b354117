package tracer

import (
	"slices"
	"time"
)

// Bounds on what one direction of a connection may hold back while a segment is missing.
const (
	maxHeld      = 256 << 10              // bytes
	maxHeldParts = 256                    // segments
	maxHeldFor   = 2 * time.Second        // capture time; above any retransmission timeout seen
	reorderFor   = 60 * time.Millisecond  // a segment that was acknowledged may still come up so late
	unseenFor    = 200 * time.Millisecond // the same where nothing behind it waits
)

// order puts the segments of one direction of a TCP connection in sequence. Segments may
// come twice, overlap, come late, or never; what never comes is a hole, which the reader is
// told of. Not safe for concurrent use.
type order struct {
	next    uint32 // sequence number of the next byte to hand out
	started bool
	held    []part // ahead of next, sorted by distance
	bytes   int
	acked   uint32 // by the receiver: up to there nothing is sent again
	haveAck bool
	unseen  time.Time // since then acked is ahead of next, and nothing is held
}

type part struct {
	seq  uint32
	at   time.Time
	data []byte
}

// syn starts the stream: the first byte follows the SYN.
func (o *order) syn(seq uint32) {
	if !o.started {
		o.next, o.started = seq+1, true
	}
}

// late reports whether a SYN is that of the stream, and came behind bytes of it.
func (o *order) late(seq uint32) bool {
	d := int32(o.next - (seq + 1))
	return o.started && d >= 0 && d < 1<<16
}

// add takes one segment and calls out for every run of bytes that is now in order. hole is
// true for a run that does not follow the one before. skip says that the bytes before seq
// were left out on purpose and will not come.
func (o *order) add(seq uint32, b []byte, at time.Time, skip bool, out func(b []byte, at time.Time, hole bool)) {
	if len(b) == 0 {
		return
	}
	hole := false
	if !o.started {
		o.next, o.started, hole = seq, true, true
	}
	ahead := int32(seq - o.next)
	switch {
	case ahead <= 0:
		if -int(ahead) >= len(b) {
			return // all of it seen
		}
		b = b[-int(ahead):]
		o.next += uint32(len(b))
		out(b, at, hole)
	case skip:
		o.held, o.bytes = nil, 0
		o.next = seq + uint32(len(b))
		out(b, at, true)
	default:
		o.hold(part{seq, at, b})
	}
	o.release(at, out)
}

// ack takes the receiver's acknowledgement: what it has and we have not was missed.
func (o *order) ack(ack uint32, at time.Time, out func(b []byte, at time.Time, hole bool)) {
	if o.started && int32(ack-o.next) > 4*maxHeld {
		return // of no byte of this stream
	}
	if !o.haveAck || int32(ack-o.acked) > 0 {
		o.acked, o.haveAck = ack, true
	}
	if len(o.held) > 0 {
		o.release(at, out)
	}
	switch {
	case !o.started || int32(o.acked-o.next) <= 1 || len(o.held) > 0: // 1: a FIN
		o.unseen = time.Time{}
	case o.unseen.IsZero():
		o.unseen = at
	}
}

// passed gives up what the receiver acknowledged and nobody saw, behind which nothing came. It
// reports whether there was any.
func (o *order) passed(now time.Time) bool {
	if o.unseen.IsZero() || now.Sub(o.unseen) < unseenFor {
		return false
	}
	o.unseen = time.Time{}
	if len(o.held) > 0 || int32(o.acked-o.next) <= 1 {
		return false
	}
	o.next = o.acked
	return true
}

// flush hands out all that is held: nothing comes any more.
func (o *order) flush(at time.Time, out func(b []byte, at time.Time, hole bool)) {
	if len(o.held) > 0 {
		o.acked, o.haveAck = o.held[len(o.held)-1].seq, true
		o.release(at.Add(reorderFor+1), func(b []byte, _ time.Time, hole bool) { out(b, at, hole) })
	}
}

func (o *order) hold(p part) {
	p.data = slices.Clone(p.data)
	i, _ := slices.BinarySearchFunc(o.held, p, func(a, b part) int { return int(int32(a.seq - b.seq)) })
	o.held = slices.Insert(o.held, i, p)
	o.bytes += len(p.data)
}

// release hands out what has become in order, and gives a missing segment up when a bound is
// hit.
func (o *order) release(now time.Time, out func(b []byte, at time.Time, hole bool)) {
	for len(o.held) > 0 {
		p := o.held[0]
		ahead := int32(p.seq - o.next)
		missed := o.haveAck && int32(o.acked-p.seq) >= 0 && now.Sub(p.at) > reorderFor
		lost := missed || o.bytes > maxHeld || len(o.held) > maxHeldParts || now.Sub(p.at) > maxHeldFor
		if ahead > 0 && !lost {
			return
		}
		o.held = slices.Delete(o.held, 0, 1)
		o.bytes -= len(p.data)
		if ahead <= 0 {
			if -int(ahead) >= len(p.data) {
				continue
			}
			p.data = p.data[-int(ahead):]
			p.seq = o.next
		}
		o.next = p.seq + uint32(len(p.data))
		out(p.data, now, ahead > 0)
	}
}
