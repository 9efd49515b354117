package splice

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
	"scas/tracer/rtsp"
)

func linger(fd int) (on, secs int32, err error) {
	var l syscall.Linger
	n := uint32(unsafe.Sizeof(l))
	_, _, e := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, syscall.SO_LINGER,
		uintptr(unsafe.Pointer(&l)), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		err = e
	}
	return l.Onoff, l.Linger, err
}

func (b *bed) url() string { return fmt.Sprintf("rtsp://%v/film", b.server) }

// detail is a film session of a terminal, watched, over UDP.
func (b *bed) detail(terminal, id string) tracer.Detail {
	url := b.url()
	now := time.Now()
	ip := netip.MustParseAddr(terminal)
	flow := func(p, q uint16) bpf.Flow {
		return bpf.Flow{Terminal: netip.AddrPortFrom(ip, p), Server: netip.AddrPortFrom(b.server.Addr(), q)}
	}
	return tracer.Detail{
		Record: session.Record{
			ID: id, Terminal: session.Terminal{IP: ip}, Protocol: session.RTSP, Transport: session.UDP, URL: &url,
			Server: b.server, State: session.Playing, Seekable: true, Duration: session.Ptr(180.0), Started: now,
			Position: &session.Position{NPT: session.Ptr(61.5), Rendered: session.Ptr(60.25), Source: session.SourceRTP, At: now},
			Tracks: []session.Track{
				{ID: 0, Media: "video", Codec: "H264", ClockRate: 90000}, {ID: 1, Media: "audio", Codec: "mpeg4-generic", ClockRate: 16000},
			},
		},
		Control: bpf.Flow{Terminal: netip.AddrPortFrom(ip, 40000), Server: b.server}, RTSPSession: "S-" + id,
		Version: "RTSP/1.0", BaseURL: url + "/", ContentURL: url, Scale: rtsp.Scale{Unit: "npt"}, SDPRange: "npt=0-180.032",
		Timeout: time.Minute, LastCSeq: 7, Depth: 20 * time.Millisecond, LastMedia: now,
		Tracks: []tracer.TrackDetail{
			{ID: 0, SSRC: 0x11, HaveSSRC: true, PT: 96, ClockRate: 90000, Channel: -1, RTP: flow(5000, 6000), RTCP: flow(5001, 6001), Control: url + "/stream=0"},
			{ID: 1, SSRC: 0x22, HaveSSRC: true, PT: 97, ClockRate: 16000, Channel: -1, RTP: flow(5002, 6002), RTCP: flow(5003, 6003), Control: url + "/stream=1"},
		},
	}
}

// origin puts a playing session on the phone, and has every connection of the tv become one.
func (b *bed) origin() { b.plays(b.detail) }

// plays does that with sessions of any kind.
func (b *bed) plays(detail func(terminal, id string) tracer.Detail) {
	b.tr.mu.Lock()
	defer b.tr.mu.Unlock()
	d := detail(phone, "s1")
	b.tr.details["s1"] = d
	b.table.Put(d.Record)
	n := 0
	b.tr.adopt = func(f bpf.Flow) (string, tracer.Detail) {
		if f.Terminal.Addr().String() != tv {
			return "", tracer.Detail{}
		}
		n++
		id := fmt.Sprintf("t%d", n)
		d := detail(tv, id)
		d.Control, d.Record.Position, d.Record.State = f, nil, session.Setup
		d.FirstMedia, d.LastMedia = time.Time{}, time.Time{}
		return id, d
	}
}

func (b *bed) move(o session.Order) session.Transfer {
	b.t.Helper()
	if o.Session == "" {
		o.Session = "s1"
	}
	if !o.To.IP.IsValid() {
		o.To = session.Terminal{Name: "tv", IP: netip.MustParseAddr(tv)}
	}
	x, err := b.s.Move(b.t.Context(), o)
	if err != nil {
		b.t.Fatal(err)
	}
	return x
}

// beyond reports whether a transfer has been in a state and gone on well since.
func beyond(x session.Transfer, s session.TransferState) bool {
	return s == session.Attached && x.State == session.Committed ||
		(s == session.Attached || s == session.Committed) && x.State == session.Done
}

// await waits until a transfer has reached a state.
func (b *bed) await(id string, s session.TransferState, reason session.Reason) session.Transfer {
	b.t.Helper()
	var x session.Transfer
	for end := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		x, _ = b.table.Transfer(id)
		if x.State == s {
			break
		}
		if beyond(x, s) {
			return x
		}
		if time.Now().After(end) || !x.State.Open() && s.Open() {
			b.t.Fatalf("transfer is %s (%v), not %s", x.State, deref(x.Reason), s)
		}
	}
	if deref(x.Reason) != reason {
		b.t.Errorf("%s for %q, want %q", s, deref(x.Reason), reason)
	}
	return x
}

func deref(r *session.Reason) session.Reason {
	if r == nil {
		return ""
	}
	return *r
}

// playOn sends a PLAY on a connection of the target and returns what the server gets.
func (b *bed) playOn(term, serv net.Conn, id string, cseq int) string {
	b.t.Helper()
	send(b.t, term, fmt.Sprintf("PLAY %s/ RTSP/1.0\r\nRange: npt=0-180.032\r\nCSeq: %d\r\nSession: S-%s\r\n\r\n", b.url(), cseq, id))
	return until(b.t, serv)
}

func wantPlay(t testing.TB, got, npt string) {
	t.Helper()
	want := "npt=" + npt + "-180.032"
	if !strings.Contains(got, "\r\nRange: "+want+"\r\n") && !strings.Contains(got, "\nRange: "+want) {
		t.Errorf("got %q, want Range %s", got, want)
	}
}

// playReply is a reply as GstRtspServer gives it: the video's rtptime belongs to npt 0.
func (b *bed) playReply(id string, cseq int) string {
	u := b.url()
	return fmt.Sprintf("RTSP/1.0 200 OK\r\nCSeq: %d\r\nRTP-Info: url=%s/stream=0;seq=100;rtptime=1000, url=%s/stream=1;seq=7;rtptime=9000\r\n"+
		"Range: npt=58.000-180.032\r\nSession: S-%s\r\n\r\n", cseq, u, u, id)
}

// mediaComes has the kernel see the first packets of a session of the tv.
func (b *bed) mediaComes(id string, video uint32) {
	d, _ := b.tr.Detail(id, time.Now())
	b.k.setMedia(d.Tracks[0].RTP, bpf.MediaStats{HaveMedia: true, HaveFirst: true, FirstSeq: 100, FirstRTPTime: video, ExtSeq: 100, RTPTime: video})
	b.k.setMedia(d.Tracks[1].RTP, bpf.MediaStats{HaveMedia: true, HaveFirst: true, FirstSeq: 7, FirstRTPTime: 9100, ExtSeq: 7, RTPTime: 9100})
}

// mediaRuns has the tracer see media of a session until the test ends.
func (b *bed) mediaRuns(id string) (first time.Time) {
	first = b.s.now()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			b.tr.set(id, func(d *tracer.Detail) { d.FirstMedia, d.LastMedia = first, b.s.now() })
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	b.t.Cleanup(func() { close(stop); <-done })
	return first
}

// attach brings a transfer to attached with a good reply; media are not seen yet.
func (b *bed) attach(x session.Transfer, id string) (term, serv *net.TCPConn, f bpf.Flow) {
	b.t.Helper()
	term, serv, f = b.connect(tv)
	wantPlay(b.t, b.playOn(term, serv, id, 4), "59.250")
	b.await(x.ID, session.Attached, "")
	b.mediaComes(id, 2000)
	send(b.t, serv, b.playReply(id, 4))
	until(b.t, term)
	return term, serv, f
}

// untouched checks that nothing was done to the origin and that the target is not armed.
func (b *bed) untouched() {
	b.t.Helper()
	eventually(b.t, "disarmed", func() bool { return !b.k.isArmed(netip.MustParseAddr(tv)) })
	b.wire.mu.Lock()
	defer b.wire.mu.Unlock()
	if len(b.k.cutList())+len(b.wire.datagrams)+len(b.wire.segments) > 0 {
		b.t.Errorf("origin was touched: %v %v %v", b.k.cutList(), b.wire.datagrams, b.wire.segments)
	}
}

// goesOn checks that a connection is relayed.
func goesOn(t testing.TB, term, serv net.Conn) {
	t.Helper()
	send(t, term, "OPTIONS * RTSP/1.0\r\nCSeq: 77\r\n\r\n")
	expect(t, serv, "OPTIONS * RTSP/1.0\r\nCSeq: 77\r\n\r\n")
	send(t, serv, "RTSP/1.0 200 OK\r\nCSeq: 77\r\n\r\n")
	expect(t, term, "RTSP/1.0 200 OK\r\nCSeq: 77\r\n\r\n")
}

func TestMoveOverUDP(t *testing.T) {
	cfg := quietConfig()
	cfg.Retry = time.Minute
	b := newBed(t, cfg)
	b.origin()
	origin, _ := b.tr.Detail("s1", time.Now())
	at := time.Now()
	b.k.do(func() {
		b.k.tcp[origin.Control] = bpf.TCPStats{
			ToServer:   bpf.TCPDirStats{HighestSeq: 1100, NewestAck: 5000, HaveAck: true, Window: 501, TSVal: 70, TSAt: at},
			ToTerminal: bpf.TCPDirStats{HighestSeq: 5000, NewestAck: 1100, HaveAck: true, Window: 502, TSVal: 90, TSAt: at},
		}
	})
	x := b.move(session.Order{Trigger: session.Push})
	if x.State != session.Armed || x.Times.Armed == nil || x.URL != b.url() || x.From.IP.String() != phone || x.Trigger != session.Push {
		t.Errorf("transfer %+v", x)
	}
	term, serv, _ := b.connect(tv)
	wantPlay(t, b.playOn(term, serv, "t1", 4), "59.250")
	x = b.await(x.ID, session.Attached, "")
	if x.Position == nil || *x.Position != 59.25 || x.StartedAt != nil {
		t.Errorf("position %v, started %v", x.Position, x.StartedAt)
	}
	send(t, serv, b.playReply("t1", 4))
	b.mediaComes("t1", 1000+58*90000)
	want := strings.Replace(b.playReply("t1", 4), "rtptime=1000,", fmt.Sprintf("rtptime=%d,", 1000+58*90000), 1)
	expect(t, term, want)
	first := b.mediaRuns("t1")
	b.await(x.ID, session.Committed, "")

	down := b.accepted() // nobody hung up on the phone: a TEARDOWN of ours
	if got := until(t, down); got != fmt.Sprintf("TEARDOWN %s/ RTSP/1.0\r\nCSeq: 8\r\nSession: S-s1\r\n\r\n", b.url()) {
		t.Errorf("TEARDOWN is %q", got)
	}
	send(t, down, "RTSP/1.0 200 OK\r\nCSeq: 8\r\n\r\n")
	x = b.await(x.ID, session.Done, "")
	if x.StartedAt == nil || *x.StartedAt != 58 || x.Repeated == nil || *x.Repeated != 3.5 || x.Silence == nil || x.Times.Ended == nil {
		t.Errorf("done as %+v", x)
	}
	if want := *session.Figure(first.Sub(origin.LastMedia).Seconds()); *x.Silence != want {
		t.Errorf("silence %v, want %v", *x.Silence, want)
	}
	b.checkEnd(origin)
	if !b.k.isArmed(x.To.IP) {
		t.Error("the target cannot come back")
	}
	b.forward(cfg.Retry)
	eventually(t, "disarmed", func() bool { return !b.k.isArmed(x.To.IP) })
	goesOn(t, term, serv)
	if got := *x.Times.Armed; x.Times.Attached.Before(got) || x.Times.Committed.Before(*x.Times.Attached) {
		t.Errorf("times %+v", x.Times)
	}
	b.balance()
}

// checkEnd checks what the end of a watched UDP session did outside.
func (b *bed) checkEnd(origin tracer.Detail) {
	b.t.Helper()
	b.wire.mu.Lock()
	defer b.wire.mu.Unlock()
	if len(b.wire.datagrams) != 6 || !strings.HasPrefix(b.wire.datagrams[0], origin.Tracks[0].RTCP.Server.String()+">"+origin.Tracks[0].RTCP.Terminal.String()) {
		b.t.Errorf("byes %v", b.wire.datagrams)
	}
	if len(b.wire.segments) != 2 {
		b.t.Fatalf("segments %+v", b.wire.segments)
	}
	rst, fin := b.wire.segments[0], b.wire.segments[1]
	if rst.to != b.server || rst.seq != 1100 || rst.ack != 5000 || rst.flags != flagRST|flagACK {
		b.t.Errorf("rst %+v", rst)
	}
	if fin.to != origin.Control.Terminal || fin.seq != 5000 || fin.ack != 1100 || fin.flags != flagFIN|flagACK || !fin.stamped || fin.tsval < 90 || fin.tsecr != 70 {
		b.t.Errorf("fin %+v", fin)
	}
	cuts := b.k.cutList()
	if len(cuts) != 9 || cuts[4] != fmt.Sprintf("trim udp %v", origin.Tracks[0].RTP) || cuts[8] != fmt.Sprintf("tcp %v %d", origin.Control, bpf.CutBoth) ||
		cuts[0] != fmt.Sprintf("udp %v %d", origin.Tracks[0].RTP, bpf.CutToTerminal) {
		b.t.Errorf("cuts %v", cuts)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if own := b.from[1]; own.Addr().String() != phone || own.Port() < ephemeral {
		b.t.Errorf("TEARDOWN comes from %v", own)
	}
	if d, _ := b.tr.Detail("s1", time.Now()); d.Record.State != session.Ended {
		b.t.Error("origin is not ended")
	}
}

// A player that hangs up by itself after the BYE needs nothing of ours.
func TestPlayerHangsUp(t *testing.T) {
	cfg := quietConfig()
	cfg.Drain = time.Minute
	b := newBed(t, cfg)
	b.origin()
	x := b.move(session.Order{})
	b.attach(x, "t1")
	b.tr.set("t1", func(d *tracer.Detail) {
		d.FirstMedia, d.LastMedia, d.Receipt = time.Now(), time.Now(), time.Now().Add(time.Second)
	})
	b.await(x.ID, session.Committed, "")
	eventually(t, "bye", func() bool { return b.s.Stats()["byes_sent"] == 6 })
	b.tr.set("s1", func(d *tracer.Detail) { d.Teardown, d.Terminated = true, true })
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.State = session.Ended })
	b.await(x.ID, session.Done, "")
	if n := b.s.Stats()["teardowns_sent"]; n != 0 {
		t.Errorf("%d teardowns of ours", n)
	}
}

// A player that closes its connection has not told the server, whatever it asked for last; one that
// got no answer has perhaps not either.
func TestPlayerLeavesServerSending(t *testing.T) {
	for name, leave := range map[string]func(*tracer.Detail){
		"PAUSE, then FIN":     func(d *tracer.Detail) { d.LastCSeq, d.Terminated, d.Record.State = 9, true, session.Ended },
		"TEARDOWN, no answer": func(d *tracer.Detail) { d.LastCSeq, d.Teardown, d.Terminated = 9, true, true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := quietConfig()
			cfg.Drain = time.Minute
			b := newBed(t, cfg)
			b.origin()
			x := b.move(session.Order{})
			b.attach(x, "t1")
			b.mediaRuns("t1")
			b.await(x.ID, session.Committed, "")
			eventually(t, "bye", func() bool { return b.s.Stats()["byes_sent"] == 6 })
			b.tr.set("s1", leave)
			down := b.accepted()
			if got := until(t, down); !strings.HasPrefix(got, "TEARDOWN "+b.url()) {
				t.Errorf("got %q", got)
			}
			send(t, down, "RTSP/1.0 200 OK\r\nCSeq: 8\r\n\r\n")
			b.await(x.ID, session.Done, "")
		})
	}
}
