package splice

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
)

// TestStorm: orders, answers, cancellations, players that come and go, origins that end, all at
// once, and then the end of the daemon in the midst of it. Every transfer comes to an end that its
// state allows, no terminal stays armed, and nothing is left running.
func TestStorm(t *testing.T) {
	cfg := quietConfig()
	cfg.AttachTimeout, cfg.OfferTimeout, cfg.Retry = 50*time.Millisecond, 50*time.Millisecond, 20*time.Millisecond
	cfg.NoMedia, cfg.Settle = 100*time.Millisecond, 20*time.Millisecond
	b := newBed(t, cfg)
	b.origin()
	go b.answerAll()
	var ids sync.Map
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for r := rand.New(rand.NewPCG(7, uint64(worker))); b.s.ctx.Err() == nil; {
				b.disturb(r, &ids)
			}
		})
		wg.Go(func() {
			for r := rand.New(rand.NewPCG(8, uint64(worker))); b.s.ctx.Err() == nil; {
				b.visit(r)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	eventually(t, "transfers have come to an end", func() bool {
		c := &b.s.count
		return c.cancelled.Load()+c.declined.Load() > 5 && c.failed.Load()+c.expired.Load() > 5 && c.starts.Load() > 0
	})
	b.stop()
	<-done
	total := 0
	for _, x := range b.table.Transfers() {
		if _, mine := ids.Load(x.ID); !mine || x.State.Open() || x.Times.Ended == nil {
			t.Errorf("left as %+v", x)
		}
		total++
	}
	s := b.s.Stats()
	if n := s["transfers_done"] + s["transfers_failed"] + s["transfers_declined"] + s["transfers_expired"] + s["transfers_cancelled"]; int(n) != total || s["transfers_open"] != 0 || s["connections_open"] != 0 {
		t.Errorf("%d transfers, counters %v", total, s)
	}
	for _, a := range []string{tv, phone} {
		if b.k.isArmed(netip.MustParseAddr(a)) {
			t.Errorf("%s stays armed", a)
		}
	}
	b.balance()
}

// disturb does one thing that somebody may order at any time.
func (b *bed) disturb(r *rand.Rand, ids *sync.Map) {
	last := ""
	ids.Range(func(id, _ any) bool { last = id.(string); return r.IntN(3) > 0 })
	switch r.IntN(6) {
	case 0, 1:
		b.tr.set("s1", func(d *tracer.Detail) { d.Record.State, d.Terminated = session.Playing, false })
		x, err := b.s.Move(b.t.Context(), session.Order{Session: "s1", To: terminalAddr(tv), Confirm: r.IntN(2) == 0})
		if err == nil {
			ids.Store(x.ID, nil)
		}
	case 2:
		_, _ = b.s.Cancel(last) // refused when it is too late
	case 3:
		_ = b.s.Answer(last, r.IntN(3) > 0)
	case 4:
		b.tr.set("s1", func(d *tracer.Detail) { d.Record.State, d.Terminated = session.Ended, true })
	}
	time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond) // or nothing lives long enough
}

// visit is a player of the tv: it opens the film, and leaves in one way or another.
func (b *bed) visit(r *rand.Rand) {
	c, err := b.tryDial(tv)
	if err != nil {
		return // the daemon has ended
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(200 * time.Millisecond)) // a viewer's patience
	flow := bpf.Flow{Terminal: addrPort(c.LocalAddr()), Server: b.server}
	fmt.Fprintf(c, "OPTIONS * RTSP/1.0\r\nCSeq: 3\r\n\r\n")
	buf := make([]byte, 1024)
	if _, err := c.Read(buf); err != nil {
		return
	}
	id := b.tr.ByFlow(flow)[0]
	fmt.Fprintf(c, "PLAY %s/ RTSP/1.0\r\nRange: npt=0-180.032\r\nCSeq: 4\r\nSession: S-%s\r\n\r\n", b.url(), id)
	b.tr.set(id, func(d *tracer.Detail) {
		d.FirstMedia, d.LastMedia, d.Receipt = time.Now(), time.Now(), time.Now().Add(time.Second)
	})
	for range r.IntN(3) {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
	if r.IntN(2) == 0 {
		c.SetLinger(0)
	}
}

// answerAll is a server that says yes to everything.
func (b *bed) answerAll() {
	for c := range b.conns {
		go func() {
			defer c.Close()
			buf := make([]byte, 4096)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				for _, cseq := range []string{"3", "4"} {
					if bytes.Contains(buf[:n], []byte("CSeq: "+cseq+"\r")) {
						_, _ = io.WriteString(c, "RTSP/1.0 200 OK\r\nCSeq: "+cseq+"\r\nRange: npt=58-180.032\r\n\r\n") // it may have left
					}
				}
			}
		}()
	}
}
