package tracer

import (
	"slices"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/rtsp"
)

// What is done where bytes of a connection were not seen: the sessions on it say so, and what those
// bytes can have been is told from what is there. Replies describe themselves; a request whose reply
// may be in the hole was probably carried out.

// gap counts a hole in one direction of a connection, and marks its sessions.
func (d *Decoder) gap(c *conn, dir bpf.Dir, at time.Time) {
	d.stats.Gaps++
	c.gaps = true
	if dir == bpf.ToTerminal {
		c.holed = at
	}
	d.doubt(c, at)
}

// doubt marks the sessions of a connection: facts of theirs may be missing.
func (d *Decoder) doubt(c *conn, at time.Time) {
	for _, s := range slices.Clone(c.sessions) {
		if s.control == c.flow && s.rec.State != session.Ended && !s.rec.Lossy {
			s.rec.Lossy = true
			d.changed(s, at)
		}
	}
}

// lost looks for bytes of c that an end acknowledged and nobody saw, or that did not come for long, and
// for requests whose reply was in a hole.
func (d *Decoder) lost(c *conn, now time.Time) {
	d.ripe(c, now)
	for _, dir := range []bpf.Dir{bpf.ToServer, bpf.ToTerminal} {
		h := c.half(dir)
		if len(h.order.held) > 0 {
			h.order.release(now, d.late(c, dir)) // nothing came that would have
		}
		if h.order.passed(now) {
			h.buf, h.synced, h.looked, h.need = nil, false, 0, 0
			d.gap(c, dir, now)
		}
	}
	if !c.holed.IsZero() && now.Sub(c.holed) > unseenFor {
		d.assume(c, now)
		c.holed = time.Time{}
	}
}

// assume carries out the PLAY and PAUSE requests of before the hole that were not answered behind it.
func (d *Decoder) assume(c *conn, at time.Time) {
	for i := range c.pending {
		r := &c.pending[i]
		s := d.named(c, r.session)
		if s == nil || r.assumed || r.at.After(c.holed) {
			continue
		}
		r.assumed, s.rec.Lossy = true, true
		switch r.method {
		case "PLAY":
			d.played(s, *r, &rtsp.Message{}, at)
		case "PAUSE":
			d.haltedAt(s, &rtsp.Message{}, at)
		}
	}
}

// orphan takes a reply whose request was not seen. Only that to a PLAY has an RTP-Info
// (RFC 2326 §12.33); where it says it starts was asked for, as far as is known.
func (d *Decoder) orphan(c *conn, m *rtsp.Message, at time.Time) {
	d.stats.Undecoded++
	c.gaps = true
	d.doubt(c, at)
	s := d.named(c, m.Get("Session"))
	if s == nil || m.Status() >= 300 || m.Get("RTP-Info") == "" {
		return
	}
	d.played(s, request{method: "PLAY", span: m.Get("Range")}, m, at)
}

// Bounds on the segments of one connection that wait for what they acknowledge.
const (
	maxEarly     = 4
	maxEarlySize = 4 << 10 // bytes of one
)

// early keeps a segment of the server that acknowledges what its terminal did not send yet, as far as
// is known: a recorder with several queues gives a reply before its request.
func (d *Decoder) early(c *conn, s Segment) bool {
	o := &c.toServer.order
	if !d.whole || s.Dir != bpf.ToTerminal || s.Flags&ACK == 0 || len(s.Payload) == 0 || !o.started {
		return false
	}
	if ahead := int32(s.Ack - o.next); ahead <= 1 || ahead > maxHeld || len(c.early) >= maxEarly || len(s.Payload) > maxEarlySize {
		return false // 1: a FIN
	}
	s.Payload = slices.Clone(s.Payload)
	c.early = append(c.early, s)
	return true
}

// ripe hands over the early segments that waited long enough.
func (d *Decoder) ripe(c *conn, now time.Time) {
	for len(c.early) > 0 && d.conns[c.flow] == c {
		s := c.early[0]
		if int32(s.Ack-c.toServer.order.next) > 1 && now.Sub(s.At) <= reorderFor {
			return
		}
		c.early = c.early[1:]
		d.segment(c, s)
	}
}
