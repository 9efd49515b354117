package splice

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/rtsp"
)

// end: see DESIGN §5.3, without takeover.
func (rtspProtocol) end(x *ender, r *relay) {
	if r != nil {
		if t, ok := r.spoken().(*rtspTalk); ok {
			x.steered(r, t)
			return
		}
	}
	if x.d.Record.Transport == session.TCP {
		x.watchedTCP()
	} else {
		x.watchedUDP()
	}
}

// watchedUDP: BYE, media cut; the player's own TEARDOWN, else one of ours; then both ends of
// the control connection.
func (x *ender) watchedUDP() {
	x.cutMedia()
	x.byes()
	torn := x.playerEnds()
	if torn {
		x.uncutMedia()
		return
	}
	if x.teardown() {
		x.uncutMedia()
	}
	x.closeControl()
}

// closeControl ends the watched control connection, unless another film of the viewer needs it.
func (x *ender) closeControl() {
	if x.alone() {
		x.closeFlow()
		return
	}
	x.s.t.Moved(x.id, x.d.Control, x.s.now())
}

// watchedTCP: no BYE can be put into a stream that is not ours. The server is told first: it
// stops within milliseconds, at the end of a frame, and the player gets all of that before the
// FIN. A server that takes longer is cut off. The FIN follows at once: it is all that tells the
// player, which shows what it has and ends, where silence would have it wait for more.
//
// With another film on the connection nothing is cut: the server alone can end the one of the two.
func (x *ender) watchedTCP() {
	cut := sync.OnceFunc(func() {
		if !x.alone() {
			return
		}
		x.cut = x.s.now()
		x.cutFlow(bpf.TCP, x.d.Control, bpf.CutToTerminal, flowCut)
	})
	late := time.AfterFunc(tellFirst, cut)
	x.teardown()
	late.Stop()
	if x.ctx.Err() != nil && !x.told {
		return // the daemon ends: the film goes on
	}
	cut()
	x.closeControl()
}

// steered: everything happens on the session's own legs.
func (x *ender) steered(r *relay, t *rtspTalk) {
	if x.d.Record.Transport == session.TCP {
		var last []byte
		var of channels
		for _, t := range x.d.Tracks {
			if t.Channel < 0 || t.Channel >= 255 {
				continue
			}
			of.add(uint8(t.Channel))
			if of.add(uint8(t.Channel + 1)); t.HaveSSRC {
				last = append(last, framed(uint8(t.Channel+1), bye(t.SSRC))...)
				x.s.count.byes.Add(1)
			}
		}
		r.down.do(func() { t.sub.endMedia(last, of) })
	} else {
		x.cutMedia()
		x.byes()
	}
	torn := x.playerEnds()
	if !torn && !isDone(r.gone) {
		torn = x.teardownOn(r, t)
	} else if !torn {
		torn = x.teardown()
	}
	if torn && x.d.Record.Transport != session.TCP {
		x.uncutMedia()
	}
	if x.alone() {
		x.finish(r)
		return
	}
	r.down.do(func() { t.down.discard = channels{} }) // the next film there may have the same ones
}

// byes says for every source that it leaves, from where the server reports.
func (x *ender) byes() {
	for round := range byeRounds {
		if round > 0 && !x.sleep(byeGap) {
			return
		}
		for _, t := range x.d.Tracks {
			if !t.HaveSSRC || !t.RTCP.Terminal.IsValid() || t.RTCP.Server.Port() == 0 {
				continue
			}
			if err := x.s.wire.datagram(t.RTCP.Server, t.RTCP.Terminal, bye(t.SSRC)); err != nil {
				x.s.count.byesFailed.Add(1)
				x.s.log.Debug("bye", "ssrc", t.SSRC, "err", err)
				continue
			}
			x.s.count.byes.Add(1)
		}
	}
}

// request is a TEARDOWN of ours. No other method may name a watched session on a connection
// of ours: GstRtspServer ends the session with the connection that named it last.
func (x *ender) request(cseq int) *rtsp.Message {
	m := rtsp.NewRequest("TEARDOWN", rtsp.StripUserinfo(x.d.BaseURL),
		rtsp.Field{Name: "CSeq", Value: text(cseq)}, rtsp.Field{Name: "Session", Value: x.d.RTSPSession})
	if x.d.Version == rtsp.Version20 {
		m.SetVersion(rtsp.Version20)
	}
	return m
}

// answered counts the answer to a TEARDOWN of ours. It reports whether the session is gone.
func (x *ender) answered(status int, err error) bool {
	count := &x.s.count
	switch {
	case err != nil:
		count.teardownFailed.Add(1)
		x.s.log.Warn("server of the origin does not answer", "session", x.id, "err", cause(err))
	case status == 401 || status == 407:
		count.teardownRefused.Add(1)
	case status < 300 || status == 454: // Session Not Found
		return true
	default:
		count.teardownFailed.Add(1)
	}
	return false
}

// teardown ends the server's session over a connection of our own, which comes from the
// terminal's address.
func (x *ender) teardown() bool {
	if x.d.RTSPSession == "" || x.ctx.Err() != nil {
		return false
	}
	x.s.count.teardowns.Add(1)
	c, release, err := x.s.legs.open(x.ctx, x.s.ownFlow(bpf.Flow{Terminal: netip.AddrPortFrom(x.d.Record.Terminal.IP, 0), Server: x.d.Record.Server}))
	if err != nil {
		return x.answered(0, err)
	}
	defer release()
	defer c.Close()
	stop := context.AfterFunc(x.ctx, func() { _ = c.SetDeadline(longAgo()) })
	defer stop()
	if err := c.SetDeadline(time.Now().Add(replyWait)); err != nil {
		return x.answered(0, err)
	}
	if _, err := c.Write(x.request(x.d.LastCSeq + 1).Marshal()); err != nil {
		return x.answered(0, err)
	}
	x.told = true
	return x.answered(readStatus(c))
}

// readStatus returns the status of the first reply that c brings.
func readStatus(c net.Conn) (int, error) {
	buf := make([]byte, 0, 4096)
	for {
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for len(buf) > 0 {
			u, k, perr := rtsp.Next(buf)
			if errors.Is(perr, rtsp.ErrShort) {
				break
			}
			if perr != nil {
				return 0, perr
			}
			if u.Message != nil && u.Message.Status() >= 200 {
				return u.Message.Status(), nil
			}
			buf = append(buf[:0], buf[k:]...)
		}
		switch {
		case err != nil:
			return 0, err
		case len(buf) == cap(buf):
			return 0, errors.New("reply is too long")
		}
	}
}

// teardownOn ends the server's session on its own ServerLeg; the terminal does not see the
// reply.
func (x *ender) teardownOn(r *relay, t *rtspTalk) bool {
	if x.d.RTSPSession == "" || x.ctx.Err() != nil {
		return false
	}
	x.s.count.teardowns.Add(1)
	own := make(chan int, 1)
	cseq := t.requests.ownCSeq()
	b := x.request(cseq).Marshal()
	r.up.do(func() {
		t.requests.add(request{cseq: cseq, method: "TEARDOWN", own: own})
		_ = t.up.put(b) // no reply tells the same
	})
	late := time.NewTimer(replyWait)
	defer late.Stop()
	select {
	case status := <-own:
		return x.answered(status, nil)
	case <-late.C:
		return x.answered(0, errors.New("no reply to TEARDOWN"))
	case <-r.gone:
		return x.answered(0, net.ErrClosed)
	case <-x.ctx.Done():
		return false
	}
}
