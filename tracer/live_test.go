package tracer

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/layers"

	"scas/bpf"
	"scas/session"
)

// fakeKernel makes of a capture what the datapath makes of traffic: copies of signalling
// while the copy flag is on, samples of media, exact counters in between.
type fakeKernel struct {
	media    map[bpf.Flow]*fakeMedia
	requests map[bpf.Flow]uint32
	copying  map[bpf.Flow]bool
	freed    []bpf.Flow
}

type fakeMedia struct {
	stats bpf.MediaStats
	due   time.Time
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{media: map[bpf.Flow]*fakeMedia{}, requests: map[bpf.Flow]uint32{}, copying: map[bpf.Flow]bool{}}
}

func (k *fakeKernel) Read(ctx context.Context, _ *bpf.Event) error { <-ctx.Done(); return ctx.Err() }
func (k *fakeKernel) WatchFlow(m bpf.MediaFlow) error {
	k.media[m.Flow] = &fakeMedia{}
	return nil
}
func (k *fakeKernel) UnwatchFlow(f bpf.Flow) error           { delete(k.media, f); return nil }
func (k *fakeKernel) FreeMedia(f bpf.Flow) error             { k.freed = append(k.freed, f); return nil }
func (k *fakeKernel) Ignore(bpf.Flow) error                  { return nil }
func (k *fakeKernel) Channels(bpf.Flow, []bpf.Channel) error { return nil }
func (k *fakeKernel) SampleHit(bpf.Flow) error               { return nil }
func (k *fakeKernel) Reset(bpf.Flow) error                   { return nil }
func (k *fakeKernel) TCPStats(bpf.Flow) (bpf.TCPStats, bool) { return bpf.TCPStats{}, false }
func (k *fakeKernel) StopCopy(f bpf.Flow, upto uint32) error {
	if k.requests[f] == upto {
		k.copying[f] = false
	}
	return nil
}
func (k *fakeKernel) Sample(f bpf.Flow) error {
	if m, ok := k.media[f]; ok {
		m.due = time.Time{}
	}
	return nil
}
func (k *fakeKernel) MediaStats(f bpf.Flow) (bpf.MediaStats, bool) {
	if m, ok := k.media[f]; ok {
		return m.stats, true
	}
	return bpf.MediaStats{}, false
}

// packet is what the kernel does with one UDP packet: it counts, and says whether this one
// goes up.
func (k *fakeKernel) packet(f bpf.Flow, b []byte, at time.Time) bool {
	m, ok := k.media[f]
	if !ok || len(b) < 12 || b[1] >= 192 && b[1] < 224 {
		return ok
	}
	s := &m.stats
	seq := binary.BigEndian.Uint16(b[2:])
	ext := session.Seq(seq).Extend(s.ExtSeq)
	if !s.HaveMedia || ext > s.ExtSeq {
		s.ExtSeq, s.RTPTime = ext, binary.BigEndian.Uint32(b[4:])
	}
	s.HaveMedia, s.SSRC, s.Last = true, binary.BigEndian.Uint32(b[8:]), at
	s.Packets++
	if at.Before(m.due) {
		return false
	}
	m.due = at.Add(200 * time.Millisecond)
	return true
}

// replayLive replays a capture through a fake kernel into a Live.
func replayLive(t *testing.T, name string, pts []point, ask func(l *Live, p point)) *Live {
	t.Helper()
	all, link := takenFrom(t, "rtsp/"+name)
	return liveFrom(all, link, pts, ask)
}

// liveFrom does the same with the packets of a capture.
func liveFrom(all []taken, link layers.LinkType, pts []point, ask func(l *Live, p point)) *Live {
	k := newFakeKernel()
	l := NewLive(Config{AnyPort: true}, k, session.NewTable(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	in := newFrames(l.d, link)
	in.each = func(s Segment) {
		ev := bpf.Event{Kind: bpf.EventTCP, Proto: bpf.TCP, At: s.At, Flow: s.Flow, Dir: s.Dir, Seq: s.Seq, TCPFlags: s.Flags, Payload: s.Payload}
		if s.Dir == bpf.ToServer && len(s.Payload) > 0 && s.Payload[0] != '$' {
			k.requests[s.Flow]++
			k.copying[s.Flow] = true
		}
		ev.Requests = k.requests[s.Flow]
		if s.Dir == bpf.ToServer || k.copying[s.Flow] || s.Flags&(SYN|FIN|RST) != 0 {
			l.event(&ev)
		}
	}
	in.datagram = func(g Datagram) {
		if g.Dir == bpf.ToTerminal && k.packet(g.Flow, g.Payload, g.At) {
			g.Payload = g.Payload[:min(len(g.Payload), 128)]
			l.event(&bpf.Event{Kind: bpf.EventRTP, Proto: bpf.UDP, At: g.At, Flow: g.Flow, Dir: g.Dir, Payload: g.Payload})
		}
	}
	for _, p := range all {
		for len(pts) > 0 && pts[0].at().Before(p.at) {
			ask(l, pts[0])
			pts = pts[1:]
		}
		in.frame(p.b, p.at)
	}
	return l
}

// TestLivePosition shows that samples and counters are as good as every packet.
func TestLivePosition(t *testing.T) {
	for _, name := range []string{"gst-ffplay-udp-full", "gst-gst-udp-rtsp20", "gst-ffplay-udp-range45", "l5-ffplay-udp-full", "gst20-gst-udp-keepalive"} {
		var x samples
		l := replayLive(t, name, passed(t, name), func(l *Live, p point) {
			s := newest(l.d)
			if s == nil || s.rec.State == session.Setup || !settled(s, p.at()) {
				return
			}
			d, ok := l.Detail(s.rec.ID, p.at())
			if !ok || d.Record.Position == nil || d.Record.Position.NPT == nil {
				t.Fatalf("%s: no position", name)
			}
			x = append(x, sample{*d.Record.Position.NPT - p.Pos, d.Record.Position.Error})
		})
		t.Logf("%-28s n=%d median %.3f p95 %.3f max %.3f", name, len(x), x.quantile(.5), x.quantile(.95), x.quantile(1))
		if len(x) < 100 || x.quantile(.95) > 0.25 {
			t.Errorf("%s: p95 %.3f of %d", name, x.quantile(.95), len(x))
		}
		if r := l.Records(time.Now()); len(r) != 1 {
			t.Errorf("%s: %d records", name, len(r))
		}
	}
}

// TestRename: sessions are called by the names their user's terminals have now.
func TestRename(t *testing.T) {
	name := "gst20-gst-udp-keepalive"
	pts := points(t, name, "truth")
	const bob = "sip:bob@x"
	replayLive(t, name, []point{pts[len(pts)/2]}, func(l *Live, p point) {
		newest(l.d).rec.AoR = session.Ptr(bob)
		l.d.cfg.Name = func(netip.Addr) (string, string) { return "tv", bob }
		for _, c := range []struct{ aor, want string }{{"sip:eve@x", ""}, {bob, "tv"}} {
			l.Rename(c.aor, p.at())
			if r := l.table.List(); len(r) != 1 || r[0].Terminal.Name != c.want || r[0].State != session.Playing {
				t.Errorf("after a name for %s: %+v", c.aor, r)
			}
		}
	})
}

// TestLeave: who is no subscriber any more is not watched, by address or by prefix.
func TestLeave(t *testing.T) {
	at := time.Now()
	l, table, media := crowd(t, 300)
	for _, place := range []string{"10.0.0.7/32", "10.0.1.0/24", "fd00::/64"} {
		l.Leave(netip.MustParsePrefix(place), at)
	}
	playing := map[netip.Addr]bool{}
	for _, r := range table.List() {
		if r.State == session.Playing {
			playing[r.Terminal.IP] = true
		}
	}
	for i, f := range media {
		if want := i != 7 && i < 256; playing[f.Terminal.Addr()] != want {
			t.Errorf("%v: watched %v, want %v", f.Terminal.Addr(), !want, want)
		}
	}
}

// TestRestore stops in the middle of a session and starts anew, as a restarted daemon does.
func TestRestore(t *testing.T) {
	name := "gst20-gst-udp-keepalive"
	pts := points(t, name, "truth")
	middle := pts[len(pts)/2]
	var saved []byte
	replayLive(t, name, []point{middle}, func(l *Live, _ point) {
		var err error
		if saved, err = l.Snapshot(); err != nil {
			t.Fatal(err)
		}
	})
	w := &watcher{}
	d := NewDecoder(Config{AnyPort: true, Prefix: "r"}, sessionSink{w})
	if err := d.Restore(saved, middle.at()); err != nil {
		t.Fatal(err)
	}
	if len(w.records) != 0 {
		t.Fatal("a restored session is shown before it was seen")
	}
	all, first := takenFrom(t, "rtsp/"+name)
	in := newFrames(d, first)
	for _, p := range all {
		if p.at.After(middle.at()) {
			in.frame(p.b, p.at)
		}
	}
	s := newest(d)
	last := pts[len(pts)-1]
	x := s.position(last.at())
	if len(w.records) == 0 || x == nil || x.NPT == nil || math.Abs(*x.NPT-last.Pos) > 0.25 {
		t.Fatalf("restored: %d changes, position %+v, want %.3f", len(w.records), x, last.Pos)
	}
	if s.rec.ID[0] != 's' {
		t.Errorf("the id of the session changed to %s", s.rec.ID)
	}
}

// TestRestoreOfADeadSession: nothing is shown of what nobody sees any more.
func TestRestoreOfADeadSession(t *testing.T) {
	var saved []byte
	name := "gst-ffplay-udp-2lang"
	pts := points(t, name, "truth")
	replayLive(t, name, pts[50:51], func(l *Live, _ point) { saved, _ = l.Snapshot() })
	w := &watcher{}
	d := NewDecoder(Config{}, sessionSink{w})
	at := time.Unix(5000, 0)
	if err := d.Restore(saved, at); err != nil {
		t.Fatal(err)
	}
	if len(d.sessions) != 1 || len(d.media) != 6 {
		t.Fatalf("%d sessions, %d flows watched", len(d.sessions), len(d.media))
	}
	d.Tick(at.Add(dormantFor + time.Second))
	if len(w.records)+len(d.sessions)+len(d.media)+len(d.byID) != 0 {
		t.Errorf("left: %d shown, %d sessions, %d flows", len(w.records), len(d.sessions), len(d.media))
	}
}

// TestLiveFreesMedia: what is left of a cut on the ports of a new film is lifted.
func TestLiveFreesMedia(t *testing.T) {
	l := replayLive(t, "gst-ffplay-udp-full", nil, nil)
	k := l.k.(*fakeKernel)
	if len(k.freed) != 4 || k.freed[0].Terminal.Port()+1 != k.freed[1].Terminal.Port() {
		t.Errorf("freed %v", k.freed)
	}
}
