package tracer

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/pion/rtp"

	"scas/bpf"
	"scas/session"
)

// mediaFlow is what a UDP flow carries.
type mediaFlow struct {
	s    *sess
	t    *track
	rtcp bool
}

// rtpHead is what is read of an RTP header.
type rtpHead struct {
	pt   uint8
	seq  session.Seq
	ts   session.RTPTime
	ssrc uint32
	size int // of the header
}

// parseRTP reads an RTP header (RFC 3550 §5.1). A cut packet is enough.
func parseRTP(b []byte) (rtpHead, bool) {
	var h rtp.Header
	n, err := h.Unmarshal(b)
	if err != nil || h.Version != 2 {
		return rtpHead{}, false
	}
	return rtpHead{h.PayloadType, session.Seq(h.SequenceNumber), session.RTPTime(h.Timestamp), h.SSRC, n}, true
}

// Datagram is one UDP packet, or its beginning.
type Datagram struct {
	Flow    bpf.Flow
	Dir     bpf.Dir
	Payload []byte // not kept
	At      time.Time
	Sampled bool // one of many: not counted
}

// Datagram takes one UDP packet of any flow.
func (d *Decoder) Datagram(g Datagram) {
	m, ok := d.media[g.Flow]
	if !ok {
		if m, ok = d.learn(g); !ok {
			return
		}
	}
	if g.Sampled {
		m.t.sampled = true
	}
	d.packet(m, g.Dir, g.Payload, g.At)
}

// learn completes a flow whose server port the SETUP reply did not say.
func (d *Decoder) learn(g Datagram) (mediaFlow, bool) {
	if len(d.learning) == 0 || g.Dir != bpf.ToTerminal {
		return mediaFlow{}, false
	}
	open := bpf.Flow{Terminal: g.Flow.Terminal, Server: netip.AddrPortFrom(g.Flow.Server.Addr(), 0)}
	m, ok := d.learning[open]
	if !ok || len(g.Payload) < 8 || g.Payload[0]&0xc0 != 0x80 {
		return mediaFlow{}, false
	}
	delete(d.learning, open)
	if m.rtcp {
		m.t.rtcp = g.Flow
	} else {
		m.t.rtp = g.Flow
	}
	d.media[g.Flow] = m
	return m, true
}

// frame takes one interleaved frame.
func (d *Decoder) frame(c *conn, dir bpf.Dir, ch uint8, payload []byte, at time.Time) {
	x, ok := c.channels[ch]
	if !ok {
		return
	}
	d.packet(mediaFlow(x), dir, payload, at)
}

// Frame takes an interleaved frame that the kernel read: payload is the beginning of the RTP
// or RTCP packet on channel ch of connection f.
func (d *Decoder) Frame(f bpf.Flow, dir bpf.Dir, ch uint8, payload []byte, at time.Time) {
	if c, ok := d.conns[f]; ok {
		c.touched = at
		if x, ok := c.channels[ch]; ok && !c.steered {
			x.t.sampled = true
			d.packet(mediaFlow(x), dir, payload, at)
		}
	}
}

// Tail takes the end of a server's segment on connection f, cut anywhere, and looks for the
// newest media in it. It reports whether there were any.
func (d *Decoder) Tail(f bpf.Flow, b []byte, at time.Time) bool {
	c, ok := d.conns[f]
	return ok && c.talk != nil && c.talk.tail(b, at)
}

// signature reports whether b begins with an RTP header of the track: version, payload type
// and SSRC (docs/positions.md, C-1).
func (t *track) signature(b []byte) bool {
	return len(b) >= 12 && b[0]&0xc0 == 0x80 && (!t.havePT || b[1]&0x7f == t.pt) &&
		t.haveSSRC && binary.BigEndian.Uint32(b[8:]) == t.ssrc
}

func (d *Decoder) packet(m mediaFlow, dir bpf.Dir, b []byte, at time.Time) {
	m.s.touched = at
	if !m.s.dormant.IsZero() {
		d.revive(m.s, at)
	}
	if d.cfg.NoRTP {
		return
	}
	switch {
	case m.rtcp && dir == bpf.ToServer:
		d.receipt(m.s, b, at)
	case m.rtcp:
		d.stats.RTCPPackets++
	case dir == bpf.ToTerminal:
		d.rtpPacket(m.s, m.t, b, at)
	}
	// Towards the server on the RTP port go hole punchers: arbitrary bytes.
}

func (d *Decoder) rtpPacket(s *sess, t *track, b []byte, at time.Time) {
	h, ok := parseRTP(b)
	if !ok {
		d.stats.Undecoded++
		return
	}
	if s.rec.State == session.Setup && !t.haveSSRC {
		// media before the 200 to PLAY (live555, VLC): believed, its SSRC too
		s.heard = true
	}
	ok, changed := t.accept(h)
	if !ok {
		return
	}
	d.stats.RTPPackets++
	prev := t.last
	t.last, s.heard = at, true
	if s.since.IsZero() {
		s.since = at
	}
	if !t.sampled {
		t.stats.packet(h.seq, h.ts, t.rate, at)
	}
	s.media(t, h, at)
	if t.mpegts && len(b) > h.size && !t.read.waiting {
		t.program.payload(b[h.size:], at)
	}
	s.runs(t, prev, at)
	if changed {
		d.changed(s, at)
	}
}

// media moves the position of a track by one packet. In a pause the place stands still, but
// what the server still sends is delivered all the same.
func (s *sess) media(t *track, h rtpHead, at time.Time) {
	switch s.rec.State {
	case session.Playing:
		doubted := t.read.doubted
		t.read.packet(s.play, h.seq, h.ts, t.rate, at)
		if doubted && !t.read.set {
			s.play.known = false // the film went elsewhere while nobody watched
		}
	case session.Paused:
		t.read.follow(h.ts, t.rate, at)
	}
}

// receipt notes a receiver report that names one of the session's sources.
func (d *Decoder) receipt(s *sess, b []byte, at time.Time) {
	d.stats.RTCPPackets++
	for len(b) >= 8 && b[0]&0xc0 == 0x80 {
		n := 4 + 4*int(binary.BigEndian.Uint16(b[2:]))
		blocks := 8
		if b[1] == 200 {
			blocks = 28
		}
		if b[1] == 200 || b[1] == 201 {
			for i := range int(b[0] & 31) {
				if o := blocks + 24*i; o+4 <= min(n, len(b)) && s.has(binary.BigEndian.Uint32(b[o:])) {
					s.receipt = at
				}
			}
		}
		b = b[min(n, len(b)):]
	}
}

func (s *sess) has(ssrc uint32) bool {
	for _, t := range s.tracks {
		if t.haveSSRC && t.ssrc == ssrc {
			return true
		}
	}
	return false
}

func (d *Decoder) watch(s *sess, t *track, f bpf.Flow, rtcp bool) {
	m := mediaFlow{s, t, rtcp}
	if f.Server.Port() == 0 {
		d.learning[f] = m
	} else {
		d.media[f] = m
	}
	w := bpf.MediaFlow{Flow: f, RTCP: rtcp, ClockRate: t.rate}
	if t.havePT {
		w.PT = []uint8{t.pt}
	}
	d.sink.Media(w)
}

func (d *Decoder) unwatch(t *track) {
	for _, f := range []bpf.Flow{t.rtp, t.rtcp} {
		if !f.Terminal.IsValid() {
			continue
		}
		delete(d.media, f)
		delete(d.learning, f)
		d.sink.MediaGone(f)
	}
	t.rtp, t.rtcp = bpf.Flow{}, bpf.Flow{}
}
