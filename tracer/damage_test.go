package tracer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"scas/session"
)

// place is where the newest session was at a time.
type place struct {
	at          time.Time
	npt, stated float64
	flagged     bool // lossy, or by the clock
	known       bool
}

// places replays packets and tells the place at each of ats. What waits for a segment that is missing
// has no place: whether it comes is not known yet.
func places(all []taken, link layers.LinkType, ats []time.Time) []place {
	tr := newTrace(Config{AnyPort: true}, 0, &watcher{})
	in := newFrames(tr.d, link)
	out := make([]place, 0, len(ats))
	for _, p := range all {
		for ; len(out) < len(ats) && ats[len(out)].Before(p.at); out = append(out, placeOf(tr.d, ats[len(out)])) {
		}
		tr.to(p.at)
		in.frame(p.b, p.at)
	}
	tr.d.finish(all[len(all)-1].at)
	return out
}

func placeOf(d *Decoder, at time.Time) place {
	s := newest(d)
	if s == nil || s.live || s.rec.Opaque || !settled(s, at) {
		return place{at: at}
	}
	if c := d.conns[s.control]; c != nil && len(c.toViewer.order.held) > 0 {
		return place{at: at}
	}
	p := s.position(at)
	if p == nil || p.NPT == nil {
		return place{at: at}
	}
	return place{at, *p.NPT, p.Error, s.rec.Lossy || p.Source == session.SourceClock, true}
}

// whole returns when to ask for the place in a capture, where it is then, and where the whole capture
// says it is: for captures without truth that is all there is to compare with.
func whole(t *testing.T, name string, all []taken, link layers.LinkType) (ats []time.Time, truth, base []place) {
	var pts []point
	if kind, rest, _ := strings.Cut(name, "/"); kind == "rtsp" {
		pts = passed(t, rest)
	}
	for _, p := range pts {
		ats = append(ats, p.at())
		truth = append(truth, place{at: p.at(), npt: p.Pos, known: true})
	}
	if pts == nil {
		for at := all[0].at; at.Before(all[len(all)-1].at); at = at.Add(50 * time.Millisecond) {
			ats = append(ats, at)
		}
	}
	base = places(all, link, ats)
	if pts == nil {
		truth = base
	}
	return ats, truth, base
}

// noticed is how long a hole may go unnoticed: the next tick.
const noticed = 1300 * time.Millisecond

// silentlyWrong returns the longest time for which places were further from the truth than they state,
// and did not say that something is missing, where the whole capture has them right.
func silentlyWrong(got, truth, base []place) (longest time.Duration, worst float64) {
	var since time.Time
	for i := range min(len(got), len(base)) {
		if !truth[i].known || !base[i].known || !got[i].known {
			continue
		}
		off, was := math.Abs(got[i].npt-truth[i].npt), math.Abs(base[i].npt-truth[i].npt)
		switch {
		case got[i].flagged, off <= got[i].stated+0.05, off <= was+0.1:
			since = time.Time{}
		case since.IsZero():
			since = got[i].at
		default:
			longest, worst = max(longest, got[i].at.Sub(since)), max(worst, off)
		}
	}
	return longest, worst
}

// damaged is a capture as a bad recorder gives it.
type damaged struct {
	what string
	all  []taken
}

// damages returns a capture damaged in many ways.
func damages(all []taken) (list []damaged) {
	for i := range min(200, len(all)) {
		if signalling := len(all[i].b) > 66 && all[i].b[23] == 6; signalling || i%20 == 0 {
			list = append(list, damaged{fmt.Sprintf("without packet %d", i+1), slices.Delete(slices.Clone(all), i, i+1)})
		}
	}
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(1, seed))
		var lost, twice, mixed []taken
		for _, p := range all {
			if r.Float64() >= 0.01 {
				lost = append(lost, p)
			}
			if twice = append(twice, p); r.Float64() < 0.1 {
				twice = append(twice, p)
			}
			mixed = append(mixed, taken{p.b, p.at.Add(time.Duration(r.Float64() * float64(50*time.Millisecond)))})
		}
		slices.SortStableFunc(mixed, func(a, b taken) int { return a.at.Compare(b.at) })
		list = append(list, damaged{fmt.Sprintf("1 %% lost, %d", seed), lost}, damaged{fmt.Sprintf("some twice, %d", seed), twice},
			damaged{fmt.Sprintf("out of order, %d", seed), mixed})
	}
	for i := 1; i < 12; i++ {
		list = append(list, damaged{fmt.Sprintf("from %d/12 on", i), all[i*len(all)/12:]})
	}
	for _, n := range []int{20, 60, 96} {
		list = append(list, damaged{fmt.Sprintf("snaplen %d", n), each(all, func(b []byte) []byte { return b[:min(n, len(b))] })})
	}
	return append(list, damaged{"the directions swapped", each(all, swapped)},
		damaged{"of one direction", one(all, func(src, dst int) bool { return src < dst })},
		damaged{"of the other", one(all, func(src, dst int) bool { return src > dst })})
}

func each(all []taken, fn func([]byte) []byte) []taken {
	out := slices.Clone(all)
	for i := range out {
		out[i].b = fn(slices.Clone(out[i].b))
	}
	return out
}

const ipHead = 14 // where a frame's IPv4 header begins

// swapped exchanges addresses and ports of an IPv4 packet.
func swapped(b []byte) []byte {
	if len(b) < ipHead+40 || b[ipHead] != 0x45 {
		return b
	}
	for i := range 4 {
		b[ipHead+12+i], b[ipHead+16+i] = b[ipHead+16+i], b[ipHead+12+i]
	}
	for i := range 2 {
		b[ipHead+20+i], b[ipHead+22+i] = b[ipHead+22+i], b[ipHead+20+i]
	}
	return b
}

// one keeps the TCP of one direction, by its ports.
func one(all []taken, keep func(src, dst int) bool) []taken {
	var out []taken
	for _, p := range all {
		if b := p.b; len(b) < ipHead+40 || b[23] != 6 || keep(int(b[34])<<8|int(b[35]), int(b[36])<<8|int(b[37])) {
			out = append(out, p)
		}
	}
	return out
}

// TestDamagedCaptures: whatever a recorder lost, gave twice, late or in part, no position is wrong by
// more than it states for longer than it takes to notice, unless it says so.
func TestDamagedCaptures(t *testing.T) {
	var names []string
	for _, n := range captures(t) {
		names = append(names, "rtsp/"+n)
	}
	for _, n := range mmsCaptures(t) {
		names = append(names, "mms/"+n)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, link := takenFrom(t, name)
			ats, truth, base := whole(t, name, all, link)
			for _, x := range damages(all) {
				if long, worst := silentlyWrong(places(x.all, link, ats), truth, base); long > noticed {
					t.Errorf("%s: wrong by up to %.2f s for %v without a word", x.what, worst, long)
				}
			}
		})
	}
}

// garbled turns over some bits of some packets behind their IP header, as no checksum is looked at.
func garbled(all []taken, seed uint64) []taken {
	r := rand.New(rand.NewPCG(11, seed))
	return each(all, func(b []byte) []byte {
		if r.Float64() > 0.05 || len(b) <= ipHead+20 {
			return b
		}
		for range 1 + r.IntN(8) {
			b[ipHead+20+r.IntN(len(b)-ipHead-20)] ^= 1 << r.IntN(8)
		}
		return b
	})
}

// TestGarbledCaptures: nothing that is on the wire stops a decoder, neither of a file nor of a gateway.
func TestGarbledCaptures(t *testing.T) {
	for _, name := range []string{"rtsp/l5-mplayer-tcp-full", "rtsp/gst-ffplay-udp-full", "rtsp/vlcvod-ffplay-udp-full", "mms/vlc-seek-pause-resume", "mms/mmsh-vlc-seek"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, link := takenFrom(t, name)
			var pts []point
			for at := all[0].at; at.Before(all[len(all)-1].at); at = at.Add(100 * time.Millisecond) {
				pts = append(pts, point{T: float64(at.UnixMicro()) / 1e6})
			}
			for seed := range uint64(10) {
				bad := garbled(all, seed)
				places(bad, link, nil)
				l := liveFrom(bad, link, pts, func(l *Live, p point) {
					for id := range l.d.byID {
						if x, ok := l.Detail(id, p.at()); ok && x.Record.Position != nil && x.Record.Position.NPT != nil && math.IsNaN(*x.Record.Position.NPT) {
							t.Fatal("no number")
						}
					}
					l.mu.Lock()
					defer l.mu.Unlock()
					l.d.Tick(p.at())
				})
				if _, err := l.Snapshot(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
