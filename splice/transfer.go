package splice

import (
	"net/netip"
	"sync/atomic"
	"time"

	"scas/session"
	"scas/tracer"
	"scas/tracer/rtsp"
)

// checkEvery is how often a transfer looks at what no message tells: clocks, counters, and
// whether the origin is still there.
const checkEvery = 50 * time.Millisecond

// maxStarts bounds the start requests one transfer rewrites.
const maxStarts = 32

// move is one transfer and the goroutine that owns it, from the order to the end of the time
// in which its target may come back.
type move struct {
	s      *Splicer
	id     string
	key    netip.Addr // of the target
	to     netip.Addr
	origin string // session
	order  session.Order
	urls   []string // that name the content
	server netip.AddrPort

	asks     chan ask
	notes    chan note
	commands chan command
	endings  chan ending
	gone     chan struct{} // closed when the goroutine has ended
	over     atomic.Bool   // the transfer has reached an end

	// What follows is the goroutine's own.
	t        session.Transfer
	last     tracer.Detail // of the origin, while it was there
	lastAt   time.Time
	left     time.Time // when the origin was touched; zero before
	tried    map[startKey]uint32
	starts   int        // start requests so far
	try      *attempt   // the newest start request that goes on; one of nothing before the first
	tries    []*attempt // all that go on, try behind the others
	mismatch bool       // the target asked for something else
}

// startKey is what makes a start request a start: the first one with it.
type startKey struct {
	r  *relay // nil: on whatever connection
	id string
}

// attempt is one start request of the target and what came of it.
type attempt struct {
	number    int
	r         *relay
	key       startKey
	session   string // on the connection
	at        time.Time
	replied   time.Time // good
	steadied  time.Time // newest SETUP after the reply
	left      time.Time // TEARDOWN, or the connection ended
	userAgent string
	position  *float64 // as in session.Transfer
	startedAt *float64
}

type noteKind uint8

// What a relay tells a transfer.
const (
	noteSetup       noteKind = iota // the target goes on towards a start request
	noteTeardown                    // the target hung up
	noteReply                       // the server answered a start request
	noteStarted                     // its first media came
	noteRefused                     // the server refused what comes before a start request
	noteClosed                      // a connection of the target ended
	noteUnreachable                 // the server could not be reached for the target
)

type note struct {
	kind    noteKind
	r       *relay
	attempt int
	refused string         // status or result code; "": not
	again   bool           // the request will come again, signed
	start   *time.Duration // where the server says it starts, or does
}

// ask is a start request of the target; the transfer may change it.
type ask struct {
	r *relay
	start
	answer chan started
}

// started says what became of an ask: attempt 0 means that it was not touched.
type started struct {
	attempt int
	hold    bool
}

type command struct {
	ev     session.Event
	result chan bool
}

func newMove(s *Splicer, id string, key netip.Addr, o session.Order, d tracer.Detail, now time.Time) *move {
	m := &move{
		s: s, id: id, key: key, to: o.To.IP, origin: o.Session, order: o, server: d.Record.Server,
		asks: make(chan ask), notes: make(chan note, 64), commands: make(chan command), endings: make(chan ending, 1),
		gone: make(chan struct{}), tried: map[startKey]uint32{}, try: &attempt{}, last: d, lastAt: now,
	}
	url := *d.Record.URL
	for _, u := range []string{url, d.ContentURL, d.BaseURL} {
		if u != "" {
			m.urls = append(m.urls, rtsp.StripUserinfo(u))
		}
	}
	trigger := o.Trigger
	if trigger == "" {
		trigger = session.API
	}
	m.t = session.Transfer{
		ID: id, Session: o.Session, AoR: d.Record.AoR, From: d.Record.Terminal, To: o.To, Trigger: trigger,
		State: session.Armed, URL: url,
	}
	if o.Confirm {
		m.t.State, m.t.Times.Offered = session.Offered, &now
	} else {
		m.t.Times.Armed = &now
	}
	return m
}

// start shows a start request of the target to the transfer, which may change it.
func (m *move) start(r *relay, req start) started {
	a := ask{r: r, start: req, answer: make(chan started, 1)}
	select {
	case m.asks <- a:
		return <-a.answer // the goroutine answers what it took
	case <-m.gone:
		return started{}
	}
}

// note tells the transfer something.
func (m *move) note(n note) {
	select {
	case m.notes <- n:
	case <-m.gone:
	}
}

// drain fails the transfer if it waits for its target.
func (m *move) drain() {
	select {
	case m.commands <- command{ev: session.Fail, result: make(chan bool, 1)}:
	case <-m.gone:
	}
}

// run owns the transfer until nothing can happen to it any more.
func (m *move) run() {
	defer close(m.gone)
	defer m.s.forget(m)
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for !m.finished(m.s.now()) {
		select {
		case <-m.s.ctx.Done():
			m.step(session.Fail, session.DaemonRestart)
			m.waitEnding()
			return
		case a := <-m.asks:
			a.answer <- m.started(a)
		case n := <-m.notes:
			m.noted(n)
		case c := <-m.commands:
			c.result <- m.commanded(c.ev)
		case e := <-m.endings:
			m.ended(e)
		case <-tick.C:
			m.hear()
			m.check(m.s.now())
		}
	}
}

// hear takes what the relays have told already: a target that is gone does not play.
func (m *move) hear() {
	for {
		select {
		case n := <-m.notes:
			m.noted(n)
		default:
			return
		}
	}
}

// waitEnding waits for the goroutine that ends the origin, if there is one.
func (m *move) waitEnding() {
	if !m.left.IsZero() && m.t.State == session.Failed {
		<-m.endings
	}
}

// finished reports whether the goroutine has nothing left to do: the transfer is over, and
// its target cannot come back for it.
func (m *move) finished(now time.Time) bool {
	switch {
	case m.t.State.Open():
		return false
	case m.t.State != session.Done:
		return true
	}
	return now.Sub(*m.t.Times.Committed) >= m.s.cfg.Retry || m.s.moveOfKey(m.key) != m
}

// step takes an event; false when the state does not allow it. Ends other than done disarm
// the target at once.
func (m *move) step(ev session.Event, reason session.Reason) bool {
	next, ok := m.t.Next(ev, reason, m.s.now())
	if !ok {
		return false
	}
	m.t = next
	if next.State != session.Attached {
		for _, x := range m.tries {
			x.leave()
		}
	}
	if !next.State.Open() {
		if next.State != session.Done {
			m.s.disarm(m)
		}
		m.s.count.ended(next.State)
		m.over.Store(true)
	}
	m.s.table.PutTransfer(m.t)
	return true
}

func (m *move) commanded(ev session.Event) bool {
	switch {
	case ev != session.Fail:
		return m.step(ev, "")
	case m.waiting():
		return m.step(session.Fail, session.DaemonRestart)
	}
	return false
}

// waiting reports whether the target's start request has not come yet.
func (m *move) waiting() bool { return m.t.State == session.Offered || m.t.State == session.Armed }

// check looks at clocks and counters.
func (m *move) check(now time.Time) {
	if m.t.State.Open() && m.t.State != session.Committed {
		d, ended := m.s.sessionEnded(m.origin, now)
		if ended || d.Terminated {
			m.step(session.Fail, session.OriginEnded)
			return
		}
		m.last, m.lastAt = d, now
	}
	switch m.t.State {
	case session.Offered:
		if now.Sub(*m.t.Times.Offered) >= m.s.cfg.OfferTimeout {
			m.expire()
		}
	case session.Armed:
		if now.Sub(*m.t.Times.Armed) >= m.s.cfg.AttachTimeout {
			m.expire()
		}
	case session.Attached:
		m.checkTarget(now)
	}
}

// expire ends the wait for the target. A target that asked for something else gets that as
// the reason.
func (m *move) expire() {
	reason := session.Reason("")
	if m.mismatch {
		reason = session.URLMismatch
	}
	m.step(session.TimedOut, reason)
}

// ended takes what the end of the origin came to.
func (m *move) ended(e ending) {
	if !e.lastMedia.IsZero() && !e.firstMedia.IsZero() {
		m.t.Silence = session.Figure(e.firstMedia.Sub(e.lastMedia).Seconds())
	}
	m.step(session.OriginGone, "")
}
