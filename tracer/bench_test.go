package tracer

import (
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// loaded returns a frame decoder that has read a whole capture, and the frames of the
// capture that carry RTP of its session.
func loaded(tb testing.TB, name string, keep func(size int) bool) (*frames, [][]byte, time.Time) {
	tb.Helper()
	all, first := takenFrom(tb, name)
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	in := newFrames(d, first)
	var media [][]byte
	var last time.Time
	for _, p := range all[:300] { // the session is up and plays
		before := d.stats.RTPPackets
		in.frame(p.b, p.at)
		if d.stats.RTPPackets > before && keep(len(p.b)) {
			media = append(media, p.b)
		}
		last = p.at
	}
	if len(media) == 0 {
		tb.Fatal("no media in the capture")
	}
	return in, media, last
}

func TestMediaPathAllocatesNothing(t *testing.T) {
	in, media, at := loaded(t, "rtsp/gst-ffplay-udp-full", func(int) bool { return true })
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		in.frame(media[i%len(media)], at)
		i++
	}); n != 0 {
		t.Errorf("%.1f allocations for a media packet", n)
	}
}

// BenchmarkMedia is the cost of one UDP media packet, next to that of gopacket's decoding of
// the same frame alone.
func BenchmarkMedia(b *testing.B) {
	in, media, at := loaded(b, "rtsp/gst-ffplay-udp-full", func(int) bool { return true })
	b.Run("gopacket", func(b *testing.B) {
		b.ReportAllocs()
		var seen []gopacket.LayerType
		for i := range b.N {
			if err := in.parser(layers.LayerTypeEthernet).DecodeLayers(media[i%len(media)], &seen); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tracer", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			in.frame(media[i%len(media)], at)
		}
	})
}

// BenchmarkCapture is the cost of a whole capture, signalling included, per packet.
func BenchmarkCapture(b *testing.B) {
	b.ReportAllocs()
	var packets uint64
	for range b.N {
		s, err := ReadFile("testdata/rtsp/l5-mplayer-tcp-full.pcap", Config{AnyPort: true}, 0, &watcher{})
		if err != nil {
			b.Fatal(err)
		}
		packets += s.Packets
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
}
