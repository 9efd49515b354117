package tracer

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
)

var mmsServer = netip.MustParseAddrPort("10.9.9.9:1755")

// TestMMSHostile feeds what lies, never ends or floods: memory stays bounded, and nothing is
// believed that cannot be.
func TestMMSHostile(t *testing.T) {
	at := time.Unix(1000, 0)
	bounded := func(t *testing.T, d *Decoder) {
		t.Helper()
		for _, c := range d.conns {
			if n := cap(c.toServer.buf) + cap(c.toViewer.buf); n > 512<<10 {
				t.Errorf("keeps %d bytes", n)
			}
		}
		if s := newest(d); s != nil && s.film != nil && len(s.film.pieces) > mms.MaxHeader {
			t.Errorf("keeps %d bytes of a header", len(s.film.pieces))
		}
	}
	t.Run("endless message", func(t *testing.T) {
		d, _ := openedMMS(Config{AnyPort: true}, mms.CanSeek)
		b := mms.Append(nil, mms.Stamp{}, &mms.Pong{})
		binary.LittleEndian.PutUint32(b[8:], 1<<31)
		d.Stream(mmsFlow(), bpf.ToServer, b, at)
		for range 64 {
			d.Stream(mmsFlow(), bpf.ToServer, bytes.Repeat([]byte("a"), 64<<10), at)
			d.Stream(mmsFlow(), bpf.ToTerminal, bytes.Repeat([]byte{0xff}, 64<<10), at)
		}
		bounded(t, d)
		mmsMessages(d, at, &mms.CloseFile{}) // found again
		if len(d.sessions) != 0 {
			t.Error("a message after rubbish is not read")
		}
	})
	t.Run("endless header", func(t *testing.T) {
		d, _ := openedMMS(Config{AnyPort: true}, mms.CanSeek)
		mmsMessages(d, at, &mms.ReadBlock{PlayIncarnation: 2}, &mms.ReportReadBlock{PlayIncarnation: 2})
		piece := mms.Data{Incarnation: 2, Flags: mms.FlagMore}.Append(nil, bytes.Repeat([]byte{0}, 60000))
		for range 100 {
			d.Stream(mmsFlow(), bpf.ToTerminal, piece, at)
		}
		bounded(t, d)
	})
	t.Run("media flood", func(t *testing.T) {
		d, _ := openedMMS(Config{AnyPort: true}, mms.CanSeek)
		for i := range uint32(100_000) {
			d.Stream(mmsFlow(), bpf.ToTerminal, mmsPacket(9, i*7919, i*104729, i*1299709), at)
		}
		bounded(t, d)
		if p := newest(d).position(at); *p.NPT < 0 || *p.NPT > 100 || *p.Rendered < 0 || *p.Rendered > *p.NPT {
			t.Errorf("%+v", p)
		}
	})
	t.Run("packets that lead nowhere", func(t *testing.T) {
		d, _ := openedMMS(Config{AnyPort: true}, mms.CanSeek)
		d.Stream(mmsFlow(), bpf.ToTerminal, bytes.Repeat([]byte{0, 0, 0, 0, 9, 0, 7, 0}, 8), at) // out of step from here on
		b := bytes.Repeat([]byte{1, 0, 0, 0, 9, 0, 200, 0, 0x82, 0, 0, 0, 0x5d}, 5000)
		for range 100 {
			d.Stream(mmsFlow(), bpf.ToTerminal, b, at)
			d.Tail(mmsFlow(), b[:2048], at)
		}
		bounded(t, d)
	})
	t.Run("message flood", func(t *testing.T) {
		d, w := openedMMS(Config{AnyPort: true}, mms.CanSeek)
		for range 20_000 {
			mmsMessages(d, at, &mms.StopPlaying{}, &mms.StreamSwitch{}, &mms.OpenFile{}, &mms.Pong{}, &mms.ReportEndOfStream{HR: 2}, &mms.Ping{})
		}
		bounded(t, d)
		if len(d.sessions) > 1 || len(d.byID) > 1 || len(w.records) > 100 {
			t.Errorf("%d sessions, %d changes", len(d.sessions), len(w.records))
		}
	})
	t.Run("open flood", func(t *testing.T) {
		d, _ := openedMMS(Config{AnyPort: true}, mms.CanSeek)
		for range 1000 {
			mmsMessages(d, at, &mms.OpenFile{FileName: string(bytes.Repeat([]byte("x"), 20000))}, &mms.ReportOpenFile{OpenFileID: 1})
		}
		bounded(t, d)
		if s := newest(d); len(*s.rec.URL) > 2*maxURL || len(d.sessions) != 1 {
			t.Errorf("%d sessions, a URL of %d bytes", len(d.sessions), len(*s.rec.URL))
		}
	})
	t.Run("numbers that are none", func(t *testing.T) {
		w := &watcher{}
		d := NewDecoder(Config{AnyPort: true}, sessionSink{w})
		mmsMessages(d, at, &mms.Connect{}, &mms.OpenFile{},
			&mms.ReportOpenFile{OpenFileID: 1, Attributes: mms.CanSeek, Duration: 1e300, PacketSize: 1 << 31, PacketCount: 1 << 63},
			&mms.StartPlaying{LocationID: 1 << 31, PlayIncarnation: 9}, &mms.ReportStartedPlaying{})
		s := newest(d)
		if p := s.position(at.Add(1 << 60)); p == nil || p.NPT != nil && (*p.NPT < 0 || *p.NPT > maxFilm.Seconds()) || *s.rec.Duration > maxFilm.Seconds() {
			t.Errorf("%+v", p)
		}
		d.Tail(mmsFlow(), bytes.Repeat([]byte{9}, 2048), at)
	})
}

const fuzzPlay = "GET /clip.asf HTTP/1.0\r\nUser-Agent: NSPlayer/4.1\r\nHost: h\r\nPragma: xPlayStrm=1,stream-time=5000\r\n\r\n"

// TestMMSHHostile does the same over HTTP.
func TestMMSHHostile(t *testing.T) {
	at := time.Unix(1000, 0)
	f := testFlow()
	d := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}})
	for range 1000 {
		d.Stream(f, bpf.ToServer, []byte(fuzzPlay), at)
	}
	if n := len(d.conns[f].talk.(*mmshDialogue).pending); n > maxHeads {
		t.Errorf("%d requests without reply", n)
	}
	d.Stream(f, bpf.ToTerminal, []byte("HTTP/1.0 200 OK\r\nContent-Type: application/x-mms-framed\r\n\r\n"), at)
	flood := mms.AppendDataChunk(nil, 'D', mms.Data{Incarnation: 1}, mmsPacket(1, 0, 0, 0)[8:])
	flood = append(flood, mms.AppendChunk(nil, 'Z', bytes.Repeat([]byte("z"), 60000))...)
	flood = append(flood, mms.AppendDataChunk(nil, 'H', mms.Data{Flags: mms.FlagMore}, bytes.Repeat([]byte{1}, 60000))...)
	for range 500 {
		d.Stream(f, bpf.ToTerminal, flood, at)
	}
	d.Stream(f, bpf.ToTerminal, []byte("$D\xff\xff"), at)
	for range 64 {
		d.Stream(f, bpf.ToTerminal, bytes.Repeat([]byte("a"), 64<<10), at)
		d.Stream(f, bpf.ToServer, bytes.Repeat([]byte("a"), 64<<10), at)
	}
	c := d.conns[f]
	if n := cap(c.toServer.buf) + cap(c.toViewer.buf); n > 512<<10 || len(d.sessions) != 1 {
		t.Errorf("keeps %d bytes, %d sessions", n, len(d.sessions))
	}
	if s := newest(d); len(s.film.pieces) > mms.MaxHeader {
		t.Errorf("keeps %d bytes of a header", len(s.film.pieces))
	}
}

// FuzzMMS feeds arbitrary segments of both directions of a connection that has a session.
func FuzzMMS(f *testing.F) {
	f.Add([]byte("\x00\x05hello\x01\x03RTS"), false)
	f.Add(append([]byte{1, 95}, mmsPacket(9, 1, 1000, 5000)...), false)
	f.Add(append([]byte{1, 99}, mms.AppendDataChunk(nil, 'D', mms.Data{Incarnation: 1}, mmsPacket(1, 1, 1000, 5000)[8:])...), true)
	f.Fuzz(func(t *testing.T, in []byte, http bool) {
		at := time.Unix(1000, 0)
		flow := mmsFlow()
		d, _ := openedMMS(Config{AnyPort: true}, mms.CanSeek)
		if http {
			flow = testFlow()
			d.Stream(flow, bpf.ToServer, []byte(fuzzPlay), at)
			d.Stream(flow, bpf.ToTerminal, []byte("HTTP/1.0 200 OK\r\nContent-Type: application/x-mms-framed\r\n\r\n"), at)
		}
		seq := [2]uint32{1, 1}
		for len(in) > 2 {
			dir, n := bpf.Dir(in[0]&1), min(int(in[1]), len(in)-2)
			s := Segment{Flow: flow, Dir: dir, Seq: seq[dir], Ack: seq[1-dir], Flags: ACK, Payload: in[2 : 2+n], At: at, Skip: in[0]&2 != 0}
			d.Segment(s)
			d.Tail(flow, in[2:], at)
			seq[dir] += uint32(n) + uint32(in[0]>>6)
			in = in[2+n:]
			at = at.Add(time.Duration(in0(in)) * time.Millisecond)
		}
		d.Positions(at, func(_ string, p session.Position) {
			if p.NPT != nil && (*p.NPT < 0 || *p.NPT > maxFilm.Seconds() || p.Rendered != nil && *p.Rendered > *p.NPT) {
				t.Fatalf("%+v", p)
			}
		})
		if s := newest(d); s != nil {
			_ = s.detail(at)
		}
		d.finish(at)
		d.Tick(at.Add(3 * time.Hour))
		if len(d.sessions) != 0 {
			t.Fatalf("%d sessions are left", len(d.sessions))
		}
	})
}
