package splice

import (
	"fmt"
	"io"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
)

// GStreamer and VLC come back over TCP when no media reach them.
func TestTargetComesBack(t *testing.T) {
	cfg := quietConfig()
	cfg.Return, cfg.Retry = patience, time.Minute
	b := newBed(t, cfg)
	b.origin()
	x := b.move(session.Order{})
	term, _, _ := b.attach(x, "t1")
	send(t, term, "TEARDOWN "+b.url()+" RTSP/1.0\r\nCSeq: 5\r\nSession: S-t1\r\n\r\n")
	term.Close()
	b.tr.set("s1", func(d *tracer.Detail) {
		d.Record.Position.Rendered, d.Record.Position.NPT = session.Ptr(66.0), session.Ptr(68.0)
	})
	term, serv, _ := b.connect(tv)
	wantPlay(t, b.playOn(term, serv, "t2", 4), "65.000")
	b.tcpMedia("t2")
	send(t, serv, b.playReply("t2", 4)+string(rtpFrame(0, 100, 900000, 10))+string(rtpFrame(2, 7, 9000, 10)))
	until(t, term)
	go io.Copy(io.Discard, term)
	x = b.await(x.ID, session.Committed, "")
	if *x.Position != 65 {
		t.Errorf("position %v", *x.Position)
	}

	// And once more within the time after committed: where the origin's screen was last, which went
	// on to the end of what it had.
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.State = session.Ended })
	b.forward(cfg.Retry / 2)
	term, serv, _ = b.connect(tv)
	wantPlay(t, b.playOn(term, serv, "t3", 4), "67.000")

	// Too late it is a film like any other.
	b.forward(cfg.Retry)
	term, serv, _ = b.connect(tv)
	wantPlay(t, b.playOn(term, serv, "t4", 4), "0")
}

// A target that is on its way back, by whatever steps, has not left.
func TestTargetTakesItsTime(t *testing.T) {
	cfg := quietConfig()
	cfg.Return = time.Hour
	b := newBed(t, cfg)
	b.origin()
	x := b.move(session.Order{})
	term, serv, _ := b.attach(x, "t1")
	send(t, term, "TEARDOWN "+b.url()+" RTSP/1.0\r\nCSeq: 5\r\nSession: S-t1\r\n\r\n")
	until(t, serv)
	term, serv, _ = b.connect(tv)
	for i := range 3 {
		b.looked("s1")
		b.forward(cfg.Return * 9 / 10)
		send(t, term, fmt.Sprintf("SETUP %s/stream=%d RTSP/1.0\r\nCSeq: %d\r\n\r\n", b.url(), i, i))
		until(t, serv)
	}
	b.looked("s1")
	if y, _ := b.table.Transfer(x.ID); y.State != session.Attached {
		t.Fatalf("transfer is %s", y.State)
	}
	b.forward(cfg.Return)
	b.await(x.ID, session.Failed, session.TargetLeft)
}

// A player that sets up anew on the connection that plays, UDP to TCP say, is waited for.
func TestSetupAgain(t *testing.T) {
	cfg := quietConfig()
	cfg.Settle, cfg.NoMedia = 10*time.Minute, time.Hour
	b := newBed(t, cfg)
	b.origin()
	x := b.move(session.Order{})
	term, serv, _ := b.attach(x, "t1")
	b.mediaRuns("t1")
	b.looked("t1")
	b.forward(cfg.Settle * 9 / 10)
	send(t, term, "SETUP "+b.url()+"/stream=0 RTSP/1.0\r\nCSeq: 5\r\n\r\n")
	until(t, serv)
	b.looked("t1")
	b.forward(cfg.Settle / 2)
	b.looked("t1")
	if y, _ := b.table.Transfer(x.ID); y.State != session.Attached {
		t.Fatalf("transfer is %s", y.State)
	}
	b.forward(cfg.Settle / 2)
	b.await(x.ID, session.Committed, "")
}

// What another server refuses is no matter of the film's.
func TestAnotherServerRefuses(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	x := b.move(session.Order{})
	other := loopback(t)
	b.mu.Lock()
	b.other = addrPort(other.Addr())
	b.mu.Unlock()
	term := b.dial(tv)
	serv, err := other.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	defer serv.Close()
	serv.SetDeadline(time.Now().Add(patience))
	send(t, term, "DESCRIBE "+b.url()+" RTSP/1.0\r\nCSeq: 1\r\n\r\n")
	until(t, serv)
	send(t, serv, "RTSP/1.0 404 Not Found\r\nCSeq: 1\r\n\r\n")
	until(t, term)
	b.looked("s1")
	if y, _ := b.table.Transfer(x.ID); y.State != session.Armed {
		t.Errorf("transfer is %s", y.State)
	}
}

// A transfer that is done makes room for the next one to its target.
func TestDoneMakesRoom(t *testing.T) {
	cfg := quietConfig()
	cfg.Retry = time.Hour
	b := newBed(t, cfg)
	b.film(session.MMS)
	control := bpf.Flow{Terminal: b.tr.details["s1"].Control.Terminal, Server: b.server}
	b.k.tcp[control] = bpf.TCPStats{SynSeen: true}
	x := b.move(session.Order{})
	up, down, _ := b.mmsTarget(libmmsName, filmPath)
	b.startsFilm(up, down, 59.25, mediaAt(700, 57900))
	b.await(x.ID, session.Done, "")
	first := b.s.moveOfKey(b.s.key(x.To.IP))
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.State, d.Terminated = session.Playing, false })
	b.move(session.Order{})
	select {
	case <-first.gone:
	case <-time.After(patience):
		t.Error("the first one still waits for its target")
	}
}
