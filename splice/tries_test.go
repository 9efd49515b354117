package splice

import (
	"fmt"
	"testing"
	"time"

	"scas/session"
	"scas/tracer"
)

// A player that looks at a film first, or a second one, opens it beside the one that plays. What
// the one that goes on was given is what counts.
func TestTargetOpensTwice(t *testing.T) {
	for _, tt := range []struct {
		name  string
		leave func(b *bed, id string)
	}{
		{"hangs up", nil},
		{"is refused", func(b *bed, id string) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.origin()
			x := b.move(session.Order{})
			term, serv, _ := b.attach(x, "t1")
			b.tr.set("s1", func(d *tracer.Detail) { d.Record.Position.Rendered = session.Ptr(70.25) })
			term2, serv2, _ := b.connect(tv)
			wantPlay(t, b.playOn(term2, serv2, "t2", 4), "69.250")
			if tt.leave == nil {
				send(t, serv2, b.playReply("t2", 4))
				until(t, term2)
				term2.Close()
			} else {
				send(t, serv2, "RTSP/1.0 453 Not Enough Bandwidth\r\nCSeq: 4\r\n\r\n")
				until(t, term2)
			}
			eventually(t, "the first one counts", func() bool {
				y, _ := b.table.Transfer(x.ID)
				return y.Position != nil && *y.Position == 59.25 && y.StartedAt != nil && *y.StartedAt == 58
			})
			b.mediaRuns("t1")
			b.await(x.ID, session.Committed, "")
			goesOn(t, term, serv)
		})
	}
}

// One that plays is the target, whatever the newest one does.
func TestTargetOpensTwiceAndPlaysTheFirst(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	x := b.move(session.Order{})
	b.attach(x, "t1")
	term, serv, _ := b.connect(tv)
	b.playOn(term, serv, "t2", 4) // is not answered
	b.mediaRuns("t1")
	if x = b.await(x.ID, session.Committed, ""); x.StartedAt == nil || *x.StartedAt != 58 {
		t.Errorf("started at %v", x.StartedAt)
	}
}

// A server that has no room for a second look fails nothing.
func TestRefusalBesideThePlayer(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	x := b.move(session.Order{})
	b.attach(x, "t1")
	term, serv, _ := b.connect(tv)
	send(t, term, fmt.Sprintf("DESCRIBE %s RTSP/1.0\r\nCSeq: 1\r\n\r\n", b.url()))
	until(t, serv)
	send(t, serv, "RTSP/1.0 453 Not Enough Bandwidth\r\nCSeq: 1\r\n\r\n")
	until(t, term)
	b.mediaRuns("t1")
	b.await(x.ID, session.Committed, "")
}

// What a relay has told counts before the clock does: who is gone does not play.
func TestGoneBeforeItPlays(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	m := newMove(b.s, "x", b.s.key(session.Terminal{}.IP), session.Order{Session: "s1"}, b.detail(phone, "s1"), time.Now())
	r := &relay{s: b.s, terminal: b.dial(tv)}
	m.attempt(&attempt{number: 1, r: r})
	m.notes <- note{kind: noteClosed, r: r}
	if m.hear(); m.try.left.IsZero() {
		t.Error("not heard")
	}
}
