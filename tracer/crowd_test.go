package tracer

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
)

// many is what one gateway is meant to watch.
const many = 50_000

const scaleSDP = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=f\r\nt=0 0\r\na=range:npt=0-180.032\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=0\r\n" +
	"m=audio 0 RTP/AVP 97\r\na=rtpmap:97 mpeg4-generic/16000\r\na=control:stream=1\r\n"

// crowd is n sessions that play over UDP, each on a terminal of its own.
func crowd(tb testing.TB, n int) (*Live, *session.Table, []bpf.Flow) {
	tb.Helper()
	table := session.NewTable()
	l := NewLive(Config{}, newFakeKernel(), table, slog.New(slog.DiscardHandler))
	at := time.Now()
	server := netip.MustParseAddr("192.0.2.9")
	media := make([]bpf.Flow, 0, n)
	for i := range n {
		ue := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		seq := [2]uint32{}
		say := func(dir bpf.Dir, lines string) {
			b := []byte(strings.ReplaceAll(lines, "|", "\r\n"))
			l.d.Segment(Segment{
				Flow: bpf.Flow{Terminal: netip.AddrPortFrom(ue, 40000), Server: netip.AddrPortFrom(server, 554)},
				Dir:  dir, Seq: seq[dir], Flags: ACK, Payload: b, At: at,
			})
			seq[dir] += uint32(len(b))
		}
		u := fmt.Sprintf("rtsp://192.0.2.9/film%d", i%100)
		say(bpf.ToServer, "DESCRIBE "+u+" RTSP/1.0|CSeq: 1|User-Agent: GStreamer/1.22.0||")
		say(bpf.ToTerminal, fmt.Sprintf("RTSP/1.0 200 OK|CSeq: 1|Content-Base: %s/|Content-Type: application/sdp|Content-Length: %d||%s", u, len(scaleSDP), scaleSDP))
		for track := range 2 {
			transport := fmt.Sprintf("RTP/AVP;unicast;client_port=%d-%d", 5000+2*track, 5001+2*track)
			say(bpf.ToServer, fmt.Sprintf("SETUP %s/stream=%d RTSP/1.0|CSeq: %d|Session: s%d|Transport: %s||", u, track, 2+track, i, transport))
			say(bpf.ToTerminal, fmt.Sprintf("RTSP/1.0 200 OK|CSeq: %d|Session: s%d;timeout=60|Transport: %s;server_port=%d-%d;ssrc=%08X||",
				2+track, i, transport, 6000+2*track, 6001+2*track, i))
		}
		say(bpf.ToServer, fmt.Sprintf("PLAY %s/ RTSP/1.0|CSeq: 4|Session: s%d|Range: npt=0-||", u, i))
		say(bpf.ToTerminal, fmt.Sprintf("RTSP/1.0 200 OK|CSeq: 4|Session: s%d|Range: npt=0-180|"+
			"RTP-Info: url=%s/stream=0;seq=1;rtptime=0,url=%s/stream=1;seq=1;rtptime=0||", i, u, u))
		media = append(media, bpf.Flow{Terminal: netip.AddrPortFrom(ue, 5000), Server: netip.AddrPortFrom(server, 6000)})
	}
	if got := len(table.List()); got != n {
		tb.Fatalf("%d sessions, want %d", got, n)
	}
	return l, table, media
}

// BenchmarkCrowd is what things cost with as many sessions as one gateway is meant to watch, next to
// what they cost with one.
func BenchmarkCrowd(b *testing.B) {
	for _, n := range []int{1, many} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		l, _, media := crowd(b, n)
		runtime.GC()
		runtime.ReadMemStats(&after)
		at := time.Now()
		b.Run(fmt.Sprintf("%d/sample", n), func(b *testing.B) {
			b.ReportAllocs()
			ev := bpf.Event{Kind: bpf.EventRTP, Proto: bpf.UDP, Dir: bpf.ToTerminal}
			packet := make([]byte, 64)
			packet[0], packet[1] = 0x80, 96
			for i := range b.N {
				k := i % n
				ev.Flow, ev.At = media[k], at.Add(time.Duration(i/n)*200*time.Millisecond)
				packet[3] = byte(i / n)
				packet[8], packet[9], packet[10], packet[11] = byte(k>>24), byte(k>>16), byte(k>>8), byte(k)
				ev.Payload = packet
				l.event(&ev)
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "heap-B/session")
		})
		b.Run(fmt.Sprintf("%d/records", n), func(b *testing.B) {
			for range b.N {
				if got := len(l.Records(at)); got != n {
					b.Fatal(got)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/snapshot", n), func(b *testing.B) {
			for range b.N {
				if _, err := l.Snapshot(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("%d/tick", n), func(b *testing.B) {
			for i := range b.N {
				l.d.Tick(at.Add(time.Duration(i+1) * time.Second))
			}
		})
	}
}
