package splice

import (
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/rtsp"
)

const (
	pollEvery = 5 * time.Millisecond // of the kernel's record while a reply is held
	queueMax  = 1 << 20              // bytes that may wait behind a held reply
	// lieAbove is how far an rtptime may be from the first packet: servers that round are off
	// by 0.1 s, those that lie by the whole start (rtsp-in-the-wild §1.1, §6.12).
	lieAbove = time.Second
)

// first is the first packet of a track since the start request.
type first struct {
	seq     session.Seq
	rtptime session.RTPTime
}

// frames are the first interleaved packets by channel since the start request went out, for
// servers that send media before the reply.
type frames struct {
	channels [8]uint8
	first    [8]first
	n        int
}

func (f *frames) note(x frame) {
	if _, ok := f.get(x.channel); ok || f.n == len(f.first) {
		return
	}
	f.channels[f.n], f.first[f.n] = x.channel, first{x.seq, x.rtptime}
	f.n++
}

func (f *frames) get(channel uint8) (first, bool) {
	for i := range f.n {
		if f.channels[i] == channel {
			return f.first[i], true
		}
	}
	return first{}, false
}

// heldTrack is a track whose rtptime in the reply is to be checked.
type heldTrack struct {
	entry   int // in RTP-Info
	rtptime session.RTPTime
	seq     session.Seq
	haveSeq bool
	channel int      // -1: UDP
	flow    bpf.Flow // of RTP over UDP
	rate    uint32
	first   first
	seen    bool
}

// take notes a packet of the track unless it is known to be older than the start.
func (t *heldTrack) take(p first) {
	if t.seen || t.haveSeq && p.seq.Before(t.seq) {
		return
	}
	t.first, t.seen = p, true
}

// hold is a reply to a start request that waits for the first packet of each track. It is
// owned by the goroutine of the way down.
type hold struct {
	m      *rtsp.Message
	tracks []heldTrack
	queue  []byte // what came after the reply
	media  bool   // media are among it
	end    time.Time
	check  time.Time // next look at the kernel's record; zero with interleaved media
}

// newHold returns nil when there is nothing that could be checked.
func newHold(r *relay, m *rtsp.Message, early frames) *hold {
	info, err := rtsp.ParseRTPInfo(m.Get("RTP-Info"))
	if err != nil || r.s.cfg.ReplyHold == 0 {
		return nil
	}
	h := &hold{m: m, end: time.Now().Add(r.s.cfg.ReplyHold)}
	for i, e := range info {
		t, ok := r.heldTrack(m.Get("Session"), e.URL)
		if !ok || e.RTPTime == nil || t.rate == 0 {
			continue
		}
		t.entry, t.rtptime = i, session.RTPTime(*e.RTPTime)
		if e.Seq != nil {
			t.seq, t.haveSeq = session.Seq(*e.Seq), true
		}
		if t.channel < 0 {
			h.check = time.Now()
		} else if p, ok := early.get(uint8(t.channel)); ok {
			t.take(p)
		}
		h.tracks = append(h.tracks, t)
	}
	if len(h.tracks) == 0 || h.seen() {
		h.end = time.Now()
	}
	if len(h.tracks) == 0 {
		return nil
	}
	return h
}

// heldTrack returns what is known of the track that an RTP-Info entry names.
func (r *relay) heldTrack(sessionHeader, url string) (heldTrack, bool) {
	d, _, ok := r.s.sessionOn(r.flow, sessionHeader)
	if !ok {
		return heldTrack{}, false
	}
	for _, t := range d.Tracks {
		if rtsp.MatchControl(url, d.BaseURL, t.Control) {
			return heldTrack{channel: t.Channel, flow: t.RTP, rate: t.ClockRate}, true
		}
	}
	return heldTrack{}, false
}

// frame takes an interleaved packet that came while the reply is held.
func (h *hold) frame(f frame) {
	h.media = true
	for i := range h.tracks {
		if h.tracks[i].channel == int(f.channel) {
			h.tracks[i].take(first{f.seq, f.rtptime})
		}
	}
}

// seen reports whether every track has its first packet.
func (h *hold) seen() bool {
	for _, t := range h.tracks {
		if !t.seen {
			return false
		}
	}
	return true
}

func (h *hold) full() bool { return len(h.queue) > queueMax }

// next returns when poll is to be called.
func (h *hold) next() time.Time {
	if !h.check.IsZero() && h.check.Before(h.end) {
		return h.check
	}
	return h.end
}

// poll looks at the kernel's record of UDP media. It reports whether the reply is to go.
func (h *hold) poll(r *relay, now time.Time) bool {
	for i := range h.tracks {
		t := &h.tracks[i]
		if t.channel >= 0 || t.seen {
			continue
		}
		if m, ok := r.s.k.MediaStats(t.flow); ok && m.HaveFirst {
			t.take(first{session.Seq(m.FirstSeq), session.RTPTime(m.FirstRTPTime)})
			t.take(first{session.Seq(m.ExtSeq), session.RTPTime(m.RTPTime)}) // the first one was stale
		}
	}
	if !h.check.IsZero() {
		h.check = now.Add(pollEvery)
	}
	return h.seen() || !now.Before(h.end)
}

// reply returns the bytes of the reply, with seq and rtptime of the first packet for every
// track whose announced ones lie.
func (h *hold) reply(s *Splicer) []byte {
	if !h.seen() {
		s.count.repliesLate.Add(1)
	}
	before := len(h.m.Marshal())
	if repairReply(h.m, h.tracks) {
		s.count.repliesRepaired.Add(1)
	}
	out := h.m.Marshal()
	if d := len(out) - before; d >= 0 {
		s.count.inserted.Add(uint64(d))
	} else {
		s.count.dropped.Add(uint64(-d))
	}
	return out
}
