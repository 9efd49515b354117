package splice

import (
	"context"
	"errors"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
)

const (
	byeRounds   = 3                      // RTCP may be lost
	byeGap      = 20 * time.Millisecond  // between two rounds
	replyWait   = 3 * time.Second        // for the answer to a TEARDOWN of ours
	answerWait  = time.Second            // for the answer to the player's own TEARDOWN
	flowCut     = time.Minute            // a connection ended by force stays cut so long (watched-tcp, traps of the fallback)
	refusedCut  = 5 * time.Second        // media of a refused TEARDOWN stay cut so much longer than the session's timeout
	longestCut  = 10 * time.Minute       // of media, whatever a server says of its sessions
	cleanCut    = 2 * time.Second        // media of a session that is gone: for what is on its way
	tellFirst   = 150 * time.Millisecond // for a server to stop by itself: gst, live555 and VLC take 0.4 to 21 ms
	finWait     = 2 * time.Second        // for both sides to answer our FIN
	finRounds   = 9                      // a forged FIN may be lost, lie before the end of what the player has, or find its window shut
	finGap      = 50 * time.Millisecond  // after the first round, twice as long after each; a delayed acknowledgement takes 40 ms
	finGapMost  = 800 * time.Millisecond // all rounds take 4.75 s
	ephemeral   = 32768                  // first port of a connection of ours in the terminal's name
	ephemeralTo = 60999
)

// ending is what the end of an origin comes to.
type ending struct {
	firstMedia time.Time // of the target
	lastMedia  time.Time // of the origin: when it was cut, or before
}

// ender ends one session whose viewer has left (DESIGN §5.3, without takeover).
type ender struct {
	s   *Splicer
	ctx context.Context
	id  string
	d   tracer.Detail
	cut time.Time
	// told: the server was asked to end the session. From then on the end is carried through, also
	// when the daemon ends: the player would wait for ever for a film that does not come.
	told bool
}

// endOrigin ends a session so that its player ends cleanly and its server forgets it. It
// returns when that is done, or at once when ctx ends.
func (s *Splicer) endOrigin(ctx context.Context, d tracer.Detail, id string, e ending) ending {
	x := &ender{s: s, ctx: ctx, id: id, d: d}
	x.cut = s.now()
	r := s.relay(d.Control)
	if r != nil && !r.joined() {
		r = nil
	}
	if p := s.protocolOf(d.Record.Protocol); p != nil {
		p.end(x, r)
	}
	e.lastMedia = x.cut
	if now, ok := s.t.Detail(id, s.now()); ok && !now.LastMedia.IsZero() && now.LastMedia.Before(x.cut) {
		e.lastMedia = now.LastMedia
	}
	return e
}

// finish ends a relay in order.
func (x *ender) finish(r *relay) {
	r.finish(finWait)
	x.wait(finWait, func() bool { return isDone(r.gone) })
}

// alone reports whether no other session runs on the control connection. One of the same film that
// does not play is what a player left behind that asks for TCP after UDP brought nothing: libavformat
// does so without a TEARDOWN.
func (x *ender) alone() bool {
	for _, id := range x.s.t.ByFlow(x.d.Control) {
		if id == x.id {
			continue
		}
		d, ended := x.s.sessionEnded(id, x.s.now())
		plays := d.Record.State == session.Playing && !d.FirstMedia.IsZero()
		if !ended && (plays || d.ContentURL != x.d.ContentURL) {
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
func (x *ender) cutMedia() {
	x.eachMedia(func(f bpf.Flow) { x.cutFlow(bpf.UDP, f, bpf.CutToTerminal, min(x.d.Timeout+refusedCut, longestCut)) })
}

// uncutMedia ends that soon: the session is gone. Ports that the terminal's next film has are
// free already.
func (x *ender) uncutMedia() {
	x.eachMedia(func(f bpf.Flow) {
		if err := x.s.k.TrimCut(bpf.UDP, f, cleanCut); err != nil && !errors.Is(err, bpf.ErrNoFlow) {
			x.s.count.cutsFailed.Add(1)
			x.s.log.Warn("media stay cut", "session", x.id, "err", cause(err))
		}
	})
}

func (x *ender) eachMedia(do func(bpf.Flow)) {
	for _, t := range x.d.Tracks {
		for _, f := range []bpf.Flow{t.RTP, t.RTCP} {
			if f.Terminal.IsValid() {
				do(f)
			}
		}
	}
}

func (x *ender) cutFlow(p bpf.Proto, f bpf.Flow, d bpf.CutDir, long time.Duration) {
	if err := x.s.k.CutFlow(p, f, d, long); err != nil {
		x.s.count.cutsFailed.Add(1)
		x.s.log.Warn("media of the origin are not cut", "session", x.id, "err", cause(err))
	}
}

// playerEnds gives the player the time to show what it has and to hang up by itself. It reports
// whether it did, with a TEARDOWN that the server answered: one that is in a hurry closes its
// connection without (GStreamer after 100 ms), and its server would send on.
func (x *ender) playerEnds() (torn bool) {
	ended := false
	look := func() bool {
		var d tracer.Detail
		d, ended = x.s.sessionEnded(x.id, x.s.now())
		torn = d.Teardown
		return ended
	}
	x.wait(max(x.d.Depth+time.Second, x.s.cfg.Drain), func() bool { return look() || torn })
	if torn {
		x.wait(answerWait, look)
	}
	return torn && ended
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

// closeFlow ends a watched control connection: RST to the server, FIN to the player, and
// nothing more in either direction, or the player's answer would provoke a RST to it.
func (x *ender) closeFlow() {
	f := x.d.Control
	if st, ok := x.s.k.TCPStats(f); ok && !closed(st) && (x.told || x.ctx.Err() == nil) {
		x.cutFlow(bpf.TCP, f, bpf.CutBoth, flowCut)
		x.forge(rstToServer(f, st))
		x.finPlayer(f)
	}
	x.flowClosed()
}

// finPlayer sends the player of a connection that is cut a FIN until it takes it. What came last
// before the cut may not have been acknowledged yet: the first FIN lies before its end then, and
// the player answers with what it has (RFC 9293 §3.10.7.4). One whose window is shut, since a server
// sends faster than it plays, takes the FIN once it has read on.
func (x *ender) finPlayer(f bpf.Flow) {
	gap := finGap
	for range finRounds {
		st, ok := x.s.k.TCPStats(f)
		if !ok || closed(st) {
			return
		}
		fin := finToTerminal(f, st, x.s.now())
		x.forge(fin)
		taken := false
		x.wait(gap, func() bool {
			st, ok = x.s.k.TCPStats(f)
			taken = !ok || closed(st) || st.ToServer.NewestAck == fin.seq+1
			return taken
		})
		if taken || x.ctx.Err() != nil {
			return
		}
		gap = min(2*gap, finGapMost)
	}
}

func (x *ender) forge(s segment) {
	if err := x.s.wire.forge(s); err != nil {
		x.s.count.forgeFailed.Add(1)
		x.s.log.Warn("connection of the origin is not closed", "session", x.id, "err", cause(err))
		return
	}
	x.s.count.forged.Add(1)
}

// flowClosed says what nothing tells any more, since the connection is cut.
func (x *ender) flowClosed() {
	now := x.s.now()
	x.s.t.StreamClosed(x.d.Control, bpf.ToServer, now)
	x.s.t.StreamClosed(x.d.Control, bpf.ToTerminal, now)
}
