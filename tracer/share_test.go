package tracer

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
)

// flowOf is the i-th connection of a terminal.
func flowOf(terminal string, i int) bpf.Flow {
	server := netip.MustParseAddr("10.9.9.9")
	a := netip.MustParseAddr(terminal)
	if a.Is6() {
		server = netip.MustParseAddr("2001:db8:9::9")
	}
	return bpf.Flow{Terminal: netip.AddrPortFrom(a, uint16(4000+i)), Server: netip.AddrPortFrom(server, 554)}
}

// setUpAt opens a session: the name is the server's word for it.
func setUpAt(d *Decoder, f bpf.Flow, at time.Time, name string) {
	talk(d, f, at, "C SETUP rtsp://h/a RTSP/1.0|CSeq: 1|Transport: RTP/AVP;unicast;client_port=5000-5001",
		"S RTSP/1.0 200 OK|CSeq: 1|Session: "+name+"|Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001")
}

const (
	hostileUE  = "10.0.0.66"
	hostileUE6 = "2001:db8:1::66"
	otherUE    = "10.0.0.3"
	otherUE6   = "2001:db8:2::3"
)

// TestShares: a terminal that opens connections and sessions without end leaves room for another
// one's, whatever addresses of its prefix it takes, and of it nothing is kept when all is over.
func TestShares(t *testing.T) {
	at := time.Unix(1000, 0)
	for _, c := range []struct {
		name, other string
		flow        func(i int) bpf.Flow
	}{
		{"IPv4", otherUE, func(i int) bpf.Flow { return flowOf(hostileUE, i) }},
		{"IPv6", otherUE6, func(i int) bpf.Flow {
			f := flowOf(hostileUE6, i%100)
			a := f.Terminal.Addr().As16()
			a[14] = byte(i / 100) // a privacy address after the other
			return bpf.Flow{Terminal: netip.AddrPortFrom(netip.AddrFrom16(a), f.Terminal.Port()), Server: f.Server}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
			const more = 40
			for i := range shareSessions + more {
				setUpAt(d, c.flow(i), at, fmt.Sprint("x", i))
			}
			if s := d.Stats(); len(d.sessions) != shareSessions || s.OverShare != more || s.Refused != more {
				t.Errorf("%d sessions, %+v", len(d.sessions), s)
			}
			for i := len(d.conns); i < shareConns+more; i++ {
				d.Segment(Segment{Flow: c.flow(i), Dir: bpf.ToServer, Flags: SYN, At: at})
			}
			if s := d.Stats(); len(d.conns) != shareConns || s.OverShare != 2*more {
				t.Errorf("%d connections, %+v", len(d.conns), s)
			}
			other := flowOf(c.other, 0)
			setUpAt(d, other, at, "mine")
			if d.conns[other] == nil || d.sessions[sessKey{other.Terminal.Addr(), other.Server, "mine"}] == nil {
				t.Error("another terminal's session is not watched")
			}
			for _, s := range d.inOrder() {
				d.end(s, at)
			}
			d.Tick(at.Add(idleConn + time.Minute))
			if len(d.conns) != 0 || len(d.holdings) != 0 {
				t.Errorf("left: %d connections, %d terminals", len(d.conns), len(d.holdings))
			}
		})
	}
}

// TestKeptShare: the unread bytes of one terminal do not cost another one its own.
func TestKeptShare(t *testing.T) {
	at := time.Unix(1000, 0)
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	d.mostKept = 1 << 20
	other := flowOf(otherUE, 0)
	d.Stream(other, bpf.ToServer, []byte("OPTIONS rtsp://h/a RTSP/1.0\r\nX: "+strings.Repeat("x", 20_000)), at)
	for i := range 200 {
		d.Stream(flowOf(hostileUE, i), bpf.ToServer, []byte("OPTIONS rtsp://h/a RTSP/1.0\r\nX: "+strings.Repeat("x", 20_000)), at)
	}
	d.Stream(other, bpf.ToServer, []byte("\r\nCSeq: 7\r\n\r\n"), at)
	if c := d.conns[other]; len(c.pending) != 1 || c.pending[0].cseq != 7 || d.stats.Gaps < 150 {
		t.Errorf("%d requests of the other terminal read, %d gaps", len(c.pending), d.stats.Gaps)
	}
	if n := d.holds(netip.MustParseAddr(hostileUE)).kept; n > d.mostKept/keptParts+200*smallShare {
		t.Errorf("%d bytes kept for one terminal", n)
	}
}

// TestContentShare: endless descriptions of one terminal do not push out that of another one, which
// sets up on a connection of its own.
func TestContentShare(t *testing.T) {
	at := time.Unix(1000, 0)
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	const sdp = "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\na=range:npt=0-100\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
	described := func(f bpf.Flow, url string) {
		talk(d, f, at, "C DESCRIBE "+url+" RTSP/1.0|CSeq: 0")
		d.Stream(f, bpf.ToTerminal, fmt.Appendf(nil, "RTSP/1.0 200 OK\r\nCSeq: 0\r\nContent-Length: %d\r\n\r\n%s", len(sdp), sdp), at)
	}
	described(flowOf(otherUE, 0), "rtsp://h/a")
	for i := range 2 * maxContents {
		described(flowOf(hostileUE, 0), fmt.Sprint("rtsp://h/", i))
	}
	if n := d.holds(netip.MustParseAddr(hostileUE)).contents; n > shareContents || len(d.contents) != n+1 || d.stats.OverShare == 0 {
		t.Errorf("%d descriptions of one terminal, %d in all", n, len(d.contents))
	}
	setUpAt(d, flowOf(otherUE, 1), at, "x")
	if s := d.byID["s1"]; s == nil || s.rec.Duration == nil || *s.rec.Duration != 100 {
		t.Error("the other terminal's description is gone")
	}
}

// TestToldShare: sessions that change all the time are told of now and then, with what is true then;
// of those that come and go nobody hears, and another terminal's are told of at once.
func TestToldShare(t *testing.T) {
	at := time.Unix(1000, 0)
	w := &watcher{}
	d := NewDecoder(Config{AnyPort: true}, sessionSink{w})
	d.Tick(at)
	f := flowOf(hostileUE, 0)
	setUpAt(d, f, at, "x")
	for i := range 500 {
		talk(d, f, at, fmt.Sprintf("C PLAY rtsp://h/a RTSP/1.0|CSeq: %d|Session: x", 2*i), fmt.Sprintf("S RTSP/1.0 200 OK|CSeq: %d|Session: x|Range: npt=0-", 2*i),
			fmt.Sprintf("C PAUSE rtsp://h/a RTSP/1.0|CSeq: %d|Session: x", 2*i+1), fmt.Sprintf("S RTSP/1.0 200 OK|CSeq: %d|Session: x", 2*i+1))
	}
	for i := range 50 { // these come and go
		setUpAt(d, f, at, fmt.Sprint("y", i))
		talk(d, f, at, fmt.Sprintf("C TEARDOWN rtsp://h/a RTSP/1.0|CSeq: 9|Session: y%d", i), "S RTSP/1.0 200 OK|CSeq: 9")
	}
	if len(w.records) != shareTold {
		t.Errorf("told %d times, want %d", len(w.records), shareTold)
	}
	setUpAt(d, flowOf(otherUE, 0), at, "x")
	if r := w.records[len(w.records)-1]; r.Terminal.IP.String() != otherUE {
		t.Errorf("told of %v", r.Terminal.IP)
	}
	w.records = nil
	d.Tick(at.Add(time.Second))
	if len(w.records) != 1 || w.records[0].ID != "s1" || w.records[0].State != session.Paused {
		t.Errorf("told %+v", w.records)
	}
	if len(d.byID) != 2 || len(d.waiting) != 0 {
		t.Errorf("%d sessions known, %d wait", len(d.byID), len(d.waiting))
	}
}

// TestEndedShare: the sessions that one terminal ends do not push those of another one out.
func TestEndedShare(t *testing.T) {
	l := quietLive(newFakeKernel())
	end := func(f bpf.Flow, name string, at time.Time) {
		setUpAt(l.d, f, at, name)
		talk(l.d, f, at, "C TEARDOWN rtsp://h/a RTSP/1.0|CSeq: 2|Session: "+name, "S RTSP/1.0 200 OK|CSeq: 2")
	}
	at := time.Unix(1000, 0)
	end(flowOf(otherUE, 0), "x", at)
	for i := range maxKeptEnded + 10 {
		at = at.Add(100 * time.Millisecond)
		end(flowOf(hostileUE, 0), fmt.Sprint("y", i), at)
	}
	l.bury(at)
	if r, ok := l.table.Get("s1"); !ok || r.State != session.Ended || len(l.ended) != 1+shareEnded || len(l.table.List()) != 1+shareEnded {
		t.Errorf("the other terminal's session is there: %v; %d are kept", ok, len(l.ended))
	}
	if last := l.ended[len(l.ended)-1].id; last != fmt.Sprint("s", maxKeptEnded+11) {
		t.Errorf("newest %s", last)
	}
}

// TestReadShare: messages without end on a relayed connection are not read to their end, its media are
// nobody's concern, and it is read again in the next second.
func TestReadShare(t *testing.T) {
	at := time.Unix(1000, 0)
	w := &watcher{}
	d := NewDecoder(Config{AnyPort: true}, sessionSink{w})
	f := flowOf(hostileUE, 0)
	setUpAt(d, f, at, "x")
	message := []byte("OPTIONS * RTSP/1.0\r\nX: " + strings.Repeat("x", 60_000) + "\r\n\r\n")
	frames := append([]byte("$\x00\xff\xff"), make([]byte, 0xffff)...)
	for range shareRead / 0xffff {
		d.Stream(f, bpf.ToTerminal, frames, at)
	}
	if d.stats.OverShare != 0 {
		t.Error("media count")
	}
	for range shareRead / len(message) * 2 {
		d.Stream(f, bpf.ToServer, message, at)
	}
	if n := d.holds(f.Terminal.Addr()).read; n > shareRead+len(message) || d.stats.OverShare == 0 || d.stats.Gaps != 1 {
		t.Errorf("%d bytes read, %+v", n, d.stats)
	}
	if r := w.records[len(w.records)-1]; r.ID != "s1" || !r.Lossy {
		t.Errorf("told %+v", r)
	}
	other := flowOf(otherUE, 0)
	setUpAt(d, other, at, "y")
	d.Stream(f, bpf.ToServer, message[:100], at)
	at = at.Add(time.Second)
	d.Stream(f, bpf.ToServer, append(message[100:], "PAUSE rtsp://h/a RTSP/1.0\r\nCSeq: 7\r\nSession: x\r\n\r\n"...), at)
	c := d.conns[f]
	if last := c.pending[len(c.pending)-1]; last.method != "PAUSE" || d.byID["s2"] == nil || d.byID["s2"].rec.Terminal.IP.String() != otherUE {
		t.Errorf("last read %s", last.method)
	}
}
