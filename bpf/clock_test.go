package bpf

import (
	"testing"
	"time"
)

// Kernel times are compared with time.Now by who reads them: both must be of one clock, or an hour
// that somebody adds to the system's moves every film and lets no move over UDP succeed.
func TestClockIsNotTheWalls(t *testing.T) {
	c := newClock()
	before, ns, after := time.Now(), monotonic(), time.Now()
	got := c.wall(ns)
	if got == got.Round(0) { //nolint:staticcheck // == tells what Equal does not: the monotonic reading
		t.Fatalf("%v has the wall clock only", got)
	}
	if got.Before(before.Add(-time.Millisecond)) || got.After(after.Add(time.Millisecond)) {
		t.Errorf("%v is not from %v to %v", got, before, after)
	}
	if d := c.wall(ns + 1234567).Sub(got); d != 1234567 {
		t.Errorf("a difference of 1234567 ns is %d", d)
	}
	if !c.wall(0).IsZero() {
		t.Error("0 is a time")
	}
}

// When the system's clock is set, what is shown follows it, and differences stay.
func TestClockFollows(t *testing.T) {
	c := newClock()
	m := c.at.Load()
	const hour = uint64(time.Hour)
	c.at.Store(&moment{m.time, m.ns + hour}) // as if it were an hour behind by now
	if off := time.Until(c.wall(monotonic())); off > -time.Minute {
		t.Fatalf("not set: %v", off)
	}
	c.follow()
	before, ns, after := time.Now(), monotonic(), time.Now()
	if got := c.wall(ns); got.Before(before.Add(-clockOff)) || got.After(after.Add(clockOff)) {
		t.Errorf("still off: %v is not from %v to %v", got, before, after)
	}
	m = c.at.Load()
	if c.follow(); c.at.Load() != m {
		t.Error("set again without need")
	}
}
