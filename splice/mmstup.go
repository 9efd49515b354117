package splice

import (
	"errors"

	"scas/tracer/mms"
)

// mmstUp is the way from a viewer to the server: it lets the transfer change the first start,
// and refuses media over UDP, which would pass us by.
type mmstUp struct {
	upward
	t      *mmstTalk
	serial serial
}

func (u *mmstUp) unit(b []byte) (int64, bool, error) {
	_, n, err := mms.Next(b, mms.ToServer)
	if errors.Is(err, mms.ErrShort) && n > 0 {
		err = nil
	}
	return int64(n), true, err
}

func (u *mmstUp) take(b []byte, sent bool) []byte {
	unit, _, err := mms.Next(b, mms.ToServer)
	if err != nil {
		return b // cannot be: it was whole
	}
	for m, ok := unit.Message, true; ok; m, ok = m.More() {
		if !u.message(m, sent) {
			u.serial.swallow()
			return nil
		}
	}
	if !sent {
		u.serial.pass(&unit.Message)
	}
	return b
}

// message looks at a message of the viewer. It is false when that does not go on.
func (u *mmstUp) message(m mms.Message, sent bool) bool {
	t := u.r.s.moveOf(u.r.flow)
	switch m.MID {
	case mms.MIDConnect:
		var x mms.Connect
		if m.Decode(&x) == nil {
			u.t.hear(func(s *mmstSaid) { s.product, s.host = x.Product(), x.Host() })
		}
	case mms.MIDConnectFunnel:
		var x mms.ConnectFunnel
		if m.Decode(&x) != nil {
			return true
		}
		if x.UDP() && !sent {
			u.refuseFunnel()
			return false
		}
		u.t.hear(func(s *mmstSaid) { s.tcp = isTCP(x.FunnelName) })
	case mms.MIDOpenFile:
		var x mms.OpenFile
		if m.Decode(&x) == nil {
			u.t.hear(func(s *mmstSaid) { s.file = x.FileName })
		}
		if t != nil {
			t.note(note{kind: noteSetup, r: u.r})
		}
	case mms.MIDReadBlock:
		var x mms.ReadBlock
		if t != nil && m.Decode(&x) == nil {
			u.t.header.Store(int32(uint8(x.PlayIncarnation)))
		}
	case mms.MIDCloseFile:
		u.t.hear(func(s *mmstSaid) { s.closed = true })
		if t != nil {
			t.note(note{kind: noteTeardown, r: u.r})
		}
	case mms.MIDStartPlaying:
		u.start(t, m, sent)
	case mms.MIDStartStriding:
		var x mms.StartStriding
		if m.Decode(&x) == nil {
			u.starts(x.OpenFileID, x.PlayIncarnation, started{})
		}
	}
	return true
}

// start shows a StartPlaying of a target to its transfer.
func (u *mmstUp) start(t *move, m mms.Message, sent bool) {
	var x mms.StartPlaying
	if m.Decode(&x) != nil {
		return
	}
	var a started
	if t != nil && !sent {
		a = t.start(u.r, mmstStart{r: u.r, m: m, s: u.t.now()})
	}
	u.starts(x.OpenFileID, x.PlayIncarnation, a)
}

// starts notes a start before the server can answer it.
func (u *mmstUp) starts(openFile, incarnation uint32, a started) {
	var cure bool
	u.t.hear(func(s *mmstSaid) {
		s.openFile, s.incarnation = openFile, incarnation
		cure = a.hold && s.tcp && s.product == libmmsProduct
	})
	old := u.t.wait.Load()
	switch {
	case a.attempt > 0:
		u.r.media.Store(0)
		u.t.wait.Store(&filmWait{attempt: a.attempt, incarnation: uint8(incarnation), cure: cure})
	case old != nil: // the viewer seeks before the first media came
		u.t.wait.Store(&filmWait{attempt: old.attempt, incarnation: uint8(incarnation)})
	}
}

// refuseFunnel answers in the server's place that there are no media over UDP. The player may
// ask for TCP on the same connection, or go over to its next protocol.
func (u *mmstUp) refuseFunnel() {
	u.r.s.count.funnelsRefused.Add(1)
	u.r.down.do(func() {
		_ = u.t.down.put(func() []byte {
			return mms.Append(nil, mms.Stamp{Seq: u.t.server.serial.own()}, &mms.ReportDisconnectedFunnel{HR: mms.AccessDenied})
		}, nil) // the terminal's own end tells the same
	})
}
