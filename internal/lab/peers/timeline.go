package peers

import (
	"sort"
	"time"
)

// Shown is a picture that appeared on a player's screen, or left its decoder.
type Shown struct {
	At  time.Time
	N   int     // number of the picture
	Pos float64 // its media time in seconds
}

// Timeline is what a player showed, oldest first: one entry each time the picture changed.
type Timeline []Shown

// At returns the picture that was on the screen at t; ok is false before the first.
func (l Timeline) At(t time.Time) (s Shown, ok bool) {
	i := sort.Search(len(l), func(i int) bool { return l[i].At.After(t) })
	if i == 0 {
		return Shown{}, false
	}
	return l[i-1], true
}

// Between returns the part of the timeline from one time to another.
func (l Timeline) Between(from, to time.Time) Timeline {
	i := sort.Search(len(l), func(i int) bool { return !l[i].At.Before(from) })
	j := sort.Search(len(l), func(j int) bool { return l[j].At.After(to) })
	return l[i:max(i, j)]
}

// Rate is how many pictures the film advanced per second, by least squares; 0 for fewer than
// two pictures.
func (l Timeline) Rate() float64 {
	if len(l) < 2 {
		return 0
	}
	var st, sn, stt, stn float64
	for _, s := range l {
		t, n := s.At.Sub(l[0].At).Seconds(), float64(s.N-l[0].N)
		st, sn, stt, stn = st+t, sn+n, stt+t*t, stn+t*n
	}
	k := float64(len(l))
	return (k*stn - st*sn) / (k*stt - st*st)
}

// Missed is how many pictures were never shown between the first and the last, and Back how
// often the film went back.
func (l Timeline) Missed() (missed, back int) {
	for i := 1; i < len(l); i++ {
		switch d := l[i].N - l[i-1].N; {
		case d > 1:
			missed += d - 1
		case d < 0:
			back++
		}
	}
	return missed, back
}
