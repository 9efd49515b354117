package splice

import (
	"io"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
)

// beside puts another film of the phone on the control connection of the one that is moved.
func (b *bed) beside(f bpf.Flow) {
	d := b.detail(phone, "s2")
	d.Control, d.FirstMedia = f, time.Now()
	b.tr.set("s2", func(x *tracer.Detail) { *x = d })
	b.tr.mu.Lock()
	defer b.tr.mu.Unlock()
	b.tr.flows[f] = []string{"s1", "s2"}
}

// commits has the tv play what was moved.
func (b *bed) commits() session.Transfer {
	b.t.Helper()
	x := b.move(session.Order{})
	b.attach(x, "t1")
	b.tr.set("t1", func(d *tracer.Detail) {
		d.FirstMedia, d.LastMedia, d.Receipt = time.Now(), time.Now(), time.Now().Add(time.Second)
	})
	return x
}

// Two films of one watched connection: the one that is moved ends, the connection does not.
func TestOtherFilmOfAWatchedConnection(t *testing.T) {
	for _, transport := range []session.Transport{session.UDP, session.TCP} {
		t.Run(string(transport), func(t *testing.T) {
			b := newBed(t, quietConfig())
			b.origin()
			d, _ := b.tr.Detail("s1", time.Now())
			b.tr.set("s1", func(d *tracer.Detail) { d.Record.Transport = transport })
			b.k.do(func() { b.k.tcp[d.Control] = bpf.TCPStats{} })
			b.beside(d.Control)
			x := b.commits()
			own := b.accepted()
			until(t, own)
			send(t, own, "RTSP/1.0 200 OK\r\nCSeq: 8\r\n\r\n")
			b.await(x.ID, session.Done, "")
			if n := b.s.Stats()["segments_forged"]; n != 0 {
				t.Errorf("%d segments forged", n)
			}
			for _, cut := range b.k.cutList() {
				if cut[:3] == "tcp" {
					t.Errorf("cut: %s", cut)
				}
			}
			if s2, _ := b.tr.Detail("s2", time.Now()); s2.Record.State != session.Playing {
				t.Errorf("the other film is %s", s2.Record.State)
			}
			b.tr.mu.Lock()
			defer b.tr.mu.Unlock()
			if len(b.tr.moved) != 1 || b.tr.moved[0] != "s1" {
				t.Errorf("ended: %v", b.tr.moved)
			}
		})
	}
}

// What a player left behind on the connection when it went over to TCP is no other film.
func TestLeftBehindOnAConnection(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	d, _ := b.tr.Detail("s1", time.Now())
	b.tr.set("s1", func(d *tracer.Detail) { d.Record.Transport = session.TCP })
	b.k.do(func() { b.k.tcp[d.Control] = bpf.TCPStats{} })
	b.beside(d.Control)
	b.tr.set("s2", func(d *tracer.Detail) { d.Record.State, d.FirstMedia = session.Paused, time.Time{} })
	x := b.commits()
	own := b.accepted()
	until(t, own)
	send(t, own, "RTSP/1.0 200 OK\r\nCSeq: 8\r\n\r\n")
	b.await(x.ID, session.Done, "")
	if n := b.s.Stats()["segments_forged"]; n != 2 {
		t.Errorf("%d segments forged, want a RST and a FIN", n)
	}
}

// Two films of one relayed connection: only the frames of the one that is moved are thrown away,
// and only until it has ended.
func TestOtherFilmOfARelayedConnection(t *testing.T) {
	b := newBed(t, quietConfig())
	b.origin()
	ot, os, of := b.connect(phone)
	b.tr.set("s1", func(d *tracer.Detail) {
		d.Control, d.Record.Transport, d.Record.Steered = of, session.TCP, true
		for i := range d.Tracks {
			d.Tracks[i].Channel, d.Tracks[i].RTP, d.Tracks[i].RTCP = 2*i, bpf.Flow{}, bpf.Flow{}
		}
	})
	b.beside(of)
	goesOn(t, ot, os)
	x := b.commits()
	eventually(t, "media end", func() bool { return b.s.Stats()["byes_sent"] == 2 })
	expect(t, ot, string(framed(1, bye(0x11)))+string(framed(3, bye(0x22))))
	mine, other := string(rtpFrame(2, 1, 2, 64)), string(rtpFrame(4, 1, 2, 64))
	send(t, os, mine+other+mine+other[:1])
	expect(t, ot, other)
	send(t, os, other[1:]+mine[:1])
	expect(t, ot, other)
	send(t, os, mine[1:]+other[:1])
	send(t, os, other[1:])
	expect(t, ot, other)

	until(t, os) // our TEARDOWN
	send(t, os, "RTSP/1.0 200 OK\r\nCSeq: 1077\r\n\r\n")
	b.await(x.ID, session.Done, "")
	eventually(t, "nothing is thrown away", func() bool {
		send(t, os, mine+other)
		got := make([]byte, len(mine))
		if _, err := io.ReadFull(ot, got); err != nil {
			t.Fatal(err)
		}
		if string(got) == mine {
			expect(t, ot, other)
			return true
		}
		return false
	})
	goesOn(t, ot, os)
	b.stop()
	b.balance()
}
