package splice

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
	"scas/tracer/mms"
	"scas/tracer/rtsp"
)

// startsAt checks that b is want with its start at seconds, and nothing else changed.
func startsAt(t testing.TB, got, want []byte, seconds float64) {
	t.Helper()
	want = bytes.Clone(want)
	u, _, err := mms.Next(want, mms.ToServer)
	if err != nil || !u.Message.SetStart(seconds) {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
	if len(got) != len(want) || !bytes.Equal(got[:48], want[:48]) || !bytes.Equal(got[64:], want[64:]) {
		t.Error("more than 16 bytes differ")
	}
}

// startsFilm has a target start and play: what it gets is what the server sends.
func (b *bed) startsFilm(up, down *viewer, seconds float64, first []byte) (packet []byte) {
	b.t.Helper()
	asked := up.say(beginning())
	startsAt(b.t, hear(b.t, down.c, mms.ToServer).Raw, asked, seconds)
	hearAll(b.t, up.c, down.say(&mms.ReportStartedPlaying{PlayIncarnation: 4, OpenFileID: 1}))
	down.write(first)
	packet = make([]byte, len(first))
	if _, err := io.ReadFull(up.c, packet); err != nil {
		b.t.Fatal(err)
	}
	return packet
}

func TestMoveFilm(t *testing.T) {
	for _, tt := range []struct {
		name, player, file string
		cured              bool
	}{
		{"libmms", libmmsName, "vod/a film.asf?x=1", true},
		{"Windows", windowsName, "vod/a%20film.asf?x=1", false},
		{"VLC", libmmsName, "vod/a%20film.asf", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.film(session.MMS)
			control := bpf.Flow{Terminal: b.tr.details["s1"].Control.Terminal, Server: b.server}
			b.k.tcp[control] = bpf.TCPStats{SynSeen: true}
			x := b.move(session.Order{})
			up, down, f := b.mmsTarget(tt.player, tt.file)
			media := mediaAt(700, 57900)
			got := b.startsFilm(up, down, 59.25, media)
			if tt.cured {
				media[0], media[1] = 0, 0
			}
			if !bytes.Equal(got, media) {
				t.Errorf("first packet %x", got)
			}
			next := mediaAt(701, 58000)
			down.write(next)
			hearAll(t, up.c, next)
			x = b.await(x.ID, session.Done, "")
			if *x.Position != 59.25 || math.Abs(*x.StartedAt-57.9) > 0.001 || math.Abs(*x.Repeated-3.6) > 0.001 {
				t.Errorf("position %v, started at %v, repeated %v", *x.Position, *x.StartedAt, *x.Repeated)
			}
			b.wire.mu.Lock()
			if s := b.wire.segments; len(s) != 2 || s[0].flags != flagRST|flagACK || s[1].flags != flagFIN|flagACK || s[1].to != control.Terminal {
				t.Errorf("segments %+v", s)
			}
			b.wire.mu.Unlock()
			if cuts := b.k.cutList(); len(cuts) != 1 || !strings.HasPrefix(cuts[0], "tcp "+control.String()) {
				t.Errorf("cuts %v", cuts)
			}
			// The user's own seeks go on as they are, back to the beginning too.
			b.tr.set("t1", func(d *tracer.Detail) { d.Record.State = session.Playing })
			for _, seek := range []*mms.StartPlaying{{OpenFileID: 1, LocationID: 48, ASFOffset: mms.Unused, PlayIncarnation: 4}, beginning()} {
				hearAll(t, down.c, up.say(&mms.StopPlaying{OpenFileID: 1}))
				hearAll(t, down.c, up.say(seek))
			}
			down.write(next)
			hearAll(t, up.c, next)
			if got := b.tr.streamed(f, bpf.ToServer); !strings.Contains(got, "\x00\x00\x00\x00\x00\xa0\x4d\x40\xff\xff\xff\xff\xff\xff\xff\xff") {
				t.Error("the tracer got something else than the server")
			}
			up.c.Close()
			down.c.Close()
			eventually(t, "relay ends", func() bool { return b.s.relay(f) == nil })
			b.balance()
		})
	}
}

// A start elsewhere is the viewer's choice: the film moves, but not to a position of ours.
func TestFilmStartsElsewhere(t *testing.T) {
	b := newBed(t, quietConfig())
	b.film(session.MMS)
	x := b.move(session.Order{})
	up, down, _ := b.mmsTarget(windowsName, filmPath)
	hearAll(t, down.c, up.say(&mms.StartPlaying{OpenFileID: 1, Position: 100, PlayIncarnation: 9}))
	if x = b.await(x.ID, session.Attached, ""); x.Position != nil {
		t.Errorf("position %v", *x.Position)
	}
}

// VLC with --start-time: a start at the beginning, and at once a seek of its own.
func TestFilmPlayersOwnStart(t *testing.T) {
	b := newBed(t, quietConfig())
	b.film(session.MMS)
	x := b.move(session.Order{})
	up, down, _ := b.mmsTarget(libmmsName, filmPath)
	asked := up.say(beginning())
	startsAt(t, hear(t, down.c, mms.ToServer).Raw, asked, 59.25)
	hearAll(t, down.c, up.say(&mms.StopPlaying{OpenFileID: 1, PlayIncarnation: 0x1fffff}))
	seek := beginning()
	seek.LocationID = 97
	hearAll(t, down.c, up.say(seek))
	hearAll(t, up.c, down.say(&mms.ReportStartedPlaying{PlayIncarnation: 4}))
	hearAll(t, up.c, down.say(&mms.ReportEndOfStream{PlayIncarnation: 4}))
	hearAll(t, up.c, down.say(&mms.ReportStartedPlaying{PlayIncarnation: 4}))
	media := mediaAt(97, 20000)
	down.write(media)
	hearAll(t, up.c, media)
	if x = b.await(x.ID, session.Done, ""); x.StartedAt == nil || *x.StartedAt != 20 {
		t.Errorf("started at %v", x.StartedAt)
	}
}

// A server that takes no notice of the position is found out.
func TestFilmServerStartsAtTheBeginning(t *testing.T) {
	b := newBed(t, quietConfig())
	b.film(session.MMS)
	x := b.move(session.Order{})
	up, down, _ := b.mmsTarget(windowsName, filmPath)
	b.startsFilm(up, down, 59.25, mediaAt(0, 0))
	x = b.await(x.ID, session.Done, "")
	if *x.Position != 59.25 || x.StartedAt == nil || *x.StartedAt != 0 {
		t.Errorf("position %v, started at %v", *x.Position, x.StartedAt)
	}
}

func TestLiveFilm(t *testing.T) {
	b := newBed(t, quietConfig())
	b.film(session.MMS)
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.Live, d.Record.Seekable = true, false })
	x := b.move(session.Order{})
	up, down, _ := b.mmsTarget(libmmsName, filmPath)
	hearAll(t, down.c, up.say(beginning()))
	hearAll(t, up.c, down.say(&mms.ReportStartedPlaying{PlayIncarnation: 4}))
	media := mediaAt(1234, 90000)
	down.write(media)
	hearAll(t, up.c, media)
	if x = b.await(x.ID, session.Done, ""); x.Position != nil {
		t.Errorf("position %v", *x.Position)
	}
	if _, err := b.s.Move(t.Context(), session.Order{Session: "s1", To: terminalAddr(tv), RequirePosition: true}); reasonIn(err) != session.NoSession && reasonIn(err) != session.NotSeekable {
		t.Error(err)
	}
}

func TestFilmRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer mms.Body
		file   string
		reason session.Reason
	}{
		{"not found", &mms.ReportOpenFile{HR: mms.FileNotFound}, filmPath, "server-refused:80070002"},
		{"too many", &mms.ReportConnectedEX{HR: 0xC00D000F}, "", "server-refused:C00D000F"},
		{"does not start", &mms.ReportStartedPlaying{HR: 0x80070057}, filmPath, "server-refused:80070057"},
		{"ends before it begins", &mms.ReportEndOfStream{HR: 0xC00D000C}, filmPath, "server-refused:C00D000C"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.film(session.MMS)
			x := b.move(session.Order{})
			term, serv, _ := b.connect(tv)
			up, down := &viewer{t: t, c: term}, &viewer{t: t, c: serv}
			hearAll(t, down.c, up.say(&mms.Connect{SubscriberName: libmmsName}))
			if tt.file != "" {
				hearAll(t, down.c, up.say(&mms.OpenFile{FileName: tt.file}))
			}
			if m := tt.answer.MID(); m == mms.MIDReportStartedPlaying || m == mms.MIDReportEndOfStream {
				up.say(beginning())
				hear(t, down.c, mms.ToServer)
			}
			hearAll(t, up.c, down.say(tt.answer))
			b.await(x.ID, session.Failed, tt.reason)
			b.untouched()
			hearAll(t, down.c, up.say(&mms.Pong{}))
		})
	}
}

// What the target opens decides, not how its player writes it.
func TestSameFilm(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		others     []string // what else the user watches
		want       bool
	}{
		{"as it is", "vod/a%20film.asf?x=1", nil, true},
		{"unescaped", "vod/a film.asf?x=1", nil, true},
		{"no query", "vod/a%20film.asf", nil, true},
		{"no query, two of it", "vod/a film.asf", []string{"mms://h/vod/a film.asf?x=2"}, false},
		{"no query, another film", "vod/a film.asf", []string{"mms://h/vod/b.asf?x=2"}, true},
		{"another query", "vod/a film.asf?x=2", nil, false},
		{"another film", "vod/b.asf", nil, false},
		{"another directory", "vod/x/a film.asf?x=1", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.film(session.MMS)
			for i, u := range tt.others {
				r := b.tr.details["s1"].Record
				r.ID, r.URL = fmt.Sprintf("o%d", i), &u
				b.table.Put(r)
			}
			b.move(session.Order{})
			up, down, _ := b.mmsTarget(libmmsName, tt.file)
			asked := up.say(beginning())
			got := hear(t, down.c, mms.ToServer).Raw
			if moved := !bytes.Equal(got, asked); moved != tt.want {
				t.Errorf("moved: %v", moved)
			}
			if n := b.s.Stats()["url_mismatch"]; (n == 0) != tt.want {
				t.Errorf("mismatches %d", n)
			}
		})
	}
}

// A relayed viewer gets no media over UDP, and its server does not hear of it.
func TestFunnelRefused(t *testing.T) {
	b := newBed(t, quietConfig())
	term, serv, _ := b.connect(tv)
	up, down := &viewer{t: t, c: term}, &viewer{t: t, c: serv}
	hearAll(t, down.c, up.say(&mms.Connect{SubscriberName: libmmsName}))
	hearAll(t, up.c, down.say(&mms.ReportConnectedEX{}))
	for range 2 {
		up.say(&mms.ConnectFunnel{FunnelName: `\\192.168.0.1\UDP\5000`})
		if m := hear(t, up.c, mms.ToViewer).Message; m.MID != mms.MIDReportDisconnectedFunnel || m.HR() != mms.AccessDenied {
			t.Errorf("%v %v", m.MID, m.HR())
		}
	}
	up.say(&mms.ConnectFunnel{FunnelName: `\\192.168.0.1\TCP\5000`})
	if m := hear(t, down.c, mms.ToServer).Message; m.MID != mms.MIDConnectFunnel || m.Seq != 1 {
		t.Errorf("server got %v, number %d", m.MID, m.Seq)
	}
	down.say(&mms.ReportConnectedFunnel{FunnelName: "x"})
	if m := hear(t, up.c, mms.ToViewer).Message; m.MID != mms.MIDReportConnectedFunnel || m.Seq != 3 {
		t.Errorf("viewer got %v, number %d", m.MID, m.Seq)
	}
}

// A reply reaches the player in one piece.
func TestSplitReply(t *testing.T) {
	b := newBed(t, quietConfig())
	term, serv, f := b.connect(tv)
	up, down := &viewer{t: t, c: term}, &viewer{t: t, c: serv}
	hearAll(t, down.c, up.say(&mms.Connect{SubscriberName: libmmsName}))
	reply := mms.Append(nil, mms.Stamp{}, &mms.ReportConnectedEX{ServerVersion: "9.01.01.3814"})
	down.write(reply[:20])
	b.digested(f, bpf.ToTerminal, "bytes_from_server", 20)
	if n := waiting(t, term); n != 0 {
		t.Errorf("%d bytes early", n)
	}
	down.write(reply[20:])
	got := make([]byte, 4096)
	if n, err := term.Read(got); n != len(reply) || err != nil {
		t.Errorf("%d of %d bytes, %v", n, len(reply), err)
	}
}

// The player of a steered origin is told at the end of a packet that the film is over.
func TestEndSteeredFilm(t *testing.T) {
	b := newBed(t, quietConfig())
	term, serv, origin := b.connect(phone)
	up, down := &viewer{t: t, c: term}, &viewer{t: t, c: serv}
	b.dialogue(up, down, windowsName, filmPath)
	hearAll(t, down.c, up.say(beginning()))
	hearAll(t, up.c, down.say(&mms.ReportStartedPlaying{PlayIncarnation: 4}))
	media := mediaAt(5, 60000)
	down.write(append(bytes.Clone(media), media[:20]...)) // a packet is under way
	hearAll(t, up.c, append(bytes.Clone(media), media[:20]...))
	b.film(session.MMS)
	b.fromPhone(origin)
	x := b.move(session.Order{})
	tup, tdown, _ := b.mmsTarget(windowsName, filmPath)
	b.startsFilm(tup, tdown, 59.25, mediaAt(5, 59000))
	b.await(x.ID, session.Committed, "")

	stop := hear(t, down.c, mms.ToServer).Message
	var said mms.StopPlaying
	if err := stop.Decode(&said); err != nil || said != (mms.StopPlaying{OpenFileID: 1, PlayIncarnation: 4}) || stop.Seq != up.seq {
		t.Errorf("%v %+v, number %d: %v", stop.MID, said, stop.Seq, err)
	}
	up.say(&mms.Pong{}) // the player's own go on behind it
	if m := hear(t, down.c, mms.ToServer).Message; m.MID != mms.MIDPong || m.Seq != stop.Seq+1 {
		t.Errorf("%v, number %d", m.MID, m.Seq)
	}
	down.write(append(bytes.Clone(media[20:]), media...))
	down.say(&mms.ReportEndOfStream{PlayIncarnation: 4})
	hearAll(t, up.c, media[20:])
	if m := hear(t, up.c, mms.ToViewer).Message; m.MID != mms.MIDReportEndOfStream || m.HR() != mms.OK || m.Seq != down.seq-1 {
		t.Errorf("player got %v, number %d", m.MID, m.Seq)
	}
	if m := hear(t, down.c, mms.ToServer).Message; m.MID != mms.MIDCloseFile {
		t.Errorf("server got %v", m.MID)
	}
	for _, c := range []io.ReadCloser{term, serv} {
		if n, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%d, %v", n, err)
		}
		c.Close()
	}
	b.await(x.ID, session.Done, "")
	eventually(t, "relay ends", func() bool { return b.s.relay(origin) == nil })
	if s := b.s.Stats(); s["stops_sent"] != 1 || s["stop_failed"] != 0 || s["streams_ended"] != 1 {
		t.Error(s)
	}
}

// A server that answers nothing and a player that reads nothing do not hold up the transfer.
func TestEndSteeredFilmSilent(t *testing.T) {
	if testing.Short() {
		t.Skip("takes six seconds")
	}
	b := newBed(t, quietConfig())
	term, serv, origin := b.connect(phone)
	up, down := &viewer{t: t, c: term}, &viewer{t: t, c: serv}
	b.dialogue(up, down, libmmsName, filmPath)
	down.write(mediaAt(5, 60000)[:30]) // never ends
	b.film(session.MMS)
	b.fromPhone(origin)
	x := b.move(session.Order{})
	tup, tdown, _ := b.mmsTarget(windowsName, filmPath)
	b.startsFilm(tup, tdown, 59.25, mediaAt(5, 59000))
	b.await(x.ID, session.Done, "")
	if s := b.s.Stats(); s["stop_failed"] != 1 {
		t.Error(s["stop_failed"])
	}
}

func FuzzStartPlaying(f *testing.F) {
	for _, e := range examples(f) {
		f.Add(e.raw, int64(59250))
	}
	f.Fuzz(func(t *testing.T, b []byte, ms int64) {
		u, n, err := mms.Next(b, mms.ToServer)
		if err != nil || ms < 0 {
			return
		}
		before := bytes.Clone(b)
		at := time.Duration(ms % (1000 * 3600 * 1000) * int64(time.Millisecond))
		if _, ok := (mmstStart{m: u.Message}).rewrite(rtsp.Scale{}, at); !ok {
			if !bytes.Equal(b, before) {
				t.Fatalf("changed without saying so: %x -> %x", before, b)
			}
			return
		}
		again, k, err := mms.Next(b, mms.ToServer)
		var x, y mms.StartPlaying
		if err != nil || k != n || again.Message.Decode(&x) != nil || x.Position != at.Seconds() || x.LocationID != mms.Unused {
			t.Fatalf("%x -> %x: %v", before, b, err)
		}
		old, _, _ := mms.Next(before, mms.ToServer)
		_ = old.Message.Decode(&y)
		x.Position, x.ASFOffset, x.LocationID = y.Position, y.ASFOffset, y.LocationID
		if fmt.Sprint(x) != fmt.Sprint(y) {
			t.Fatalf("%+v -> %+v", y, x)
		}
	})
}
