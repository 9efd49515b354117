package tracer

import (
	"net/netip"
	"time"

	"scas/bpf"
	"scas/session"
)

// What one terminal gets of what all terminals can make a Decoder keep; enough for a household behind
// one address.
const (
	shareConns    = 4096
	shareSessions = 256
	shareContents = 64
	shareEnded    = 100     // sessions that are over, and still shown
	shareRead     = 4 << 20 // bytes of messages on relayed connections, in a second; of others the kernel sends no more up
	shareTold     = 64      // changes of sessions told at once in a second; what is beyond waits for its end
)

// holding is what a Decoder keeps for one terminal.
type holding struct {
	conns, sessions, contents, kept int
	told, read                      int       // in the second that began at
	since, readSince                time.Time // these
}

// maskAddr returns the address that stands for all of the terminal's.
func (d *Decoder) maskAddr(a netip.Addr) netip.Addr {
	if a = a.Unmap(); a.Is4() {
		return a
	}
	p, err := a.Prefix(d.cfg.IPv6Prefix)
	if err != nil {
		return a
	}
	return p.Addr()
}

// holds returns what is kept for the terminal with address a.
func (d *Decoder) holds(a netip.Addr) *holding {
	a = d.maskAddr(a)
	h := d.holdings[a]
	if h == nil {
		h = &holding{}
		d.holdings[a] = h
	}
	return h
}

// forgetHoldings drops those of terminals for which nothing is kept.
func (d *Decoder) forgetHoldings(now time.Time) {
	for a, h := range d.holdings {
		if h.conns|h.sessions|h.contents|h.kept == 0 && now.Sub(h.since) > time.Second {
			delete(d.holdings, a)
		}
	}
}

// roomFor reports whether a terminal that has so many of what all have in all may have one more, and
// counts that it may not.
func (d *Decoder) roomFor(all, most, has, share int) bool {
	switch {
	case has >= share:
		d.stats.OverShare++
	case all < most:
		return true
	}
	d.stats.Refused++
	return false
}

// mayRead reports whether the bytes of a relayed connection are read: they are not while its terminal
// has had its share of this second, and the connection has a gap then.
func (d *Decoder) mayRead(c *conn, dir bpf.Dir, at time.Time) bool {
	h := d.holds(c.flow.Terminal.Addr())
	if age := at.Sub(h.readSince); age >= time.Second || age < 0 {
		h.readSince, h.read = at, 0
	}
	if h.read < shareRead {
		return true
	}
	d.stats.OverShare++
	if x := c.half(dir); x.synced || len(x.buf) > 0 {
		x.buf, x.synced, x.looked, x.need = nil, false, 0, 0
		d.account(c)
		d.gap(c, dir, at)
	}
	return false
}

// roomForSession reports whether a session of the terminal with address a may open.
func (d *Decoder) roomForSession(a netip.Addr) bool {
	return d.roomFor(len(d.sessions), maxSessions, d.holds(a).sessions, shareSessions)
}

// enter puts a session into the table.
func (d *Decoder) enter(s *sess) {
	if _, again := d.sessions[s.key]; !again {
		d.holds(s.key.terminal).sessions++
	}
	d.sessions[s.key] = s
}

// leave takes a session out of the table.
func (d *Decoder) leave(s *sess) {
	if _, ok := d.sessions[s.key]; ok {
		d.holds(s.key.terminal).sessions--
		delete(d.sessions, s.key)
	}
}

// keepContent keeps a description. A terminal with too many of them loses its own.
func (d *Decoder) keepContent(k contentKey, x *content) {
	if _, again := d.contents[k]; again {
		d.contents[k] = x
		return
	}
	if d.holds(k.terminal).contents >= shareContents {
		own := d.maskAddr(k.terminal)
		d.dropContents(func(o contentKey) bool { return d.maskAddr(o.terminal) == own })
		d.stats.OverShare++
	}
	if len(d.contents) >= maxContents {
		d.dropContents(func(contentKey) bool { return true })
	}
	d.holds(k.terminal).contents++
	d.contents[k] = x
}

func (d *Decoder) dropContents(which func(contentKey) bool) {
	for k := range d.contents {
		if which(k) {
			d.holds(k.terminal).contents--
			delete(d.contents, k)
		}
	}
}

// changed reports a session, at once or, when its terminal's sessions change all the time, with the
// next Tick.
func (d *Decoder) changed(s *sess, at time.Time) {
	h := d.holds(s.key.terminal)
	if age := at.Sub(h.since); age >= time.Second || age < 0 {
		h.since, h.told = at, 0
	}
	if h.told++; h.told > shareTold {
		if !s.late {
			s.late = true
			d.waiting = append(d.waiting, s)
		}
		return
	}
	d.tell(s, at)
}

func (d *Decoder) tell(s *sess, at time.Time) {
	s.late, s.told = false, true
	d.sink.Session(s.record(at))
}

// tellLate reports the sessions that had to wait. Nobody hears of one that came and went meanwhile.
func (d *Decoder) tellLate(at time.Time) {
	waiting := d.waiting
	d.waiting = nil
	for _, s := range waiting {
		switch {
		case !s.late:
		case s.rec.State == session.Ended && !s.told:
			d.stats.OverShare++
			delete(d.byID, s.rec.ID)
		default:
			d.tell(s, at)
		}
	}
}
