package peers

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTimeline(t *testing.T) {
	t0 := time.Unix(1000, 0)
	line := func(numbers ...int) Timeline {
		var l Timeline
		for i, n := range numbers {
			l = append(l, Shown{At: t0.Add(time.Duration(i) * time.Second / Rate), N: n, Pos: NPT(n)})
		}
		return l
	}
	tests := []struct {
		name         string
		l            Timeline
		missed, back int
		rate         float64
	}{
		{"empty", nil, 0, 0, 0},
		{"one", line(7), 0, 0, 0},
		{"steady", line(7, 8, 9, 10), 0, 0, 25},
		{"every other", line(10, 12, 14, 16), 3, 0, 50},
		{"sought back", line(100, 101, 50, 51), 0, 1, -495},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			missed, back := tt.l.Missed()
			if missed != tt.missed || back != tt.back {
				t.Errorf("missed %d, back %d; want %d, %d", missed, back, tt.missed, tt.back)
			}
			if r := tt.l.Rate(); r < tt.rate-0.01 || r > tt.rate+0.01 {
				t.Errorf("rate %v, want %v", r, tt.rate)
			}
		})
	}
	l := line(7, 8, 9)
	if _, ok := l.At(t0.Add(-1)); ok {
		t.Error("a picture before the first")
	}
	if s, ok := l.At(t0.Add(50 * time.Millisecond)); !ok || s.N != 8 {
		t.Errorf("after 50 ms: %+v, %v", s, ok)
	}
	if got := l.Between(t0.Add(1), t0.Add(time.Hour)); len(got) != 2 || got[0].N != 8 {
		t.Errorf("after the first: %+v", got)
	}
	if got := l.Between(t0.Add(time.Hour), t0); len(got) != 0 {
		t.Errorf("backwards: %+v", got)
	}
}

func TestNetDev(t *testing.T) {
	const table = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       2    0    0    0     0          0         0      101       3    0    0    0     0       0          0
  eth0:123456789012 345    0    1    0     0          0         0     6789      10    0    0    0     0       0          0
`
	path := filepath.Join(t.TempDir(), "dev")
	if err := os.WriteFile(path, []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	want := Traffic{RxBytes: 123456789012, RxPackets: 345, TxBytes: 6789, TxPackets: 10}
	if got, err := NetDev(path, "eth0"); err != nil || got != want {
		t.Errorf("eth0: %+v, %v; want %+v", got, err, want)
	}
	if got, err := NetDev(path, "eth1"); err == nil {
		t.Errorf("eth1: %+v, want an error", got)
	}
}
