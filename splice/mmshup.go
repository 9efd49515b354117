package splice

import "scas/tracer/mms"

// mmshUp is the way from a viewer to the server: it lets the transfer change the Play.
type mmshUp struct {
	upward
	t    *mmshTalk
	body int64 // of the request under way
}

func (u *mmshUp) unit(b []byte) (int64, bool, error) {
	if n := u.body; n > 0 {
		u.body = 0
		return n, false, nil
	}
	_, n, err := mms.NextHead(b)
	return int64(n), true, err
}

func (u *mmshUp) take(b []byte, sent bool) []byte {
	h, _, err := mms.NextHead(b)
	if err != nil || !h.IsRequest() {
		return b // cannot be a request that is answered
	}
	u.body, _ = h.ContentLength()
	p := h.Pragma()
	t := u.r.s.moveOf(u.r.flow)
	var q mmshRequest
	out := b
	switch {
	case t == nil || sent || h.Method() != "GET":
	case p.Pipeline:
		u.refusePipeline()
		return nil
	case p.Play:
		x := &mmshStart{r: u.r, h: h, p: p}
		if q.attempt = t.start(u.r, x).attempt; q.attempt > 0 {
			u.r.media.Store(0)
			if x.out != nil {
				out, q.cure = x.out, x.agent() == libmmsHTTP
			}
		}
	default:
		q.refusal = t.opens(u.r.flow, h.Get("Host"), target(h))
		t.note(note{kind: noteSetup, r: u.r})
	}
	u.t.ask(q)
	return out
}

// refusePipeline answers in the server's place: in a pipeline the media are inside HTTP chunks,
// and seeks are no starts. The player goes on without one (mms.md 4.3).
func (u *mmshUp) refusePipeline() {
	u.r.s.count.pipelinesRefused.Add(1)
	u.r.down.do(func() {
		_ = u.t.down.put(func() []byte {
			return []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		}, nil) // the terminal's own end tells the same
	})
}
