package splice

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"scas/session"
	"scas/tracer"
	"scas/tracer/rtsp"
)

func parsed(t testing.TB, text string) *rtsp.Message {
	t.Helper()
	m, err := rtsp.ParseMessage([]byte(text))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return m
}

func TestRewriteStart(t *testing.T) {
	const at = 45*time.Second + 64*time.Millisecond
	tape := time.Date(1996, 11, 8, 14, 23, 0, 0, time.UTC)
	for _, tt := range []struct{ name, unit, before, after string }{
		{"Lavf", "npt", "Range: npt=0.000-", "Range: npt=45.064-"},
		{"GStreamer keeps its end", "npt", "Range: npt=0-180.032", "Range: npt=45.064-180.032"},
		{"blanks, case and parameters", "npt", "RANGE :  NPT = 0 - 180 ;time=19970123T143720Z", "RANGE :  NPT = 45.064 - 180 ;time=19970123T143720Z"},
		{"clock time form", "npt", "Range: npt=0:00:00.0-0:03:00", "Range: npt=45.064-0:03:00"},
		{"open start", "npt", "Range: npt=-180", "Range: npt=45.064-180"},
		{"a start of its own", "npt", "Range: npt=30-", "Range: npt=45.064-"},
		{"unit of the server not known", "", "Range: npt=0-", "Range: npt=45.064-"},
		{"now", "npt", "Range: npt=now-", ""},
		{"clock", "npt", "Range: clock=19961108T142300Z-", ""},
		{"clock of a clock", "clock", "Range: clock=19961108T142300Z-19961108T143520Z", "Range: clock=19961108T142345.064Z-19961108T143520Z"},
		{"clock, ends before", "clock", "Range: clock=19961108T142300Z-19961108T142330Z", ""},
		{"smpte", "npt", "Range: smpte=0:00:00-", "Range: smpte=00:00:45:00-"},
		{"smpte-25", "smpte-25", "Range: smpte-25=10:07:00-10:08:00:05", "Range: smpte-25=10:07:45:01-10:08:00:05"},
		{"smpte, ends before", "smpte-25", "Range: smpte-25=10:07:00-10:07:45", ""},
		{"frames nobody knows", "npt", "Range: smpte-x=0:00:00-", ""},
		{"server uses clock, player npt", "clock", "Range: npt=0-", "Range: npt=45.064-"},
		{"ends before", "npt", "Range: npt=10-40", ""},
		{"not readable", "npt", "Range: npt=abc-", ""},
		{"unit nobody knows", "npt", "Range: chapters=1-", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frame := "PLAY rtsp://h/f RTSP/1.0\r\nCSeq: 4\r\n%s\r\nX-Odd:\t 1\r\n\r\n"
			before := fmt.Sprintf(frame, tt.before)
			m := parsed(t, before)
			after := tt.after
			if after == "" {
				after = tt.before
			}
			scale := rtsp.Scale{Unit: tt.unit}
			switch tt.unit {
			case rtsp.UnitClock:
				scale.Clock = tape
			case "smpte-25":
				scale.Zero = 10*time.Hour + 7*time.Minute
			}
			written, ok := rewriteStart(m, scale, at)
			if ok && (written > at || written <= at-40*time.Millisecond) {
				t.Errorf("written as %v", written)
			}
			if ok != (tt.after != "") || string(m.Marshal()) != fmt.Sprintf(frame, after) {
				t.Errorf("%v %q", ok, m.Marshal())
			}
		})
	}
	for want, scale := range map[string]rtsp.Scale{
		"npt=45.064-": {Unit: "npt"}, "smpte-25=10:00:45:01-": {Unit: "smpte-25", Zero: 10 * time.Hour},
		"clock=19961108T142345.064Z-": {Unit: "clock", Clock: tape}, "smpte-30-drop=00:00:45:00-": {Unit: "smpte-30-drop"},
	} {
		m := parsed(t, "PLAY rtsp://h/f RTSP/1.0\nCSeq: 4\n\n")
		if _, ok := rewriteStart(m, scale, at); !ok || string(m.Marshal()) != "PLAY rtsp://h/f RTSP/1.0\nCSeq: 4\nRange: "+want+"\n\n" {
			t.Errorf("added: %q, want %s", m.Marshal(), want)
		}
	}
	m := parsed(t, "PLAY rtsp://h/f RTSP/1.0\nCSeq: 4\n\n")
	if _, ok := rewriteStart(m, rtsp.Scale{Unit: "clock"}, at); ok || m.Get("Range") != "" {
		t.Errorf("a clock whose beginning is not known: %q", m.Marshal())
	}
}

func TestRepairReply(t *testing.T) {
	const reply = "RTSP/1.0 200 OK\r\nCSeq: 4\r\nRTP-Info: url=%s;seq=10;rtptime=%d, url=a;seq=20;rtptime=%d\r\nRange: npt=44.064-180.032\r\n\r\n"
	track := func(entry int, told, first_ uint32, rate uint32, seen bool) heldTrack {
		return heldTrack{entry: entry, rtptime: session.RTPTime(told), rate: rate, first: first{11, session.RTPTime(first_)}, seen: seen}
	}
	const wrap = 1<<32 - 1000
	for _, tt := range []struct {
		name   string
		tracks []heldTrack
		want   string // RTP-Info
	}{
		{"video lies, audio does not", []heldTrack{track(0, 1000, 1000+44*90000, 90000, true), track(1, 5, 5+16000, 16000, true)},
			"url=v;seq=11;rtptime=3961000, url=a;seq=20;rtptime=5"},
		{"both lie, one backwards", []heldTrack{track(0, 900000, 0, 90000, true), track(1, 5, 5+32000, 16000, true)},
			"url=v;seq=11;rtptime=0, url=a;seq=11;rtptime=32005"},
		{"a second is no lie", []heldTrack{track(0, 1000, 1000+90000, 90000, true)}, ""},
		{"over the wrap", []heldTrack{track(0, wrap, 500, 90000, true)}, ""},
		{"lies over the wrap", []heldTrack{track(0, wrap, 500+180000, 90000, true)}, "url=v;seq=11;rtptime=180500, url=a;seq=20;rtptime=5"},
		{"not seen", []heldTrack{track(0, 1000, 0, 90000, false)}, ""},
		{"entry that is not there", []heldTrack{track(7, 1000, 1<<30, 90000, true)}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			told := uint32(tt.tracks[0].rtptime)
			before := fmt.Sprintf(reply, "v", told, 5)
			m := parsed(t, before)
			changed := repairReply(m, tt.tracks)
			want := before
			if tt.want != "" {
				want = strings.Replace(before, fmt.Sprintf("url=v;seq=10;rtptime=%d, url=a;seq=20;rtptime=5", told), tt.want, 1)
			}
			if changed != (tt.want != "") || string(m.Marshal()) != want {
				t.Errorf("%v %q, want %q", changed, m.Marshal(), want)
			}
		})
	}
}

func TestSameContent(t *testing.T) {
	mk := func(sdp string, tracks ...string) (d tracer.Detail) {
		d.SDPRange = sdp
		for _, c := range tracks {
			d.Record.Tracks = append(d.Record.Tracks, session.Track{Media: "m", Codec: c, ClockRate: 90000})
		}
		return d
	}
	for _, tt := range []struct {
		name string
		a, b tracer.Detail
		want bool
	}{
		{"same", mk("npt=0-180.032", "H264", "AAC"), mk("npt=0-180.032", "AAC", "h264"), true},
		{"written in another way", mk("npt=0-180.032", "H264"), mk(" npt=0.000-0:03:00.032", "H264"), true},
		{"longer", mk("npt=0-180.032"), mk("npt=0-190"), false},
		{"open end", mk("npt=0-180.032"), mk("npt=0-"), false},
		{"fewer tracks set up", mk("npt=0-1", "H264", "AAC"), mk("npt=0-1", "H264"), true},
		{"a language more", mk("", "H264", "AAC"), mk("", "H264", "AAC", "AAC"), true},
		{"other codec", mk("npt=0-1", "H264", "AAC"), mk("npt=0-1", "H265", "AAC"), false},
		{"nothing known of one", mk("npt=0-1", "H264"), mk(""), true},
		{"live", mk("npt=now-", "H264"), mk("npt=now-", "H264"), true},
		{"recording of something live", mk("clock=20200101T000000Z-20200101T010000Z"), mk("clock=20200101T000001Z-20200101T010001Z"), true},
		{"a unit nobody knows, the same", mk("bytes=0-5", "H264"), mk("bytes=0-5", "H264"), true},
		{"a unit nobody knows", mk("bytes=0-5", "H264"), mk("bytes=0-9", "H264"), false},
		{"not readable, the same", mk("x", "H264"), mk("x", "H264"), true},
		{"not readable", mk("x", "H264"), mk("y", "H264"), false},
	} {
		if sameContent(tt.a, tt.b) != tt.want || sameContent(tt.b, tt.a) != tt.want {
			t.Errorf("%s: not %v", tt.name, tt.want)
		}
	}
}

func TestPlays(t *testing.T) {
	t0 := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := func(n float64) time.Time { return t0.Add(time.Duration(n * float64(time.Second))) }
	base := facts{asked: s(0), replied: s(0.1), settle: 2 * time.Second}
	with := func(change func(*facts)) facts { f := base; change(&f); return f }
	for _, tt := range []struct {
		name string
		f    facts
		want bool
	}{
		{"no reply", facts{asked: s(0), settle: time.Second, first: s(0), last: s(9), now: s(9)}, false},
		{"nothing came", with(func(f *facts) { f.now = s(60) }), false},
		{"settled", with(func(f *facts) { f.first, f.last, f.now = s(0.2), s(2.3), s(2.3) }), true},
		{"not yet", with(func(f *facts) { f.first, f.last, f.now = s(0.2), s(2.0), s(2.1) }), false},
		{"one packet", with(func(f *facts) { f.first, f.last, f.now = s(0.2), s(0.2), s(4) }), false},
		{"too little", with(func(f *facts) { f.first, f.last, f.now = s(0.2), s(1.0), s(2.3) }), false},
		{"stopped again", with(func(f *facts) { f.first, f.last, f.now = s(0.2), s(1.4), s(9) }), false},
		{"receiver report", with(func(f *facts) { f.first, f.last, f.now, f.receipt = s(0.2), s(0.3), s(0.4), s(0.35) }), true},
		{"old receiver report", with(func(f *facts) { f.first, f.last, f.now, f.receipt = s(0.2), s(0.3), s(0.4), s(-1) }), false},
		{"media of before", with(func(f *facts) { f.first, f.last, f.now = s(-9), s(-1), s(5) }), false},
		{"left", with(func(f *facts) { f.first, f.last, f.now, f.left = s(0.2), s(9), s(9), true }), false},
		{"a new setup counts anew", with(func(f *facts) { f.first, f.last, f.now, f.steadied = s(0.2), s(3), s(3), s(2) }), false},
		{"refused", with(func(f *facts) { f.first, f.last, f.now, f.refused = s(0.2), s(9), s(9), s(8.5) }), false},
		{"refused, and a short settle", with(func(f *facts) {
			f.settle, f.first, f.last, f.now, f.refused = 100*time.Millisecond, s(0.2), s(9), s(9), s(7.5)
		}), false},
		{"refused at first", with(func(f *facts) { f.first, f.last, f.now, f.refused = s(0.2), s(3), s(3), s(0.3) }), true},
		{"refused after a receiver report", with(func(f *facts) { f.first, f.last, f.now, f.receipt, f.refused = s(0.2), s(3), s(3), s(1), s(2) }), false},
		{"receiver report after that", with(func(f *facts) { f.first, f.last, f.now, f.receipt, f.refused = s(0.2), s(3), s(3), s(2.5), s(2) }), true},
		{"the reply not acknowledged", with(func(f *facts) { f.first, f.last, f.now, f.unsaid = s(0.2), s(3), s(3), true }), false},
		{"switched off", with(func(f *facts) { f.first, f.last, f.now, f.silent = s(0.2), s(3), s(3), 2*time.Second }), false},
		{"quiet for a moment", with(func(f *facts) { f.first, f.last, f.now, f.silent = s(0.2), s(3), s(3), time.Second }), true},
		{"tcp, not acknowledged", with(func(f *facts) { f.first, f.last, f.now, f.interleaved = s(0.2), s(9), s(9), true }), false},
		{"tcp, acknowledged", with(func(f *facts) { f.now, f.interleaved, f.acked = s(0.2), true, true }), true},
	} {
		if got := tt.f.plays(); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	s2 := &Splicer{cfg: DefaultConfig()}
	for agent, want := range map[string]time.Duration{
		"": 2 * time.Second, "Lavf59.27.100": 2 * time.Second, "GStreamer/1.22.0": 6 * time.Second,
		"LibVLC/3.0.24 (LIVE555 Streaming Media v2026.06.24)": 12 * time.Second,
	} {
		if got := s2.settle(agent); got != want {
			t.Errorf("%q settles in %v", agent, got)
		}
	}
}

func FuzzRewriteStart(f *testing.F) {
	f.Add([]byte("PLAY rtsp://h/f RTSP/1.0\r\nCSeq: 4\r\nRange: npt=0-180.032\r\n\r\n"), int64(45e9))
	f.Add([]byte("PLAY rtsp://h/f RTSP/1.0\nrange:npt = 0:00:00 -;time=1\n\nbody"), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, npt int64) {
		u, _, err := rtsp.Next(b)
		if err != nil || u.Message == nil || !u.Message.IsRequest() || npt < 0 || npt > int64(100*time.Hour) {
			return
		}
		m := u.Message
		had, url := m.Get("Range") != "", m.URL()
		before, _ := rtsp.ParseRange(m.Get("Range"))
		written, ok := rewriteStart(m, rtsp.Scale{Unit: "npt"}, time.Duration(npt))
		if !ok {
			if !bytes.Equal(m.Marshal(), u.Raw) {
				t.Fatalf("changed without saying so: %q -> %q", u.Raw, m.Marshal())
			}
			return
		}
		out := m.Marshal()
		again, n, err := rtsp.Next(out)
		if err != nil || n != len(out) || again.Message.URL() != url || !bytes.Equal(again.Message.Body(), m.Body()) {
			t.Fatalf("%q -> %q: %v", u.Raw, out, err)
		}
		r, err := rtsp.ParseRange(again.Message.Get("Range"))
		if err != nil || r.Start == nil || (*r.Start-written).Abs() > time.Microsecond || written > time.Duration(npt) || written < time.Duration(npt)-time.Second {
			t.Fatalf("range of %q: %v", out, err)
		}
		if had && (before.End == nil) != (r.End == nil) {
			t.Fatalf("end is lost: %q -> %q", u.Raw, out)
		}
		if p := bytes.Index(u.Raw, []byte("CSeq")); p >= 0 && !bytes.Contains(out, []byte("CSeq")) {
			t.Fatalf("header is lost: %q", out)
		}
	})
}

func FuzzRepairReply(f *testing.F) {
	f.Add([]byte("RTSP/1.0 200 OK\r\nCSeq: 4\r\nRTP-Info: url=a;seq=1;rtptime=2, url=b;seq=3;rtptime=4\r\nRange: npt=1-\r\n\r\n"), uint8(1), uint32(1<<30))
	f.Fuzz(func(t *testing.T, b []byte, entry uint8, ts uint32) {
		u, _, err := rtsp.Next(b)
		if err != nil || u.Message == nil || u.Message.IsRequest() {
			return
		}
		m := u.Message
		keep := m.Get("Range")
		changed := repairReply(m, []heldTrack{{entry: int(entry), rate: 90000, first: first{9, session.RTPTime(ts)}, seen: true}})
		out := m.Marshal()
		if !changed && !bytes.Equal(out, u.Raw) {
			t.Fatalf("changed without saying so: %q -> %q", u.Raw, out)
		}
		if _, n, err := rtsp.Next(out); err != nil || n != len(out) {
			t.Fatalf("%q -> %q: %v", u.Raw, out, err)
		}
		if changed && !strings.EqualFold(m.Get("Range"), keep) {
			t.Fatalf("range changed: %q", out)
		}
	})
}
