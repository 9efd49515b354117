package tracer

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
)

// mmshConn is one connection of a player of MMSH, relayed.
type mmshConn struct {
	d *Decoder
	f bpf.Flow
}

func mmshConnOf(d *Decoder, port uint16) mmshConn {
	f := testFlow()
	f.Terminal = netip.AddrPortFrom(f.Terminal.Addr(), port)
	return mmshConn{d, f}
}

// ask sends a Play from ms, or with packet > 0 from there.
func (c mmshConn) ask(ms int, packet uint32, at time.Time) {
	where := fmt.Sprintf("stream-time=%d,packet-num=%d", ms, mms.Unused)
	if packet > 0 {
		where = fmt.Sprintf("stream-time=%d,packet-num=%d", ms, packet)
	}
	c.d.Stream(c.f, bpf.ToServer, []byte("GET /clip.asf HTTP/1.0\r\nUser-Agent: NSPlayer/4.1\r\nHost: h\r\nPragma: xPlayStrm=1,"+where+",xClientGUID={a}\r\n\r\n"), at)
}

const goodPlay = "HTTP/1.0 200 OK\r\nContent-Type: application/x-mms-framed\r\nPragma: features=\"seekable\"\r\n\r\n"

func (c mmshConn) head(at time.Time) { c.d.Stream(c.f, bpf.ToTerminal, []byte(goodPlay), at) }

func (c mmshConn) media(number, send uint32, at time.Time) {
	b := mms.AppendDataChunk(nil, 'D', mms.Data{LocationID: number, Incarnation: 1}, mmsPacket(1, number, send, send)[8:])
	c.d.Stream(c.f, bpf.ToTerminal, b, at)
}

// TestMMSHLateBody: a player that seeks hangs up its first Play as soon as it has the head of its
// reply. What the relay of that connection still reads must not take the film back.
func TestMMSHLateBody(t *testing.T) {
	at := time.Unix(1000, 0)
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	first, second := mmshConnOf(d, 5001), mmshConnOf(d, 5002)
	first.ask(0, 0, at)
	first.head(at)
	d.StreamClosed(first.f, bpf.ToServer, at)
	second.ask(20000, 0, at)
	second.head(at)
	second.media(200, 20000, at)
	first.media(0, 0, at) // read late
	d.StreamClosed(first.f, bpf.ToTerminal, at)
	second.media(210, 21000, at.Add(time.Second))
	s := newest(d)
	if len(d.sessions) != 1 || s.control != second.f || !s.film.left.IsZero() {
		t.Errorf("%d sessions, controlled by %v, left %v", len(d.sessions), s.control, s.film.left)
	}
	if p := s.position(at.Add(time.Second)); *p.NPT < 20 || *p.Rendered < 20 {
		t.Errorf("shown at %.1f, on the screen %.1f", *p.NPT, *p.Rendered)
	}
	d.Tick(at.Add(returnFor + 2*time.Second))
	if s.rec.State != session.Playing {
		t.Errorf("%s", s.rec.State)
	}
}

// TestMMSHMoved: who moves a film away knows that its player does not come back with it.
func TestMMSHMoved(t *testing.T) {
	at := time.Unix(1000, 0)
	table := session.NewTable()
	l := NewLive(Config{AnyPort: true}, newFakeKernel(), table, slog.New(slog.NewTextHandler(io.Discard, nil)))
	first, second := mmshConnOf(l.d, 5001), mmshConnOf(l.d, 5002)
	play := func(c mmshConn) string {
		c.ask(0, 0, at)
		c.head(at)
		c.media(0, 0, at)
		return newest(l.d).rec.ID
	}
	id := play(first)
	l.StreamClosed(first.f, bpf.ToServer, at)
	l.StreamClosed(first.f, bpf.ToTerminal, at)
	if r, _ := table.Get(id); r.State != session.Playing {
		t.Fatalf("hung up, it may come back: %s", r.State)
	}
	l.Moved(id, first.f, at)
	if r, _ := table.Get(id); r.State != session.Ended {
		t.Errorf("moved, it is %s", r.State)
	}
	if again := play(second); again == id {
		t.Error("the film is opened again, and is the session that was moved")
	}
	again := newest(l.d).rec.ID
	l.Moved(again, first.f, at) // it went on elsewhere meanwhile
	if r, _ := table.Get(again); r.State != session.Playing {
		t.Errorf("on another connection it is %s", r.State)
	}
}

// TestMMSHRefused: a Describe that is followed by no Play the server grants leaves no session.
func TestMMSHRefused(t *testing.T) {
	at := time.Unix(1000, 0)
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	describe, play := mmshConnOf(d, 5001), mmshConnOf(d, 5002)
	hangUp := func(c mmshConn) {
		d.StreamClosed(c.f, bpf.ToTerminal, at)
		d.StreamClosed(c.f, bpf.ToServer, at)
	}
	d.Stream(describe.f, bpf.ToServer, []byte("GET /clip.asf HTTP/1.0\r\nUser-Agent: NSPlayer/4.1\r\nHost: h\r\nPragma: xClientGUID={a}\r\n\r\n"), at)
	d.Stream(describe.f, bpf.ToTerminal, mms.AppendDataChunk([]byte(goodPlay), 'H', mms.Data{Flags: mms.FlagMore}, []byte{1}), at)
	hangUp(describe)
	play.ask(0, 0, at)
	d.Tick(at.Add(returnFor + time.Second))
	if s := newest(d); s == nil || s.rec.State != session.Setup {
		t.Fatal("ended while the server thinks")
	}
	d.Stream(play.f, bpf.ToTerminal, []byte("HTTP/1.0 503 Busy\r\nContent-Length: 0\r\n\r\n"), at)
	hangUp(play)
	d.Tick(at.Add(2*returnFor + 2*time.Second))
	if len(d.sessions) != 0 {
		t.Error("the session stays")
	}
}
