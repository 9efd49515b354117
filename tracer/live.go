package tracer

// The stages of the live source:
//
//	kernel ring buffer -> Run (one goroutine, in order) -> Decoder -> table and kernel
//	splicer's relay    -> Stream (any goroutine)        -> Decoder -> table and kernel
//
// One mutex guards the Decoder; it is held for one event at a time. The Decoder calls back
// into the kernel (a map write) and into the table from within.

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"scas/bpf"
	"scas/session"
)

// Kernel is what Live needs of the datapath; *bpf.Gateway is one.
type Kernel interface {
	Read(ctx context.Context, ev *bpf.Event) error
	WatchFlow(bpf.MediaFlow) error
	UnwatchFlow(bpf.Flow) error
	FreeMedia(bpf.Flow) error
	StopCopy(f bpf.Flow, upto uint32) error
	Ignore(bpf.Flow) error
	Channels(bpf.Flow, []bpf.Channel) error
	Sample(bpf.Flow) error
	SampleHit(bpf.Flow) error
	Reset(bpf.Flow) error
	MediaStats(bpf.Flow) (bpf.MediaStats, bool)
	TCPStats(bpf.Flow) (bpf.TCPStats, bool)
}

// Bounds on what is kept of sessions that are over.
const (
	keepEnded    = 10 * time.Minute
	maxKeptEnded = 1000
)

// Live follows the sessions of a running gateway. Safe for concurrent use.
type Live struct {
	k     Kernel
	table *session.Table
	log   *slog.Logger

	mu     sync.Mutex // guards what follows
	d      *Decoder
	ended  []ended
	taps   map[bpf.Flow]func(seq uint32, b []byte)
	failed uint64 // calls into the kernel that failed
}

type ended struct {
	id       string
	at       time.Time
	terminal netip.Addr // the address that stands for its terminal's
}

// NewLive returns a source that reads k and keeps table up to date.
func NewLive(cfg Config, k Kernel, table *session.Table, log *slog.Logger) *Live {
	l := &Live{k: k, table: table, log: log, taps: map[bpf.Flow]func(uint32, []byte){}}
	l.d = NewDecoder(cfg, liveSink{l})
	l.d.exact = l.refresh
	return l
}

// Run reads the kernel's events until ctx ends, and ages sessions once a second.
func (l *Live) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var ticks sync.WaitGroup
	ticks.Go(func() { l.age(ctx) })
	defer ticks.Wait()
	defer cancel()
	var ev bpf.Event
	for {
		err := l.k.Read(ctx, &ev)
		switch {
		case err == nil:
			l.event(&ev)
		case ctx.Err() != nil, errors.Is(err, os.ErrClosed):
			return nil
		default:
			return err
		}
	}
}

func (l *Live) age(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			l.mu.Lock()
			l.d.Tick(now)
			l.bury(now)
			l.mu.Unlock()
		}
	}
}

// bury forgets sessions that have been over for long.
func (l *Live) bury(now time.Time) {
	for len(l.ended) > 0 && (len(l.ended) > maxKeptEnded || now.Sub(l.ended[0].at) > keepEnded) {
		l.table.Forget(l.ended[0].id)
		l.d.Forget(l.ended[0].id)
		l.ended = l.ended[1:]
	}
}

// keepEnded shows a session that is over a while longer. A terminal with too many of them loses its
// oldest one.
func (l *Live) keepEnded(r session.Record) {
	x := ended{r.ID, r.Updated, l.d.maskAddr(r.Terminal.IP)}
	oldest, n := 0, 0
	for i, y := range slices.Backward(l.ended) {
		if y.terminal == x.terminal {
			oldest, n = i, n+1
		}
	}
	if n >= shareEnded {
		l.table.Forget(l.ended[oldest].id)
		l.d.Forget(l.ended[oldest].id)
		l.ended = slices.Delete(l.ended, oldest, oldest+1)
	}
	l.ended = append(l.ended, x)
}

func (l *Live) event(ev *bpf.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tapped(ev)
	switch ev.Kind {
	case bpf.EventTCP:
		l.segment(ev)
	case bpf.EventRTP:
		l.d.Datagram(Datagram{Flow: ev.Flow, Dir: ev.Dir, Payload: ev.Payload, At: ev.At, Sampled: true})
	case bpf.EventRTCP:
		if ev.Proto == bpf.TCP {
			l.d.Frame(ev.Flow, ev.Dir, ev.Channel, ev.Payload, ev.At)
			return
		}
		l.d.Datagram(Datagram{Flow: ev.Flow, Dir: ev.Dir, Payload: ev.Payload, At: ev.At})
	case bpf.EventFrame:
		l.d.Frame(ev.Flow, ev.Dir, ev.Channel, ev.Payload, ev.At)
	case bpf.EventTail:
		if c := l.d.conns[ev.Flow]; c != nil && c.toViewer.order.started && int32(ev.Seq+uint32(len(ev.Payload))-c.toViewer.order.next) <= 0 {
			return // of before the newest copy
		}
		if l.d.Tail(ev.Flow, ev.Payload, ev.At) {
			c := l.d.conns[ev.Flow]
			c.sampled, c.samples = ev.Seq+uint32(len(ev.Payload)), true
			l.check(l.k.SampleHit(ev.Flow))
		}
	}
}

// segment hands one copied segment on. The bytes between two copies of a server's direction
// were media; a new request counter says that a new copy began.
func (l *Live) segment(ev *bpf.Event) {
	c := l.d.conns[ev.Flow]
	if c != nil && c.steered {
		return // the splicer hands its bytes over
	}
	s := Segment{Flow: ev.Flow, Dir: ev.Dir, Seq: ev.Seq, Ack: ev.Ack, Flags: ev.TCPFlags, Payload: ev.Payload, At: ev.At}
	known := c != nil && c.counted
	if ev.Dir == bpf.ToTerminal {
		s.Skip = !known || ev.Requests != c.requests
	}
	newer := ev.Dir == bpf.ToTerminal || !known
	if c != nil && newer {
		c.requests, c.counted = ev.Requests, true
	}
	l.d.Segment(s)
	if made := l.d.conns[ev.Flow]; made != nil && made != c {
		made.requests, made.counted = ev.Requests, true
	}
}

// Stream takes bytes that the splicer relays on flow f, in order.
func (l *Live) Stream(f bpf.Flow, dir bpf.Dir, b []byte, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.d.Stream(f, dir, b, at)
}

// StreamClosed says that one direction of a relayed connection ended.
func (l *Live) StreamClosed(f bpf.Flow, dir bpf.Dir, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.d.StreamClosed(f, dir, at)
}

// Moved says that session id was moved away, and its control connection f ended for that: its
// player does not come back for it. A session that went on over another connection is left alone.
func (l *Live) Moved(id string, f bpf.Flow, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.d.byID[id]; ok && s.control == f {
		l.d.end(s, now)
	}
}

// Snapshot returns the sessions for Restore, the oldest first. It takes them one by one: with as many
// as a gateway may watch it takes seconds, in which events go on.
func (l *Live) Snapshot() ([]byte, error) {
	l.mu.Lock()
	all := slices.SortedFunc(maps.Values(l.d.sessions), func(a, b *sess) int { return cmp.Compare(a.number, b.number) })
	l.mu.Unlock()
	list := []byte{'['}
	for _, s := range all {
		l.mu.Lock()
		b, err := s.snapshot()
		l.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if len(list) > 1 && len(b) > 0 {
			list = append(list, ',')
		}
		list = append(list, b...)
	}
	return append(list, ']'), nil
}

// Restore takes what Snapshot gave before a restart.
func (l *Live) Restore(b []byte, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.d.Restore(b, now)
}

// Leave ends the watching of the sessions of all terminals whose address is of place: they are no
// subscribers any more. Their players go on.
func (l *Live) Leave(place netip.Prefix, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.d.sessions {
		if place.Contains(s.key.terminal) {
			l.d.end(s, now)
		}
	}
}

// Rename gives the sessions of a user the names that the user's terminals have now.
func (l *Live) Rename(aor string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.d.sessions {
		name, owner := l.d.cfg.Name(s.key.terminal)
		if s.rec.State == session.Ended || owner != aor || s.rec.Terminal.Name == name || deref(s.rec.AoR) != aor {
			continue
		}
		s.rec.Terminal.Name = name
		if s.dormant.IsZero() {
			l.d.changed(s, now)
		}
	}
}

// Stats returns the counters by name.
func (l *Live) Stats() map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.d.Stats()
	return map[string]uint64{
		"sessions": s.Sessions, "rtp_packets": s.RTPPackets, "rtcp_packets": s.RTCPPackets, "media_packets": s.MediaPackets,
		"undecoded": s.Undecoded, "gaps": s.Gaps, "refused": s.Refused, "over_share": s.OverShare, "kernel_errors": l.failed,
		"connections": uint64(len(l.d.conns)),
	}
}

func (l *Live) check(err error) {
	if err != nil {
		l.failed++
		l.log.Debug("kernel call", "err", err)
	}
}

// liveSink is the Decoder's way back into the kernel and the table. Its methods run with the
// mutex held.
type liveSink struct{ l *Live }

func (s liveSink) Session(r session.Record) {
	s.l.table.Put(r)
	if r.State == session.Ended {
		s.l.keepEnded(r)
	}
}

// Media also lifts what was left of the cut of an earlier film on the same ports: its server may
// have refused to end it.
func (s liveSink) Media(m bpf.MediaFlow) {
	s.l.check(s.l.k.FreeMedia(m.Flow))
	s.l.check(s.l.k.WatchFlow(m))
}

func (s liveSink) MediaGone(f bpf.Flow)                  { s.l.check(s.l.k.UnwatchFlow(f)) }
func (s liveSink) Channels(f bpf.Flow, ch []bpf.Channel) { s.l.check(s.l.k.Channels(f, ch)) }
func (s liveSink) Foreign(f bpf.Flow)                    { s.l.check(s.l.k.Ignore(f)) }
func (s liveSink) Playing(f bpf.Flow) {
	s.l.check(s.l.k.Reset(f))
	s.l.check(s.l.k.Sample(f))
}

func (s liveSink) Replied(f bpf.Flow) {
	if c := s.l.d.conns[f]; c != nil && c.counted {
		s.l.check(s.l.k.StopCopy(f, c.requests))
	}
}
