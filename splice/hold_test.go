package splice

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
)

// startTCP brings an interleaved target to where its start request is at the server.
func startTCP(t *testing.T, cfg Config) (b *bed, x session.Transfer, term, serv io.ReadWriter) {
	t.Helper()
	b = newBed(t, cfg)
	b.origin()
	x = b.move(session.Order{})
	tc, sc, _ := b.connect(tv)
	goesOn(t, tc, sc)
	b.tcpMedia("t1")
	wantPlay(t, b.playOn(tc, sc, "t1", 4), "59.250")
	return b, x, tc, sc
}

func TestHeldReplyInterleaved(t *testing.T) {
	const right = 1000 + 58*90000
	video, audio := string(rtpFrame(0, 100, right, 300)), string(rtpFrame(2, 7, 9100, 30))
	rtcp := "$\x01\x00\x08\x80\xc8\x00\x01abcd"
	late := string(rtpFrame(0, 101, right+3600, 300))
	repaired := func(b *bed) string {
		return strings.Replace(b.playReply("t1", 4), "rtptime=1000,", fmt.Sprintf("rtptime=%d,", right), 1)
	}
	for _, tt := range []struct {
		name   string
		before string // frames before the reply
		after  []string
		want   func(b *bed) string
	}{
		{"frames after", "", []string{rtcp + video, audio, late}, func(b *bed) string { return repaired(b) + rtcp + video + audio + late }},
		{"frames before", video + audio, []string{late}, func(b *bed) string { return video + audio + repaired(b) + late }},
		{"one before, one after", video, []string{audio + late}, func(b *bed) string { return video + repaired(b) + audio + late }},
		{"older packet first", "", []string{string(rtpFrame(0, 98, 500, 9)) + audio, video}, func(b *bed) string {
			return repaired(b) + string(rtpFrame(0, 98, 500, 9)) + audio + video
		}},
		{"another message behind", "", []string{"RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n", video + audio}, func(b *bed) string {
			return repaired(b) + "RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n" + video + audio
		}},
	} {
		for _, most := range []int{1, 1 << 16} {
			t.Run(fmt.Sprintf("%s/%d", tt.name, most), func(t *testing.T) {
				cfg := quietConfig()
				b, x, term, serv := startTCP(t, cfg)
				chop := func(text string) {
					for len(text) > 0 {
						n := min(most, len(text))
						io.WriteString(serv, text[:n])
						text = text[n:]
					}
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					chop(tt.before + b.playReply("t1", 4))
					for _, a := range tt.after {
						chop(a)
					}
				}()
				want := tt.want(b)
				got := make([]byte, len(want))
				if n, err := io.ReadFull(term, got); err != nil || string(got) != want {
					t.Fatalf("got %d bytes, %v: %q, want %q", n, err, got[:min(n, 400)], want[:min(len(want), 400)])
				}
				<-done
				go io.Copy(io.Discard, term)
				b.await(x.ID, session.Committed, "")
				if s := b.s.Stats(); s["replies_held"] != 1 || s["replies_repaired"] != 1 {
					t.Errorf("held %d, repaired %d", s["replies_held"], s["replies_repaired"])
				}
				b.balance()
			})
		}
	}
}

// A reply whose tracks stay silent goes on after 400 ms, as it came.
func TestHeldReplyIsReleased(t *testing.T) {
	b, _, term, serv := startTCP(t, quietConfig())
	reply := b.playReply("t1", 4)
	video := string(rtpFrame(0, 100, 1<<30, 30))
	start := time.Now()
	io.WriteString(serv, reply+video)
	repaired := strings.Replace(reply, "rtptime=1000,", fmt.Sprintf("rtptime=%d,", 1<<30), 1)
	got := make([]byte, len(repaired)+len(video))
	if _, err := io.ReadFull(term, got); err != nil || string(got) != repaired+video {
		t.Fatalf("%q, %v", got, err)
	}
	if d := time.Since(start); d < 350*time.Millisecond {
		t.Errorf("after %v", d)
	}
	if n := b.s.Stats()["replies_late"]; n != 1 {
		t.Errorf("late %d", n)
	}
}

func TestRepliesThatAreNotHeld(t *testing.T) {
	for name, headers := range map[string]string{
		"no rtp-info": "", "only urls": "RTP-Info: url=a/stream=0,url=a/stream=1\r\n", "unknown url": "RTP-Info: url=x;seq=1;rtptime=2\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			cfg := quietConfig()
			b, _, term, serv := startTCP(t, cfg)
			reply := "RTSP/1.0 200 OK\r\nCSeq: 4\r\nSession: S-t1\r\n" + headers + "\r\n"
			io.WriteString(serv, reply)
			got := make([]byte, len(reply))
			if _, err := io.ReadFull(term, got); err != nil || string(got) != reply {
				t.Fatalf("%q, %v", got, err)
			}
			if n := b.s.Stats()["replies_held"]; n != 0 {
				t.Errorf("held %d", n)
			}
		})
	}
}

// Unacknowledged media do not make a target play, acknowledged ones do at once.
func TestCommitNeedsAcknowledgedMedia(t *testing.T) {
	cfg := quietConfig()
	b, x, term, serv := startTCP(t, cfg)
	io.WriteString(serv, "RTSP/1.0 200 OK\r\nCSeq: 4\r\nSession: S-t1\r\nRange: npt=58-\r\n\r\n")
	buf := make([]byte, 4096)
	if _, err := term.Read(buf); err != nil {
		t.Fatal(err)
	}
	b.mediaRuns("t1") // the tracer counts what the server sent, which is no proof over TCP
	eventually(t, "replied", func() bool { y, _ := b.table.Transfer(x.ID); return y.StartedAt != nil })
	b.forward(cfg.Settle)
	b.looked("t1") // over UDP it would play now
	if y, _ := b.table.Transfer(x.ID); y.State != session.Attached {
		t.Fatalf("state %s", y.State)
	}
	_, _ = serv.Write(rtpFrame(0, 1, 2, 100))
	b.await(x.ID, session.Committed, "")
}

// An origin that is steered itself is ended on its own legs.
func TestEndOfSteeredOrigin(t *testing.T) {
	for _, hangsUp := range []bool{true, false} {
		t.Run(fmt.Sprintf("hangs up %v", hangsUp), func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.origin()
			ot, os, of := b.connect(phone)
			b.tr.set("s1", func(d *tracer.Detail) {
				d.Control, d.Record.Transport, d.Record.Steered = of, session.TCP, true
				for i := range d.Tracks {
					d.Tracks[i].Channel, d.Tracks[i].RTP, d.Tracks[i].RTCP = 2*i, bpf.Flow{}, bpf.Flow{}
				}
			})
			frame := string(rtpFrame(0, 1, 2, 64))
			send(t, os, frame+frame[:30]) // in the middle of a frame
			expect(t, ot, frame+frame[:30])

			x := b.move(session.Order{})
			term, serv, _ := b.connect(tv)
			goesOn(t, term, serv)
			b.tcpMedia("t1")
			b.playOn(term, serv, "t1", 4)
			send(t, serv, "RTSP/1.0 200 OK\r\nCSeq: 4\r\n\r\n"+frame)
			until(t, term)
			go io.Copy(io.Discard, term)
			b.await(x.ID, session.Committed, "")

			eventually(t, "media end", func() bool { return b.s.Stats()["byes_sent"] == 2 })
			send(t, os, frame[30:]+frame+frame+"RTSP/1.0 200 OK\r\nCSeq: 70\r\n\r\n"+frame)
			want := frame[30:] + string(framed(1, bye(0x11))) + string(framed(3, bye(0x22))) + "RTSP/1.0 200 OK\r\nCSeq: 70\r\n\r\n"
			expect(t, ot, want)

			if hangsUp {
				send(t, ot, "TEARDOWN rtsp://h/film RTSP/1.0\r\nCSeq: 71\r\n\r\n")
				until(t, os)
				b.tr.set("s1", func(d *tracer.Detail) { d.Teardown, d.Terminated = true, true })
				send(t, os, "RTSP/1.0 200 OK\r\nCSeq: 71\r\n\r\n")
				b.tr.set("s1", func(d *tracer.Detail) { d.Record.State = session.Ended })
				expect(t, ot, "RTSP/1.0 200 OK\r\nCSeq: 71\r\n\r\n")
			} else {
				got := until(t, os)
				if !strings.HasPrefix(got, "TEARDOWN "+b.url()) || !strings.Contains(got, "CSeq: 1000\r\n") {
					t.Errorf("got %q", got)
				}
				send(t, os, frame+"RTSP/1.0 200 OK\r\nCSeq: 1000\r\n\r\n")
			}
			for name, c := range map[string]io.Reader{"player": ot, "server": os} {
				if n, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("%s: %d, %v", name, n, err)
				}
			}
			ot.Close()
			os.Close()
			b.await(x.ID, session.Done, "")
			if n := b.s.Stats()["teardowns_sent"]; (n == 0) != hangsUp {
				t.Errorf("%d teardowns of ours", n)
			}
			if len(b.k.cutList()) != 0 || len(b.wire.segments) != 0 {
				t.Errorf("cuts %v, segments %v", b.k.cutList(), b.wire.segments)
			}
		})
	}
}

// A server that wants credentials for a TEARDOWN: the flow is closed and stays cut.
func TestTeardownRefused(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	d, _ := b.tr.Detail("s1", time.Now())
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.Transport = session.TCP })
	b.k.do(func() { b.k.tcp[d.Control] = bpf.TCPStats{} })
	x := b.move(session.Order{})
	b.attach(x, "t1")
	b.tr.set("t1", func(d *tracer.Detail) {
		d.FirstMedia, d.LastMedia, d.Receipt = time.Now(), time.Now(), time.Now().Add(time.Second)
	})
	own := b.accepted() // an interleaved origin: the server is told at once
	got := until(t, own)
	if !strings.HasPrefix(got, "TEARDOWN ") {
		t.Errorf("got %q", got)
	}
	send(t, own, "RTSP/1.0 401 Unauthorized\r\nCSeq: 8\r\n\r\n")
	b.await(x.ID, session.Done, "")
	if s := b.s.Stats(); s["teardown_refused"] != 1 || s["segments_forged"] != 2 || s["byes_sent"] != 0 {
		t.Errorf("refused %d, forged %d, byes %d", s["teardown_refused"], s["segments_forged"], s["byes_sent"])
	}
	want := []string{fmt.Sprintf("tcp %v %d", d.Control, bpf.CutToTerminal), fmt.Sprintf("tcp %v %d", d.Control, bpf.CutBoth)}
	if got := b.k.cutList(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("cuts %v, want %v", got, want)
	}
}

func TestBuffered(t *testing.T) {
	d := tracer.Detail{Depth: 2 * time.Second}
	for _, tt := range []struct {
		npt, rendered float64
		want          bool
	}{{60, 58, false}, {60, 53.5, false}, {180, 20, true}} {
		d.Record.Position = &session.Position{NPT: &tt.npt, Rendered: &tt.rendered}
		if got := buffered(d); got != tt.want {
			t.Errorf("npt %v, rendered %v: %v", tt.npt, tt.rendered, got)
		}
	}
}

// A server that does not answer our TEARDOWN is cut off from the terminal all the same.
func TestTeardownIsNotAnswered(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	d, _ := b.tr.Detail("s1", time.Now())
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.Transport = session.TCP })
	x := b.move(session.Order{})
	b.attach(x, "t1")
	b.tr.set("t1", func(d *tracer.Detail) {
		d.FirstMedia, d.LastMedia, d.Receipt = time.Now(), time.Now(), time.Now().Add(time.Second)
	})
	own := b.accepted()
	until(t, own)
	want := fmt.Sprintf("tcp %v %d", d.Control, bpf.CutToTerminal)
	eventually(t, "cut", func() bool { c := b.k.cutList(); return len(c) == 1 && c[0] == want })
	if y, _ := b.table.Transfer(x.ID); y.State != session.Committed {
		t.Errorf("state %s", y.State)
	}
	own.Close()
	b.await(x.ID, session.Done, "")
	if n := b.s.Stats()["teardown_failed"]; n != 1 {
		t.Errorf("failed %d", n)
	}
}

// The daemon ends while the end of a watched film is under way. Its server was told already: the
// player is told, too.
func TestShutdownWhileTheOriginEnds(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	d, _ := b.tr.Detail("s1", time.Now())
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.Transport = session.TCP })
	b.k.do(func() { b.k.tcp[d.Control] = bpf.TCPStats{} })
	x := b.commits()
	own := b.accepted()
	until(t, own) // the server does not answer
	eventually(t, "cut", func() bool { return len(b.k.cutList()) == 1 })
	b.stop()
	if n := b.s.Stats()["segments_forged"]; n != 2 {
		t.Errorf("%d segments forged, want a RST and a FIN", n)
	}
	if x, _ = b.table.Transfer(x.ID); x.State != session.Failed || deref(x.Reason) != session.DaemonRestart {
		t.Errorf("transfer %s for %q", x.State, deref(x.Reason))
	}
}
