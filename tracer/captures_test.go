package tracer

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"scas/session"
)

// point is one line of ground truth: the picture in the packet that passed at t, or on the
// screen at t.
type point struct {
	T   float64 `json:"t"`
	N   *int    `json:"n"`
	Pos float64 `json:"pos"`
}

func (p point) at() time.Time { return time.UnixMicro(int64(math.Round(p.T * 1e6))) }

// points reads a truth file of a capture; nil when there is none.
func points(t *testing.T, name, kind string) []point {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata/rtsp", name+"."+kind+".jsonl.gz"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []point
	for s := bufio.NewScanner(z); s.Scan(); {
		var p point
		if err := json.Unmarshal(s.Bytes(), &p); err != nil {
			t.Fatal(err)
		}
		if p.N != nil {
			all = append(all, p)
		}
	}
	return all
}

// taken is one packet of a capture.
type taken struct {
	b  []byte
	at time.Time
}

// takenFrom reads a capture of testdata, named by its path without the ending.
func takenFrom(t testing.TB, name string) ([]taken, layers.LinkType) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".pcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	src, err := openCapture(f)
	if err != nil {
		t.Fatal(err)
	}
	for all := []taken(nil); ; {
		b, at, err := src.next()
		if err != nil {
			return all, src.link
		}
		all = append(all, taken{b, at})
	}
}

// passed reads the truth of a capture, with the newest picture of this stretch of the film (of B-frames
// the furthest) that had passed by the time of each point. Several come in one segment.
func passed(t *testing.T, name string) []point {
	t.Helper()
	all := points(t, name, "truth")
	high := math.Inf(-1)
	for i, p := range all {
		if p.Pos < high-2 {
			high = p.Pos // a seek
		}
		high = max(high, p.Pos)
		all[i].Pos = high
	}
	for i := len(all) - 2; i >= 0; i-- {
		if all[i].T == all[i+1].T {
			all[i].Pos = all[i+1].Pos
		}
	}
	return all
}

// watcher keeps what a trace reports.
type watcher struct {
	d       *Decoder
	records []session.Record
}

func (w *watcher) Session(r session.Record)          { w.records = append(w.records, r) }
func (w *watcher) Position(string, session.Position) {}

// replay reads a capture and calls ask for each point, at its time: after every packet that
// passed until then, before the next.
func replay(t *testing.T, name string, cfg Config, pts []point, ask func(d *Decoder, p point)) (*watcher, Stats) {
	t.Helper()
	all, first := takenFrom(t, "rtsp/"+name)
	w := &watcher{}
	tr := newTrace(cfg, 0, w)
	w.d = tr.d
	in := newFrames(tr.d, first)
	for _, p := range all {
		for len(pts) > 0 && pts[0].at().Before(p.at) {
			ask(tr.d, pts[0])
			pts = pts[1:]
		}
		tr.to(p.at)
		in.frame(p.b, p.at)
	}
	return w, tr.d.Stats()
}

// newest returns the newest session that is not over, or else the newest.
func newest(d *Decoder) *sess {
	var best *sess
	for _, s := range d.byID {
		switch {
		case best == nil,
			(s.rec.State != session.Ended) != (best.rec.State != session.Ended) && s.rec.State != session.Ended,
			(s.rec.State != session.Ended) == (best.rec.State != session.Ended) && s.number > best.number:
			best = s
		}
	}
	return best
}

func captures(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("testdata/rtsp/*.pcap")
	if err != nil || len(all) == 0 {
		t.Fatalf("no captures: %v", err)
	}
	for i, p := range all {
		all[i] = strings.TrimSuffix(filepath.Base(p), ".pcap")
	}
	slices.Sort(all)
	return all
}

// sample is one comparison with the truth.
type sample struct {
	off, stated float64
}

type samples []sample

func (x samples) quantile(q float64) float64 {
	v := make([]float64, len(x))
	for i, s := range x {
		v[i] = math.Abs(s.off)
	}
	slices.Sort(v)
	if len(v) == 0 {
		return math.NaN()
	}
	return v[min(len(v)-1, int(q*float64(len(v))))]
}

// honest is the share of samples that are within the error they state; mean is that error.
func (x samples) honest() (share, mean float64) {
	for _, s := range x {
		if math.Abs(s.off) <= s.stated+1e-9 {
			share++
		}
		mean += s.stated
	}
	return share / float64(len(x)), mean / float64(len(x))
}

func server(name string) string {
	s, _, _ := strings.Cut(name, "-")
	switch {
	case strings.HasSuffix(name, "-ts"):
		return "ts"
	case strings.HasPrefix(s, "gst"), s == "burst":
		return "gst"
	}
	return s
}

// settled reports whether a point is outside the first second after a seek.
func settled(s *sess, at time.Time) bool {
	return !s.play.sought || at.Sub(s.play.at) > time.Second
}

// TestPositionOnCaptures compares the position with the picture number in the packets.
func TestPositionOnCaptures(t *testing.T) {
	limits := map[string]struct{ median, p95 float64 }{
		"gst": {0.1, 0.25}, "l5": {0.1, 0.25}, "vlcvod": {0.5, 1.0}, "ts": {0.1, 0.25},
	}
	pool := map[string]samples{}
	var all samples
	for _, name := range captures(t) {
		var one samples
		replay(t, name, Config{AnyPort: true}, passed(t, name), func(d *Decoder, p point) {
			s := newest(d)
			if s == nil || s.live || s.rec.Opaque || s.rec.State == session.Setup || !settled(s, p.at()) {
				return
			}
			x := s.position(p.at())
			if x == nil || x.NPT == nil {
				t.Errorf("%s: no position at %v (state %s)", name, p.T, s.rec.State)
				return
			}
			one = append(one, sample{*x.NPT - p.Pos, x.Error})
		})
		if len(one) > 0 {
			share, mean := one.honest()
			t.Logf("%-32s n=%4d median %.3f p95 %.3f max %.3f honest %.3f stated %.2f", name, len(one), one.quantile(.5), one.quantile(.95), one.quantile(1), share, mean)
			if share < 0.95 {
				t.Errorf("%s: %.3f are within the error they state, want 0.95", name, share)
			}
		}
		pool[server(name)] = append(pool[server(name)], one...)
		all = append(all, one...)
	}
	for srv, lim := range limits {
		x := pool[srv]
		t.Logf("%-8s n=%d median %.3f p95 %.3f", srv, len(x), x.quantile(.5), x.quantile(.95))
		if len(x) == 0 || x.quantile(.5) > lim.median || x.quantile(.95) > lim.p95 {
			t.Errorf("%s: median %.3f (at most %.2f), p95 %.3f (at most %.2f), n=%d", srv, x.quantile(.5), lim.median, x.quantile(.95), lim.p95, len(x))
		}
	}
	share, mean := all.honest()
	t.Logf("all      n=%d honest %.4f stated %.3f", len(all), share, mean)
	if share < 0.95 || mean > 0.5 {
		t.Errorf("within the stated error: %.3f (at least 0.95); stated on average %.2f s (at most 0.5)", share, mean)
	}
}

// TestPositionWithoutTruth: the captures whose media carry no picture number. Where the server paces them,
// media time runs as the clock does from where the reply says; a live source has no place.
func TestPositionWithoutTruth(t *testing.T) {
	without := map[string]float64{ // s, within
		"l5-ffplay-udp-mp3": 0.35, "l5-ffplay-udp-opus": 0.15, "l5-gst-udp-mpg": 0.15, // a packet, and the start
		"mtx-ffplay-udp-live": 0, "mtx-mpv-tcp-live": 0,
		"gst-vlc-udp-nolive555": 0, "gsttls-gst-tcp-start": 0, "l5-ffplay-http-start": 0, // nothing played, or opaque
	}
	for _, name := range captures(t) {
		within, there := without[name]
		if pts := points(t, name, "truth"); !there && len(pts) == 0 {
			t.Errorf("%s: looked at by nothing", name)
		}
		if !there {
			continue
		}
		all, link := takenFrom(t, "rtsp/"+name)
		tr := newTrace(Config{AnyPort: true}, 0, &watcher{})
		in, n := newFrames(tr.d, link), 0
		for _, p := range all {
			tr.to(p.at)
			in.frame(p.b, p.at)
			s := newest(tr.d)
			if s == nil || s.rec.State != session.Playing || !settled(s, p.at) || p.at.Sub(s.play.at) < time.Second {
				continue
			}
			x := s.position(p.at)
			if within == 0 {
				if x != nil && (!s.live || x.NPT != nil) {
					t.Fatalf("%s: %+v", name, x)
				}
				continue
			}
			clock, _, _ := s.byClock(p.at)
			if n++; x == nil || x.NPT == nil || x.Source != session.SourceRTP || math.Abs(*x.NPT-clock.Seconds()) > within {
				t.Fatalf("%s: %+v, %.3f by the clock", name, x, clock.Seconds())
			}
		}
		if within > 0 && n < 30 {
			t.Errorf("%s: %d samples", name, n)
		}
	}
}

// TestPositionByClock is the same with all media hidden.
func TestPositionByClock(t *testing.T) {
	var all samples
	for _, name := range captures(t) {
		var one samples
		replay(t, name, Config{AnyPort: true, NoRTP: true}, passed(t, name), func(d *Decoder, p point) {
			s := newest(d)
			if s == nil || s.live || s.rec.Opaque || !settled(s, p.at()) || strings.HasPrefix(name, "burst") {
				return
			}
			if x := s.position(p.at()); x != nil && x.NPT != nil {
				one = append(one, sample{*x.NPT - p.Pos, x.Error})
				if x.Source != session.SourceClock {
					t.Fatalf("%s: source %s without media", name, x.Source)
				}
			}
		})
		if len(one) > 0 {
			t.Logf("%-32s n=%4d median %.3f p95 %.3f max %.3f", name, len(one), one.quantile(.5), one.quantile(.95), one.quantile(1))
		}
		all = append(all, one...)
	}
	if len(all) == 0 || all.quantile(.5) > 1 {
		t.Errorf("clock: median %.3f, want at most 1", all.quantile(.5))
	}
}

// TestRenderedOnCaptures compares the estimate of the screen with the screen.
func TestRenderedOnCaptures(t *testing.T) {
	type result struct {
		name   string
		median float64
	}
	var all samples
	var worst []result
	for _, name := range captures(t) {
		var one samples
		first := 0.0 // media time of picture 0: 0.064 s in MP4 and MKV, which points of the screen leave out
		if truth := points(t, name, "truth"); len(truth) > 0 {
			first = truth[0].Pos - float64(*truth[0].N)/25
		}
		replay(t, name, Config{AnyPort: true}, points(t, name, "shown"), func(d *Decoder, p point) {
			s := newest(d)
			if s == nil || s.live || s.rec.Opaque || s.rec.State != session.Playing || !settled(s, p.at()) {
				return
			}
			if strings.Contains(name, "-full") && (strings.Contains(name, "mpv") || strings.Contains(name, "mplayer")) && !s.sought && p.at().Sub(s.rec.Started) > 11500*time.Millisecond {
				return // paused locally: nothing on the wire
			}
			if x := s.position(p.at()); x != nil && x.Rendered != nil {
				one = append(one, sample{*x.Rendered - p.Pos - first, x.Error})
			}
		})
		if len(one) > 0 {
			worst = append(worst, result{name, one.quantile(.5)})
			t.Logf("%-32s n=%4d median %.3f p95 %.3f max %.3f", name, len(one), one.quantile(.5), one.quantile(.95), one.quantile(1))
		}
		all = append(all, one...)
	}
	slices.SortFunc(worst, func(a, b result) int { return cmp.Compare(b.median, a.median) })
	t.Logf("all n=%d median %.3f p95 %.3f", len(all), all.quantile(.5), all.quantile(.95))
	if len(all) == 0 || all.quantile(.5) > 0.1 || all.quantile(.95) > 0.3 {
		t.Errorf("rendered: median %.3f, want at most 0.1; p95 %.3f, want at most 0.3", all.quantile(.5), all.quantile(.95))
	}
	if worst[0].median > 0.3 {
		t.Errorf("rendered: %s median %.3f, want at most 0.3", worst[0].name, worst[0].median)
	}
}
