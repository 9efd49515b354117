package tracer

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"scas/bpf"
)

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

// TestHeadInPieces: a head that comes in thousands of pieces is not read from its beginning
// with each of them, and is read in the end.
func TestHeadInPieces(t *testing.T) {
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	feed := func(s string) { d.Stream(testFlow(), bpf.ToServer, []byte(s), time.Unix(1000, 0)) }
	feed("OPTIONS rtsp://h/a RTSP/1.0\r\nX:")
	began := time.Now()
	for range 20_000 {
		feed("a\n ")
	}
	if took := time.Since(began); took > time.Second { // 1.3 s before, 7 ms now
		t.Errorf("took %v", took)
	}
	for _, piece := range []string{"\r", "\nCSeq: 1\r", "\n\r", "\nOPTIONS rtsp://h/a RTSP/1.0\r\nCSeq: 2\r\n\r\n"} {
		feed(piece)
	}
	if c := d.conns[testFlow()]; len(c.pending) != 2 || len(c.toServer.buf) != 0 {
		t.Errorf("%d requests read, %d bytes left", len(c.pending), len(c.toServer.buf))
	}
}
