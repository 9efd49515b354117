package splice

import (
	"net/netip"
	"strings"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
	"scas/tracer/rtsp"
)

// filmHead is the ASF header of what a target opened: it tells how far presentation times are
// ahead of the film's.
type filmHead struct {
	pieces  []byte
	preroll time.Duration
	known   bool
	live    bool
}

// piece takes a piece of the header, and reports whether there is nothing more to come.
func (f *filmHead) piece(flags uint8, b []byte) bool {
	if len(f.pieces)+len(b) > mms.MaxHeader {
		f.pieces = nil
		return true
	}
	f.pieces = append(f.pieces, b...)
	n, err := mms.HeaderSize(f.pieces)
	if flags&mms.FlagSingle == 0 && (err != nil || len(f.pieces) < n) {
		return false
	}
	if h, err := mms.ParseHeader(f.pieces); err == nil {
		f.preroll, f.live, f.known = h.Preroll, h.Broadcast, true
	}
	f.pieces = nil
	return true
}

// start returns the media time that the first ASF packet after a start shows first.
func (f *filmHead) start(asf []byte) (time.Duration, bool) {
	p, err := mms.ParsePacket(asf)
	switch {
	case err != nil || f.live:
		return 0, false
	case f.known && p.Timed:
		return max(time.Duration(p.First)*time.Millisecond-f.preroll, 0), true
	}
	return time.Duration(p.SendTime) * time.Millisecond, true
}

// began tells the transfer where the media begin that answer a start request: servers do not
// say, and some do not seek.
func (r *relay) began(attempt int, f *filmHead, asf []byte) {
	t := r.s.moveOf(r.flow)
	at, ok := f.start(asf)
	if t == nil || !ok {
		return
	}
	t.note(note{kind: noteStarted, r: r, attempt: attempt, start: &at})
}

// opens reports whether a path that a target asks for on a connection is the content of m,
// whatever of MMS it speaks. Players differ in what they escape, and VLC leaves the query out
// over TCP.
func (m *move) opens(f bpf.Flow, host, path string) bool {
	for _, u := range m.urls {
		where, file, ok := cutFilm(u)
		if !ok || f.Server.Addr() != m.server.Addr() && !strings.EqualFold(where, hostOf(host)) {
			continue
		}
		switch mms.SamePath(file, path) {
		case mms.SamePaths:
			return true
		case mms.SameButQuery:
			return m.alone()
		}
	}
	return false
}

// alone reports whether the user watches nothing else that has the same path on the server.
func (m *move) alone() bool {
	_, file, _ := cutFilm(m.t.URL)
	for _, r := range m.s.table.List() {
		if r.ID == m.origin || r.State == session.Ended || r.URL == nil || m.s.key(r.Terminal.IP) == m.key {
			continue
		}
		if m.t.AoR != nil && (r.AoR == nil || *r.AoR != *m.t.AoR) || r.Server.Addr() != m.server.Addr() {
			continue
		}
		if _, other, ok := cutFilm(*r.URL); ok && mms.SamePath(bare(other), bare(file)) == mms.SamePaths {
			return false
		}
	}
	return true
}

// bare returns a path without its query.
func bare(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}

// cutFilm returns host and path of a URL of MMS.
func cutFilm(url string) (host, path string, ok bool) {
	scheme, rest, ok := strings.Cut(rtsp.StripUserinfo(url), "://")
	if !ok || !strings.HasPrefix(scheme, "mms") {
		return "", "", false
	}
	host, path, _ = strings.Cut(rest, "/")
	return hostOf(host), path, true
}

// hostOf returns a host without its port.
func hostOf(s string) string {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a.Addr().String()
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 && strings.IndexByte(s, ':') == i {
		return s[:i]
	}
	return strings.Trim(s, "[]")
}
