package splice

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
	"scas/tracer/rtsp"
)

const (
	byeRounds   = 3                      // RTCP may be lost
	byeGap      = 20 * time.Millisecond  // between two rounds
	replyWait   = 3 * time.Second        // for the answer to a TEARDOWN of ours
	answerWait  = time.Second            // for the answer to the player's own TEARDOWN
	flowCut     = time.Minute            // a connection ended by force stays cut so long (watched-tcp, traps of the fallback)
	refusedCut  = 5 * time.Second        // media of a refused TEARDOWN stay cut so much longer than the session's timeout
	cleanCut    = 2 * time.Second        // media of a session that is gone: for what is on its way
	tellFirst   = 150 * time.Millisecond // for a server to stop by itself: gst, live555 and VLC take 0.4 to 21 ms
	finWait     = 2 * time.Second        // for both sides to answer our FIN
	ephemeral   = 32768                  // first port of a connection of ours in the terminal's name
	ephemeralTo = 60999
)

// ending is what the end of an origin comes to.
type ending struct {
	firstMedia time.Time // of the target
	lastMedia  time.Time // of the origin: when it was cut, or before
	buffered   bool      // the player holds data that nothing can take back
}

// ender ends one session whose viewer has left (DESIGN §5.3, without takeover).
type ender struct {
	s   *Splicer
	ctx context.Context
	id  string
	d   tracer.Detail
	cut time.Time
}

// endOrigin ends a session so that its player ends cleanly and its server forgets it. It
// returns when that is done, or at once when ctx ends.
func (s *Splicer) endOrigin(ctx context.Context, d tracer.Detail, id string, e ending) ending {
	x := &ender{s: s, ctx: ctx, id: id, d: d}
	x.cut = s.now()
	if r := s.relay(d.Control); r != nil && r.joined() {
		x.steered(r)
	} else if d.Record.Transport == session.TCP {
		x.watchedTCP()
	} else {
		x.watchedUDP()
	}
	e.lastMedia = x.cut
	if now, ok := s.t.Detail(id, s.now()); ok && !now.LastMedia.IsZero() && now.LastMedia.Before(x.cut) {
		e.lastMedia = now.LastMedia
	}
	return e
}

// watchedUDP: BYE, media cut; the player's own TEARDOWN, else one of ours; then both ends of
// the control connection.
func (x *ender) watchedUDP() {
	x.cutMedia(x.d.Timeout + refusedCut)
	x.byes()
	torn := x.playerEnds()
	if torn {
		x.cutMedia(cleanCut)
		return
	}
	if x.teardown() {
		x.cutMedia(cleanCut)
	}
	x.closeFlow()
}

// watchedTCP: no BYE can be put into a stream that is not ours. The server is told first: it
// stops within milliseconds, at the end of a frame, and the player gets all of that before the
// FIN. A server that takes longer is cut off.
func (x *ender) watchedTCP() {
	cut := sync.OnceFunc(func() {
		x.cut = x.s.now()
		x.cutFlow(bpf.TCP, x.d.Control, bpf.CutToTerminal, flowCut)
	})
	late := time.AfterFunc(tellFirst, cut)
	x.teardown()
	late.Stop()
	cut()
	x.playerEnds()
	x.closeFlow()
}

// steered: everything happens on the session's own legs.
func (x *ender) steered(r *relay) {
	if x.d.Record.Transport == session.TCP {
		last := []byte{}
		for _, t := range x.d.Tracks {
			if t.Channel >= 0 && t.Channel < 255 && t.HaveSSRC {
				last = append(last, framed(uint8(t.Channel+1), bye(t.SSRC))...)
				x.s.count.byes.Add(1)
			}
		}
		r.down.do(func() { r.down.role.(*downRole).endMedia(last) })
	} else {
		x.cutMedia(x.d.Timeout + refusedCut)
		x.byes()
	}
	torn := x.playerEnds()
	if !torn && !isDone(r.gone) {
		torn = x.teardownOn(r)
	} else if !torn {
		torn = x.teardown()
	}
	if torn && x.d.Record.Transport != session.TCP {
		x.cutMedia(cleanCut)
	}
	if x.alone(r) {
		r.finish(finWait)
		x.wait(finWait, func() bool { return isDone(r.gone) })
	}
}

// alone reports whether no other session runs on a relay.
func (x *ender) alone(r *relay) bool {
	for _, id := range x.s.t.ByFlow(r.flow) {
		if id == x.id {
			continue
		}
		if _, ended := x.s.sessionEnded(id, x.s.now()); !ended {
			return false
		}
	}
	return true
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// cutMedia drops the media of a UDP session on their way to the terminal.
func (x *ender) cutMedia(d time.Duration) {
	for _, t := range x.d.Tracks {
		for _, f := range []bpf.Flow{t.RTP, t.RTCP} {
			if f.Terminal.IsValid() {
				x.cutFlow(bpf.UDP, f, bpf.CutToTerminal, d)
			}
		}
	}
}

func (x *ender) cutFlow(p bpf.Proto, f bpf.Flow, d bpf.CutDir, long time.Duration) {
	if err := x.s.k.CutFlow(p, f, d, long); err != nil {
		x.s.count.cutsFailed.Add(1)
		x.s.log.Warn("media of the origin are not cut", "session", x.id, "err", err)
	}
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

// playerEnds gives the player the time to show what it has and to hang up by itself. It
// reports whether the player sent its own TEARDOWN.
func (x *ender) playerEnds() (torn bool) {
	x.wait(max(x.d.Depth+time.Second, x.s.cfg.Drain), func() bool {
		d, ended := x.s.sessionEnded(x.id, x.s.now())
		// A session that is over already was torn down if the player said anything since.
		torn = d.Terminated && (!ended || d.LastCSeq > x.d.LastCSeq)
		return torn || ended
	})
	if torn {
		x.wait(answerWait, func() bool {
			_, ended := x.s.sessionEnded(x.id, x.s.now())
			return ended
		})
	}
	return torn
}

// wait polls until done, or d has passed, or the daemon ends.
func (x *ender) wait(d time.Duration, done func() bool) {
	for end := time.Now().Add(d); !done() && time.Now().Before(end); {
		if !x.sleep(min(checkEvery, time.Until(end)+time.Millisecond)) {
			return
		}
	}
}

func (x *ender) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.ctx.Done():
		return false
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
		x.s.log.Warn("server of the origin does not answer", "session", x.id, "err", err)
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
	c, release, err := x.s.legs.open(x.ctx, x.ownFlow())
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
	return x.answered(readStatus(c))
}

// ownFlow is a connection to the server that the terminal itself does not have.
func (x *ender) ownFlow() bpf.Flow {
	f := bpf.Flow{Server: x.d.Record.Server}
	for range dialAttempts {
		port := ephemeral + rand.N(ephemeralTo-ephemeral+1)
		f.Terminal = netip.AddrPortFrom(x.d.Record.Terminal.IP, uint16(port))
		if _, taken := x.s.k.TCPStats(f); !taken {
			break
		}
	}
	return f
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
func (x *ender) teardownOn(r *relay) bool {
	if x.d.RTSPSession == "" || x.ctx.Err() != nil {
		return false
	}
	x.s.count.teardowns.Add(1)
	own := make(chan int, 1)
	cseq := r.requests.ownCSeq()
	b := x.request(cseq).Marshal()
	r.up.do(func() {
		r.requests.add(request{cseq: cseq, method: "TEARDOWN", own: own})
		_ = r.up.put(b) // no reply tells the same
	})
	t := time.NewTimer(replyWait)
	defer t.Stop()
	select {
	case status := <-own:
		return x.answered(status, nil)
	case <-t.C:
		return x.answered(0, errors.New("no reply to TEARDOWN"))
	case <-r.gone:
		return x.answered(0, net.ErrClosed)
	case <-x.ctx.Done():
		return false
	}
}

// closeFlow ends a watched control connection: RST to the server, FIN to the player, and
// nothing more in either direction, or the player's answer would provoke a RST to it.
func (x *ender) closeFlow() {
	f := x.d.Control
	st, ok := x.s.k.TCPStats(f)
	closed := st.ToServer.FIN || st.ToServer.RST || st.ToTerminal.RST
	if ok && !closed && x.ctx.Err() == nil {
		x.cutFlow(bpf.TCP, f, bpf.CutBoth, flowCut)
		for _, s := range []segment{rstToServer(f, st), finToTerminal(f, st, x.s.now())} {
			if err := x.s.wire.forge(s); err != nil {
				x.s.count.forgeFailed.Add(1)
				x.s.log.Warn("connection of the origin is not closed", "session", x.id, "err", err)
				continue
			}
			x.s.count.forged.Add(1)
		}
	}
	now := x.s.now()
	x.s.t.StreamClosed(f, bpf.ToServer, now)
	x.s.t.StreamClosed(f, bpf.ToTerminal, now)
}
