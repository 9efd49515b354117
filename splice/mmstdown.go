package splice

import (
	"errors"

	"scas/tracer/mms"
)

// mmstDown is the way from the server to a viewer: it tells the transfer how the server took
// the start, and where the media begin.
type mmstDown struct {
	downward
	t      *mmstTalk
	serial serial
	film   filmHead
	told   int // attempt whose answer was told
}

func (w *mmstDown) unit(b []byte) (int64, bool, error) {
	if len(b) < 8 {
		return 0, false, mms.ErrShort
	}
	_, n, err := mms.Next(b, mms.ToViewer)
	switch {
	case err != nil && !errors.Is(err, mms.ErrShort):
		return 0, false, err
	case n == 0:
		return 0, false, mms.ErrShort
	}
	if _, _, err := mms.Next(b, mms.ToServer); !errors.Is(err, mms.ErrNotMMS) {
		return int64(n), true, nil // only the server sends data
	}
	d, _ := mms.ParseData(b)
	return int64(n), w.awaits(d), nil
}

// awaits reports whether a data packet is to be looked at: it is a piece of the header, or the
// first media of a start request.
func (w *mmstDown) awaits(d mms.Data) bool {
	x := w.t.wait.Load()
	return x != nil && x.incarnation == d.Incarnation || w.t.header.Load() == int32(d.Incarnation)
}

func (w *mmstDown) take(b []byte, sent bool) []byte {
	u, _, err := mms.Next(b, mms.ToViewer)
	if err != nil {
		return b // cannot be: it was whole
	}
	if u.Kind == mms.KindData {
		w.data(u, sent)
	} else {
		for m, ok := u.Message, true; ok; m, ok = m.More() {
			w.message(m)
		}
	}
	if w.t.down.discard {
		return nil
	}
	if u.Kind == mms.KindMessage && !sent {
		w.serial.pass(&u.Message)
	}
	return b
}

func (w *mmstDown) data(u mms.Unit, sent bool) {
	x := w.t.wait.Load()
	if x == nil || x.incarnation != u.Data.Incarnation {
		if w.film.piece(u.Data.Flags, u.Payload) {
			w.t.header.Store(noHeader)
		}
		return
	}
	if !w.t.wait.CompareAndSwap(x, nil) {
		return // the viewer seeks at this moment
	}
	if x.cure && !sent {
		mms.SetLocationID(u.Raw, 0)
		w.r.s.count.cured.Add(1)
	}
	w.answer(x, "")
	w.came = true
	w.r.began(x.attempt, &w.film, u.Payload)
}

// answer tells the transfer, once, how the server took the start request.
func (w *mmstDown) answer(x *filmWait, refused string) {
	if x == nil || w.told == x.attempt {
		return
	}
	w.told = x.attempt
	if t := w.r.s.moveOf(w.r.flow); t != nil {
		t.note(note{kind: noteReply, r: w.r, attempt: x.attempt, refused: refused})
	}
}

func (w *mmstDown) message(m mms.Message) {
	refused := ""
	if hr := m.HR(); hr.Failed() {
		refused = hr.String()
	}
	switch m.MID {
	case mms.MIDReportStartedPlaying:
		w.answer(w.t.wait.Load(), refused)
	case mms.MIDReportEndOfStream:
		if refused != "" {
			w.answer(w.t.wait.Load(), refused)
		}
		select {
		case w.t.stopped <- struct{}{}:
		default:
		}
	case mms.MIDReportConnectedEX, mms.MIDReportConnectedFunnel, mms.MIDReportOpenFile, mms.MIDReportReadBlock, mms.MIDReportStreamSwitch:
		if refused != "" {
			w.refuse(refused)
		}
	}
}

// refuse tells the transfer that the server does not let the target go on, unless that opens
// something else.
func (w *mmstDown) refuse(refused string) {
	t, said := w.r.s.moveOf(w.r.flow), w.t.now()
	if t != nil && (said.file == "" || t.opens(w.r.flow, said.host, said.file)) {
		t.note(note{kind: noteRefused, r: w.r, refused: refused})
	}
}

// endMedia tells the player at the next boundary that the film is over, behind so many empty
// packets, and throws all else away from there on. It runs in the direction's goroutine.
func (w *mmstDown) endMedia(incarnation uint32, fill int, done chan<- struct{}) {
	w.t.down.discard = true
	w.r.s.count.streamsEnded.Add(1)
	_ = w.t.down.put(func() []byte {
		b := filler(uint8(incarnation), fill)
		return mms.Append(b, mms.Stamp{Seq: w.serial.own()}, &mms.ReportEndOfStream{PlayIncarnation: incarnation})
	}, done) // a terminal that takes nothing more has what it needs
}
