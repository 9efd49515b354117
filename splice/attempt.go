package splice

import (
	"slices"
	"strings"
	"time"

	"scas/session"
	"scas/tracer"
)

// started decides about a start request of the target. It runs in the transfer's goroutine; the
// relay's waits meanwhile.
func (m *move) started(a ask) started {
	now := m.s.now()
	d, _, known := m.s.sessionOn(a.r.flow, a.session())
	if !a.names(m, d, known) {
		m.mismatch = m.mismatch || m.waiting()
		m.s.count.mismatches.Add(1)
		return started{}
	}
	key, turn := a.key(a.r)
	seek := m.isSeek(key, turn, d, known)
	elsewhere := seek && key.r == nil && m.t.State == session.Attached // on another connection, which plays then
	if seek && !elsewhere || len(m.tried) >= maxStarts || !m.takes(now) {
		return started{} // the viewer's own seek, or too late
	}
	at, have := m.position(now)
	rewritten := have && !elsewhere
	if rewritten {
		at, rewritten = a.rewrite(m.last.Scale, at)
	}
	if !rewritten && m.order.RequirePosition && m.waiting() {
		m.step(session.Fail, session.NotSeekable)
		return started{}
	}
	m.tried[key] = turn
	m.starts++
	m.attempt(&attempt{number: m.starts, r: a.r, key: key, session: a.session(), at: now, userAgent: a.agent()})
	switch {
	case !rewritten:
		m.s.count.startsUnread.Add(1)
	case m.waiting():
		m.s.count.starts.Add(1)
	default:
		m.s.count.startsAgain.Add(1)
	}
	if rewritten {
		m.try.position = session.Figure(at.Seconds())
	}
	m.t.Position, m.t.StartedAt = m.try.position, nil
	if !m.step(session.StartRequest, "") {
		m.s.table.PutTransfer(m.t)
	}
	return started{attempt: m.try.number, hold: rewritten}
}

// isSeek reports whether a start request is one of a film that runs, or follows one that was
// rewritten.
func (m *move) isSeek(key startKey, turn uint32, d tracer.Detail, known bool) bool {
	if known && (d.Record.State == session.Playing || d.Record.State == session.Paused) {
		return true
	}
	before, tried := m.tried[key]
	return tried && (turn == 0 || turn > before)
}

// takes reports whether a start request is rewritten now: until the target plays, and for a
// while after, since a player that hears nothing comes back over TCP.
func (m *move) takes(now time.Time) bool {
	switch m.t.State {
	case session.Offered, session.Armed, session.Attached:
		return true
	case session.Committed, session.Done:
		return now.Sub(*m.t.Times.Committed) < m.s.cfg.Retry
	}
	return false
}

// position returns where a start request that passes now has to start.
func (m *move) position(now time.Time) (at time.Duration, ok bool) {
	if m.left.IsZero() {
		if d, ended := m.s.sessionEnded(m.origin, now); !ended {
			m.last, m.lastAt = d, now
		}
	}
	p := m.last.Record.Position
	if p == nil || p.Rendered == nil {
		return 0, false
	}
	rendered := *p.Rendered
	if !m.left.IsZero() && p.NPT != nil && m.last.Record.State == session.Playing {
		// The screen went on with what its player had when the origin was touched.
		rendered = max(rendered, min(rendered+now.Sub(m.lastAt).Seconds(), *p.NPT))
	}
	return startPosition(m.last.Record, &rendered, m.s.cfg.Overlap)
}

// noted takes what a relay of the target tells.
func (m *move) noted(n note) {
	now := m.s.now()
	switch n.kind {
	case noteReply:
		m.replied(n, now)
	case noteStarted:
		if x := m.numbered(n.attempt); x != nil {
			x.startedAt = session.Figure(n.start.Seconds())
			m.figures()
		}
	case noteRefused:
		if n.r.flow.Server == m.server && (m.waiting() || m.t.State == session.Attached && !m.try.left.IsZero()) {
			m.step(session.Fail, session.ServerRefused(n.refused))
		}
	case noteUnreachable:
		if n.r.flow.Server == m.server && (m.waiting() || m.t.State == session.Attached && !m.try.left.IsZero()) {
			m.step(session.Fail, session.UpstreamUnreachable)
		}
	case noteSetup:
		x := m.on(n.r)
		switch {
		case !m.try.left.IsZero():
			m.try.left = now // it is on its way back
		case x != nil:
			x.steadied = now
		}
	case noteTeardown, noteClosed:
		if x := m.on(n.r); x != nil && x.left.IsZero() {
			m.quits(x, now)
		}
	}
}

// replied takes the server's answer to a start request.
func (m *move) replied(n note, now time.Time) {
	x := m.numbered(n.attempt)
	switch {
	case x == nil:
	case n.again:
		delete(m.tried, x.key)
	case n.refused == "":
		x.replied = now
		if n.start != nil {
			x.startedAt = session.Figure(n.start.Seconds())
		}
		m.figures()
	case m.t.State == session.Attached && !m.quits(x, now):
		m.step(session.Fail, session.ServerRefused(n.refused))
	}
}

// checkTarget looks whether an attached target plays, is gone, or gets nothing.
func (m *move) checkTarget(now time.Time) {
	for i := len(m.tries) - 1; i >= 0; i-- {
		x := m.tries[i]
		d, _, known := m.s.sessionOn(x.r.flow, x.session)
		f := m.facts(x, d, known, now)
		switch {
		case f.plays():
			if x != m.try {
				m.goOn(x)
			}
			m.commit(d, known, now)
			return
		case x != m.try:
		case !x.left.IsZero():
			if now.Sub(x.left) >= m.s.cfg.Return {
				m.step(session.Fail, session.TargetLeft)
				return
			}
		case f.silent >= absent:
			m.step(session.Fail, session.TargetLeft)
			return
		case now.Sub(f.newest()) >= m.s.cfg.NoMedia:
			m.step(session.Fail, session.NoMedia)
			return
		}
	}
}

// refusal is how long a target that refused media may have said nothing of it before it counts as
// taking them: a host sends no more than one such ICMP a second (Linux, icmp_ratelimit).
const refusal = 2 * time.Second

// facts are what decides whether a target plays (DESIGN §5.1.1).
type facts struct {
	now         time.Time
	asked       time.Time     // start request
	replied     time.Time     // 200, zero: none
	left        bool          // TEARDOWN, or the connection ended
	acked       bool          // interleaved: media bytes were acknowledged
	interleaved bool          // nothing but that counts
	first, last time.Time     // media over UDP since the PLAY
	steadied    time.Time     // newest SETUP
	receipt     time.Time     // newest receiver report that names one of the sources
	refused     time.Time     // newest ICMP unreachable since the start request; zero: none
	unsaid      bool          // it has not acknowledged all that was written to it: the reply, perhaps
	silent      time.Duration // since anything of its TCP was heard
	settle      time.Duration // of the player
}

func (m *move) facts(x *attempt, d tracer.Detail, known bool, now time.Time) facts {
	r := x.r
	f := facts{
		now: now, asked: x.at, replied: x.replied, left: !x.left.IsZero(), steadied: x.steadied,
		unsaid: unsent(r.terminal) != 0, silent: silence(r.terminal),
	}
	if mark := r.media.Load(); mark > 0 {
		f.acked = r.acked() >= mark
	}
	agent := x.userAgent
	if known {
		f.interleaved = d.Record.Transport == session.TCP || d.Record.Transport == session.HTTP
		f.first, f.last, f.receipt = d.FirstMedia, d.LastMedia, d.Receipt
		if d.Unreachable.After(f.asked) {
			f.refused = d.Unreachable
		}
		if d.Record.UserAgent != nil {
			agent = *d.Record.UserAgent
		}
	}
	f.settle = m.s.settle(agent)
	return f
}

// settle returns how long a player gets over UDP before it counts as playing: longer than
// after it would fall back to TCP (rtsp-in-the-wild §2.3).
func (s *Splicer) settle(userAgent string) time.Duration {
	switch {
	case strings.Contains(userAgent, "GStreamer"):
		return s.cfg.SettleGst
	case strings.Contains(userAgent, "LibVLC"):
		return s.cfg.SettleVLC
	}
	return s.cfg.Settle
}

// plays decides.
func (f facts) plays() bool {
	switch {
	case f.replied.IsZero() || f.left:
		return false
	case f.acked:
		return true
	case f.interleaved || f.first.IsZero() || f.last.Before(f.asked):
		return false
	case f.receipt.After(latest(f.replied, f.refused)):
		return true
	case f.now.Sub(f.refused) < refusal, f.unsaid, f.silent > hearing:
		return false
	}
	since := latest(f.first, f.steadied, f.refused)
	// A target that gets media for less than half of the time gets too little to play.
	return f.now.Sub(since) >= f.settle && f.last.Sub(since) >= f.settle/2 && f.now.Sub(f.last) < f.settle
}

// newest returns the last sign of progress. Media that the target refuses are none.
func (f facts) newest() time.Time {
	if !f.refused.IsZero() {
		return latest(f.asked, f.replied, f.steadied)
	}
	return latest(f.asked, f.replied, f.steadied, f.last)
}

func latest(ts ...time.Time) time.Time { return slices.MaxFunc(ts, time.Time.Compare) }

// commit is the moment the target plays: from here on the origin is ended.
func (m *move) commit(target tracer.Detail, known bool, now time.Time) {
	d, ended := m.s.sessionEnded(m.origin, now)
	if ended {
		m.step(session.Fail, session.OriginEnded)
		return
	}
	m.last, m.lastAt = d, now
	if p := d.Record.Position; p != nil && p.NPT != nil && m.t.StartedAt != nil {
		m.t.Repeated = session.Figure(*p.NPT - *m.t.StartedAt)
	}
	m.t.OriginBuffered = buffered(d)
	if !m.step(session.TargetPlays, "") {
		return
	}
	m.left = now
	e := ending{firstMedia: now}
	if known && !target.FirstMedia.IsZero() {
		e.firstMedia = target.FirstMedia
	}
	m.s.wg.Go(func() { m.endings <- m.s.endOrigin(m.s.ctx, d, m.origin, e) })
}

// buffered reports whether a player holds so much that nothing on the wire can stop it soon:
// far more than the buffer its kind keeps when it is fed in real time.
func buffered(d tracer.Detail) bool {
	p := d.Record.Position
	if p == nil || p.NPT == nil || p.Rendered == nil {
		return false
	}
	const much = 5 * time.Second
	return *p.NPT-*p.Rendered > (d.Depth + much).Seconds()
}
