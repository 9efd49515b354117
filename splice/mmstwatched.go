package splice

import (
	"slices"
	"time"

	"scas/bpf"
	"scas/tracer/mms"
)

const (
	filmEndWait = 4 * time.Second // for the end of the packet under way: retransmissions show it
	filmSettle  = 2 * time.Second // for the player to say what it has
	probeGap    = 10 * time.Millisecond
	filmAsk     = 500 * time.Millisecond // without bytes, until they are asked for again
	lastRounds  = 6                      // the last segments may be lost
	lastGap     = 50 * time.Millisecond
)

// endOfStream tells the player of a watched film that it is over, at the end of a packet, and
// ends its connection behind that. What the server sends is held up from here on, and comes up in
// copies: up to where the player has it, they tell where its packet ends, and the rest of that
// packet goes on in the server's name. It is false when that cannot be found out; then nothing was
// told, and the connection is still to be closed.
//
//	held up       settled                  told
//	server  ---packet--+--packet--+        RST
//	player  ---packet--+..........+EndOfStream FIN
//	                   ^ acknowledged
func (x *ender) endOfStream() bool {
	m, f := x.d.MMS, x.d.Control
	if m == nil || !m.HaveMedia {
		return false
	}
	if st, ok := x.s.k.TCPStats(f); !ok || closed(st) || !st.ToServer.HaveAck {
		return false
	}
	words := mms.Append(filler(uint8(m.PlayIncarnation), x.fill(mostWatchedFill)), mms.Stamp{Seq: m.ToViewerSeq + 1},
		&mms.ReportEndOfStream{PlayIncarnation: m.PlayIncarnation})
	tap := newFilmTap()
	defer x.s.t.Tap(f, tap.add)()
	if x.s.k.Copy(f) != nil {
		return false
	}
	x.cutFlow(bpf.TCP, f, bpf.CutToTerminal, filmEndWait+time.Second)
	st, ok := x.settled(f)
	asked := time.Now()
	for end := time.Now().Add(filmEndWait); ok && time.Now().Before(end); {
		at := st.ToServer.NewestAck
		from, b := tap.around(at)
		var known *uint32
		if m.HaveBoundary {
			known = &m.Boundary
		}
		if to, found := boundary(m.Media, from, b, at, known); found && room(st) >= int(to-at)+len(words) {
			return x.lastWords(f, at, append(slices.Clone(b[min(int(at-from), len(b)):][:to-at]), words...))
		}
		if time.Since(asked) >= filmAsk {
			asked = time.Now()
			_ = x.s.k.Copy(f) // an answer to the player may have ended the copies
		}
		if !x.await(nil, tap.news, lastGap) && x.ctx.Err() != nil {
			return false
		}
		st, ok = x.s.k.TCPStats(f)
		ok = ok && !closed(st)
	}
	return false
}

func closed(st bpf.TCPStats) bool { return st.ToServer.FIN || st.ToServer.RST || st.ToTerminal.RST }

// settled waits until it is sure what the player has of all that passed before the flow was held
// up: it has acknowledged all, or says twice the same when it is asked.
func (x *ender) settled(f bpf.Flow) (st bpf.TCPStats, ok bool) {
	st, ok = x.s.k.TCPStats(f)
	sent, same := st.ToTerminal.HighestSeq, 0
	for end := time.Now().Add(filmSettle); ok && time.Now().Before(end); {
		before := st.ToServer
		if int32(before.NewestAck-sent) >= 0 || same == 2 {
			return st, true
		}
		x.forge(probeToTerminal(f, st))
		x.wait(lastGap, func() bool {
			st, ok = x.s.k.TCPStats(f)
			return !ok || st.ToServer.Packets != before.Packets
		})
		ok = ok && !closed(st) && x.sleep(probeGap)
		switch {
		case st.ToServer.NewestAck != before.NewestAck:
			same = 0
		case st.ToServer.Packets != before.Packets:
			same++
		}
	}
	return st, false
}

// room returns how many bytes the player takes now. Where its SYN was not seen, its window is taken
// for one of the usual scale (watched-tcp, trap 10).
func room(st bpf.TCPStats) int {
	scale := uint8(0)
	switch {
	case !st.SynSeen:
		scale = 7
	case st.ToServer.SYN.HaveWScale && st.ToTerminal.SYN.HaveWScale:
		scale = min(st.ToServer.SYN.WScale, 14) // RFC 7323 §2.3
	}
	return int(st.ToServer.Window) << scale
}

// lastWords ends both sides of a watched film: RST to the server; to the player, from sequence
// number at on, b and FIN.
func (x *ender) lastWords(f bpf.Flow, at uint32, b []byte) bool {
	x.cutFlow(bpf.TCP, f, bpf.CutBoth, flowCut)
	st, ok := x.s.k.TCPStats(f)
	if !ok {
		return false
	}
	x.forge(rstToServer(f, st))
	all := lastToTerminal(f, st, x.s.now(), at, b)
	told := false
	for range lastRounds {
		for _, s := range all {
			x.forge(s)
		}
		x.wait(lastGap, func() bool {
			st, ok := x.s.k.TCPStats(f)
			told = ok && int32(st.ToServer.NewestAck-at) > int32(len(b))
			return told
		})
		if told || x.ctx.Err() != nil {
			break
		}
	}
	if told {
		x.s.count.streamsEnded.Add(1)
	}
	return told
}
