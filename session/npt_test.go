package session

import (
	"testing"
	"time"
)

func TestSeqWraps(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b Seq
		sub  int
	}{
		{"equal", 7, 7, 0},
		{"next", 8, 7, 1},
		{"wrap", 0, 65535, 1},
		{"back over the wrap", 65535, 0, -1},
		{"half", 32768, 0, -32768},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.a.Sub(c.b); got != c.sub {
				t.Errorf("Sub = %d, want %d", got, c.sub)
			}
			if got := c.b.Add(c.sub); got != c.a {
				t.Errorf("Add = %d, want %d", got, c.a)
			}
			if got := c.a.Before(c.b); got != (c.sub < 0) {
				t.Errorf("Before = %v", got)
			}
		})
	}
}

func TestExtend(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Seq
		last uint64
		want uint64
	}{
		{"first", 5, 0, 5},
		{"reordered before the first", 65535, 0, 65535},
		{"next", 6, 5, 6},
		{"wrap", 1, 65535, 65537},
		{"late over the wrap", 65534, 65537, 65534},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.s.Extend(c.last); got != c.want {
				t.Errorf("Extend = %d, want %d", got, c.want)
			}
		})
	}
	if got := RTPTime(10).Extend(1<<32 - 5); got != 1<<32+10 {
		t.Errorf("RTPTime.Extend = %d", got)
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		name  string
		n     int64
		rate  uint32
		scale float64
		want  time.Duration
	}{
		{"one picture", 3600, 90000, 1, 40 * time.Millisecond},
		{"no clock", 3600, 0, 1, 0},
		{"backwards", -3600, 90000, 1, -40 * time.Millisecond},
		{"thirteen hours", 1 << 32, 90000, 1, 47721858844444},
		{"fast", 318600, 90000, 2, 7080 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Ticks(c.n, c.rate, c.scale); got != c.want {
				t.Errorf("Ticks = %v, want %v", got, c.want)
			}
		})
	}
}

func TestAnchorOverWrap(t *testing.T) {
	a := Anchor{NPT: NPTSeconds(44.064), RTPTime: 0xffffff00, Rate: 90000, Scale: 1}
	if got := a.At(a.RTPTime.Add(90000)).Seconds(); got != 45.064 {
		t.Errorf("At over the wrap = %v, want 45.064", got)
	}
	far := a
	at := a.RTPTime
	for range 10 { // ten steps of 2^30 ticks: beyond what one anchor reaches
		at = at.Add(1 << 30)
		far = far.Moved(at)
	}
	want := a.NPT.Add(Ticks(10<<30, 90000, 1))
	if d := far.NPT.Sub(want); d > time.Microsecond || d < -time.Microsecond {
		t.Errorf("moved anchor off by %v", d)
	}
}
