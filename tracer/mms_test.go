package tracer

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
)

// mmsFrames calls fn for every frame of an MMS capture, with the time it was recorded.
func mmsFrames(t testing.TB, name string, d *Decoder, fn func(in *frames, b []byte, at time.Time)) (last time.Time) {
	t.Helper()
	all, first := takenFrom(t, "mms/"+name)
	in := newFrames(d, first)
	for _, p := range all {
		fn(in, p.b, p.at)
		last = p.at
	}
	return last
}

func mmsCaptures(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob("testdata/mms/*.pcap")
	if err != nil || len(all) != 27 {
		t.Fatalf("%d captures: %v", len(all), err)
	}
	for i, p := range all {
		all[i] = strings.TrimSuffix(filepath.Base(p), ".pcap")
	}
	return all
}

// replayMMS reads a capture whole, and calls each after every frame.
func replayMMS(t testing.TB, name string, cfg Config, cut int, each func(d *Decoder, s Segment)) *watcher {
	t.Helper()
	w := &watcher{}
	tr := newTrace(cfg, 0, w)
	w.d = tr.d
	last := mmsFrames(t, name, tr.d, func(in *frames, b []byte, at time.Time) {
		tr.to(at)
		in.each = func(s Segment) {
			feed(tr.d, s, cut)
			if each != nil {
				each(tr.d, s)
			}
		}
		in.frame(b, at)
	})
	tr.d.finish(last)
	return w
}

// feed hands a segment over, cut into pieces of n bytes when n is not 0.
func feed(d *Decoder, s Segment, n int) {
	for n > 0 && len(s.Payload) > n {
		part := s
		part.Payload, part.Flags = s.Payload[:n], s.Flags&^(FIN|RST)
		d.Segment(part)
		s.Seq, s.Payload = s.Seq+uint32(n), s.Payload[n:]
	}
	d.Segment(s)
}

// changes is what a capture shows, as text: states in a row, with where each play began.
func changes(w *watcher) string {
	var all []string
	var at float64
	ids := map[string]bool{}
	lossy := map[string]bool{}
	for _, r := range w.records {
		ids[r.ID] = true
		if r.Lossy && !lossy[r.ID] { // says no more: the recorder lost a segment
			lossy[r.ID] = true
			continue
		}
		text := string(r.State)
		if r.Position != nil && r.Position.Source == session.SourceMedia && r.State == session.Playing {
			at = *r.Position.NPT
			text = fmt.Sprintf("playing@%.1f", at)
		} else if r.State == session.Playing {
			continue // its first packet is to come
		}
		if len(all) == 0 || all[len(all)-1] != text {
			all = append(all, text)
		}
	}
	return fmt.Sprintf("%d: %s", len(ids), strings.Join(all, " "))
}

// TestMMSOnCaptures compares sessions, states and seeks with what each capture is known to show.
func TestMMSOnCaptures(t *testing.T) {
	facts := map[string]string{
		"ffmpeg-moved-start":               "1: setup playing@17.9 ended",
		"ffmpeg-notfound":                  "0: ",
		"ffmpeg-ping":                      "1: setup playing@0.0 ended",
		"ffmpeg-play":                      "1: setup playing@0.0 ended",
		"libmms-byteseek":                  "1: setup playing@0.0 playing@20.6 ended",
		"libmms-moved-start-byteseek":      "1: setup playing@17.9 ended",
		"libmms-moved-start-loc0-byteseek": "1: setup playing@17.9 playing@30.0 ended",
		"libmms-play":                      "1: setup playing@0.0 ended",
		"libmms-timeseek":                  "1: setup playing@0.0 playing@21.8 ended",
		"mmsh-ffmpeg-ss":                   "1: setup playing@0.0 playing@17.9 ended",
		"mmsh-libmms-timeseek":             "1: setup playing@0.0 playing@21.8 ended",
		"mmsh-mplayer-play":                "1: setup playing@0.0 ended",
		"mmsh-vlc-seek":                    "1: setup playing@0.0 playing@18.5 ended",
		"mplayer-eos-close":                "1: setup playing@0.0 ended",
		"mplayer-moved-start":              "1: setup playing@17.9 ended",
		"mplayer-play":                     "1: setup playing@0.0 ended",
		"mplayer-split-reply":              "1: setup ended",
		"mplayer-ss":                       "1: setup playing@0.0 ended",
		"patched-mplayer-server-leg":       "1: setup playing@17.9 ended",
		"patched-vlc-server-leg":           "1: setup playing@17.9 ended",
		"vlc-eos-mid":                      "1: setup playing@0.0 ended",
		"vlc-mmsu-refused":                 "0: ",
		"vlc-moved-start":                  "1: setup playing@17.9 ended",
		"vlc-moved-start-seek":             "1: setup playing@17.9 playing@8.5 ended",
		"vlc-play":                         "1: setup playing@0.0 ended",
		"vlc-seek-pause-resume":            "1: setup playing@0.0 playing@18.8 paused playing@23.9 ended",
		"vlc-start-time":                   "1: setup playing@0.0 playing@18.8 ended",
	}
	for _, name := range mmsCaptures(t) {
		t.Run(name, func(t *testing.T) {
			w := replayMMS(t, name, Config{AnyPort: true}, 0, nil)
			if got := changes(w); !sameChanges(got, facts[name]) {
				t.Errorf("%s\nwant %s", got, facts[name])
			}
			for _, n := range []int{1, 7, 500} {
				c := replayMMS(t, name, Config{AnyPort: true}, n, nil)
				if got := changes(c); !sameChanges(got, facts[name]) {
					t.Errorf("in pieces of %d: %s\nwant %s", n, got, facts[name])
				}
			}
			if len(w.records) > 0 {
				checkMMSRecord(t, name, w.records[len(w.records)-1])
			}
		})
	}
}

// sameChanges compares what was seen with the facts, which give the time at which the first
// packet of a play begins: its newest payload is up to a packet later.
func sameChanges(got, want string) bool {
	a, b := strings.Fields(got), strings.Fields(want)
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		var x, y float64
		_, okA := fmt.Sscanf(a[i], "playing@%f", &x)
		_, okB := fmt.Sscanf(b[i], "playing@%f", &y)
		if (okA == nil) != (okB == nil) || okA != nil && a[i] != b[i] || x < y-0.06 || x > y+widest {
			return false
		}
	}
	return true
}

const widest = 0.42 // s of the widest packet of the clips

func checkMMSRecord(t *testing.T, name string, r session.Record) {
	t.Helper()
	clip, length := "clip.asf", 40.046
	if name == "ffmpeg-play" || name == "libmms-play" || name == "mplayer-play" || name == "vlc-play" {
		clip, length = "short.asf", 16
	}
	want, protocol, agent := "mms://127.0.0.1/"+clip, session.MMS, "NSPlayer/7.0.0.1956; {"
	if strings.HasPrefix(name, "mmsh-") {
		want, protocol, agent = "mmsh://127.0.0.1:18080/"+clip, session.MMSH, "NSPlayer/"
	}
	if r.URL == nil || *r.URL != want || r.Protocol != protocol || r.UserAgent == nil || !strings.HasPrefix(*r.UserAgent, agent) {
		t.Errorf("%s %s %s", deref(r.URL), r.Protocol, deref(r.UserAgent))
	}
	if r.Live || !r.Seekable || r.Duration == nil || math.Abs(*r.Duration-length) > 0.05 {
		t.Errorf("live %v seekable %v duration %v", r.Live, r.Seekable, r.Duration)
	}
	if len(r.Tracks) != 2 || r.Tracks[0].Codec != "WMV2" || r.Tracks[1].Media != "audio" || r.Tracks[1].Codec != "WMA2" {
		if name != "mplayer-split-reply" {
			t.Errorf("tracks %+v", r.Tracks)
		}
	}
}

// truth follows the newest media packet of a capture by its segments alone: the lab servers
// begin every packet with a segment, so that nothing has to be put together.
type truth struct {
	http  bool
	npt   float64
	fresh bool // a start was answered, and no packet of it came
	have  bool
}

// segment takes one segment of the server.
func (x *truth) segment(b []byte) {
	for len(b) > 0 {
		if bytes.HasPrefix(b, []byte("HTTP/")) {
			x.fresh = true
			i := bytes.Index(b, []byte("\r\n\r\n"))
			b = b[i+4:]
			continue
		}
		if x.http {
			n := min(4+int(b[2])+int(b[3])<<8, len(b))
			if b[1] == 'D' {
				x.packet(b[12:n])
			}
			b = b[n:]
			continue
		}
		u, n, err := mms.Next(b, mms.ToViewer)
		switch {
		case err != nil:
			return
		case u.Kind == mms.KindMessage && u.Message.MID == mms.MIDReportStartedPlaying:
			x.fresh = true
		case u.Kind == mms.KindData && u.Data.Incarnation >= 4:
			x.packet(u.Payload)
		}
		b = b[n:]
	}
}

func (x *truth) packet(asf []byte) {
	const preroll = 3100
	p, err := mms.ParsePacket(asf)
	if err != nil {
		return
	}
	npt := (float64(p.Last) - preroll) / 1000
	if x.fresh || !x.have {
		x.npt, x.fresh, x.have = npt, false, true
	}
	x.npt = max(x.npt, npt)
}

// TestMMSPosition compares the position with the newest packet, after every segment.
func TestMMSPosition(t *testing.T) {
	var all samples
	for _, name := range mmsCaptures(t) {
		x := truth{http: strings.HasPrefix(name, "mmsh-")}
		var one samples
		var held int
		replayMMS(t, name, Config{AnyPort: true}, 0, func(d *Decoder, s Segment) {
			if s.Dir != bpf.ToTerminal || len(s.Payload) == 0 {
				return
			}
			x.segment(s.Payload)
			n := newest(d)
			if n == nil || n.rec.State != session.Playing || !x.have || x.fresh {
				return
			}
			if n.control != s.Flow {
				return
			}
			if c := d.conns[s.Flow]; c != nil && len(c.toViewer.order.held) > 0 {
				held++ // the recorder lost a segment, and whether it comes is not known yet
				return
			}
			p := n.position(s.At)
			if p == nil || p.NPT == nil || p.Source != session.SourceMedia {
				t.Fatalf("%s: %+v", name, p)
			}
			one = append(one, sample{*p.NPT - x.npt, p.Error})
			if *p.Rendered > *p.NPT {
				t.Errorf("%s: rendered %.3f, delivered %.3f", name, *p.Rendered, *p.NPT)
			}
		})
		if len(one) == 0 {
			continue
		}
		t.Logf("%-34s n=%3d median %.3f p95 %.3f max %.3f (%d behind a hole)", name, len(one), one.quantile(.5), one.quantile(.95), one.quantile(1), held)
		if one.quantile(1) > 0.001 {
			t.Errorf("%s: off by %.3f", name, one.quantile(1))
		}
		all = append(all, one...)
	}
	share, mean := all.honest()
	t.Logf("all n=%d max %.3f honest %.3f stated %.2f", len(all), all.quantile(1), share, mean)
	if len(all) < 800 || share < 0.99 || mean > 0.5 {
		t.Errorf("n=%d honest %.3f stated %.2f", len(all), share, mean)
	}
}

// TestMMSByClock hides all media: the position runs from what was asked for.
func TestMMSByClock(t *testing.T) {
	for name, want := range map[string]float64{
		"ffmpeg-ping": 11, "patched-vlc-server-leg": 20 + 7, "vlc-play": 15, "mmsh-vlc-seek": 20 + 3, "vlc-start-time": 20 + 3.3, "vlc-moved-start-seek": 9.9 + 2.8,
	} {
		w := replayMMS(t, name, Config{AnyPort: true, NoRTP: true}, 0, nil)
		last := w.records[len(w.records)-1]
		p := last.Position
		if p == nil || p.NPT == nil || p.Source != session.SourceClock || math.Abs(*p.NPT-want) > 1 {
			t.Errorf("%s: %+v, want %.1f", name, p, want)
			continue
		}
		t.Logf("%s: %.2f, want %.1f", name, *p.NPT, want)
	}
}

func TestMMSDetail(t *testing.T) {
	seen := false
	replayMMS(t, "vlc-moved-start-seek", Config{AnyPort: true}, 0, func(d *Decoder, s Segment) {
		n := newest(d)
		if n == nil || n.film == nil || !n.film.seen || !n.sought {
			return
		}
		x := n.detail(s.At)
		m := x.MMS
		if m == nil || m.Path != "clip.asf" || m.OpenFileID != 1 || m.PlayIncarnation != 4 || m.Preroll != 3100*time.Millisecond || m.PacketSize != 1400 ||
			!m.HaveLocation || m.LocationID < 48 || m.LocationID > 76 || m.ToServerSeq < 7 || m.ToViewerSeq < 7 || x.Depth != m.Preroll+behind || x.LastMedia.IsZero() {
			t.Fatalf("%+v", m)
		}
		seen = true
	})
	if !seen {
		t.Error("no seek")
	}
}
