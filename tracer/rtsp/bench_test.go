package rtsp

import (
	"os"
	"testing"
)

func BenchmarkNextFrame(b *testing.B) {
	frame := append([]byte("$\x00\x05\x00"), make([]byte, 1280)...)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := Next(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNextRequest(b *testing.B) {
	benchmarkStream(b, "gst-gst-udp-full.1.c2s")
}

func BenchmarkNextReply(b *testing.B) {
	benchmarkStream(b, "gst-gst-udp-full.1.s2c")
}

func BenchmarkNextInterleaved(b *testing.B) {
	benchmarkStream(b, "gst-mpv-tcp-fin.1.s2c")
}

// benchmarkStream cuts a whole recorded stream in each round and reports units.
func benchmarkStream(b *testing.B, name string) {
	stream, err := os.ReadFile("testdata/streams/" + name + ".bin")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	units := 0
	for b.Loop() {
		for rest := stream; len(rest) > 0; units++ {
			_, n, err := Next(rest)
			if err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(units), "ns/unit")
}

func BenchmarkNextPartialBody(b *testing.B) {
	partial := []byte("RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: 840\r\n\r\nv=0\r\n")
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = Next(partial)
	}
}

func BenchmarkSet(b *testing.B) {
	m, err := ParseMessage([]byte("PLAY rtsp://10.77.9.2:8554/vod/pos.mp4/ RTSP/1.0\r\nRange: npt=0-180.032\r\nCSeq: 5\r\nUser-Agent: Lavf59.27.100\r\nSession: sToD_Jb25fVSoy4y\r\n\r\n"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Clone().Set("Range", "npt=45.000-180.032")
	}
}

func BenchmarkParseSDP(b *testing.B) {
	in := []byte(gstSDP)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseSDP(in); err != nil {
			b.Fatal(err)
		}
	}
}
