// Package tracer turns bytes into facts: which sessions there are, what they play, and where
// in it each viewer is.
//
// Its Decoder is pure: no socket, no goroutine, no clock of its own. Sources feed it: the ring
// buffer of the kernel and the relayed bytes of the splicer (Live), capture files (ReadFile), a network
// interface (Capture). It refuses to change a byte, to hold one up, and to guess: what it cannot
// read is counted, and a position it is not sure of says so.
//
// Specifications: RFC 2326 and RFC 7826 (through tracer/rtsp), RFC 3550, RFC 4566, RFC 2250,
// and how real servers depart from them (docs/positions.md).
package tracer

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"scas/bpf"
	"scas/session"
)

// Config says how a Decoder reads.
type Config struct {
	Gateway  string                 // name of this node, for the records
	Prefix   string                 // of session ids, so that they stay unique over restarts; default "s"
	Services map[uint16]bpf.Service // service ports of servers
	// AnyPort reads every TCP connection whose first bytes are RTSP, and takes the side that
	// opened it for the terminal. For captures; default false.
	AnyPort bool
	// NoRTP ignores all media, as if it were encrypted: positions come from the clock.
	NoRTP    bool
	Profiles []Profile // default DefaultProfiles()
	// IPv6Prefix is the length that makes two IPv6 addresses one terminal; default 64.
	IPv6Prefix int
	// Name gives a terminal's name and its user's address of record; either may be empty.
	Name func(netip.Addr) (name, aor string)
}

// Sink takes what a Decoder finds. Calls come from within the Decoder's methods: a Sink must
// not call back.
type Sink interface {
	// Session is called on every change of state or of the facts of a session.
	Session(session.Record)
	// Media is called for each media flow a SETUP reply names.
	Media(bpf.MediaFlow)
	// MediaGone is called when a flow named before is not watched any more.
	MediaGone(bpf.Flow)
	// Channels is called when the interleaved channels of a connection are known.
	Channels(bpf.Flow, []bpf.Channel)
	// Playing is called for each media flow (UDP) or connection (interleaved) of a session when a
	// PLAY was answered: the next packet is wanted soon.
	Playing(bpf.Flow)
	// Replied is called when every request of a connection was answered.
	Replied(bpf.Flow)
	// Foreign is called for a connection that carries nothing for us.
	Foreign(bpf.Flow)
}

// Stats counts what a Decoder saw.
type Stats struct {
	Sessions, Packets, Bytes, RTPPackets, RTCPPackets, Undecoded, Gaps, Refused uint64
	OverShare                                                                   uint64 // of them and others: too much for one terminal
	MediaPackets                                                                uint64 // of MMS
	Fragments                                                                   uint64 // of IP, but for the first of each packet
	NotIP                                                                       uint64 // frames with neither IPv4 nor IPv6, as far as is seen
}

// Bounds on what terminals can make a Decoder keep.
const (
	maxConns    = 200_000
	maxSessions = 200_000
	maxContents = 4096
	maxPath     = 32             // parts of a track's URL behind that of its description
	maxTracks   = 32             // of one session
	maxSDP      = 64 << 10       // bytes of a description
	maxTimeout  = 24 * time.Hour // that a server may give a session
	idleConn    = 2 * time.Hour
	idleUnread  = 2 * time.Minute // of a connection that nothing is read on: a bare SYN, a foreign one
)

// Decoder reads signalling and media and keeps the sessions in them. Not safe for concurrent
// use.
type Decoder struct {
	cfg       Config
	sink      Sink
	whole     bool        // every segment of a connection is there, but for what was lost on the way up
	exact     func(*sess) // reads what is counted elsewhere, before a session ends; nil: nothing is
	conns     map[bpf.Flow]*conn
	sessions  map[sessKey]*sess
	byID      map[string]*sess
	media     map[bpf.Flow]mediaFlow // UDP, RTP and RTCP
	learning  map[bpf.Flow]mediaFlow // the same with server port 0: not known yet
	contents  map[contentKey]*content
	holdings  map[netip.Addr]*holding // by the address that stands for the terminal's
	waiting   []*sess                 // whose change is told with the next Tick
	protocols []protocol
	ids       uint64
	turns     uint64 // requests of MMSH so far
	swept     time.Time
	kept      int    // unread bytes of all connections
	mostKept  int    // they may be
	read      uint64 // bytes that the grammar of RTSP looked at, again and again where they came in pieces
	stats     Stats
}

type contentKey struct {
	terminal netip.Addr
	url      string
}

// NewDecoder returns a Decoder that reports to sink.
func NewDecoder(cfg Config, sink Sink) *Decoder {
	if cfg.Prefix == "" {
		cfg.Prefix = "s"
	}
	if cfg.IPv6Prefix == 0 {
		cfg.IPv6Prefix = 64
	}
	if len(cfg.Profiles) == 0 {
		cfg.Profiles = DefaultProfiles()
	}
	if cfg.Name == nil {
		cfg.Name = func(netip.Addr) (string, string) { return "", "" }
	}
	return &Decoder{
		cfg: cfg, sink: sink,
		conns:     map[bpf.Flow]*conn{},
		sessions:  map[sessKey]*sess{},
		byID:      map[string]*sess{},
		media:     map[bpf.Flow]mediaFlow{},
		learning:  map[bpf.Flow]mediaFlow{},
		contents:  map[contentKey]*content{},
		holdings:  map[netip.Addr]*holding{},
		protocols: protocols(),
		mostKept:  maxKept,
	}
}

// Stats returns the counters so far.
func (d *Decoder) Stats() Stats { return d.stats }

// TCP flags of a Segment.
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	ACK = 0x10
)

// Segment is one TCP segment of a control connection, or a part of one.
type Segment struct {
	Flow    bpf.Flow
	Dir     bpf.Dir
	Seq     uint32 // of the first payload byte; of the SYN itself in a SYN
	Ack     uint32 // valid with the flag
	Flags   uint8
	Payload []byte // not kept
	At      time.Time
	// Skip says that the bytes between the segment before and this one were left out on
	// purpose (they were interleaved media).
	Skip bool
}

// Segment takes one TCP segment, in any order.
func (d *Decoder) Segment(s Segment) {
	was := d.conns[s.Flow]
	c := d.conn(s.Flow, s.At, s.Flags&(SYN|ACK) == SYN && (was == nil || !was.toServer.order.late(s.Seq)))
	if c == nil || d.early(c, s) {
		return
	}
	d.segment(c, s)
	if d.conns[s.Flow] == c {
		d.ripe(c, s.At)
		d.account(c)
	}
}

func (d *Decoder) segment(c *conn, s Segment) {
	h := c.half(s.Dir)
	if s.Flags&SYN != 0 {
		h.order.syn(s.Seq)
		h.synced = true
		return
	}
	joined := !h.order.started
	h.order.add(s.Seq, s.Payload, s.At, s.Skip, func(b []byte, at time.Time, hole bool) {
		switch {
		case hole && joined:
			d.stats.Gaps++ // what was before is not known
		case hole && !s.Skip:
			d.gap(c, s.Dir, at)
		}
		d.bytes(c, s.Dir, b, at, hole)
	})
	if s.Flags&ACK != 0 && (d.whole || len(c.half(1-s.Dir).order.held) > 0) {
		c.half(1-s.Dir).order.ack(s.Ack, s.At, d.late(c, 1-s.Dir))
	}
	if s.Flags&(FIN|RST) != 0 {
		d.flush(c, s.At)
		d.closed(c, s.Dir, s.Flags&RST != 0, s.At)
	}
}

// late returns what takes the bytes behind a hole that is given up.
func (d *Decoder) late(c *conn, dir bpf.Dir) func(b []byte, at time.Time, hole bool) {
	return func(b []byte, at time.Time, hole bool) {
		if hole {
			d.gap(c, dir, at)
		}
		d.bytes(c, dir, b, at, hole)
	}
}

// flush hands over what is held back on a connection: nothing more comes.
func (d *Decoder) flush(c *conn, at time.Time) {
	d.ripe(c, at.Add(reorderFor+1))
	for _, dir := range []bpf.Dir{bpf.ToServer, bpf.ToTerminal} {
		c.half(dir).order.flush(at, d.late(c, dir))
	}
}

// finish is the end of a capture: what is held back is read, and who left does not return.
func (d *Decoder) finish(at time.Time) {
	for _, c := range d.conns {
		d.flush(c, at)
	}
	for _, s := range d.inOrder() {
		if s.film != nil && !s.film.left.IsZero() {
			d.end(s, at)
		}
	}
	d.tellLate(at)
}

// inOrder returns the sessions that are not over, as they opened.
func (d *Decoder) inOrder() []*sess {
	all := make([]*sess, 0, len(d.sessions))
	for _, s := range d.sessions {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *sess) int { return cmp.Compare(a.number, b.number) })
	return all
}

// Stream takes bytes the splicer relays on flow f, in order.
func (d *Decoder) Stream(f bpf.Flow, dir bpf.Dir, b []byte, at time.Time) {
	c := d.conn(f, at, false)
	if c == nil {
		return
	}
	c.steered = true
	if !d.mayRead(c, dir, at) {
		return
	}
	c.half(dir).synced = c.half(dir).synced || len(c.half(dir).buf) == 0 && !c.gaps
	d.bytes(c, dir, b, at, false)
	d.account(c)
}

// StreamClosed says that one direction of a relayed connection ended.
func (d *Decoder) StreamClosed(f bpf.Flow, dir bpf.Dir, at time.Time) {
	if c, ok := d.conns[f]; ok {
		d.closed(c, dir, false, at)
	}
}

// conn returns the connection of a flow; a SYN starts a new one. It is nil when the table is
// full.
func (d *Decoder) conn(f bpf.Flow, at time.Time, fresh bool) *conn {
	c, ok := d.conns[f]
	if ok && !fresh {
		return c
	}
	if ok {
		d.forget(c, at)
	}
	h := d.holds(f.Terminal.Addr())
	if !d.roomFor(len(d.conns), maxConns, h.conns, shareConns) {
		return nil
	}
	h.conns++
	c = &conn{flow: f, touched: at}
	d.conns[f] = c
	return c
}

// closed handles FIN and RST.
func (d *Decoder) closed(c *conn, dir bpf.Dir, reset bool, at time.Time) {
	c.half(dir).closed = true
	if c.talk != nil {
		c.talk.closed(dir, reset, at)
	}
	if c.toServer.closed && c.toViewer.closed || reset {
		d.forget(c, at)
	}
}

// forget drops a connection; its sessions stay until they end.
func (d *Decoder) forget(c *conn, at time.Time) {
	if c.talk != nil {
		c.talk.forgotten(at)
	}
	d.charge(c, 0)
	if d.conns[c.flow] == c {
		d.holds(c.flow.Terminal.Addr()).conns--
		delete(d.conns, c.flow)
	}
}

func (d *Decoder) notOurs(c *conn) {
	c.speaks = speaksOther
	d.sink.Foreign(c.flow)
}

func (d *Decoder) newID() (string, uint64) {
	d.ids++
	return fmt.Sprintf("%s%d", d.cfg.Prefix, d.ids), d.ids
}

// end ends a session and stops watching its media.
func (d *Decoder) end(s *sess, at time.Time) {
	if s.rec.State == session.Ended {
		return
	}
	if d.exact != nil {
		d.exact(s)
	}
	if s.rec.State == session.Playing {
		s.pausePlay(at)
	}
	s.rec.State = session.Ended
	for _, t := range s.tracks {
		d.unwatch(t)
	}
	d.leave(s)
	d.changed(s, at)
}

// Tick ends what has gone silent. Sources call it about once a second, with their own time.
func (d *Decoder) Tick(now time.Time) {
	if now.Sub(d.swept) < time.Second {
		return
	}
	d.swept = now
	d.tellLate(now)
	for _, s := range d.sessions {
		if !s.dormant.IsZero() {
			if now.Sub(s.dormant) > dormantFor {
				d.drop(s)
			}
			continue
		}
		if s.film != nil && s.film.gone(now) {
			d.end(s, now)
			continue
		}
		silent := now.Sub(s.touched)
		if s.serving && silent > 10*time.Second || silent > 2*s.timeout+time.Minute {
			d.end(s, now)
		}
	}
	for _, c := range d.conns {
		d.lost(c, now)
		if idle := now.Sub(c.touched); idle > idleConn || c.speaks != speaksOurs && idle > idleUnread {
			d.forget(c, now)
		}
	}
	d.forgetHoldings(now)
}

// Forget drops an ended session; its id is not used again.
func (d *Decoder) Forget(id string) {
	if s, ok := d.byID[id]; ok && s.rec.State == session.Ended {
		delete(d.byID, id)
	}
}

// Positions calls fn for each playing session with its position at now, in the order of
// their ids.
func (d *Decoder) Positions(now time.Time, fn func(id string, p session.Position)) {
	for _, s := range d.inOrder() {
		if s.rec.State != session.Playing || !s.dormant.IsZero() {
			continue
		}
		if p := s.position(now); p != nil {
			fn(s.rec.ID, *p)
		}
	}
}
