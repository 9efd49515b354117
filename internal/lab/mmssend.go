package lab

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"sync"
	"time"
)

// mmsSession is the books of one session: a connection of MMST, or a Play of MMSH.
type mmsSession struct {
	conn *mmsConn // nil for MMSH

	mu    sync.Mutex
	stats ServerSession
}

// change changes the books.
func (x *mmsSession) change(fn func(*ServerSession)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	fn(&x.stats)
}

// event returns an event of the session.
func (x *mmsSession) event(kind ServerEventKind) ServerEvent {
	x.mu.Lock()
	defer x.mu.Unlock()
	return ServerEvent{Kind: kind, Remote: x.stats.Remote, Session: x.stats.ID, URL: x.stats.URL, NPT: x.stats.NPT}
}

// Sessions returns the sessions that live now, the oldest first. In their packet log Number is
// the LocationId, RTPTime the send time in ms, Seq the AFFlags, and NPT the content time
// delivered with the packet.
func (s *MMSServer) Sessions() []ServerSession {
	s.mu.Lock()
	all := make([]*mmsSession, 0, len(s.sessions))
	for x := range s.sessions {
		all = append(all, x)
	}
	s.mu.Unlock()
	out := make([]ServerSession, 0, len(all))
	for _, x := range all {
		x.change(func(st *ServerSession) {
			c := *st
			c.Starts, c.Log = slices.Clone(st.Starts), slices.Clone(st.Log)
			out = append(out, c)
		})
	}
	slices.SortFunc(out, func(a, b ServerSession) int {
		return cmp.Or(cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// mmsSender sends the packets of one start; all of it runs in one goroutine.
type mmsSender struct {
	s     *MMSServer
	x     *mmsSession
	ctx   context.Context
	start int                // packet
	count uint8              // AFFlags of the next packet
	put   func([]byte) error // one packet, framed
	frame func(n int, flags uint8, packet []byte) []byte
	strip []byte
}

// run returns true when the film came to its end, false when it was stopped or the connection
// is gone.
func (w *mmsSender) run() bool {
	film := w.s.film
	w.x.change(func(st *ServerSession) {
		st.Playing = true
		st.Starts = append(st.Starts, film.Key(w.start).Seconds())
	})
	defer w.x.change(func(st *ServerSession) { st.Playing = false })
	begin, base := time.Now(), film.Send(w.start)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := w.start; n < len(film.Packets); n++ {
		due := begin.Add(film.Send(n) - base - w.s.cfg.Lead)
		if d := time.Until(due); d > 0 && !w.s.cfg.Burst {
			timer.Reset(d)
			select {
			case <-timer.C:
			case <-w.ctx.Done():
			}
		}
		if w.ctx.Err() != nil {
			return false
		}
		b := film.Packets[n]
		if !w.s.cfg.KeepPadding {
			w.strip = stripASF(w.strip[:0], b)
			b = w.strip
		}
		if w.put(w.frame(n, w.count, b)) != nil {
			return false
		}
		w.note(n, len(b))
		w.count++
	}
	return true
}

// note keeps the books of a packet that was sent.
func (w *mmsSender) note(n, size int) {
	film, limit := w.s.film, w.s.cfg.PacketLog
	p := SentPacket{
		At: time.Now(), Seq: uint16(w.count), RTPTime: uint32(film.Send(n) / time.Millisecond),
		Number: uint32(n), NPT: film.Delivered(n),
	}
	w.x.change(func(st *ServerSession) {
		st.Packets++
		st.Bytes += uint64(size)
		st.LastPacket, st.NPT = p.At, p.NPT.Seconds()
		if limit < 0 {
			return
		}
		if len(st.Log) >= 2*limit {
			st.Log = append(st.Log[:0], st.Log[len(st.Log)-limit:]...)
		}
		st.Log = append(st.Log, p)
	})
}

// startHead are the log's lines about a start.
func startHead(at int) []string { return []string{"Packet: " + strconv.Itoa(at)} }
