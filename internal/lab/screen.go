package lab

import (
	"maps"
	"slices"
	"time"
)

// pause stops the screen at a moment, resume lets it go on.
func (b *book) pause(at time.Time) {
	if s := b.cur(); s != nil && !s.paused() {
		s.pauses = append(s.pauses, span{from: at})
	}
}

func (b *book) resume(at time.Time) {
	if s := b.cur(); s != nil && s.paused() {
		s.pauses[len(s.pauses)-1].to = at
	}
}

func (s *segment) paused() bool {
	return len(s.pauses) > 0 && s.pauses[len(s.pauses)-1].to.IsZero()
}

// shown returns when a picture is on the screen. It is zero when that is not known because of a
// pause, and when the segment ended (at until, if not zero) before.
func (s *segment) shown(p Picture, depth time.Duration, until time.Time) time.Time {
	if s.origin == nil {
		return time.Time{}
	}
	due := s.FirstPacket.Add(depth + p.NPT - s.origin.NPT)
	for _, span := range s.pauses {
		late := due.Before(span.from) // it was due before the pause
		switch {
		case late && p.At.Before(span.from):
		case span.to.IsZero():
			return time.Time{}
		case late && p.At.Before(span.to):
			due = span.to // came when the screen stood
		case late:
		default:
			due = due.Add(span.to.Sub(span.from))
		}
	}
	if due.Before(p.At) {
		due = p.At
	}
	if !until.IsZero() && due.After(until) {
		return time.Time{}
	}
	return due
}

// until returns when segment i was replaced on the screen; zero while it is the newest.
func (b *book) until(i int) time.Time {
	if i+1 < len(b.segs) {
		return b.segs[i+1].FirstPacket
	}
	return time.Time{}
}

// pictures returns all pictures with their time on the screen, in the order of their arrival.
func (b *book) pictures() []Picture {
	var out []Picture
	for i, s := range b.segs {
		for _, p := range s.Pictures {
			p.Shown = s.shown(p, b.depth, b.until(i))
			out = append(out, p)
		}
	}
	return out
}

// newest returns the picture received last.
func (b *book) newest() (Picture, bool) {
	for i := len(b.segs) - 1; i >= 0; i-- {
		s := b.segs[i]
		if n := len(s.Pictures); n > 0 {
			p := s.Pictures[n-1]
			p.Shown = s.shown(p, b.depth, b.until(i))
			return p, true
		}
	}
	return Picture{}, false
}

// onScreen returns the picture that is shown at a moment.
func (b *book) onScreen(at time.Time) (Picture, bool) {
	for i := len(b.segs) - 1; i >= 0; i-- {
		s := b.segs[i]
		for j := len(s.Pictures) - 1; j >= 0; j-- {
			p := s.Pictures[j]
			p.Shown = s.shown(p, b.depth, b.until(i))
			if !p.Shown.IsZero() && !p.Shown.After(at) {
				return p, true
			}
		}
	}
	return Picture{}, false
}

// drained returns when the last picture received so far is shown.
func (b *book) drained() time.Time {
	var last time.Time
	if s := b.cur(); s != nil {
		for _, p := range s.Pictures {
			if t := s.shown(p, b.depth, time.Time{}); t.After(last) {
				last = t
			}
		}
	}
	return last
}

// ahead returns how much of the newest segment was received and is not shown at a moment.
func (b *book) ahead(at time.Time) time.Duration {
	s := b.cur()
	if s == nil || s.origin == nil {
		return 0 // a seek emptied the buffer
	}
	newest := s.Pictures[len(s.Pictures)-1]
	for i := len(s.Pictures) - 1; i >= 0; i-- {
		if t := s.shown(s.Pictures[i], b.depth, time.Time{}); !t.IsZero() && !t.After(at) {
			return newest.NPT - s.Pictures[i].NPT
		}
	}
	return newest.NPT - s.origin.NPT
}

// segments returns copies with what is missing worked out.
func (b *book) segments() []Segment {
	out := make([]Segment, 0, len(b.segs))
	for i, s := range b.segs {
		seg := s.Segment
		seg.Pictures, seg.ClockError = slices.Clone(s.Pictures), maps.Clone(s.ClockError)
		for j := range seg.Pictures {
			seg.Pictures[j].Shown = s.shown(seg.Pictures[j], b.depth, b.until(i))
		}
		first, ok := seg.First()
		last, _ := seg.Last()
		for n := first.Number; ok && n < last.Number && len(seg.Missing) < maxPictures; n++ {
			if _, got := s.done[n]; !got {
				seg.Missing = append(seg.Missing, n)
			}
		}
		seg.SoundFrames = len(s.sound)
		seg.SoundMissed = holes(s.sound)
		out = append(out, seg)
	}
	return out
}

// holes counts the numbers missing between the lowest and the highest.
func holes(set map[uint32]struct{}) int {
	if len(set) == 0 {
		return 0
	}
	lo, hi := uint32(1<<32-1), uint32(0)
	for n := range set {
		lo, hi = min(lo, n), max(hi, n)
	}
	return int(hi-lo) + 1 - len(set)
}
