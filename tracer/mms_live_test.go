package tracer

import (
	"bytes"
	"io"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
)

// tailKernel is the datapath with what it does to MMS: copies after each request, and tails of
// the segments that are not copied, eight an interval until one was of use.
type tailKernel struct {
	*fakeKernel
	next    map[bpf.Flow]time.Time
	left    map[bpf.Flow]int
	highest map[bpf.Flow]uint32
	copied  int // bytes of the servers that went up as copies
	sampled int
}

func (k *tailKernel) TCPStats(f bpf.Flow) (s bpf.TCPStats, ok bool) {
	s.ToTerminal.HighestSeq, ok = k.highest[f]
	return s, ok
}
func (k *tailKernel) SampleHit(f bpf.Flow) error { k.left[f] = 0; return nil }

// event makes of a segment what goes up; nil when nothing does.
func (k *tailKernel) event(s Segment) *bpf.Event {
	ev := &bpf.Event{Kind: bpf.EventTCP, Proto: bpf.TCP, At: s.At, Flow: s.Flow, Dir: s.Dir, Seq: s.Seq, Ack: s.Ack, TCPFlags: s.Flags, Payload: s.Payload}
	if s.Dir == bpf.ToServer && len(s.Payload) > 0 {
		k.requests[s.Flow]++
		k.copying[s.Flow] = true
	}
	ev.Requests = k.requests[s.Flow]
	high, seen := k.highest[s.Flow]
	if end := s.Seq + uint32(len(s.Payload)); s.Dir == bpf.ToTerminal && (!seen || int32(end-high) > 0) {
		k.highest[s.Flow] = end
	}
	switch {
	case s.Dir == bpf.ToServer:
		if len(s.Payload) == 0 && s.Flags&(SYN|FIN|RST) == 0 {
			return nil
		}
	case k.copying[s.Flow], s.Flags&(SYN|FIN|RST) != 0:
		k.copied += len(s.Payload)
	case len(s.Payload) < 16:
		return nil
	default:
		if !s.At.Before(k.next[s.Flow]) {
			k.next[s.Flow], k.left[s.Flow] = s.At.Add(200*time.Millisecond), 8
		}
		if k.left[s.Flow] == 0 {
			return nil
		}
		k.left[s.Flow]--
		ev.Kind = bpf.EventTail
		ev.Payload = s.Payload[max(0, len(s.Payload)-2048):]
		k.sampled += len(ev.Payload)
	}
	return ev
}

// TestMMSLive reads the captures as a gateway does: signalling copied, media sampled.
func TestMMSLive(t *testing.T) {
	for name, end := range map[string]float64{
		"ffmpeg-ping": 12.12, "vlc-play": 16, "vlc-seek-pause-resume": 28.98, "vlc-moved-start-seek": 14.446, "libmms-timeseek": 28.1,
		"mmsh-vlc-seek": 24.75, "mmsh-ffmpeg-ss": 23.36, "mmsh-mplayer-play": 18.25, "patched-mplayer-server-leg": 26.45,
	} {
		k := &tailKernel{newFakeKernel(), map[bpf.Flow]time.Time{}, map[bpf.Flow]int{}, map[bpf.Flow]uint32{}, 0, 0}
		table := session.NewTable()
		l := NewLive(Config{Services: map[uint16]bpf.Service{1755: bpf.ServiceMMS, 18080: bpf.ServiceMMSH}}, k, table, slog.New(slog.NewTextHandler(io.Discard, nil)))
		x := truth{http: strings.HasPrefix(name, "mmsh-")}
		var one samples
		media := 0
		last := mmsFrames(t, name, l.d, func(in *frames, b []byte, at time.Time) {
			in.each = func(s Segment) {
				if ev := k.event(s); ev != nil {
					l.event(ev)
				}
				if s.Dir == bpf.ToServer || len(s.Payload) == 0 {
					return
				}
				media += len(s.Payload)
				x.segment(s.Payload)
				n := newest(l.d)
				if n == nil || n.rec.State != session.Playing || !x.have || x.fresh || n.control != s.Flow || !n.film.seen || len(l.d.conns[s.Flow].toViewer.order.held) > 0 {
					return
				}
				all, _ := l.Detail(n.rec.ID, s.At)
				p := all.Record.Position
				one = append(one, sample{*p.NPT - x.npt, p.Error})
			}
			in.frame(b, at)
		})
		l.d.finish(last)
		if len(one) == 0 {
			t.Fatalf("%s: nothing seen", name)
		}
		share, _ := one.honest()
		t.Logf("%-28s n=%3d median %.3f p95 %.3f max %.3f honest %.2f; of %d bytes %d copied, %d sampled", name, len(one), one.quantile(.5), one.quantile(.95), one.quantile(1), share, media, k.copied, k.sampled)
		if one.quantile(.5) > 0.3 || one.quantile(.95) > 1.2 || share < 0.9 || k.copied > media/2 {
			t.Errorf("%s: off by %.3f, 95%% within %.3f, honest %.2f, %d bytes copied", name, one.quantile(.5), one.quantile(.95), share, k.copied)
		}
		all := table.List()
		if len(all) != 1 || all[0].State != session.Ended {
			t.Errorf("%s: %d sessions, %s", name, len(all), all[0].State)
		}
		if p := all[0].Position; p == nil || p.NPT == nil || math.Abs(*p.NPT-end) > 1.2 {
			t.Errorf("%s: ends at %+v, want %.2f", name, p, end)
		}
		for f, on := range k.copying {
			if c := l.d.conns[f]; on && c != nil && !c.toServer.closed {
				t.Errorf("%s: copies to the end", name)
			}
		}
	}
}

// TestMMSHWebTraffic: what shows no player on an mmsh port is dropped after 512 bytes, and
// nothing of it is kept.
func TestMMSHWebTraffic(t *testing.T) {
	f := testFlow()
	cfg := Config{Services: map[uint16]bpf.Service{f.Server.Port(): bpf.ServiceMMSH}}
	reply := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/x-mms-framed\r\n\r\n$H")
	for name, request := range map[string]string{
		"browser":          "GET /secret?token=abc HTTP/1.1\r\nHost: h\r\nUser-Agent: Mozilla/5.0\r\nCookie: me=1\r\n\r\n",
		"long head":        "GET / HTTP/1.1\r\nCookie: " + strings.Repeat("x", 600) + "\r\nUser-Agent: NSPlayer/9\r\n\r\n",
		"rtsp over http":   "GET /a HTTP/1.0\r\nx-sessioncookie: abc\r\nAccept: application/x-rtsp-tunnelled\r\n\r\n",
		"rtsp":             "OPTIONS rtsp://h/a RTSP/1.0\r\nCSeq: 1\r\n\r\n",
		"tls":              "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"something binary": "\x00\x01\x02\x03",
	} {
		for _, cut := range []int{len(request), 1, 100} {
			w := &watcher{}
			d := NewDecoder(cfg, sessionSink{w})
			for b := []byte(request); len(b) > 0; b = b[min(cut, len(b)):] {
				if c := d.conns[f]; c != nil && len(c.toServer.buf) > mms.PlayerHead {
					t.Fatalf("%s: %d bytes kept", name, len(c.toServer.buf))
				}
				d.Stream(f, bpf.ToServer, b[:min(cut, len(b))], time.Unix(1, 0))
				d.Stream(f, bpf.ToTerminal, reply, time.Unix(1, 0))
			}
			c := d.conns[f]
			if c.speaks != speaksOther || c.talk != nil || len(c.toServer.buf)+len(c.toViewer.buf) != 0 || len(w.records) != 0 {
				t.Errorf("%s in pieces of %d: speaks %d, keeps %d and %d bytes, shows %d", name, cut, c.speaks, len(c.toServer.buf), len(c.toViewer.buf), len(w.records))
			}
		}
	}
}

// mmsMessages hands messages over, the terminal's and the server's by their MID.
func mmsMessages(d *Decoder, at time.Time, all ...mms.Body) {
	for i, b := range all {
		dir := bpf.ToServer
		if b.MID()>>16 == 4 {
			dir = bpf.ToTerminal
		}
		d.Stream(mmsFlow(), dir, mms.Append(nil, mms.Stamp{Seq: uint16(i)}, b), at)
	}
}

func mmsFlow() bpf.Flow {
	f := testFlow()
	f.Server = mmsServer
	return f
}

func mmsPacket(inc uint8, location, send, last uint32) []byte {
	asf := []byte{0x82, 0, 0, 0x08, 0x5d, 0, byte(send), byte(send >> 8), byte(send >> 16), byte(send >> 24), 0xe8, 3, 0x81, 0, 0, 0, 0, 0, 8, 8, 0, 0, 0,
		byte(last), byte(last >> 8), byte(last >> 16), byte(last >> 24)}
	return mms.Data{LocationID: location, Incarnation: inc}.Append(nil, append(asf, bytes.Repeat([]byte{0xaa}, 60)...))
}

// opened plays a file whose header is never sent.
func openedMMS(cfg Config, attributes uint32) (*Decoder, *watcher) {
	w := &watcher{}
	d := NewDecoder(cfg, sessionSink{w})
	mmsMessages(d, time.Unix(1000, 0),
		&mms.Connect{SubscriberName: "NSPlayer/9.0.0.1; {A}; Host: media.example"}, &mms.ReportConnectedEX{},
		&mms.OpenFile{PlayIncarnation: 1, FileName: "a b.asf"}, &mms.ReportOpenFile{OpenFileID: 1, Attributes: attributes, Duration: 100, PacketSize: 200, PacketCount: 1000},
		&mms.StartPlaying{OpenFileID: 1, PlayIncarnation: 9}, &mms.ReportStartedPlaying{PlayIncarnation: 9})
	return d, w
}

func TestMMSDialogue(t *testing.T) {
	at := time.Unix(1000, 0)
	d, w := openedMMS(Config{AnyPort: true}, mms.CanSeek)
	s := newest(d)
	last := func() session.Record { return w.records[len(w.records)-1] }
	if r := last(); *r.URL != "mms://media.example/a%20b.asf" || *r.UserAgent != "NSPlayer/9.0.0.1; {A}" || r.State != session.Playing || !r.Seekable || *r.Duration != 100 {
		t.Fatalf("%+v", r)
	}
	d.Stream(mmsFlow(), bpf.ToTerminal, mmsPacket(9, 0, 100, 3200), at)      // without a header the preroll is not known
	d.Stream(mmsFlow(), bpf.ToTerminal, mmsPacket(8, 500, 50000, 50000), at) // of another start
	if p := s.position(at); *p.NPT != 0.1 || p.Source != session.SourceMedia {
		t.Errorf("%+v", p)
	}
	// a pause, and a start from there
	mmsMessages(d, at, &mms.StopPlaying{OpenFileID: 1, PlayIncarnation: 9}, &mms.ReportEndOfStream{PlayIncarnation: 9})
	if r := last(); r.State != session.Paused || *r.Position.NPT != 0.1 {
		t.Errorf("%+v", r)
	}
	mmsMessages(d, at, &mms.StartPlaying{OpenFileID: 1, PlayIncarnation: 10, Position: 50}, &mms.ReportStartedPlaying{HR: 0x80070005})
	if r := last(); r.State != session.Paused {
		t.Errorf("a start that failed: %s", r.State)
	}
	mmsMessages(d, at, &mms.StartPlaying{OpenFileID: 1, PlayIncarnation: 10, Position: 50}, &mms.ReportStartedPlaying{PlayIncarnation: 10})
	if r := last(); r.State != session.Playing || *r.Position.NPT != 50 || r.Position.Source != session.SourceClock {
		t.Errorf("%+v", r.Position)
	}
	// the end, and once more from the beginning on the same connection: another session
	mmsMessages(d, at, &mms.ReportEndOfStream{})
	d.Tick(at.Add(time.Minute))
	if r := last(); r.State != session.Ended {
		t.Errorf("after the end: %s", r.State)
	}
	mmsMessages(d, at, &mms.StartPlaying{OpenFileID: 1, PlayIncarnation: 11}, &mms.ReportStartedPlaying{})
	if r := last(); r.State != session.Playing || r.ID == s.rec.ID || *r.URL != *s.rec.URL {
		t.Errorf("again: %+v", r)
	}
	mmsMessages(d, at, &mms.CloseFile{OpenFileID: 1})
	if r := last(); r.State != session.Ended || len(d.sessions) != 0 {
		t.Errorf("closed: %s, %d sessions", r.State, len(d.sessions))
	}
}

// TestMMSHOctetStream: WMS 4 sends its chunks under a type that many things have.
func TestMMSHOctetStream(t *testing.T) {
	at := time.Unix(1000, 0)
	for body, want := range map[string]int{"$D\x08\x00\x00\x00\x00\x00\x01\x00\x08\x00": 1, "PK\x03\x04": 0} {
		w := &watcher{}
		d := NewDecoder(Config{AnyPort: true}, sessionSink{w})
		d.Stream(testFlow(), bpf.ToServer, []byte(fuzzPlay), at)
		d.Stream(testFlow(), bpf.ToTerminal, []byte("HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n"), at)
		d.Stream(testFlow(), bpf.ToTerminal, []byte(body), at)
		if len(d.sessions) != want || len(w.records) != want {
			t.Errorf("%q: %d sessions, %d changes", body, len(d.sessions), len(w.records))
		}
	}
}

func TestMMSBroadcast(t *testing.T) {
	d, w := openedMMS(Config{AnyPort: true}, mms.Broadcast)
	d.Stream(mmsFlow(), bpf.ToTerminal, mmsPacket(9, 77, 900000, 903000), time.Unix(1000, 0))
	r := w.records[len(w.records)-1]
	if !r.Live || r.Seekable || r.Duration != nil || r.State != session.Playing || r.Position == nil || r.Position.NPT != nil {
		t.Errorf("%+v %+v", r, r.Position)
	}
}

// TestMMSRestore stops in the middle of sessions and starts anew, as a restarted daemon does.
func TestMMSRestore(t *testing.T) {
	for _, name := range []string{"vlc-play", "ffmpeg-ping", "mmsh-mplayer-play"} {
		w := &watcher{}
		before, after := NewDecoder(Config{AnyPort: true}, sessionSink{&watcher{}}), NewDecoder(Config{AnyPort: true, Prefix: "r"}, sessionSink{w})
		x := truth{http: strings.HasPrefix(name, "mmsh-")}
		n := 0
		var restored bool
		mmsFrames(t, name, before, func(in *frames, b []byte, at time.Time) {
			if n++; n == 80 {
				saved, err := (&Live{d: before}).Snapshot()
				if err != nil {
					t.Fatal(err)
				}
				if err := after.Restore(saved, at); err != nil || len(w.records) != 0 {
					t.Fatalf("%v, %d shown before anything was seen", err, len(w.records))
				}
				restored = true
			}
			in.each = func(s Segment) {
				if s.Dir == bpf.ToTerminal {
					x.segment(s.Payload)
				}
				if !restored {
					before.Segment(s)
				} else if s.Flags&(FIN|RST) == 0 {
					after.Segment(s)
				}
			}
			in.frame(b, at)
		})
		for _, c := range after.conns {
			after.flush(c, time.Unix(1<<33, 0))
		}
		s := newest(after)
		if s == nil || len(w.records) == 0 || s.rec.ID != "s1" || s.film.last.Seconds() != x.npt {
			t.Fatalf("%s: %d changes, %+v, want %.3f", name, len(w.records), s, x.npt)
		}
		if m := s.detail(s.film.lastAt).MMS; m.Path == "" || m.PacketSize != 1400 || m.Preroll != 3100*time.Millisecond {
			t.Errorf("%s: %+v", name, m)
		}
	}
}
