package lab

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestCompare(t *testing.T) {
	var switched []bool
	on := false
	values := map[bool][]float64{false: {1, 100, 110, 90}, true: {7, 90, 110, 45}}
	n := map[bool]int{}
	c, err := Compare(context.Background(), 3,
		func(b bool) error { on = b; switched = append(switched, b); return nil },
		func(context.Context) (float64, error) { n[on]++; return values[on][n[on]-1], nil })
	if err != nil || c.Ratio != 0.9 || c.Low != 0.5 || c.High != 1 || c.MedA != 100 || c.MedB != 90 || c.Rounds != 3 {
		t.Errorf("%+v %v", c, err)
	}
	if want := []bool{false, true, false, true, false, true, false, true, false}; !slices.Equal(switched, want) {
		t.Errorf("switched %v", switched)
	}
	broken := errors.New("broken")
	_, err = Compare(context.Background(), 1, func(b bool) error { on = b; return nil },
		func(context.Context) (float64, error) {
			if on {
				return 0, broken
			}
			return 1, nil
		})
	if !errors.Is(err, broken) || on {
		t.Errorf("error %v, left on %v", err, on)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median %v", m)
	}
}

func TestPushRTP(t *testing.T) {
	l := newLab(t, Options{IPv6: true})
	r, err := l.PushRTP(testContext(t), RTPLoad{Rate: 2000, Flows: 4, Duration: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent < 100 || r.Sent > 1000 || r.Loss() > 0.05 {
		t.Errorf("%+v loss %v", r, r.Loss())
	}
}

func TestPushInterleaved(t *testing.T) {
	l := newLab(t, Options{})
	r, err := l.PushInterleaved(testContext(t), TCPLoad{Duration: 100 * time.Millisecond, Warmup: 10 * time.Millisecond})
	if err != nil || r.Mbit() < 10 {
		t.Errorf("%+v %v", r, err)
	}
	// Nobody in the namespace: an error, no hang.
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if _, err := l.PushInterleaved(ctx, TCPLoad{}); err == nil {
		t.Error("no error")
	}
}

// BenchmarkNothing compares the network with itself: the spread is what a real comparison on
// this machine has to beat.
func BenchmarkNothing(b *testing.B) {
	Root(b)
	for _, wire := range []bool{false, true} {
		l, err := New(Options{WireSize: wire})
		if err != nil {
			b.Fatal(err)
		}
		nothing := func(bool) error { return nil }
		name := map[bool]string{false: "offloads", true: "wire size"}[wire]
		for load, measure := range map[string]func(context.Context) (float64, error){
			"rtp packets per s": func(ctx context.Context) (float64, error) {
				r, err := l.PushRTP(ctx, RTPLoad{Duration: 500 * time.Millisecond})
				return r.PPS(), err
			},
			"tcp Mbit per s": func(ctx context.Context) (float64, error) {
				r, err := l.PushInterleaved(ctx, TCPLoad{Duration: 500 * time.Millisecond})
				return r.Mbit(), err
			},
		} {
			b.Run(name+" "+load, func(b *testing.B) {
				for b.Loop() {
					c, err := Compare(context.Background(), 7, nothing, measure)
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(c.MedA, "median")
					b.ReportMetric(c.Ratio, "ratio")
					b.ReportMetric(c.Low, "lowest-ratio")
					b.ReportMetric(c.High, "highest-ratio")
				}
			})
		}
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	}
}
