package splice

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
)

// sink is rules whose output a test keeps.
type sink struct {
	rules
	out *bytes.Buffer
	n   int // writes
}

func (s *sink) output(b []byte) error {
	s.n++
	s.out.Write(b)
	return nil
}

// loose returns a talk of p that is relayed nowhere.
func loose(tb testing.TB, p protocol) (t talk, out [2]*sink) {
	tb.Helper()
	s, err := New(quietConfig(), newFakeKernel(), newFakeTracer(), session.NewTable(), slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	a := netip.MustParseAddrPort("192.0.2.1:1")
	r := &relay{s: s, flow: bpf.Flow{Terminal: a, Server: a}, gone: make(chan struct{})}
	close(r.gone) // nobody reads its mail
	r.up, r.down = &direction{r: r, dir: bpf.ToServer}, &direction{r: r, dir: bpf.ToTerminal}
	t = p.open(r)
	up, down := t.lanes()
	for i, l := range []*pieces{up.(*pieces), down.(*pieces)} {
		out[i] = &sink{rules: l.rules, out: &bytes.Buffer{}}
		l.rules = out[i]
	}
	return t, out
}

// feed hands a stream to a lane in pieces.
func feed(tb testing.TB, l lane, b []byte, cut func() int) {
	tb.Helper()
	for len(b) > 0 {
		n := min(max(cut(), 1), len(b))
		if err := l.feed(bytes.Clone(b[:n])); err != nil {
			tb.Fatal(err)
		}
		b = b[n:]
	}
	if err := l.release(); err != nil {
		tb.Fatal(err)
	}
}

// What nobody is to change goes on byte for byte, however it is cut, and can be framed.
func TestRecordedFilmsPass(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	cuts := map[string]func() int{
		"whole": func() int { return 64 << 10 }, "ones": func() int { return 1 }, "random": func() int { return 1 + r.IntN(3000) },
	}
	for _, c := range recorded(t, "*") {
		if strings.HasPrefix(c.name, "vlc-mmsu") {
			continue // is refused
		}
		var p protocol = mmst{}
		if c.http {
			p = mmsh{}
		}
		for name, cut := range cuts {
			x, out := loose(t, p)
			up, down := x.lanes()
			for i, l := range []lane{up, down} {
				feed(t, l, c.dirs[i], cut)
				if !bytes.Equal(out[i].out.Bytes(), c.dirs[i]) {
					t.Errorf("%s %s: direction %d changed", c.name, name, i)
				}
				if l.(*pieces).blind {
					t.Errorf("%s %s: direction %d cannot be framed", c.name, name, i)
				}
			}
		}
	}
}

func TestWhoSpeaksWhat(t *testing.T) {
	s := &Splicer{protocols: protocols()}
	for _, c := range recorded(t, "*") {
		want := protocol(mmst{})
		if c.http {
			want = mmsh{}
		}
		if got := s.recognise(c.dirs[0][:min(len(c.dirs[0]), 600)]); got != want {
			t.Errorf("%s: %T", c.name, got)
		}
	}
	for text, want := range map[string]protocol{
		"": nil, "G": nil, "GET /": nil, "\x01\x00\x00\x00\xce": nil,
		"O": rtspProtocol{}, "GET_": rtspProtocol{}, "\x01\x00\x00\x00\xcf": rtspProtocol{}, "$": rtspProtocol{},
		"GET / HTTP/1.1\r\nHost: web\r\n\r\n":                     rtspProtocol{},
		"GET / HTTP/1.1\r\nX: " + string(make([]byte, 600)):       rtspProtocol{},
		"GET /f HTTP/1.0\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nA": mmsh{},
		"POST /log HTTP/1.0\r\nUser-Agent: NSPlayer/9\r\n":        mmsh{},
	} {
		if got := s.recognise([]byte(text)); got != want {
			t.Errorf("%.20q: %T", text, got)
		}
	}
}

// A control unit is one write, media do not wait for their end.
func TestPiecesAreWhole(t *testing.T) {
	x, out := loose(t, mmst{})
	down := x.(*mmstTalk).down
	all := examples(t)
	for _, e := range all[1:2] {
		feed(t, down, e.raw[:50], func() int { return 7 })
		if len(out[1].out.Bytes()) != 50 {
			t.Errorf("released %d", out[1].out.Len())
		}
	}
	x, out = loose(t, mmst{})
	down = x.(*mmstTalk).down
	ping, data := all[18].raw, all[16].raw
	for _, b := range [][]byte{ping[:20], ping[20:], append(bytes.Clone(ping), ping...), data[:9]} {
		if err := down.feed(bytes.Clone(b)); err != nil {
			t.Fatal(err)
		}
	}
	if want := 3*len(ping) + 9; out[1].n != 4 || out[1].out.Len() != want {
		t.Errorf("%d bytes in %d writes, want %d", out[1].out.Len(), out[1].n, want)
	}
	if !down.kept().IsZero() {
		t.Error("kept")
	}
	down.feed(data[9:])
	down.feed(ping[:3])
	if down.kept().IsZero() || time.Since(down.kept()) > time.Minute {
		t.Error("not kept")
	}
}

// Units of ours stand between those of the sender, whose numbers go on behind them.
func TestAdditions(t *testing.T) {
	all := examples(t)
	ping, data := all[18].raw, all[16].raw // number 7
	for at := range len(data) + len(ping) {
		x, out := loose(t, mmst{})
		w := x.(*mmstTalk)
		in := append(append(bytes.Clone(ping), data...), ping...)
		cut := len(ping) + at
		w.down.feed(bytes.Clone(in[:cut]))
		done := make(chan struct{})
		w.down.put(func() []byte {
			return mms.Append(nil, mms.Stamp{Seq: w.server.serial.own()}, &mms.ReportDisconnectedFunnel{HR: mms.AccessDenied})
		}, done)
		w.down.feed(bytes.Clone(in[cut:]))
		select {
		case <-done:
		default:
			t.Fatalf("%d: not sent", at)
		}
		want := []uint16{7, 8, 8}
		b := out[1].out.Bytes()
		if len(b) != len(in)+48 {
			t.Fatalf("%d: %d bytes", at, len(b))
		}
		for i := 0; len(b) > 0; b = b[0:] {
			u, n, err := mms.Next(b, mms.ToViewer)
			if err != nil {
				t.Fatalf("%d: %v", at, err)
			}
			b = b[n:]
			if u.Kind == mms.KindData {
				continue
			}
			if u.Message.Seq != want[i] {
				t.Errorf("%d: message %d has number %d", at, i, u.Message.Seq)
			}
			i++
		}
	}
}

// From a boundary on all is thrown away, whatever comes.
func TestDiscard(t *testing.T) {
	for _, c := range recorded(t, "vlc-play")[:1] {
		x, out := loose(t, mmst{})
		w := x.(*mmstTalk)
		half := len(c.dirs[1]) / 2
		w.down.feed(bytes.Clone(c.dirs[1][:half]))
		w.server.endMedia(4, 0, nil)
		r := rand.New(rand.NewPCG(1, 2))
		feed(t, w.down, c.dirs[1][half:], func() int { return 1 + r.IntN(1000) })
		b := out[1].out.Bytes()
		var last mms.Unit
		for len(b) > 0 {
			u, n, err := mms.Next(b, mms.ToViewer)
			if err != nil {
				t.Fatal(err)
			}
			last, b = u, b[n:]
		}
		if last.Message.MID != mms.MIDReportEndOfStream || last.Message.HR() != mms.OK {
			t.Errorf("ends with %v", last.Message.MID)
		}
		if n := out[1].out.Len(); n < half || n > half+1500+48 {
			t.Errorf("%d bytes of %d", n, half)
		}
	}
}

func TestPiecesBound(t *testing.T) {
	endless := append([]byte("GET /f HTTP/1.0\r\nUser-Agent: NSPlayer/9\r\n"), bytes.Repeat([]byte("A: b\r\n"), 50000)...)
	for name, c := range map[string]struct {
		p protocol
		b []byte
	}{
		"endless head":    {mmsh{}, endless},
		"lying length":    {mmst{}, append([]byte{1, 0, 0, 0, 0xce, 0xfa, 0x0b, 0xb0, 0xff, 0xff, 0xff, 0x7f}, make([]byte, 300000)...)},
		"no packet":       {mmst{}, make([]byte, 300000)},
		"another message": {mmst{}, bytes.Repeat([]byte("RTSP/1.0 200 OK\r\n"), 10000)},
	} {
		for i := range 2 {
			x, out := loose(t, c.p)
			up, down := x.lanes()
			l := []lane{up, down}[i].(*pieces)
			most := 0
			feed(t, l, c.b, func() int { most = max(most, cap(l.buf)); return 1000 })
			if !bytes.Equal(out[i].out.Bytes(), c.b) || most > 2*mms.MaxMessage {
				t.Errorf("%s: %d bytes of %d, kept %d", name, out[i].out.Len(), len(c.b), most)
			}
		}
	}
}

func TestMediaAllocate(t *testing.T) {
	x, _ := loose(t, mmst{})
	down := x.(*mmstTalk).down
	down.rules = &sink{rules: down.rules.(*sink).rules, out: bytes.NewBuffer(make([]byte, 0, 1<<20))}
	b := bytes.Repeat(mediaAt(7, 1000), 20)
	if n := testing.AllocsPerRun(100, func() {
		down.rules.(*sink).out.Reset()
		down.feed(b)
	}); n != 0 {
		t.Errorf("%v allocations for 20 packets", n)
	}
}

func FuzzPieces(f *testing.F) {
	for _, e := range examples(f) {
		f.Add(e.raw, uint8(1), false)
	}
	for _, c := range append(recorded(f, "mmsh-*"), recorded(f, "vlc-seek*")...) {
		for _, b := range c.dirs {
			f.Add(b[:min(len(b), 4000)], uint8(7), c.http)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint8, http bool) {
		var p protocol = mmst{}
		if http {
			p = mmsh{}
		}
		x, out := loose(t, p)
		up, down := x.lanes()
		for i, l := range []lane{up, down} {
			feed(t, l, b, func() int { return int(cut) })
			funnel := i == 0 && !http && bytes.Contains(b, []byte("D\x00P\x00")) // UDP is refused
			if !funnel && !bytes.Equal(out[i].out.Bytes(), b) {
				t.Fatalf("direction %d: %x became %x", i, b, out[i].out.Bytes())
			}
		}
	})
}
