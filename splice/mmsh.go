package splice

import (
	"errors"
	"math"
	"strings"
	"sync"
	"time"

	"scas/session"
	"scas/tracer"
	"scas/tracer/mms"
	"scas/tracer/rtsp"
)

// mmsh is MMS over HTTP.
type mmsh struct{}

func (mmsh) moves(p session.Protocol) bool { return p == session.MMSH }

// looks takes only what shows a player's signature early: web traffic is relayed unread.
func (mmsh) looks(b []byte) verdict {
	_, _, err := mms.NextHead(b)
	switch {
	case err != nil && !errors.Is(err, mms.ErrShort), !mayBeHTTP(b):
		return no
	case mms.LooksLikePlayer(b):
		return yes
	case err == nil || len(b) >= mms.PlayerHead:
		return no
	}
	return perhaps
}

// mayBeHTTP keeps RTSP from waiting: a player's request is a GET or a POST.
func mayBeHTTP(b []byte) bool {
	for _, method := range []string{"GET ", "POST "} {
		if n := min(len(b), len(method)); string(b[:n]) == method[:n] {
			return true
		}
	}
	return false
}

func (mmsh) open(r *relay) talk {
	t := &mmshTalk{}
	t.viewer = &mmshUp{upward: upward{r: r, d: r.up}, t: t}
	t.server = &mmshDown{downward: downward{r: r, d: r.down}, t: t}
	t.up = &pieces{rules: t.viewer, d: r.up}
	t.down = &pieces{rules: t.server, d: r.down}
	return t
}

// mmshTalk is a connection of MMS over HTTP: one Describe or one Play, as a rule.
type mmshTalk struct {
	up, down *pieces
	viewer   *mmshUp   // of up
	server   *mmshDown // of down

	mu      sync.Mutex // guards what follows
	pending []mmshRequest
}

// mmshRequest is one whose reply has not come.
type mmshRequest struct {
	attempt int  // of a Play that is a start request
	cure    bool // its first media get number 0
	refusal bool // a refusal of it is a refusal of the transfer
}

func (t *mmshTalk) lanes() (up, down lane) { return t.up, t.down }

func (t *mmshTalk) ask(q mmshRequest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) < maxRequests {
		t.pending = append(t.pending, q)
	}
}

func (t *mmshTalk) answered() (q mmshRequest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) > 0 {
		q, t.pending = t.pending[0], t.pending[1:]
	}
	return q
}

// libmmsHTTP is what libmms calls itself over HTTP, and ffmpeg and MPlayer, which do not care. It
// plays once more, from the beginning, when the number of the first media packet is not 0.
const libmmsHTTP = "NSPlayer/4.1.0.3856"

// mmshStart is a Play.
type mmshStart struct {
	r   *relay
	h   mms.Head
	p   mms.Pragma
	out []byte // rewritten; nil: not
}

func (p *mmshStart) names(m *move, _ tracer.Detail, _ bool) bool {
	return m.opens(p.r.flow, p.h.Get("Host"), target(p.h))
}

// key: a seek is another Play of the same player on a new connection, with a higher count; a
// player that starts anew counts anew.
func (p *mmshStart) key(r *relay) (startKey, uint32) {
	if p.p.RequestContext == 0 {
		return startKey{r: r}, 0
	}
	return startKey{id: p.p.ClientGUID + " " + target(p.h)}, p.p.RequestContext
}

func (p *mmshStart) session() string { return "" }
func (p *mmshStart) agent() string   { return p.h.Get("User-Agent") }

// rewrite leaves a start elsewhere as it is: the viewer asked for it.
func (p *mmshStart) rewrite(_ rtsp.Scale, at time.Duration) (time.Duration, bool) {
	ms := at.Milliseconds()
	if !p.h.AsksForBeginning() || ms < 0 || ms > math.MaxUint32 {
		return 0, false
	}
	p.out = p.h.WithStreamTime(uint32(ms))
	return at.Truncate(time.Millisecond), true
}

// target returns the path a request asks for; one to a proxy has the server's name before it.
func target(h mms.Head) string {
	t := h.Target()
	if _, rest, ok := strings.Cut(t, "://"); ok {
		if _, path, ok := strings.Cut(rest, "/"); ok {
			return path
		}
	}
	return t
}
