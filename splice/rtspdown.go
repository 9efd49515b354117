package splice

import (
	"time"

	"scas/tracer/rtsp"
)

// downRole is the way from the server to the terminal: it holds the reply to a start request,
// swallows replies to requests of ours, and sees when media have reached the terminal.
type downRole struct {
	downward
	t *rtspTalk

	hold   *hold // a reply that waits for the first packets; what comes after it queues behind
	frames frames
	waits  bool // for the first media behind the start reply
}

func (w *downRole) withhold() bool { return w.t.requests.lookAt() }

func (w *downRole) message(m *rtsp.Message, sent bool) []byte {
	cseq, ok := m.CSeq()
	if m.IsRequest() || !ok || m.Status() < 200 {
		return m.Marshal()
	}
	q, ok := w.t.requests.take(cseq)
	if !ok {
		return m.Marshal()
	}
	switch {
	case q.own != nil:
		w.r.s.count.dropped.Add(uint64(len(m.Marshal())))
		q.own <- m.Status()
		return nil
	case q.attempt > 0:
		return w.startReply(m, q, sent)
	case q.method == "TEARDOWN":
		select {
		case w.t.torn <- struct{}{}:
		default:
		}
	case q.refusal && refuses(m.Status()):
		if t := w.r.s.moveOf(w.r.flow); t != nil {
			t.note(note{kind: noteRefused, r: w.r, refused: text(m.Status())})
		}
	}
	if sent {
		return nil
	}
	return m.Marshal()
}

// refuses reports whether a status to DESCRIBE or SETUP says that this content cannot be had,
// rather than that it has to be asked for in another way: credentials (401, 407), transport
// (461), options (551), version (505), methods (405, 501).
func refuses(status int) bool {
	switch status {
	case 403, 404, 410, 453, 500, 502, 503, 504:
		return true
	}
	return false
}

// startReply tells the transfer how the server took the start request, and holds a good reply
// until it can be checked.
func (w *downRole) startReply(m *rtsp.Message, q request, sent bool) []byte {
	n := note{kind: noteReply, r: w.r, attempt: q.attempt}
	switch status := m.Status(); {
	case status == 401 || status == 407:
		n.again = true
	case status >= 300:
		n.refused = text(status)
	}
	if r, err := rtsp.ParseRange(m.Get("Range")); err == nil {
		d, _, _ := w.r.s.sessionOn(w.r.flow, m.Get("Session"))
		n.start, _ = r.Media(d.Scale)
	}
	if m.Status() < 300 {
		w.waits = true
		w.r.media.Store(0)
	}
	if t := w.r.s.moveOf(w.r.flow); t != nil {
		t.note(n)
	}
	if sent || !q.hold || m.Status() >= 300 {
		return m.Marshal()
	}
	h := newHold(w.r, m, w.frames)
	if h == nil {
		return m.Marshal()
	}
	w.hold = h
	w.r.s.count.repliesHeld.Add(1)
	return nil
}

func (w *downRole) frame(f frame) {
	if !f.rtp {
		return
	}
	if w.waits && w.hold == nil {
		w.came = true
	}
	if w.hold != nil {
		w.hold.frame(f)
	} else if w.t.requests.lookAt() {
		w.frames.note(f)
	}
}

// output writes, or queues behind a held reply.
func (w *downRole) output(b []byte) error {
	if w.hold == nil {
		return w.d.write(b)
	}
	w.hold.queue = append(w.hold.queue, b...)
	if w.hold.full() || w.hold.seen() {
		return w.letGo()
	}
	return nil
}

// letGo sends the held reply, repaired if it lies, and what queued behind it.
func (w *downRole) letGo() error {
	h := w.hold
	w.hold = nil
	w.frames = frames{}
	out := h.reply(w.r.s)
	if err := w.d.write(out); err != nil {
		return err
	}
	w.came = w.came || h.media
	return w.d.write(h.queue)
}

func (w *downRole) wrote(n int) {
	if w.came && n > 0 {
		w.waits = false
	}
	w.downward.wrote(n)
}

func (w *downRole) deadline() time.Time {
	if w.hold == nil {
		return time.Time{}
	}
	return w.hold.next()
}

func (w *downRole) tick(now time.Time) error {
	if w.hold == nil {
		return nil
	}
	if w.hold.poll(w.r, now) {
		return w.letGo()
	}
	return nil
}

func (w *downRole) over(reset bool) {
	if w.hold != nil {
		_ = w.letGo() // the connection ends in any case
	}
	w.downward.over(reset)
}

// endMedia writes last at the next boundary and throws the frames of some channels away from there
// on. It runs in the direction's goroutine.
func (w *downRole) endMedia(last []byte, of channels) {
	w.t.down.discard.join(of)
	_ = w.t.down.put(last) // a terminal that takes nothing more has what it needs
}
