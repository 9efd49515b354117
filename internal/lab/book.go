package lab

import (
	"cmp"
	"slices"
	"time"

	"github.com/pion/rtp"

	"scas/session"
)

// Picture is one complete picture a player received.
type Picture struct {
	Number  uint32
	NPT     time.Duration
	Key     bool
	RTPTime uint32
	At      time.Time // arrival of its last packet
	Shown   time.Time // when it is on the screen; may lie ahead; zero: not yet known or never
}

// Segment is what came of one PLAY with a start, up to the next one. Numbers are exact: every
// packet's checksum was verified.
type Segment struct {
	Asked       *time.Duration // start in the request; nil: none
	Replied     *time.Duration // start in the reply; nil: none
	FirstPacket time.Time      // of any track
	LastPacket  time.Time
	Pictures    []Picture // complete ones in the order of their arrival
	Missing     []uint32  // pictures between the first and the last that are not complete
	SoundFrames int
	SoundMissed int
	// ClockError is how far a player that trusts Range and RTP-Info is from the truth at the
	// first packet of a track: Range + (timestamp - rtptime)/clock - npt. By track; no entry
	// without Range and rtptime.
	ClockError map[int]time.Duration
}

// First returns the first picture of the segment.
func (s Segment) First() (Picture, bool) {
	if len(s.Pictures) == 0 {
		return Picture{}, false
	}
	return slices.MinFunc(s.Pictures, func(a, b Picture) int { return cmp.Compare(a.Number, b.Number) }), true
}

// Last returns the last picture of the segment.
func (s Segment) Last() (Picture, bool) {
	if len(s.Pictures) == 0 {
		return Picture{}, false
	}
	return slices.MaxFunc(s.Pictures, func(a, b Picture) int { return cmp.Compare(a.Number, b.Number) }), true
}

// Bounds of what a player remembers: beyond them it plays on and keeps no books.
const (
	maxPictures = 1 << 18 // almost three hours
	maxHeld     = 4096    // packets between a PLAY and its reply
	maxPartial  = 64      // pictures begun and not complete
)

// book knows what was received and models what is shown: a picture is shown Depth after its
// place in the film follows from the first packet of its segment, or when it is complete if that
// is later; pauses shift what follows. It has no clock. Not safe for concurrent use.
type book struct {
	depth    time.Duration
	segs     []*segment
	tracks   [trackCount]trackBook
	held     []heldPacket
	holding  bool
	corrupt  int
	foreign  int
	total    int // pictures kept
	packets  uint64
	bytes    uint64
	lastSeen time.Time
}

// trackBook is the state of one RTP stream, RFC 3550 A.1 and A.3.
type trackBook struct {
	seen     bool
	ssrc     uint32
	known    bool // ssrc was announced
	first    uint64
	highest  uint64
	received uint64
	dups     int
}

type segment struct {
	Segment
	start   startInfo
	partial map[uint32]*partial
	done    map[uint32]struct{}
	sound   map[uint32]struct{}
	clocked [trackCount]bool
	pauses  []span
	origin  *Picture // the first picture that completed: where the playing clock hangs
}

type partial struct{ got map[int]struct{} }

// span is a pause; the end is zero while it lasts.
type span struct{ from, to time.Time }

type heldPacket struct {
	track int
	pkt   rtp.Packet
	size  int
	at    time.Time
}

// startInfo is what the reply to PLAY says.
type startInfo struct {
	asked, replied *time.Duration
	info           [trackCount]rtpInfo
}

// rtpInfo is one entry of RTP-Info; a field counts when its flag is set.
type rtpInfo struct {
	seq             uint16
	rtptime         uint32
	haveSeq, haveTS bool
}

func (b *book) cur() *segment {
	if len(b.segs) == 0 {
		return nil
	}
	return b.segs[len(b.segs)-1]
}

// hold keeps packets back from now on: a PLAY is on its way, and its reply decides which
// segment they belong to.
func (b *book) hold() { b.holding = true }

// release takes the packets kept back. With a start a new segment begins.
func (b *book) release(info *startInfo) {
	prev := b.cur()
	if info != nil {
		b.segs = append(b.segs, &segment{
			Segment: Segment{Asked: info.asked, Replied: info.replied, ClockError: map[int]time.Duration{}},
			start:   *info,
			partial: map[uint32]*partial{}, done: map[uint32]struct{}{}, sound: map[uint32]struct{}{},
		})
	}
	b.holding = false
	held := b.held
	b.held = nil
	for _, h := range held {
		b.place(h, prev)
	}
}

// packet takes one RTP packet.
func (b *book) packet(track int, p rtp.Packet, size int, at time.Time) {
	b.packets++
	b.bytes += uint64(size)
	b.lastSeen = at
	t := &b.tracks[track]
	if !t.known {
		t.ssrc, t.known = p.SSRC, true
	}
	if p.SSRC != t.ssrc {
		b.foreign++
		return
	}
	t.count(p.SequenceNumber)
	h := heldPacket{track, p, size, at}
	if b.holding {
		if len(b.held) < maxHeld {
			h.pkt.Payload = slices.Clone(p.Payload)
			b.held = append(b.held, h)
		}
		return
	}
	var prev *segment
	if n := len(b.segs); n > 1 {
		prev = b.segs[n-2]
	}
	b.place(h, prev)
}

// count keeps the statistics of a receiver report.
func (t *trackBook) count(seq uint16) {
	if !t.seen {
		t.seen, t.first, t.highest = true, 1<<16|uint64(seq), 1<<16|uint64(seq)
	}
	t.highest = max(t.highest, session.Seq(seq).Extend(t.highest))
	t.received++
}

// lost returns how many packets of the track did not come.
func (t *trackBook) lost() int64 {
	if !t.seen {
		return 0
	}
	return int64(t.highest-t.first) + 1 - int64(t.received)
}

// place puts a packet into its segment: what is before the seq of RTP-Info was sent for the PLAY
// before.
func (b *book) place(h heldPacket, prev *segment) {
	seg := b.cur()
	if seg == nil {
		return // media before any PLAY
	}
	info := seg.start.info[h.track]
	if prev != nil && info.haveSeq && session.Seq(h.pkt.SequenceNumber).Before(session.Seq(info.seq)) {
		seg = prev
	}
	stamp, err := ReadStamp(h.pkt.Payload)
	if err != nil || stamp.Track != h.track {
		b.corrupt++
		return
	}
	if prev != nil && !info.haveSeq && seg != prev && seg.FirstPacket.IsZero() && prev.continues(stamp) {
		seg = prev // nothing but its place in the film tells that it is late
	}
	seg.take(b, h, stamp)
}

// continues reports whether a packet is the next of what the segment has.
func (s *segment) continues(st Stamp) bool {
	if st.Track == AudioTrack {
		_, same := s.sound[st.Number]
		_, next := s.sound[st.Number-1]
		return same || next
	}
	_, same := s.done[st.Number]
	_, next := s.done[st.Number-1]
	_, part := s.partial[st.Number]
	return same || next || part
}

// take keeps the books of one good packet.
func (s *segment) take(b *book, h heldPacket, st Stamp) {
	if s.FirstPacket.IsZero() {
		s.FirstPacket = h.at
	}
	s.LastPacket = h.at
	s.checkClock(h, st)
	if st.Track == AudioTrack {
		if _, dup := s.sound[st.Number]; dup {
			b.tracks[AudioTrack].dups++
		}
		if len(s.sound) < maxPictures {
			s.sound[st.Number] = struct{}{}
		}
		return
	}
	if _, dup := s.done[st.Number]; dup {
		b.tracks[VideoTrack].dups++
		return
	}
	p := s.partial[st.Number]
	if p == nil {
		if len(s.partial) >= maxPartial {
			clear(s.partial)
		}
		p = &partial{got: map[int]struct{}{}}
		s.partial[st.Number] = p
	}
	if _, dup := p.got[st.Fragment]; dup {
		b.tracks[VideoTrack].dups++
		return
	}
	p.got[st.Fragment] = struct{}{}
	if len(p.got) < st.Fragments {
		return
	}
	delete(s.partial, st.Number)
	if b.total >= maxPictures {
		return
	}
	b.total++
	s.done[st.Number] = struct{}{}
	pic := Picture{Number: st.Number, NPT: st.NPT, Key: st.Key, RTPTime: h.pkt.Timestamp, At: h.at}
	s.Pictures = append(s.Pictures, pic)
	if s.origin == nil {
		s.origin = &pic
	}
}

// checkClock compares what Range and RTP-Info promise with the truth, once per track.
func (s *segment) checkClock(h heldPacket, st Stamp) {
	info := s.start.info[h.track]
	if s.clocked[h.track] || !info.haveTS || s.Replied == nil {
		return
	}
	s.clocked[h.track] = true
	d := session.RTPTime(h.pkt.Timestamp).Sub(session.RTPTime(info.rtptime))
	says := *s.Replied + session.Ticks(d, uint32(clockRate(h.track)), 1)
	s.ClockError[h.track] = says - st.NPT
}
