package tracer

import (
	"strings"
	"time"

	"scas/session"
	"scas/tracer/rtsp"
)

// played applies the reply to a PLAY: a new anchor.
func (d *Decoder) played(s *sess, req request, m *rtsp.Message, at time.Time) {
	p := s.promise(req, m, at)
	if !p.known && !s.live && s.rec.Duration == nil {
		s.live = true
	}
	s.startPlay(p, at)
	info, err := rtsp.ParseRTPInfo(m.Get("RTP-Info"))
	if err != nil {
		d.stats.Undecoded++
	}
	for _, e := range info {
		if t := s.byURL(e.URL); t != nil {
			if e.Seq != nil {
				t.read.seq0, t.read.haveSeq = session.Seq(*e.Seq), true
			}
			if e.RTPTime != nil {
				t.read.rt0, t.read.haveRT = session.RTPTime(*e.RTPTime), true
			}
		}
	}
	for _, t := range s.tracks {
		if t.channel < 0 && t.rtp.Terminal.IsValid() {
			d.sink.Playing(t.rtp)
		}
	}
	if s.rec.Transport == session.TCP {
		d.sink.Playing(s.control)
	}
	d.changed(s, at)
}

// spot is what a Range names, as media times.
type spot struct {
	start, end *time.Duration // nil: none
}

// spot reads a Range header.
func (s *sess) spot(header string) spot {
	r, err := rtsp.ParseRange(header)
	if err != nil {
		return spot{}
	}
	start, end := r.Media(s.scale)
	return spot{start, end}
}

// promise reads what a PLAY and its reply say: from where, how fast, and how far to believe
// it.
func (s *sess) promise(req request, m *rtsp.Message, at time.Time) play {
	scale, speed := parseScale(req.scale), parseScale(req.speed)
	asked, said := s.spot(req.span), s.spot(m.Get("Range"))
	p := play{scale: scale * speed, speed: speed, at: at, assumed: req.assumed && m.Status() == 0}
	if p.assumed {
		p.at = req.at
	}
	p.first = s.play.at.IsZero() || s.play.assumed && s.play.first
	p.sought, p.resumed = asked.start != nil && !p.first, asked.start == nil && !p.first
	p.lags = !p.first && strings.HasPrefix(m.Get("Server"), "VLC/")
	switch {
	case p.assumed:
		p.vague = time.Second
	case p.lags:
		p.vague = 500 * time.Millisecond
	case p.sought && said.start != nil && (*asked.start-*said.start).Abs() < 100*time.Millisecond:
		p.vague = time.Second // may have landed on the key frame before and not say so
	case p.resumed:
		p.vague = 150 * time.Millisecond
	}
	p.start, p.known = s.startOf(p, asked, said, at)
	if said.start != nil && said.end != nil && *said.end > *said.start && s.end == 0 {
		s.end = session.NPT(*said.end)
		s.rec.Duration = session.Ptr(said.end.Seconds())
	}
	return p
}

// startOf returns from where a PLAY starts: where the reply says, else where it was asked
// to, else where the session was paused, else the beginning.
func (s *sess) startOf(p play, asked, said spot, at time.Time) (session.NPT, bool) {
	now, _, _, known := s.delivered(at)
	switch {
	case p.sought && said.start != nil && !s.rec.Seekable && *said.start == 0 && *asked.start > 0 && known:
		return now, true // says 0 at any time and does not seek (live555, opus)
	case said.start != nil:
		return session.NPT(*said.start), true
	case s.live:
		return 0, false
	case asked.start != nil && s.rec.Duration != nil:
		return session.NPT(*asked.start), true
	case !p.first && known:
		return now, true
	}
	return 0, p.first && s.rec.Duration != nil
}

// byURL returns the track an entry of RTP-Info means: servers write the control URL whole,
// or only its end.
func (s *sess) byURL(url string) *track {
	for _, t := range s.tracks {
		if rtsp.SameURL(t.control, url) {
			return t
		}
	}
	tail := url[strings.LastIndexByte(url, '/')+1:]
	for _, t := range s.tracks {
		if tail != "" && strings.HasSuffix(t.control, "/"+tail) {
			return t
		}
	}
	return nil
}
