package splice

import (
	"time"

	"scas/tracer/rtsp"
)

// upRole is the way from the terminal to the server: it looks at whole requests while the
// terminal is the target of a transfer, and lets the transfer change the start request.
type upRole struct {
	upward
	t *rtspTalk
}

func (u *upRole) withhold() bool { return u.r.s.moveOf(u.r.flow) != nil }

func (u *upRole) message(m *rtsp.Message, sent bool) []byte {
	if !m.IsRequest() {
		return m.Marshal()
	}
	cseq, ok := m.CSeq()
	q := request{cseq: cseq, method: m.Method()}
	before := 0
	if !sent {
		before = len(m.Marshal())
		u.look(m, &q)
	}
	if ok {
		u.t.requests.add(q)
	}
	if sent {
		return nil
	}
	out := m.Marshal()
	if d := len(out) - before; d >= 0 {
		u.r.s.count.inserted.Add(uint64(d))
	} else {
		u.r.s.count.dropped.Add(uint64(-d))
	}
	return out
}

// look shows a request of a target to its transfer.
func (u *upRole) look(m *rtsp.Message, q *request) {
	t := u.r.s.moveOf(u.r.flow)
	if t == nil {
		return
	}
	switch m.Method() {
	case "PLAY":
		a := t.start(u.r, rtspStart{m})
		q.attempt, q.hold = a.attempt, a.hold
	case "SETUP":
		q.refusal = t.concerns(m.URL())
		t.note(note{kind: noteSetup, r: u.r})
	case "DESCRIBE":
		q.refusal = t.concerns(m.URL())
	case "TEARDOWN":
		t.note(note{kind: noteTeardown, r: u.r})
	}
}

func (u *upRole) frame(frame) {}

// over tells a transfer that its target has hung up, whether the server hears of it or not. It lets
// a TEARDOWN be answered before a reset is passed on: mpv and mplayer send both in one go.
func (u *upRole) over(reset bool) {
	if t := u.r.s.moveOf(u.r.flow); t != nil {
		t.note(note{kind: noteClosed, r: u.r})
	}
	if !reset || !u.t.requests.waitFor("TEARDOWN") {
		return
	}
	wait := time.NewTimer(flushMax)
	defer wait.Stop()
	select {
	case <-u.t.torn:
	case <-wait.C:
	case <-u.r.downGone:
	}
}
