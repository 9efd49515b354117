package tracer

import (
	"strings"
	"time"

	"scas/session"
	"scas/tracer/mms"
)

// start is a StartPlaying that was not answered yet.
type start struct {
	mms.StartPlaying
	rate float64
	at   time.Time
}

// place returns where a start asks to begin.
func (x *mmstDialogue) place(p *start) (session.NPT, bool) {
	s := x.s
	packet := uint64(p.LocationID)
	if f := s.film; p.By() == mms.ByOffset && f.size > 0 {
		packet = uint64(max(int64(p.ASFOffset)-int64(x.report.HeaderSize), 0)) / uint64(f.size)
	}
	seconds := p.Position
	if p.By() == mms.ByPosition && !s.play.at.IsZero() && strings.HasPrefix(deref(s.rec.UserAgent), "NSPlayer/7.0.0.1956") {
		seconds = max(seconds-s.film.preroll.Seconds(), 0) // libmms adds it to a seek
	}
	return s.startOfFilm(p.By(), packet, seconds)
}

// answers reports whether a media packet can only be of the start that has no reply yet. Where a
// player goes on with the same incarnation, what its server sent before the start still comes.
func (x *mmstDialogue) answers(u mms.Unit, at time.Time) bool {
	p, f := x.starting, x.s.film
	switch {
	case u.Data.Incarnation != uint8(p.PlayIncarnation):
		return false
	case u.Data.Incarnation != f.inc:
		return true
	case at.Sub(p.at) <= time.Second:
		return false
	}
	packet, err := mms.ParsePacket(u.Payload)
	asked, known := x.place(p)
	if err != nil || !known || !f.seen {
		return false
	}
	send := time.Duration(packet.SendTime) * time.Millisecond
	return (send - time.Duration(asked)).Abs() < (send - f.lastSend).Abs()
}
