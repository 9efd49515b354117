package splice

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
	"scas/tracer/rtsp"
)

// Move starts a transfer and returns it as it is then: offered when the order asks for a
// confirmation, else armed. An order that cannot be carried out is a *session.OrderError. The
// transfer goes on when ctx ends.
func (s *Splicer) Move(ctx context.Context, o session.Order) (session.Transfer, error) {
	t, err := s.move(ctx, o)
	if err != nil {
		s.count.ordersRefused.Add(1)
		return session.Transfer{}, err
	}
	s.count.orders.Add(1)
	return t, nil
}

func (s *Splicer) move(ctx context.Context, o session.Order) (session.Transfer, error) {
	if err := ctx.Err(); err != nil {
		return session.Transfer{}, err
	}
	o.To.IP = o.To.IP.Unmap().WithZone("")
	if !o.To.IP.IsValid() || o.To.IP.IsUnspecified() || o.To.IP.IsMulticast() {
		return session.Transfer{}, refuse(session.Offline, "the target has no address")
	}
	aor, err := s.userOf(o.To.IP)
	if err != nil {
		return session.Transfer{}, err
	}
	if o.Session == "" {
		if o.Session, err = s.choose(aor, s.key(o.To.IP)); err != nil {
			return session.Transfer{}, err
		}
	}
	d, ok := s.t.Detail(o.Session, s.now())
	if !ok {
		return session.Transfer{}, refuse(session.NoSession, "no session "+o.Session)
	}
	if err := s.movable(d, o, aor); err != nil {
		return session.Transfer{}, err
	}
	return s.begin(o, d)
}

func refuse(r session.Reason, text string) error { return &session.OrderError{Reason: r, Text: text} }

// userOf returns the user of a terminal, "" when terminals have none.
func (s *Splicer) userOf(a netip.Addr) (string, error) {
	if s.cfg.AoR == nil {
		return "", nil
	}
	aor, ok := s.cfg.AoR(a)
	if !ok {
		return "", refuse(session.Offline, "no terminal has address "+a.String())
	}
	return aor, nil
}

// choose returns the session that an order without one means: of those the user has on other
// terminals the newest that plays, else the only one there is.
func (s *Splicer) choose(aor string, target netip.Addr) (id string, err error) {
	playing, others, there := "", 0, false
	for _, r := range s.table.List() {
		mine := aor == "" || r.AoR != nil && *r.AoR == aor
		if !mine || r.State == session.Ended || r.Opaque {
			continue
		}
		if s.key(r.Terminal.IP) == target {
			there = true
			continue
		}
		if others++; r.State == session.Playing {
			playing = r.ID
		} else if playing == "" {
			id = r.ID
		}
	}
	switch {
	case playing != "":
		return playing, nil
	case others == 1:
		return id, nil
	case others > 1:
		return "", refuse(session.NoSession, "there are several sessions and none of them plays: name one")
	case there:
		return "", refuse(session.SameTerminal, "the only session is on that terminal already")
	}
	return "", refuse(session.NoSession, "there is no session that could be moved")
}

// movable returns why a session cannot be moved to the target, nil when it can.
func (s *Splicer) movable(d tracer.Detail, o session.Order, aor string) error {
	r := d.Record
	switch {
	case r.State == session.Ended || d.Terminated:
		return refuse(session.NoSession, "session "+o.Session+" has ended")
	case r.Opaque || s.protocolOf(r.Protocol) == nil || r.Transport == session.Multicast || r.URL == nil || *r.URL == "":
		return refuse(session.Unsupported, "session "+o.Session+" is of a kind that cannot be moved")
	case s.key(r.Terminal.IP) == s.key(o.To.IP):
		return refuse(session.SameTerminal, "the session is on that terminal already")
	case aor != "" && r.AoR != nil && *r.AoR != aor:
		return refuse(session.NotAllowed, "session and target belong to different users")
	}
	if o.RequirePosition && !continuable(r) {
		return refuse(session.NotSeekable, "session "+o.Session+" has no position to continue from")
	}
	return nil
}

func continuable(r session.Record) bool {
	return !r.Live && r.Seekable && r.Position != nil && r.Position.Rendered != nil
}

// begin registers a transfer, arms its target and starts its goroutine.
func (s *Splicer) begin(o session.Order, d tracer.Detail) (session.Transfer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return session.Transfer{}, refuse(session.DaemonRestart, "the gateway is about to stop")
	}
	key, now := s.key(o.To.IP), s.now()
	for _, m := range s.moves {
		if !m.over.Load() && (m.origin == o.Session || m.key == key) {
			return session.Transfer{}, refuse(session.Busy, "transfer "+m.id+" is under way")
		}
	}
	if err := s.k.Arm(o.To.IP); err != nil {
		if errors.Is(err, bpf.ErrNotSubscribed) {
			return session.Transfer{}, refuse(session.NotAllowed, "the target is not enrolled")
		}
		return session.Transfer{}, fmt.Errorf("arm target: %w", err)
	}
	s.orders++
	m := newMove(s, fmt.Sprintf("t%011x%04x%s", now.UnixMilli(), uint16(s.orders), s.cfg.Suffix), key, o, d, now)
	s.moves[m.id] = m
	s.targets[key] = m
	s.table.PutTransfer(m.t)
	t := m.t
	s.wg.Go(m.run)
	return t, nil
}

// Cancel ends a transfer that has not been committed, and returns it. Else the error is a
// *session.OrderError: no-session when there is no such transfer, busy when it is too late.
func (s *Splicer) Cancel(id string) (session.Transfer, error) {
	t, ok, err := s.command(id, session.Cancel)
	if err == nil && !ok {
		err = refuse(session.Busy, "transfer "+id+" is "+string(t.State)+" and cannot be cancelled")
	}
	return t, err
}

// Answer takes the answer of the target's user to an offer. The error is as for Cancel.
func (s *Splicer) Answer(id string, yes bool) error {
	ev := session.Refused
	if yes {
		ev = session.Confirmed
	}
	t, ok, err := s.command(id, ev)
	if err == nil && !ok {
		err = refuse(session.Busy, "transfer "+id+" is "+string(t.State)+": there is nothing to answer")
	}
	return err
}

// command has a transfer take an event from outside. ok is false when its state does not
// allow it.
func (s *Splicer) command(id string, ev session.Event) (t session.Transfer, ok bool, err error) {
	s.mu.Lock()
	m := s.moves[id]
	s.mu.Unlock()
	if m != nil {
		c := command{ev: ev, result: make(chan bool, 1)}
		select {
		case m.commands <- c:
			ok = <-c.result // the goroutine answers what it took
		case <-m.gone:
		}
	}
	t, known := s.table.Transfer(id)
	if !known {
		return t, false, refuse(session.NoSession, "no transfer "+id)
	}
	return t, ok, nil
}

// moveOf returns the transfer that the terminal of f is the target of, nil when there is none.
func (s *Splicer) moveOf(f bpf.Flow) *move {
	return s.moveOfKey(s.key(f.Terminal.Addr()))
}

// disarm ends the steering for a transfer, unless a newer one has the same target.
func (s *Splicer) disarm(m *move) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.targets[m.key] != m {
		return
	}
	delete(s.targets, m.key)
	if err := s.k.Disarm(m.to); err != nil && !errors.Is(err, bpf.ErrNotSubscribed) { // a terminal that left is disarmed
		s.log.Error("target stays armed", "transfer", m.id, "err", cause(err))
	}
}

// forget drops a transfer that nothing can happen to any more; the table keeps it.
func (s *Splicer) forget(m *move) {
	s.disarm(m)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.moves, m.id)
}

// sessionOn returns the session that a Session header names on a connection; without a header,
// the only one there is.
func (s *Splicer) sessionOn(f bpf.Flow, header string) (d tracer.Detail, id string, ok bool) {
	h, err := rtsp.ParseSession(header)
	now := s.now()
	found := 0
	for _, x := range s.t.ByFlow(f) {
		one, known := s.t.Detail(x, now)
		if !known || one.Record.State == session.Ended {
			continue
		}
		if err == nil && one.RTSPSession == h.ID {
			return one, x, true
		}
		d, id = one, x
		found++
	}
	return d, id, err != nil && found == 1
}

// sessionEnded reports whether a session is over, as far as the tracer knows.
func (s *Splicer) sessionEnded(id string, now time.Time) (d tracer.Detail, ended bool) {
	d, ok := s.t.Detail(id, now)
	return d, !ok || d.Record.State == session.Ended
}

// moveOfKey is moveOf by terminal.
func (s *Splicer) moveOfKey(key netip.Addr) *move {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.targets[key]
}
