package tracer

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
)

func quietLive(k Kernel) *Live {
	return NewLive(Config{AnyPort: true}, k, session.NewTable(), slog.New(slog.NewTextHandler(io.Discard, nil)))
}

// TestSYNFlood: a terminal that fills the table with connections it says nothing on blinds
// nobody for longer than two minutes.
func TestSYNFlood(t *testing.T) {
	at := time.Unix(1000, 0)
	d := NewDecoder(Config{Services: map[uint16]bpf.Service{554: bpf.ServiceRTSP}}, sessionSink{&watcher{}})
	f := testFlow()
	for i := range maxConns {
		f.Terminal = netip.AddrPortFrom(f.Terminal.Addr(), uint16(i))
		f.Server = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 8, byte(i >> 16)}), 554)
		d.Segment(Segment{Flow: f, Dir: bpf.ToServer, Flags: SYN, At: at})
	}
	at = at.Add(idleUnread + time.Second)
	d.Tick(at)
	d.Segment(Segment{Flow: testFlow(), Dir: bpf.ToServer, Flags: SYN, At: at})
	if d.conns[testFlow()] == nil || len(d.conns) > 1 {
		t.Errorf("%d connections kept, the new one among them: %v", len(d.conns), d.conns[testFlow()] != nil)
	}
}

// TestSessionsOfOneConnection: a player that opens one film after the other on a connection
// does not make it grow.
func TestSessionsOfOneConnection(t *testing.T) {
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	for i := range 100 {
		talk(d, testFlow(), time.Unix(1000, 0),
			fmt.Sprintf("C SETUP rtsp://h/a RTSP/1.0|CSeq: %d|Transport: RTP/AVP;unicast;client_port=5000-5001", 2*i),
			fmt.Sprintf("S RTSP/1.0 200 OK|CSeq: %d|Session: x%d|Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001", 2*i, i),
			fmt.Sprintf("C TEARDOWN rtsp://h/a RTSP/1.0|CSeq: %d|Session: x%d", 2*i+1, i),
			fmt.Sprintf("S RTSP/1.0 200 OK|CSeq: %d", 2*i+1))
	}
	if n := len(d.conns[testFlow()].sessions); n > 1 {
		t.Errorf("the connection keeps %d sessions", n)
	}
}

// TestEndlessTracks: neither tracks nor the timeout of a session are what a server likes.
func TestEndlessTracks(t *testing.T) {
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	for i := range 2 * maxTracks {
		talk(d, testFlow(), time.Unix(1000, 0),
			fmt.Sprintf("C SETUP rtsp://h/a/%d RTSP/1.0|CSeq: %d|Session: x|Transport: RTP/AVP;unicast;client_port=5000-5001", i, i),
			fmt.Sprintf("S RTSP/1.0 200 OK|CSeq: %d|Session: x;timeout=999999999|Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=%d-%d", i, i+6000, i+6001))
	}
	for _, s := range d.sessions {
		if len(s.tracks) != maxTracks || s.timeout != maxTimeout {
			t.Errorf("%d tracks, timeout %v", len(s.tracks), s.timeout)
		}
	}
}

// TestHeadInPieces: a head, or its first line, that comes in thousands of pieces is not read from its
// beginning with each of them, and is read in the end.
func TestHeadInPieces(t *testing.T) {
	for _, c := range []struct {
		begins, goesOn, ends string
		most                 uint64 // bytes read
		url                  int    // its least length
	}{
		{"OPTIONS rtsp://h/a RTSP/1.0\r\nX:", "a\n ", "\r", 1 << 20, 1},
		{"OPTIONS rtsp://h/", "a", " RTSP/1.0\r", 2 << 20, 20_000},
	} {
		d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
		feed := func(s string) { d.Stream(testFlow(), bpf.ToServer, []byte(s), time.Unix(1000, 0)) }
		feed(c.begins)
		for range 20_000 {
			feed(c.goesOn)
		}
		if d.read > c.most {
			t.Errorf("%q: %d bytes were read", c.begins, d.read)
		}
		for _, piece := range []string{c.ends, "\nCSeq: 1\r", "\n\r", "\nOPTIONS rtsp://h/a RTSP/1.0\r\nCSeq: 2\r\n\r\n"} {
			feed(piece)
		}
		if k := d.conns[testFlow()]; len(k.pending) != 2 || len(k.pending[0].url) < c.url || len(k.toServer.buf) != 0 {
			t.Errorf("%q: %d requests read, %d bytes left", c.begins, len(k.pending), len(k.toServer.buf))
		}
	}
}

// TestEndlessPath: a URL made of slashes is not looked up for each of them.
func TestEndlessPath(t *testing.T) {
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	x, c := &content{}, &conn{flow: testFlow()}
	d.keepContent(contentKey{c.flow.Terminal.Addr(), "rtsp://h/a"}, x)
	for _, n := range []int{0, 1, maxPath - 1, maxPath, 10_000} {
		if found := d.contentOf(c, "rtsp://h/a"+strings.Repeat("/x", n)) == x; found != (n < maxPath) {
			t.Errorf("%d parts behind: found %v", n, found)
		}
	}
}

// TestBodyInPieces: a body that comes in pieces is not read again and again.
func TestBodyInPieces(t *testing.T) {
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	feed := func(s string) { d.Stream(testFlow(), bpf.ToServer, []byte(s), time.Unix(1000, 0)) }
	feed(fmt.Sprintf("SET_PARAMETER rtsp://h/a RTSP/1.0\r\nX: %s\r\nContent-Length: 20000\r\n\r\n", strings.Repeat("x", 50_000)))
	for range 20_000 {
		feed("a")
	}
	if d.read > 1<<20 {
		t.Errorf("%d bytes were read for a message of 70000", d.read)
	}
	if c := d.conns[testFlow()]; len(c.pending) != 1 || len(c.toServer.buf) != 0 {
		t.Errorf("%d requests read, %d bytes left", len(c.pending), len(c.toServer.buf))
	}
}

// TestLargeRequests: what is kept of requests without a reply is bounded, and no body is.
func TestLargeRequests(t *testing.T) {
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	long := strings.Repeat("x", 20_000)
	for i := range 10 {
		d.Stream(testFlow(), bpf.ToServer, fmt.Appendf(nil, "PLAY rtsp://h/%s RTSP/1.0\r\nCSeq: %d\r\nRange: npt=%d-\r\nContent-Length: %d\r\n\r\n%s", long, i, i, len(long), long), time.Unix(1000, 0))
	}
	c, size := d.conns[testFlow()], 0
	for _, r := range c.pending {
		size += r.size()
	}
	if size > maxPendingSize || len(c.pending) != 3 || c.pending[2].span != "npt=9-" || d.stats.Undecoded != 7 {
		t.Errorf("%d requests of %d bytes kept, %d forgotten", len(c.pending), size, d.stats.Undecoded)
	}
}

// TestKeptInAll: what all connections keep of what they did not finish is bounded; the one that adds
// much loses its own, and is read on.
func TestKeptInAll(t *testing.T) {
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	d.mostKept = 1 << 20
	flow := func(i int) bpf.Flow {
		f := testFlow()
		f.Terminal = netip.AddrPortFrom(f.Terminal.Addr(), uint16(i))
		return f
	}
	long := []byte("OPTIONS rtsp://h/a RTSP/1.0\r\nX: " + strings.Repeat("x", 40_000))
	for i := range 100 {
		d.Stream(flow(i), bpf.ToServer, long, time.Unix(1000, 0))
		d.Segment(Segment{Flow: flow(i), Dir: bpf.ToTerminal, Seq: 5000, Payload: []byte("early"), At: time.Unix(1000, 0)})
	}
	sum := 0
	for _, c := range d.conns {
		sum += c.kept()
	}
	if sum != d.kept || sum > 1<<20+100*smallShare || d.stats.Gaps < 50 {
		t.Errorf("%d bytes kept, %d counted, %d gaps", sum, d.kept, d.stats.Gaps)
	}
	f := flow(99)
	d.Stream(f, bpf.ToServer, []byte("\r\n\r\nOPTIONS rtsp://h/a RTSP/1.0\r\nCSeq: 7\r\n\r\n"), time.Unix(1000, 0))
	if c := d.conns[f]; len(c.pending) != 1 || c.pending[0].cseq != 7 {
		t.Errorf("not read on: %+v", c.pending)
	}
	for i := range 100 {
		d.forget(d.conns[flow(i)], time.Unix(1000, 0))
	}
	if d.kept != 0 {
		t.Errorf("%d bytes of nobody", d.kept)
	}
}

// lossyKernel could not copy all of the signalling.
type lossyKernel struct{ *fakeKernel }

func (lossyKernel) TCPStats(bpf.Flow) (bpf.TCPStats, bool) { return bpf.TCPStats{Lossy: true}, true }

func TestLossySignallingOfUDP(t *testing.T) {
	at := time.Unix(1000, 0)
	l := quietLive(lossyKernel{newFakeKernel()})
	talk(l.d, testFlow(), at, "C SETUP rtsp://h/a RTSP/1.0|CSeq: 1|Transport: RTP/AVP;unicast;client_port=5000-5001",
		"S RTSP/1.0 200 OK|CSeq: 1|Session: x|Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001")
	l.d.byID["s1"].rec.Steered = false
	if r, ok := l.Record("s1", at); !ok || !r.Lossy {
		t.Errorf("lossy %v", r.Lossy)
	}
}

// TestRestoreKnowsTheUser: what the configuration says of a terminal now counts, and MPEG-TS is
// known again by its codec.
func TestRestoreKnowsTheUser(t *testing.T) {
	at := time.Unix(1000, 0)
	user := func(aor string) *Decoder {
		return NewDecoder(Config{AnyPort: true, Name: func(netip.Addr) (string, string) { return "tv", aor }}, sessionSink{&watcher{}})
	}
	d := user("sip:bob@x")
	sdp := "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\na=range:npt=0-100\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 MP2T/90000\r\n"
	talk(d, testFlow(), at, "C DESCRIBE rtsp://h/a RTSP/1.0|CSeq: 0")
	d.Stream(testFlow(), bpf.ToTerminal, fmt.Appendf(nil, "RTSP/1.0 200 OK\r\nCSeq: 0\r\nContent-Length: %d\r\n\r\n%s", len(sdp), sdp), at)
	talk(d, testFlow(), at, "C SETUP rtsp://h/a RTSP/1.0|CSeq: 1|Transport: RTP/AVP;unicast;client_port=5000-5001",
		"S RTSP/1.0 200 OK|CSeq: 1|Session: x|Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001")
	d.byID["s1"].rec.Steered = false
	b, err := (&Live{d: d}).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	e := user("sip:alice@x")
	if err := e.Restore(b, at); err != nil {
		t.Fatal(err)
	}
	if s := e.byID["s1"]; *s.rec.AoR != "sip:alice@x" || !s.tracks[0].mpegts {
		t.Errorf("user %s, MPEG-TS %v", *s.rec.AoR, s.tracks[0].mpegts)
	}
}

// TestNotANumber: what one player writes does not keep the sessions of all from being stored.
func TestNotANumber(t *testing.T) {
	at := time.Unix(1000, 0)
	l := quietLive(newFakeKernel())
	talk(l.d, testFlow(), at, "C SETUP rtsp://h/a RTSP/1.0|CSeq: 1|Transport: RTP/AVP;unicast;client_port=5000-5001",
		"S RTSP/1.0 200 OK|CSeq: 1|Session: x|Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001",
		"C PLAY rtsp://h/a RTSP/1.0|CSeq: 2|Session: x|Range: npt=5-|Scale: NaN|Speed: nan", "S RTSP/1.0 200 OK|CSeq: 2|Session: x|Range: npt=5-")
	l.d.byID["s1"].rec.Steered = false
	if b, err := l.Snapshot(); err != nil || len(b) < 10 {
		t.Errorf("%s, %v", b, err)
	}
	if p, _ := l.Record("s1", at.Add(time.Second)); p.Position == nil || p.Position.NPT == nil || *p.Position.NPT < 5 {
		t.Errorf("position %+v", p.Position)
	}
}
