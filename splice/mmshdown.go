package splice

import (
	"errors"

	"scas/tracer/mms"
)

// body is what a server sends.
type body uint8

const (
	bodyNone   body = iota // a head comes next
	bodyChunks             // MMSH chunks
	bodySized              // left bytes of something else
	bodyEnd                // something else, to the end
)

// mmshDown is the way from the server to a viewer: it tells the transfer how the server took
// the Play, and where the media begin.
type mmshDown struct {
	downward
	t     *mmshTalk
	body  body
	left  int64
	wait  int  // attempt whose first media have not come
	cure  bool // their number becomes 0
	film  filmHead
	whole bool // film is
}

func (w *mmshDown) unit(b []byte) (int64, bool, error) {
	switch {
	case w.body == bodySized:
		n := w.left
		w.body, w.left = bodyNone, 0
		return n, false, nil
	case w.body == bodyEnd:
		w.came = w.wait > 0
		return toTheEnd, false, nil
	case w.body == bodyChunks && b[0]&0x7f == '$':
		return w.chunk(b)
	}
	_, n, err := mms.NextHead(b)
	return int64(n), true, err
}

// chunk: until the first media have come, header and media are looked at.
func (w *mmshDown) chunk(b []byte) (int64, bool, error) {
	_, n, err := mms.NextChunk(b)
	if errors.Is(err, mms.ErrShort) && n > 0 {
		err = nil
	}
	if err != nil {
		return 0, false, err
	}
	id := b[1]
	return int64(n), w.wait > 0 && (id == 'D' || id == 'H' && !w.whole), nil
}

func (w *mmshDown) take(b []byte, sent bool) []byte {
	if b[0]&0x7f == '$' {
		w.media(b, sent)
	} else {
		w.head(b)
	}
	if w.t.down.discard {
		return nil
	}
	return b
}

func (w *mmshDown) media(b []byte, sent bool) {
	c, _, err := mms.NextChunk(b)
	if err != nil {
		return
	}
	if c.ID == 'H' {
		w.whole = w.film.piece(c.Data.Flags, c.Payload)
		return
	}
	if w.cure && !sent {
		mms.SetLocationID(b[4:], 0) // behind the chunk's own header
		w.r.s.count.cured.Add(1)
	}
	w.came = true
	w.r.began(w.wait, &w.film, c.Payload)
	w.wait = 0
}

func (w *mmshDown) head(b []byte) {
	h, _, err := mms.NextHead(b)
	if err != nil || h.IsRequest() || h.Status() < 200 {
		return
	}
	size, sized := h.ContentLength()
	good := h.Status() < 300
	switch {
	case good && h.Framed() && !h.Chunked():
		w.body = bodyChunks
	case !sized:
		w.body = bodyEnd
	case size > 0:
		w.body, w.left = bodySized, size
	default:
		w.body = bodyNone
	}
	q := w.t.answered()
	t := w.r.s.moveOf(w.r.flow)
	switch {
	case q.attempt > 0:
		n := note{kind: noteReply, r: w.r, attempt: q.attempt}
		switch status := h.Status(); {
		case good:
			w.wait, w.cure, w.whole, w.film = q.attempt, q.cure, false, filmHead{}
		case status == 401 || status == 407:
			n.again = true
		default:
			n.refused = text(status)
		}
		if t != nil {
			t.note(n)
		}
	case q.refusal && refuses(h.Status()) && t != nil:
		t.note(note{kind: noteRefused, r: w.r, refused: text(h.Status())})
	}
}

// endMedia tells the player at the next boundary that the film is over, and throws all else
// away from there on. It is false when no film is under way. It runs in the direction's
// goroutine.
func (w *mmshDown) endMedia(done chan<- struct{}) bool {
	if w.body != bodyChunks {
		return false
	}
	w.t.down.discard = true
	w.r.s.count.streamsEnded.Add(1)
	_ = w.t.down.put(func() []byte { return mms.AppendReason(nil, 'E', 0) }, done) // as with MMST
	return true
}
