package rtsp

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Scale is how a server writes media times in ranges. Media time counts from the beginning of the
// presentation; only npt does so on the wire.
type Scale struct {
	Unit  string        // as Range.Unit; "": not known, npt is meant
	Zero  time.Duration // what an SMPTE scale says at media time 0
	Clock time.Time     // the same of a clock; zero: not known
}

// Scale returns the scale of a presentation whose whole range is r.
func (r Range) Scale() Scale {
	s := Scale{Unit: r.Unit, Clock: r.StartClock}
	if r.smpte() && r.Start != nil {
		s.Zero = *r.Start
	}
	return s
}

// Media returns start and end of r as media times, nil where r has none or where they cannot be
// told: those of a clock range when s does not say where its clock began.
func (r Range) Media(s Scale) (start, end *time.Duration) {
	if r.Unit == UnitClock {
		return sinceClock(r.StartClock, s.Clock), sinceClock(r.EndClock, s.Clock)
	}
	start, end = r.Start, r.End
	if r.smpte() && s.Zero != 0 {
		start, end = less(start, s.Zero), less(end, s.Zero)
	}
	return start, end
}

func sinceClock(t, zero time.Time) *time.Duration {
	if t.IsZero() || zero.IsZero() {
		return nil
	}
	d := max(t.Sub(zero), 0)
	return &d
}

func less(d *time.Duration, zero time.Duration) *time.Duration {
	if d == nil {
		return nil
	}
	x := max(*d-zero, 0)
	return &x
}

// Format writes media time at in a unit, which may be another than that of s. written is what
// the text says: it is not after at, and before it by less than a millisecond, or than a frame
// in SMPTE units. ok is false when the unit is not known, or at cannot be told in it.
func (s Scale) Format(unit string, at time.Duration) (text string, written time.Duration, ok bool) {
	if at = max(at, 0); at > longest {
		return "", 0, false
	}
	ms := at.Truncate(time.Millisecond)
	if rate, isSMPTE := smpteRate(unit); isSMPTE {
		frame := rate.frameAt(at + s.Zero)
		for ; rate.at(frame) < s.Zero; frame++ { // never before the beginning
		}
		text, ok = rate.label(frame)
		return text, rate.at(frame) - s.Zero, ok
	}
	switch {
	case unit == UnitNPT:
		return FormatNPT(ms), ms, true
	case unit == UnitClock && !s.Clock.IsZero():
		return s.Clock.Add(ms).UTC().Format("20060102T150405.999Z"), ms, true
	}
	return "", 0, false
}

// Start returns a whole Range header that starts at a media time and has no end, in the server's
// unit. written and ok are as for Format.
func (s Scale) Start(at time.Duration) (header string, written time.Duration, ok bool) {
	unit := s.Unit
	if unit == "" {
		unit = UnitNPT
	}
	text, written, ok := s.Format(unit, at)
	return unit + "=" + text + "-", written, ok
}

// frameRate is how an SMPTE scale counts (RFC 2326 §3.5, SMPTE 12M).
type frameRate struct {
	perSecond int64 // frames in a second of the label
	drop      bool  // 30000/1001 frames a second; the labels 0 and 1 are left out of most minutes
}

// smpteRate returns how a unit counts; ok is false when it is no SMPTE scale that is known.
func smpteRate(unit string) (r frameRate, ok bool) {
	kind, isSMPTE := strings.CutPrefix(unit, UnitSMPTE)
	switch {
	case !isSMPTE:
		return r, false
	case kind == "", kind == "-30-drop":
		return frameRate{30, true}, true
	}
	n, err := strconv.Atoi(strings.TrimPrefix(kind, "-"))
	if err != nil || n < 1 || n > 100 || kind[0] != '-' {
		return r, false
	}
	return frameRate{int64(n), false}, true
}

const (
	dropMinute = 60*30 - 2           // frames of a minute in which two labels are left out
	dropTen    = 10*dropMinute + 2   // frames of ten minutes: the first one has all
	dropSecond = 1001 * time.Second  // of 30000 frames
	longLabel  = 100 * 3600          // seconds; hours have two digits
	mostLabel  = int64(1<<62) / 1e12 // seconds a label that is read may say: no arithmetic overflows
	longest    = 10000 * time.Hour   // that is written
)

// at returns the time at which a frame begins.
func (r frameRate) at(frame int64) time.Duration {
	if r.drop {
		return time.Duration(frame/30000)*dropSecond + time.Duration(frame%30000)*dropSecond/30000
	}
	return time.Duration(frame/r.perSecond)*time.Second + time.Duration(frame%r.perSecond)*time.Second/time.Duration(r.perSecond)
}

// frameAt returns the frame that is on at time t.
func (r frameRate) frameAt(t time.Duration) int64 {
	frame := int64(t.Seconds() * float64(r.perSecond))
	if r.drop {
		frame = int64(t.Seconds() * 30000 / 1001)
	}
	for r.at(frame+1) <= t {
		frame++
	}
	for frame > 0 && r.at(frame) > t {
		frame--
	}
	return frame
}

// frame returns the frame that a label names.
func (r frameRate) frame(seconds, frames int64) int64 {
	n := seconds*r.perSecond + frames
	if r.drop {
		minutes := seconds / 60
		n -= 2 * (minutes - minutes/10)
	}
	return max(n, 0)
}

// label writes hours:minutes:seconds:frames; false when that is too far.
func (r frameRate) label(frame int64) (string, bool) {
	if r.drop {
		ten, rest := frame/dropTen, frame%dropTen
		frame += 18 * ten
		if rest >= 2 {
			frame += 2 * ((rest - 2) / dropMinute)
		}
	}
	s := frame / r.perSecond
	return fmt.Sprintf("%02d:%02d:%02d:%02d", s/3600, s/60%60, s%60, frame%r.perSecond), s < longLabel
}
