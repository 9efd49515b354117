package splice

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
)

// Every end but done leaves the origin as it was, disarms the target, and goes on relaying.
func TestTransferEnds(t *testing.T) {
	attached := func(fn func(b *bed, x session.Transfer, id string)) func(*bed, session.Transfer) {
		return func(b *bed, x session.Transfer) {
			term, serv, _ := b.attach(x, "t1")
			fn(b, x, "t1")
			b.await(x.ID, endOf(b, x), reasonOf(b, x))
			goesOn(b.t, term, serv)
		}
	}
	tests := []struct {
		name   string
		order  session.Order
		act    func(b *bed, x session.Transfer)
		state  session.TransferState
		reason session.Reason
	}{
		{"nobody comes", session.Order{}, func(b *bed, _ session.Transfer) { b.forward(b.s.cfg.AttachTimeout) }, session.Expired, ""},
		{"nobody answers", session.Order{Confirm: true}, func(b *bed, _ session.Transfer) { b.forward(b.s.cfg.OfferTimeout) }, session.Expired, ""},
		{"no", session.Order{Confirm: true}, func(b *bed, x session.Transfer) { b.answer(x, false) }, session.Declined, ""},
		{"cancelled while offered", session.Order{Confirm: true}, func(b *bed, x session.Transfer) { b.cancel(x) }, session.Cancelled, ""},
		{"cancelled while armed", session.Order{}, func(b *bed, x session.Transfer) { b.cancel(x) }, session.Cancelled, ""},
		{"cancelled while attached", session.Order{},
			attached(func(b *bed, x session.Transfer, id string) { b.cancel(x) }), session.Cancelled, ""},
		{"origin ends while armed", session.Order{}, func(b *bed, x session.Transfer) {
			b.tr.set("s1", func(d *tracer.Detail) { d.Record.State = session.Ended })
		}, session.Failed, session.OriginEnded},
		{"origin hangs up while attached", session.Order{}, attached(func(b *bed, x session.Transfer, id string) {
			b.tr.set("s1", func(d *tracer.Detail) { d.Terminated = true })
		}), session.Failed, session.OriginEnded},
		{"no media", session.Order{},
			attached(func(b *bed, _ session.Transfer, _ string) { b.forward(b.s.cfg.NoMedia) }), session.Failed, session.NoMedia},
		{"target leaves", session.Order{}, func(b *bed, x session.Transfer) {
			term, serv, _ := b.attach(x, "t1")
			send(b.t, term, "TEARDOWN "+b.url()+" RTSP/1.0\r\nCSeq: 5\r\nSession: S-t1\r\n\r\n")
			until(b.t, serv)
			b.mediaRuns("t1") // what is still on its way is no playing
		}, session.Failed, session.TargetLeft},
		{"target's connection breaks", session.Order{}, func(b *bed, x session.Transfer) {
			term, _, _ := b.attach(x, "t1")
			term.SetLinger(0)
			term.Close()
		}, session.Failed, session.TargetLeft},
		{"server down for the target", session.Order{}, func(b *bed, x session.Transfer) {
			b.back.Close()
			if c, err := b.tryDial(tv); err == nil {
				io.Copy(io.Discard, c)
				c.Close()
			}
		}, session.Failed, session.UpstreamUnreachable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.origin()
			x := b.move(tt.order)
			if !b.k.isArmed(x.To.IP) || x.Trigger != session.API {
				t.Errorf("not armed, or by %s", x.Trigger)
			}
			tt.act(b, x)
			x = b.await(x.ID, tt.state, tt.reason)
			if x.Times.Ended == nil {
				t.Error("no time of end")
			}
			b.untouched()
			if _, err := b.s.Cancel(x.ID); reasonIn(err) != session.Busy {
				t.Errorf("cancel at the end: %v", err)
			}
		})
	}
}

// endOf and reasonOf wait for whatever end a transfer comes to.
func endOf(b *bed, x session.Transfer) session.TransferState {
	eventually(b.t, "end", func() bool { y, _ := b.table.Transfer(x.ID); return !y.State.Open() })
	y, _ := b.table.Transfer(x.ID)
	return y.State
}

func reasonOf(b *bed, x session.Transfer) session.Reason {
	y, _ := b.table.Transfer(x.ID)
	return deref(y.Reason)
}

func (b *bed) answer(x session.Transfer, yes bool) {
	b.t.Helper()
	if err := b.s.Answer(x.ID, yes); err != nil {
		b.t.Error(err)
	}
}

func (b *bed) cancel(x session.Transfer) {
	b.t.Helper()
	if y, err := b.s.Cancel(x.ID); err != nil || y.State != session.Cancelled {
		b.t.Errorf("%s, %v", y.State, err)
	}
}

func reasonIn(err error) session.Reason {
	var o *session.OrderError
	if !errors.As(err, &o) {
		return ""
	}
	return o.Reason
}

func TestServerRefuses(t *testing.T) {
	for _, tt := range []struct{ name, request, status string }{
		{"play", "PLAY %s/ RTSP/1.0\r\nCSeq: 4\r\nSession: S-t1\r\nRange: npt=0-180.032\r\n\r\n", "453"},
		{"setup", "SETUP %s/stream=0 RTSP/1.0\r\nCSeq: 4\r\nTransport: RTP/AVP;unicast;client_port=5000-5001\r\n\r\n", "453"},
		{"describe", "DESCRIBE %s RTSP/1.0\r\nCSeq: 4\r\n\r\n", "404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.origin()
			x := b.move(session.Order{})
			term, serv, _ := b.connect(tv)
			send(t, term, fmt.Sprintf(tt.request, b.url()))
			until(t, serv)
			reply := "RTSP/1.0 " + tt.status + " No\r\nCSeq: 4\r\n\r\n"
			send(t, serv, reply)
			expect(t, term, reply)
			b.await(x.ID, session.Failed, session.ServerRefused(tt.status))
			b.untouched()
			goesOn(t, term, serv)
		})
	}
}

// A refusal that asks for another try is none of the transfer's.
func TestServerWantsCredentials(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	x := b.move(session.Order{})
	term, serv, _ := b.connect(tv)
	wantPlay(t, b.playOn(term, serv, "t1", 4), "59.250")
	send(t, serv, "RTSP/1.0 401 Unauthorized\r\nCSeq: 4\r\n\r\n")
	until(t, term)
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.Position.Rendered = session.Ptr(62.0) })
	wantPlay(t, b.playOn(term, serv, "t1", 5), "61.000")
	b.await(x.ID, session.Attached, "")
	if n := b.s.Stats()["starts_rewritten_again"]; n != 1 {
		t.Errorf("again %d", n)
	}
}

func TestSetupRefusalsThatAreNone(t *testing.T) {
	for _, status := range []string{"401", "461", "551"} {
		b := newBed(t, quietConfig())
		b.origin()
		x := b.move(session.Order{})
		term, serv, _ := b.connect(tv)
		send(t, term, "SETUP "+b.url()+"/stream=0 RTSP/1.0\r\nCSeq: 3\r\n\r\n")
		until(t, serv)
		send(t, serv, "RTSP/1.0 "+status+" No\r\nCSeq: 3\r\n\r\n")
		until(t, term)
		wantPlay(t, b.playOn(term, serv, "t1", 4), "59.250")
		b.await(x.ID, session.Attached, "")
		b.stop()
	}
}

func TestOtherContentIsNotTouched(t *testing.T) {
	other := func(change func(*tracer.Detail)) func(b *bed) string {
		return func(b *bed) string {
			adopt := b.tr.adopt
			b.tr.adopt = func(f bpf.Flow) (string, tracer.Detail) {
				id, d := adopt(f)
				change(&d)
				return id, d
			}
			return b.url()
		}
	}
	for name, prepare := range map[string]func(b *bed) string{
		"another url": func(b *bed) string {
			other(func(d *tracer.Detail) { d.ContentURL, d.BaseURL = b.url()+"2", b.url()+"2/" })(b)
			return b.url() + "2"
		},
		"another length": other(func(d *tracer.Detail) { d.SDPRange = "npt=0-95.2" }),
		"other tracks":   other(func(d *tracer.Detail) { d.Record.Tracks[0].Codec = "JPEG" }),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.origin()
			url := prepare(b)
			x := b.move(session.Order{})
			term, serv, _ := b.connect(tv)
			play := "PLAY " + url + " RTSP/1.0\r\nCSeq: 4\r\nRange: npt=0-\r\nSession: S-t1\r\n\r\n"
			goesOn(t, term, serv) // the tracer knows the connection by now
			send(t, term, play)
			expect(t, serv, play)
			reply := b.playReply("t1", 4)
			send(t, serv, reply)
			expect(t, term, reply)
			if y, _ := b.table.Transfer(x.ID); y.State != session.Armed {
				t.Errorf("state %s", y.State)
			}
			b.forward(b.s.cfg.AttachTimeout)
			b.await(x.ID, session.Expired, session.URLMismatch)
			b.untouched()
			goesOn(t, term, serv)
		})
	}
}

func TestStartRequests(t *testing.T) {
	now := "npt=now-"
	for _, tt := range []struct {
		name, url, host, headers, want string
		origin                         func(*tracer.Detail)
		position                       bool
	}{
		{name: "no range", headers: "", want: "\r\nRange: npt=59.250-\r\n\r\n", position: true},
		{name: "without slash", url: "rtsp://%v/film", headers: "Range: npt=0.000-\r\n", want: "\r\nRange: npt=59.250-\r\n", position: true},
		{name: "host in capitals and userinfo", url: "RTSP://a:b@%v/film/", headers: "Range: npt=0.000-\r\n", want: "npt=59.250-", position: true},
		{name: "one stream of it", url: "rtsp://%v/film/stream=0", headers: "Range: npt=0-\r\n", want: "npt=59.250-", position: true},
		{name: "by name", url: "rtsp://%v/film", host: "localhost", headers: "Range: npt=0-\r\n", want: "npt=59.250-", position: true},
		{name: "escaped", url: "rtsp://%v/%%66ilm/", headers: "Range: npt=0-\r\n", want: "npt=59.250-", position: true},
		{name: "live edge asked for", headers: "Range: " + now + "\r\n", want: now},
		{name: "another unit", headers: "Range: clock=20200101T000000Z-\r\n", want: "clock=20200101T000000Z-"},
		{name: "near the beginning", headers: "Range: npt=0-9\r\n", want: "npt=0.000-9", position: true,
			origin: func(d *tracer.Detail) { d.Record.Position.Rendered = session.Ptr(0.4) }},
		{name: "not seekable", headers: "Range: npt=0-\r\n", want: "npt=0-\r\n",
			origin: func(d *tracer.Detail) { d.Record.Seekable = false }},
		{name: "live", headers: "Range: npt=0-\r\n", want: "npt=0-\r\n", origin: func(d *tracer.Detail) { d.Record.Live = true }},
		{name: "position not known", headers: "Range: npt=0-\r\n", want: "npt=0-\r\n",
			origin: func(d *tracer.Detail) { d.Record.Position.Rendered = nil }},
		{name: "paused", headers: "Range: npt=0-\r\n", want: "npt=59.250-", position: true,
			origin: func(d *tracer.Detail) { d.Record.State = session.Paused }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.origin()
			if tt.origin != nil {
				b.tr.set("s1", tt.origin)
			}
			x := b.move(session.Order{})
			term, serv, _ := b.connect(tv)
			url := b.url() + "/"
			if tt.url != "" {
				url = fmt.Sprintf(tt.url, b.server)
			}
			if tt.host != "" {
				url = strings.Replace(url, b.server.Addr().String(), tt.host, 1)
			}
			send(t, term, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\nPLAY "+url+" RTSP/1.0\r\nCSeq: 2\r\nSession: S-t1\r\n"+tt.headers+"\r\n")
			until(t, serv)
			if got := until(t, serv); !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			x = b.await(x.ID, session.Attached, "")
			if (x.Position != nil) != tt.position {
				t.Errorf("position %v", x.Position)
			}
		})
	}
}

// The target's own seek is passed on; a seek of the origin before the start is followed.
func TestSeeks(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	x := b.move(session.Order{})
	term, serv, _ := b.connect(tv)
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.Position.Rendered = session.Ptr(121.0) })
	wantPlay(t, b.playOn(term, serv, "t1", 4), "120.000")
	seek := "PLAY " + b.url() + "/ RTSP/1.0\r\nCSeq: 6\r\nSession: S-t1\r\nRange: npt=30.000-\r\n\r\n"
	send(t, term, seek)
	expect(t, serv, seek)
	b.await(x.ID, session.Attached, "")
}

// tcpMedia makes a session of the tv an interleaved one.
func (b *bed) tcpMedia(id string) {
	b.tr.set(id, func(d *tracer.Detail) {
		d.Record.Transport = session.TCP
		for i := range d.Tracks {
			d.Tracks[i].Channel, d.Tracks[i].RTP, d.Tracks[i].RTCP = 2*i, bpf.Flow{}, bpf.Flow{}
		}
	})
}

func TestRequirePosition(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	x := b.move(session.Order{RequirePosition: true})
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.Position = nil })
	term, serv, _ := b.connect(tv)
	if got := b.playOn(term, serv, "t1", 3); !strings.Contains(got, "npt=0-180.032") {
		t.Errorf("got %q", got)
	}
	b.await(x.ID, session.Failed, session.NotSeekable)
	b.untouched()
}

func TestOfferIsTakenByOpening(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	x := b.move(session.Order{Confirm: true})
	if x.State != session.Offered || x.Times.Offered == nil || x.Times.Armed != nil {
		t.Errorf("%+v", x)
	}
	b.attach(x, "t1")
	if err := b.s.Answer(x.ID, true); reasonIn(err) != session.Busy {
		t.Errorf("answer to an attached transfer: %v", err)
	}
}

// A PLAY in a session that the target has been watching is the viewer's own.
func TestTargetPlaysItAlready(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	term, serv, _ := b.connect(tv)
	goesOn(t, term, serv)
	b.tr.set("t1", func(d *tracer.Detail) { d.Record.State = session.Paused })
	x := b.move(session.Order{})
	if got := b.playOn(term, serv, "t1", 4); !strings.Contains(got, "npt=0-180.032") {
		t.Errorf("got %q", got)
	}
	b.tr.set("t1", func(d *tracer.Detail) { d.Record.State = session.Setup })
	wantPlay(t, b.playOn(term, serv, "t1", 5), "59.250")
	b.await(x.ID, session.Attached, "")
}
