package tracer

import (
	"time"

	"scas/bpf"
	"scas/session"
)

// track is one media stream of a session: where its packets travel, and what they say.
type track struct {
	id       int
	media    string
	codec    string
	language string
	control  string // absolute URL
	rate     uint32
	pt       uint8
	havePT   bool
	mpegts   bool

	channel int // of interleaved RTP; -1 for UDP
	rtp     bpf.Flow
	rtcp    bpf.Flow

	ssrc     uint32
	haveSSRC bool
	probe    uint32 // a new SSRC on probation, and the sequence number it has to go on with
	probeSeq session.Seq
	probing  bool

	stats   reception
	sampled bool // the kernel counts; what comes up are samples
	read    reading
	program program
	last    time.Time // arrival of the newest packet
}

// maxDropout is how many packets may be missing between two that vouch for a new SSRC
// (RFC 3550 A.1, MAX_DROPOUT); samples leave gaps.
const maxDropout = 3000

// accept reports whether a packet belongs to the track: the payload type of the SDP, and the
// SSRC of the Transport header or of the first packet. Another SSRC has to show two packets
// in a row first (RFC 3550 A.1): whatever else is sent to the port is not ours.
func (t *track) accept(h rtpHead) (ok, changed bool) {
	if t.havePT && h.pt != t.pt {
		return false, false
	}
	if !t.haveSSRC {
		t.ssrc, t.haveSSRC = h.ssrc, true
		return true, true
	}
	if h.ssrc == t.ssrc {
		t.probing = false
		return true, false
	}
	if d := h.seq.Sub(t.probeSeq); t.probing && t.probe == h.ssrc && d >= 0 && d < maxDropout {
		t.ssrc, t.probing = h.ssrc, false
		t.stats = reception{}
		return true, true
	}
	t.probe, t.probeSeq, t.probing = h.ssrc, h.seq.Add(1), true
	return false, false
}

// reception counts the packets of one SSRC (RFC 3550 §6.4.1, A.3, A.8).
type reception struct {
	packets uint64
	base    uint64 // first extended sequence number
	max     uint64
	transit int64   // relative transit time in ticks
	jitter  float64 // ticks
}

func (r *reception) packet(seq session.Seq, ts session.RTPTime, rate uint32, at time.Time) {
	if r.packets == 0 {
		r.base = uint64(seq) + 1<<16 // room for packets that were sent before the first
		r.max = r.base
	}
	r.packets++
	if ext := seq.Extend(r.max); ext > r.max {
		r.max = ext
	}
	arrival := int64(uint32(at.UnixNano() / int64(time.Microsecond) * int64(rate) / 1e6))
	transit := int64(int32(uint32(arrival) - uint32(ts)))
	if r.packets > 1 {
		d := float64(int32(transit - r.transit))
		if d < 0 {
			d = -d
		}
		r.jitter += (d - r.jitter) / 16
	}
	r.transit = transit
}

func (r *reception) lost() int64 {
	if r.packets == 0 {
		return 0
	}
	return int64(r.max-r.base+1) - int64(r.packets)
}

// record returns the track as the session record shows it.
func (t *track) record() session.Track {
	x := session.Track{ID: t.id, Media: t.media, Codec: t.codec, ClockRate: t.rate, Packets: t.stats.packets, Lost: t.stats.lost()}
	if t.language != "" {
		x.Language = session.Ptr(t.language)
	}
	if t.haveSSRC {
		x.SSRC = session.Ptr(t.ssrc)
	}
	if t.rate > 0 {
		x.Jitter = t.stats.jitter / float64(t.rate)
	}
	return x
}
