package tracer

import (
	"net/netip"
	"slices"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/rtsp"
)

// sessKey is what makes two connections one session: a TCP connection is not a session
// (mplayer opens two; GStreamer and VLC come back on a new one).
type sessKey struct {
	terminal netip.Addr
	server   netip.AddrPort
	id       string
}

// content is what a DESCRIBE said.
type content struct {
	url  string // of the request, without userinfo
	base string // Content-Base, Content-Location, or the URL
	sdp  rtsp.Description
	raw  string // a=range of the SDP
	at   time.Time
}

// sess is one session as the decoder follows it. The fields of rec that follow from others
// are filled in by record.
type sess struct {
	key     sessKey
	number  uint64 // counts up, as sessions open
	rec     session.Record
	control bpf.Flow
	base    string // what an aggregate request names
	sdpRaw  string
	scale   rtsp.Scale // of the server's ranges
	version string
	timeout time.Duration
	cseq    int

	film    *film // of MMS; nil: media are RTP
	tracks  []*track
	play    play
	sought  bool
	floor   session.NPT // what was on the screen when this PLAY began
	paused  time.Time
	halt    session.NPT // npt of the pause
	halted  bool
	stopped bool // TEARDOWN was sent by the terminal
	serving bool // the server closed the control connection; media may go on
	receipt time.Time
	refused time.Time // newest ICMP by which the terminal refused media
	live    bool
	heard   bool // RTP was seen
	end     session.NPT
	profile Profile
	touched time.Time // newest packet or message of the session
	dormant time.Time // restored then, and nothing was seen of it since; zero: alive
	since   time.Time // first media since PLAY
	ran     time.Time // the player had what it waits for then, and ran from began on; zero: not known
	began   session.NPT
	late    bool // a change of it is not told yet
	told    bool // it was ever
}

// reference returns the track the position is read from: video before audio, and one that
// has an anchor before one that has none. An anchor from before a restart counts once a packet
// fits it.
func (s *sess) reference() *track {
	var best *track
	for _, t := range s.tracks {
		switch {
		case !t.read.set, t.read.doubted && s.rec.State == session.Playing:
		case best == nil, t.media == "video" && best.media != "video":
			best = t
		}
	}
	return best
}

// delivered returns the newest media time at the terminal, its ± and its source. ok is false
// when nothing is known.
func (s *sess) delivered(now time.Time) (npt session.NPT, err time.Duration, src session.Source, ok bool) {
	if s.film != nil {
		return s.film.delivered(s, now)
	}
	t := s.reference()
	switch {
	case !s.play.known, t == nil && s.doubted():
		return 0, 0, session.SourceClock, false
	case s.rec.State == session.Paused && s.halted:
		npt, err, src = s.halt, 200*time.Millisecond, session.SourceClock
		if t != nil {
			npt, err, src = max(t.read.last, s.halt), t.read.err, session.SourceRTP
		}
	case s.lagging():
		npt, err, src = t.read.last, 2*time.Second, session.SourceRTP
	case t != nil && !t.read.waiting:
		npt, err, src = t.read.last, t.read.err, session.SourceRTP
		if t.mpegts {
			npt, err = s.transportStream(t)
		}
	case s.heard && !s.unread():
		npt, err, src = s.play.start, 500*time.Millisecond, session.SourceRTP
	default:
		npt, err, src = s.byClock(now)
	}
	if s.end > 0 && npt > s.end {
		npt = s.end
	}
	return max(npt, 0), err, src, true
}

// doubted reports whether a restored session plays, and none of its packets has told where.
func (s *sess) doubted() bool {
	return s.rec.State == session.Playing && slices.ContainsFunc(s.tracks, func(t *track) bool { return t.read.doubted })
}

// unread reports whether packets came that tell nothing: no description names their clock rate.
func (s *sess) unread() bool {
	return slices.ContainsFunc(s.tracks, func(t *track) bool { return t.rate == 0 && !t.last.IsZero() })
}

// transportStream reads the position from PTS; without any, RTP time is good for ±3 s only.
func (s *sess) transportStream(t *track) (session.NPT, time.Duration) {
	switch p := &t.program; {
	case p.have && (p.follows(s.play.start) || s.play.first && s.play.start == 0):
		return p.npt(s.play.start), 200 * time.Millisecond
	case p.have: // began at a key frame, some way before
		return p.npt(s.play.start), time.Second
	}
	return t.read.last, 3 * time.Second
}

// byClock is the position of a session whose media cannot be seen.
func (s *sess) byClock(now time.Time) (session.NPT, time.Duration, session.Source) {
	const startDelay = 100 * time.Millisecond // between the 200 and the first packet, median
	run := max(now.Sub(s.play.at)-startDelay, 0)
	npt := s.play.start.Add(time.Duration(float64(run) * s.play.scale))
	return npt, time.Second, session.SourceClock
}

// position returns where the viewer is at now, nil when no PLAY anchors it yet.
func (s *sess) position(now time.Time) *session.Position {
	if s.rec.State == session.Setup || s.rec.Opaque {
		return nil
	}
	npt, err, src, ok := s.delivered(now)
	if !ok {
		return &session.Position{Source: session.SourceClock, At: now}
	}
	r := s.onScreen(npt, now)
	return &session.Position{
		NPT: session.Ptr(npt.Seconds()), Rendered: session.Ptr(r.Seconds()),
		Error: err.Seconds(), Source: src, At: now,
	}
}

// onScreen estimates the media time on the screen: the picture goes on while the buffer
// drains, and stands still in a pause.
func (s *sess) onScreen(npt session.NPT, now time.Time) session.NPT {
	if s.film != nil {
		return s.film.onScreen(s, npt, now)
	}
	at, depth := now, s.profile.depth(s.live, s.sought)
	if s.rec.State == session.Paused {
		at = s.paused
	}
	back := time.Duration(float64(depth) * max(s.play.scale, 0))
	run := session.NPT(float64(at.Sub(s.play.at)) * s.play.scale)
	r := npt
	if t := s.reference(); t != nil && !t.read.waiting && s.rec.State == session.Playing {
		r = r.Add(max(at.Sub(t.read.lastAt), 0)) // a buffer that is not refilled drains
	}
	// Faster than real time fills buffers, not the screen.
	switch {
	case s.lagging():
		return r.Add(-back)
	case !s.ran.IsZero():
		shown := s.began.Add(time.Duration(float64(max(at.Sub(s.ran), 0)) * s.play.scale))
		return min(max(min(r.Add(-back), shown), s.floor), npt)
	case s.heard && npt > s.play.start+run+session.NPT(burst):
		r = s.play.start + run
	}
	return min(max(r.Add(-back), s.floor), npt)
}

// runs notes when the player had as much of the film as it waits for, or waited as long, and ran: a server
// that sends faster than real time shortens the one and not the other. prev is the packet before, since
// which the rest came.
func (s *sess) runs(t *track, prev, at time.Time) {
	if !s.ran.IsZero() || s.live || s.play.resumed || s.play.scale <= 0 || t.read.waiting || t != s.reference() {
		return
	}
	first, npt := t.read.first, t.read.last
	if since := max(t.read.firstAt.Sub(s.play.at), 0); first > s.play.start+session.NPT(since) {
		first = s.play.start // what came before was not looked at
	}
	if t.mpegts {
		if !t.program.have {
			return
		}
		first, npt = t.program.from(s.play.start), t.program.npt(s.play.start)
	}
	depth := s.profile.depth(s.live, s.sought)
	if !s.profile.Counts {
		s.began, s.ran = first, t.read.firstAt.Add(depth)
		return
	}
	if over := time.Duration(float64(npt-first)/s.play.scale) - depth; over >= 0 {
		s.began, s.ran = first, at.Add(-min(over, max(at.Sub(prev), 0)))
	}
}

// lagging reports whether the server still sends the place before a seek.
func (s *sess) lagging() bool {
	t := s.reference()
	return t != nil && t.read.waiting && s.play.lags && t.read.lastAt.After(s.play.at)
}

// record returns the session as it is shown, with the position at now.
func (s *sess) record(now time.Time) session.Record {
	r := s.rec
	r.Live, r.Updated = s.live, now
	r.Tracks = make([]session.Track, len(s.tracks))
	for i, t := range s.tracks {
		r.Tracks[i] = t.record()
	}
	r.Position = s.position(now)
	return r
}

// startPlay applies the reply to a PLAY: a new anchor for every track.
func (s *sess) startPlay(p play, now time.Time) {
	before, _, _, known := s.delivered(now)
	if known {
		s.floor = s.onScreen(before, now)
	}
	if p.first || p.sought {
		s.floor = p.start
		s.sought = !p.first
	}
	old := s.play
	s.play = p
	s.halted = false
	s.since, s.ran = time.Time{}, time.Time{}
	for _, t := range s.tracks {
		t.read.begin()
		t.program.begin(old.start, old.known)
	}
	s.rec.State = session.Playing
}

// pausePlay freezes the position.
func (s *sess) pausePlay(now time.Time) {
	if npt, _, _, ok := s.delivered(now); ok {
		s.halt, s.halted = npt, true
	}
	s.paused = now
	s.rec.State = session.Paused
}
