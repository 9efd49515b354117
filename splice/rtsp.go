package splice

import (
	"net/netip"
	"strings"
	"time"

	"scas/session"
	"scas/tracer"
	"scas/tracer/rtsp"
)

// rtspProtocol is RTSP, and what nobody else reads.
type rtspProtocol struct{}

func (rtspProtocol) looks([]byte) verdict          { return yes }
func (rtspProtocol) moves(p session.Protocol) bool { return p == session.RTSP }

func (rtspProtocol) open(r *relay) talk {
	t := &rtspTalk{torn: make(chan struct{}, 1)}
	t.sub = &downRole{downward: downward{r: r, d: r.down}, t: t}
	t.up = &rtspLane{role: &upRole{upward: upward{r: r, d: r.up}, t: t}, d: r.up}
	t.down = &rtspLane{role: t.sub, d: r.down}
	return t
}

// rtspTalk is a control connection of RTSP.
type rtspTalk struct {
	requests requests
	torn     chan struct{} // gets a value when the player's TEARDOWN was answered
	up, down *rtspLane
	sub      *downRole // of down
}

func (t *rtspTalk) lanes() (up, down lane) { return t.up, t.down }

// rtspStart is a PLAY.
type rtspStart struct{ *rtsp.Message }

func (p rtspStart) key(r *relay) (startKey, uint32) { return startKey{r, p.session()}, 0 }
func (p rtspStart) session() string                 { return p.Get("Session") }
func (p rtspStart) agent() string                   { return p.Get("User-Agent") }

func (p rtspStart) rewrite(scale rtsp.Scale, at time.Duration) (time.Duration, bool) {
	return rewriteStart(p.Message, scale, at)
}

func (p rtspStart) names(m *move, d tracer.Detail, known bool) bool {
	at := netip.Addr{} // the server's, where both are of the same one
	if known && d.Record.Server == m.server {
		at = m.server.Addr()
	}
	named := func(url string) bool {
		for _, u := range m.urls {
			if url != "" && rtsp.SameURLAt(u, rtsp.StripUserinfo(url), at) {
				return true
			}
		}
		return false
	}
	url := p.URL()
	if !named(url) && !(known && named(d.ContentURL) && strings.HasPrefix(url, strings.TrimRight(d.BaseURL, "/"))) {
		return false
	}
	return !known || sameContent(m.last, d)
}

// concerns reports whether a URL is that of the content or of something in it.
func (m *move) concerns(url string) bool {
	url = rtsp.StripUserinfo(url)
	for _, u := range m.urls {
		if rtsp.SameURL(u, url) || strings.HasPrefix(url, strings.TrimRight(u, "/")+"/") {
			return true
		}
	}
	return false
}
