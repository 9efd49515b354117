package tracer

import (
	"encoding/json"
	"fmt"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/rtsp"
)

// dormantFor is how long a restored session may show no sign of life: longer than the usual
// keep-alive interval.
const dormantFor = 90 * time.Second

// saved is a session as it is kept over a restart: a hint that the wire confirms or not.
type saved struct {
	Record  session.Record `json:"record"`
	Key     string         `json:"key"` // RTSP session id
	Control bpf.Flow       `json:"control"`
	Base    string         `json:"base"`
	SDP     string         `json:"sdp"`
	Version string         `json:"version"`
	Timeout time.Duration  `json:"timeout"`
	CSeq    int            `json:"cseq"`
	Start   session.NPT    `json:"start"`
	Known   bool           `json:"known"`
	Scale   float64        `json:"scale"`
	Since   time.Time      `json:"since"`
	Sought  bool           `json:"sought"`
	Halt    session.NPT    `json:"halt"`
	Halted  bool           `json:"halted"`
	Paused  time.Time      `json:"paused"`
	Tracks  []savedTrack   `json:"tracks"`
	Film    *savedFilm     `json:"film,omitempty"` // of MMS
}

type savedTrack struct {
	ID       int             `json:"id"`
	Media    string          `json:"media"`
	Codec    string          `json:"codec"`
	Language string          `json:"language"`
	Control  string          `json:"control"`
	Rate     uint32          `json:"rate"`
	PT       uint8           `json:"pt"`
	HavePT   bool            `json:"have_pt"`
	Channel  int             `json:"channel"`
	RTP      bpf.Flow        `json:"rtp"`
	RTCP     bpf.Flow        `json:"rtcp"`
	SSRC     uint32          `json:"ssrc"`
	HaveSSRC bool            `json:"have_ssrc"`
	Anchored bool            `json:"anchored"`
	Anchor   session.Anchor  `json:"anchor"`
	Newest   session.RTPTime `json:"newest"`
	At       time.Time       `json:"at"`
}

// snapshot returns the session in JSON, nothing for one that is over or is steered: it ends with the
// daemon.
func (s *sess) snapshot() ([]byte, error) {
	if s.rec.State == session.Ended || s.rec.Steered || s.rec.Opaque {
		return nil, nil
	}
	return json.Marshal(s.save())
}

func (s *sess) save() saved {
	x := saved{
		Record: s.rec, Key: s.key.id, Control: s.control, Base: s.base, SDP: s.sdpRaw,
		Version: s.version, Timeout: s.timeout, CSeq: s.cseq, Start: s.play.start, Known: s.play.known,
		Scale: s.play.scale, Since: s.play.at, Sought: s.sought, Halt: s.halt, Halted: s.halted, Paused: s.paused,
	}
	x.Record.Live = s.live
	if s.film != nil {
		x.Film = s.film.save()
	}
	for _, t := range s.tracks {
		x.Tracks = append(x.Tracks, savedTrack{
			ID: t.id, Media: t.media, Codec: t.codec, Language: t.language, Control: t.control, Rate: t.rate,
			PT: t.pt, HavePT: t.havePT, Channel: t.channel, RTP: t.rtp, RTCP: t.rtcp, SSRC: t.ssrc, HaveSSRC: t.haveSSRC,
			Anchored: t.read.set && !t.read.waiting, Anchor: t.read.anchor, Newest: t.read.newest, At: t.read.lastAt,
		})
	}
	return x
}

// Restore takes what Snapshot gave before a restart. The sessions are watched, and shown as
// soon as one packet or message of them is seen; without any they are dropped. A position is
// known again when the stored anchor fits the packets, else at the next PLAY.
func (d *Decoder) Restore(b []byte, at time.Time) error {
	var all []saved
	if err := json.Unmarshal(b, &all); err != nil {
		return fmt.Errorf("restore sessions: %w", err)
	}
	for _, x := range all {
		if x.Record.ID == "" || !x.Control.Terminal.IsValid() || len(d.sessions) >= maxSessions {
			continue
		}
		d.restore(x, at)
	}
	return nil
}

func (d *Decoder) restore(x saved, at time.Time) {
	x.onClock(at)
	_, number := d.newID()
	s := &sess{
		key: sessKey{x.Control.Terminal.Addr(), x.Control.Server, x.Key}, number: number, rec: x.Record,
		control: x.Control, base: x.Base, sdpRaw: x.SDP, version: x.Version, timeout: x.Timeout, cseq: x.CSeq,
		sought: x.Sought, halt: x.Halt, halted: x.Halted, paused: x.Paused, touched: at, dormant: at, live: x.Record.Live,
		play: play{start: x.Start, known: x.Known, scale: x.Scale, speed: 1, at: x.Since},
	}
	if name, aor := d.cfg.Name(s.key.terminal); aor != "" { // it may be another user's by now
		s.rec.Terminal.Name, s.rec.AoR = name, &aor
	}
	if s.rec.Duration != nil {
		s.end = session.NPTSeconds(*s.rec.Duration)
	}
	if r, err := rtsp.ParseRange(x.SDP); err == nil {
		s.scale = r.Scale()
		if _, end := r.Media(s.scale); end != nil {
			s.end = session.NPT(*end)
		}
	}
	s.profile = profileOf(d.cfg.Profiles, deref(s.rec.UserAgent))
	s.floor = x.Start
	if x.Film != nil {
		d.restoreFilm(s, x.Film)
	}
	for _, y := range x.Tracks {
		t := &track{
			id: y.ID, media: y.Media, codec: y.Codec, language: y.Language, control: y.Control, rate: y.Rate,
			pt: y.PT, havePT: y.HavePT, mpegts: isMPEGTS(y.Codec, y.PT), channel: y.Channel, ssrc: y.SSRC, haveSSRC: y.HaveSSRC,
		}
		if y.Anchored {
			t.read.stored(y)
			s.heard = true
		}
		s.tracks = append(s.tracks, t)
		d.rewatch(s, t, y)
	}
	d.enter(s)
	d.byID[s.rec.ID] = s
}

// onClock gives the times of x the reading of the clock that now has, or they would stay behind when
// the system's clock is set.
func (x *saved) onClock(now time.Time) {
	times := []*time.Time{&x.Since, &x.Paused}
	for i := range x.Tracks {
		times = append(times, &x.Tracks[i].At)
	}
	if f := x.Film; f != nil {
		times = append(times, &f.StartAt, &f.LastAt, &f.Ran)
	}
	for _, t := range times {
		if !t.IsZero() {
			*t = now.Add(t.Sub(now))
		}
	}
}

// rewatch finds the media of a restored track again by the ports and channels it had.
func (d *Decoder) rewatch(s *sess, t *track, y savedTrack) {
	if t.channel >= 0 {
		c := d.conn(s.control, s.dormant, false)
		if c == nil {
			return
		}
		c.speaks, c.talk = speaksOurs, &rtspDialogue{d, c}
		c.userAgent = deref(s.rec.UserAgent)
		if !c.has(s) {
			c.sessions = append(c.sessions, s)
		}
		d.interleave(c, s, t, [2]int{t.channel, t.channel + 1})
		return
	}
	for _, f := range []bpf.Flow{y.RTP, y.RTCP} {
		if f.Terminal.IsValid() {
			d.watch(s, t, f, f == y.RTCP)
		}
	}
	t.rtp, t.rtcp = y.RTP, y.RTCP
}

// revive shows a restored session that is alive.
func (d *Decoder) revive(s *sess, at time.Time) {
	s.dormant = time.Time{}
	d.stats.Sessions++
	d.changed(s, at)
}

// drop removes a restored session that never showed.
func (d *Decoder) drop(s *sess) {
	for _, t := range s.tracks {
		d.unwatch(t)
	}
	d.leave(s)
	delete(d.byID, s.rec.ID)
}

// stored sets the anchor a track had before a restart, on probation.
func (r *reading) stored(y savedTrack) {
	r.set, r.doubted = true, true
	r.anchor = y.Anchor
	r.last, r.newest, r.lastAt, r.err = y.Anchor.At(y.Newest), y.Newest, y.At, 200*time.Millisecond
	r.lastTS = y.Newest
	r.first, r.firstAt, r.firstTS = r.last, y.At, y.Newest
}

// fits reports whether the first packet after a restart is where the stored anchor says it
// is: as far as the time that went by.
func (r *reading) fits(ts session.RTPTime, rate uint32, at time.Time) bool {
	moved := session.Ticks(ts.Sub(r.newest), rate, 1)
	return (moved - at.Sub(r.lastAt)).Abs() < 2*time.Second
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
