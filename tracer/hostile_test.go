package tracer

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
)

func testFlow() bpf.Flow {
	return bpf.Flow{Terminal: netip.MustParseAddrPort("10.0.0.2:4000"), Server: netip.MustParseAddrPort("10.9.9.9:554")}
}

// talk feeds a dialogue: lines of "C " or "S " with a message whose line ends are "/".
func talk(d *Decoder, f bpf.Flow, at time.Time, lines ...string) {
	for _, l := range lines {
		dir := bpf.ToServer
		if l[0] == 'S' {
			dir = bpf.ToTerminal
		}
		d.Stream(f, dir, []byte(strings.ReplaceAll(l[2:], "|", "\r\n")+"\r\n\r\n"), at)
	}
}

func TestHostileDialogue(t *testing.T) {
	at := time.Unix(1000, 0)
	for _, c := range []struct {
		name  string
		lines []string
	}{
		{"reply without request", []string{"S RTSP/1.0 200 OK|CSeq: 5|Session: x"}},
		{"setup without transport", []string{"C SETUP rtsp://h/a RTSP/1.0|CSeq: 1", "S RTSP/1.0 200 OK|CSeq: 1|Session: x"}},
		{"setup without session", []string{"C SETUP rtsp://h/a RTSP/1.0|CSeq: 1|Transport: RTP/AVP;unicast;client_port=5-6", "S RTSP/1.0 200 OK|CSeq: 1|Transport: RTP/AVP;unicast;client_port=5-6"}},
		{"ports out of range", []string{"C SETUP rtsp://h/a RTSP/1.0|CSeq: 1|Transport: RTP/AVP;unicast;client_port=70000-70001", "S RTSP/1.0 200 OK|CSeq: 1|Session: x|Transport: RTP/AVP;unicast;client_port=70000-70001"}},
		{"channel out of range", []string{"C SETUP rtsp://h/a RTSP/1.0|CSeq: 1|Transport: RTP/AVP/TCP;interleaved=300-301", "S RTSP/1.0 200 OK|CSeq: 1|Session: x|Transport: RTP/AVP/TCP;interleaved=300-301"}},
		{"play of a session of somebody else", []string{"C PLAY rtsp://h/a RTSP/1.0|CSeq: 1|Session: other", "S RTSP/1.0 200 OK|CSeq: 1|Session: other|Range: npt=1-"}},
		{"endless numbers", []string{"C PLAY rtsp://h/a RTSP/1.0|CSeq: 99999999999999999999|Range: npt=99999999999999999999-|Scale: 1e308|Speed: NaN"}},
		{"sdp of nothing", []string{"C DESCRIBE rtsp://h/a RTSP/1.0|CSeq: 1", "S RTSP/1.0 200 OK|CSeq: 1|Content-Length: 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &watcher{}
			d := NewDecoder(Config{AnyPort: true}, sessionSink{w})
			talk(d, testFlow(), at, c.lines...)
			for _, r := range w.records {
				if r.State == session.Playing {
					t.Errorf("believed: %+v", r)
				}
			}
		})
	}
}

func TestHostileBytesAreBounded(t *testing.T) {
	at := time.Unix(1000, 0)
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	f := testFlow()
	d.Stream(f, bpf.ToServer, []byte("OPTIONS rtsp://h/a RTSP/1.0\r\nX: "), at)
	endless := bytes.Repeat([]byte("a"), 64<<10)
	for range 64 {
		d.Stream(f, bpf.ToServer, endless, at)
		d.Stream(f, bpf.ToTerminal, endless, at)
	}
	c := d.conns[f]
	if n := len(c.toServer.buf) + len(c.toViewer.buf); n > 256<<10 {
		t.Errorf("keeps %d bytes of an endless header", n)
	}
	for i := range 10_000 {
		talk(d, f, at, fmt.Sprintf("C OPTIONS rtsp://h/a RTSP/1.0|CSeq: %d", i))
	}
	if n := len(d.conns[f].pending); n > maxPending {
		t.Errorf("keeps %d requests without a reply", n)
	}
}

func TestForeignConnectionIsLeftAlone(t *testing.T) {
	d := NewDecoder(Config{}, sessionSink{&watcher{}})
	d.Stream(testFlow(), bpf.ToServer, []byte("SSH-2.0-OpenSSH_9.2p1 Debian\r\n"), time.Unix(1, 0))
	if got := d.conns[testFlow()].speaks; got != speaksOther {
		t.Errorf("an SSH connection speaks %d", got)
	}
}

// TestCutAnywhere feeds the streams of captures in other segments than they came in: the
// sessions are the same.
func TestCutAnywhere(t *testing.T) {
	for _, name := range []string{"l5-mplayer-tcp-full", "gst-gst-tcp-full", "gst-gst-udp-rtsp20"} {
		whole, _ := replay(t, name, Config{AnyPort: true}, nil, nil)
		cut, _ := replayCut(t, name, 7)
		if len(whole.records) != len(cut.records) {
			t.Fatalf("%s: %d changes, %d when cut", name, len(whole.records), len(cut.records))
		}
		for i, a := range whole.records {
			b := cut.records[i]
			if a.State != b.State || *a.URL != *b.URL || len(a.Tracks) != len(b.Tracks) {
				t.Errorf("%s: change %d is %s, %s when cut", name, i, a.State, b.State)
			}
		}
	}
}

// replayCut replays a capture with every TCP payload cut into pieces of n bytes.
func replayCut(t *testing.T, name string, n int) (*watcher, Stats) {
	t.Helper()
	all, first := takenFrom(t, "rtsp/"+name)
	w := &watcher{}
	tr := newTrace(Config{AnyPort: true}, 0, w)
	w.d = tr.d
	in := newFrames(tr.d, first)
	in.each = func(s Segment) {
		whole := s
		for len(s.Payload) > n {
			part := s
			part.Payload, part.Flags = s.Payload[:n], s.Flags&^(FIN|RST)
			tr.d.Segment(part)
			s.Seq, s.Payload = s.Seq+uint32(n), s.Payload[n:]
		}
		tr.d.Segment(s)
		tr.d.Segment(Segment{Flow: whole.Flow, Dir: whole.Dir, Seq: whole.Seq, Ack: whole.Ack, Flags: whole.Flags &^ (SYN | FIN | RST), Payload: whole.Payload, At: whole.At}) // and once more
	}
	for _, p := range all {
		tr.to(p.at)
		in.frame(p.b, p.at)
	}
	return w, tr.d.Stats()
}

// FuzzDecoder feeds arbitrary segments of both directions of a connection that has a
// session.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("\x00\x05OPTIO\x01\x03RTS"))
	f.Add([]byte("\x02$\x00\x00\x0c\x80\x60aaaabbbbcccc"))
	f.Fuzz(func(t *testing.T, in []byte) {
		at := time.Unix(1000, 0)
		d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
		d.whole = len(in)%2 == 0 // as in a capture
		flow := testFlow()
		seq := [2]uint32{1, 1}
		talk(d, flow, at,
			"C SETUP rtsp://h/a RTSP/1.0|CSeq: 1|Transport: RTP/AVP/TCP;interleaved=0-1",
			"S RTSP/1.0 200 OK|CSeq: 1|Session: x|Transport: RTP/AVP/TCP;interleaved=0-1",
			"C PLAY rtsp://h/a RTSP/1.0|CSeq: 2|Session: x|Range: npt=5-",
			"S RTSP/1.0 200 OK|CSeq: 2|Session: x|Range: npt=5-9")
		for len(in) > 2 {
			dir, n := bpf.Dir(in[0]&1), min(int(in[1]), len(in)-2)
			s := Segment{Flow: flow, Dir: dir, Seq: seq[dir], Payload: in[2 : 2+n], At: at, Skip: in[0]&2 != 0}
			if in[0]&4 != 0 { // of another place in the sequence space
				s.Seq += uint32(in[1]) << 24
			}
			if in[0]&8 != 0 {
				s.Flags, s.Ack = ACK, seq[1-dir]+uint32(in[0]>>4)
			}
			d.Segment(s)
			d.Datagram(Datagram{Flow: flow, Dir: dir, Payload: in[2 : 2+n], At: at})
			if in[0]&4 == 0 {
				seq[dir] += uint32(n) + uint32(in[0]>>6)
			}
			d.Tick(at)
			in = in[2+n:]
			at = at.Add(time.Duration(in0(in)) * time.Millisecond)
		}
		d.Tick(at.Add(time.Hour))
		d.Positions(at, func(string, session.Position) {})
	})
}

func in0(b []byte) byte {
	if len(b) == 0 {
		return 0
	}
	return b[0]
}
