package tracer

import (
	"slices"
	"testing"
	"time"

	"scas/bpf"
)

// mmsMedia returns a decoder in the middle of a capture, and a function that hands it one more
// data packet.
func mmsMedia(t testing.TB, name string) (*Decoder, func()) {
	t.Helper()
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	var last Segment
	mmsFrames(t, name, d, func(in *frames, b []byte, at time.Time) {
		in.each = func(s Segment) {
			if s.Flags&(FIN|RST) != 0 || len(s.Payload) == 0 && s.Flags&SYN == 0 {
				return
			}
			d.Segment(s)
			if s.Dir == bpf.ToTerminal && len(s.Payload) > 1000 && len(s.Payload) < 1500 {
				last = s
				last.Payload = slices.Clone(s.Payload)
			}
		}
		in.frame(b, at)
	})
	c := d.conns[last.Flow]
	if c == nil || c.talk == nil {
		t.Fatalf("%s: no connection", name)
	}
	d.flush(c, last.At)
	return d, func() {
		last.Seq = c.toViewer.order.next
		d.Segment(last)
	}
}

func TestMMSDataCostsNothing(t *testing.T) {
	for _, name := range []string{"libmms-play", "mmsh-mplayer-play"} {
		d, more := mmsMedia(t, name)
		before := d.stats.MediaPackets
		if n := testing.AllocsPerRun(500, more); n != 0 || d.stats.MediaPackets == before {
			t.Errorf("%s: %.1f allocations for a data packet, %d read", name, n, d.stats.MediaPackets-before)
		}
	}
}

// BenchmarkMMSData is the cost of one data packet in a segment of its own.
func BenchmarkMMSData(b *testing.B) {
	for _, name := range []string{"libmms-play", "mmsh-mplayer-play"} {
		b.Run(name, func(b *testing.B) {
			_, more := mmsMedia(b, name)
			b.ReportAllocs()
			for b.Loop() {
				more()
			}
		})
	}
}
