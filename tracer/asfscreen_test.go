package tracer

import (
	"fmt"
	"log/slog"
	"math"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
)

// TestMMSRendered: a player runs once it has as much of the film as it waits for; what a server
// sends at once shortens the wait.
func TestMMSRendered(t *testing.T) {
	for _, tt := range []struct {
		name, subscriber string
		depth            float64 // s
	}{
		{"VLC", "NSPlayer/7.0.0.1956; {0xbabac001-0x2d83-0x0929-0x63535eedac653ea0}; Host: h", 4.36},
		{"MPlayer", "NSPlayer/7.0.0.1956; {33715801-BAB3-9D85-24E9-03B90328270A}; Host: h", 3.2},
		{"ffplay, mpv", "NSPlayer/7.0.0.1956; {7E667F5D-A661-495E-A512-F55686DDA178}; Host: h", 1.8},
		{"any other", "NSPlayer/9.0.0.3250; {A}", 4.36},
	} {
		for _, burst := range []int{0, 3, 10} {
			t.Run(fmt.Sprintf("%s, %d s at once", tt.name, burst), func(t *testing.T) {
				d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
				at := time.Unix(1000, 0)
				mmsMessages(d, at, &mms.Connect{SubscriberName: tt.subscriber}, &mms.OpenFile{},
					&mms.ReportOpenFile{OpenFileID: 1, Attributes: mms.CanSeek, Duration: 100, PacketSize: 200, PacketCount: 1000},
					&mms.StartPlaying{OpenFileID: 1, PlayIncarnation: 9, Position: 50}, &mms.ReportStartedPlaying{PlayIncarnation: 9})
				s := newest(d)
				for n := range 200 { // ten a second, from 50 s on
					send := 50_000 + uint32(n)*100
					due := at.Add(time.Duration(max(n-10*burst, 0)) * 100 * time.Millisecond)
					d.Stream(mmsFlow(), bpf.ToTerminal, mmsPacket(9, uint32(n), send, send), due)
					if n <= 10*burst {
						continue
					}
					p := s.position(due)
					lag := max(tt.depth-float64(burst), 0)
					want := min(50+max(due.Sub(at).Seconds()-lag, 0), *p.NPT)
					if math.Abs(*p.Rendered-want) > 0.11 { // a packet
						t.Fatalf("after %v: %.2f on the screen, want %.2f", due.Sub(at), *p.Rendered, want)
					}
				}
			})
		}
	}
}

func TestMMSPlayers(t *testing.T) {
	for name, want := range map[string]filmPlayer{
		"ffmpeg-play": filmLibav, "mplayer-play": filmMPlayer, "vlc-play": filmOther, "libmms-play": filmOther,
		"mmsh-ffmpeg-ss": filmLibav, "mmsh-mplayer-play": filmMPlayer, "mmsh-vlc-seek": filmOther, "mmsh-libmms-timeseek": filmOther,
	} {
		w := replayMMS(t, name, Config{AnyPort: true}, 0, nil)
		if got := newest(w.d).film.player; got != want {
			t.Errorf("%s: player %q, want %q", name, got, want)
		}
	}
}

// passing is a kernel in which one connection has gone on beyond what came up.
type passing struct {
	*fakeKernel
	st bpf.TCPStats
}

func (k *passing) TCPStats(bpf.Flow) (bpf.TCPStats, bool) { return k.st, true }

// TestMMSNewestMedia: when media passed last is told by the datapath, to the packet.
func TestMMSNewestMedia(t *testing.T) {
	k := &passing{fakeKernel: newFakeKernel()}
	l := NewLive(Config{AnyPort: true}, k, session.NewTable(), slog.New(slog.DiscardHandler))
	at := time.Unix(1000, 0)
	mmsMessages(l.d, at, &mms.OpenFile{}, &mms.ReportOpenFile{OpenFileID: 1, Duration: 100, PacketSize: 200, PacketCount: 1000},
		&mms.StartPlaying{OpenFileID: 1, PlayIncarnation: 9}, &mms.ReportStartedPlaying{PlayIncarnation: 9})
	l.d.Stream(mmsFlow(), bpf.ToTerminal, mmsPacket(9, 0, 0, 0), at)
	s := newest(l.d)
	s.rec.Steered = false
	for _, tt := range []struct {
		bytes uint32
		want  time.Duration
	}{{0, 0}, {pingSize, 0}, {200, 150 * time.Millisecond}} {
		k.st.ToTerminal = bpf.TCPDirStats{HighestSeq: tt.bytes, Last: at.Add(150 * time.Millisecond)}
		x, _ := l.Detail(s.rec.ID, at.Add(time.Second))
		if got := x.LastMedia.Sub(at); got != tt.want {
			t.Errorf("%d bytes beyond: newest media after %v, want %v", tt.bytes, got, tt.want)
		}
	}
}
