package tracer

import (
	"math"
	"time"

	"scas/session"
)

// Tolerances of the arbitration between the readings of a PLAY reply. Servers lie in known
// ways; the figures behind the choices are measured.
const (
	early     = 500 * time.Millisecond  // a first packet may be this much before rtptime says
	late      = 1500 * time.Millisecond // and this much after what its arrival explains
	absolute  = time.Second             // rtptime of npt 0: the first packet is off by the start itself
	staleFor  = time.Second             // a packet of the old place may come this long after the reply
	jumpAtAll = 5 * time.Second         // ticks and arrival apart by this much: another time base
	sparse    = 200 * time.Millisecond  // no stream has packets as rare as this
	oldSeqFor = 2 * time.Second         // a seq of RTP-Info that never comes is ignored after this
	lagFor    = 1600 * time.Millisecond // VLC's server sends the old place this long after a reply
	backwards = 300 * time.Millisecond  // a step back that is no B-frame
)

// play is one PLAY and its reply: from where, since when, how fast.
type play struct {
	start   session.NPT   // where the reply says, or else where the request or the pause says
	known   bool          // start is known; false for live sources
	scale   float64       // media seconds per second of RTP time
	speed   float64       // what Speed was asked for; 1 when none was
	at      time.Time     // arrival of the reply
	first   bool          // the first PLAY of the session
	sought  bool          // the request named another place
	resumed bool          // the request named no place
	assumed bool          // its reply was not seen; at is the request's arrival
	lags    bool          // the server goes on sending the old place for a while (VLC)
	vague   time.Duration // least ± of what the reply says
}

// reading is how a track's RTP timestamps map to media time since one PLAY.
type reading struct {
	// from RTP-Info of the reply
	seq0    session.Seq
	haveSeq bool
	rt0     session.RTPTime
	haveRT  bool

	waiting  bool // no packet of this PLAY yet
	doubted  bool // the anchor is from before a restart
	set      bool // anchor is valid
	anchor   session.Anchor
	first    session.NPT // media time of the first packet of this PLAY
	firstAt  time.Time
	firstTS  session.RTPTime
	firstSeq session.Seq
	err      time.Duration // honest ± of what anchor gives

	last   session.NPT // newest media time: the maximum since the last jump (B-frames)
	lastTS session.RTPTime
	lastAt time.Time
	newest session.RTPTime // of the newest packet, for jumps

	newestSeq session.Seq
}

// begin starts waiting for the packets of a new PLAY.
func (r *reading) begin() {
	*r = reading{waiting: true, last: r.last, lastTS: r.lastTS, lastAt: r.lastAt, newest: r.newest, newestSeq: r.newestSeq, set: r.set, anchor: r.anchor, err: r.err}
}

// packet takes one RTP packet of the track and updates what r says.
func (r *reading) packet(p play, seq session.Seq, ts session.RTPTime, rate uint32, at time.Time) {
	packets := seq.Sub(r.newestSeq)
	r.newestSeq = seq
	if rate == 0 || !p.known {
		r.lastAt, r.newest = at, ts
		return
	}
	if r.waiting {
		old := r.haveSeq && seq.Before(r.seq0) && at.Sub(p.at) < oldSeqFor
		lag := p.lags && at.Sub(p.at) < lagFor && session.Ticks(ts.Sub(r.newest), rate, 1) > -backwards
		if old || lag {
			r.follow(ts, rate, at)
			return
		}
		r.choose(p, seq, ts, rate, at)
		return
	}
	if r.doubted {
		r.doubted, r.set = false, r.fits(ts, rate, at)
	}
	if !r.set || r.overtaken(seq, at) {
		return
	}
	r.settleSpeed(p, ts, rate, at)
	ticks := session.Ticks(ts.Sub(r.newest), rate, r.anchor.Scale)
	off := ticks - at.Sub(r.lastAt)
	switch {
	case r.staleStart(p, ticks, at):
		r.at(p.start, ts, rate, p.scale, at)
		r.err = 200 * time.Millisecond
	case off.Abs() > jumpAtAll && ticks.Abs() > jumpAtAll && !ahead(ticks, packets):
		// Another time base without a PLAY (new SSRC, a spliced stream): go on from here.
		r.at(r.last.Add(at.Sub(r.lastAt)), ts, rate, r.anchor.Scale, at)
		r.err = max(r.err, 200*time.Millisecond)
	default:
		r.advance(ts, at)
		if r.last.Sub(r.first) > at.Sub(r.firstAt)+burst {
			r.err = max(r.err, 500*time.Millisecond) // faster than real time
		}
	}
}

// overtaken reports whether a packet was sent before the first one of this PLAY and comes after it:
// its timestamp is of the place before.
func (r *reading) overtaken(seq session.Seq, at time.Time) bool {
	d := seq.Sub(r.firstSeq)
	return d < 0 && d > -maxDropout && at.Sub(r.firstAt) < oldSeqFor
}

// ahead reports whether so many packets carry so much media: then a server sent faster than
// real time, and of hundreds of packets one was looked at. Both are negative for one that was
// sent before: the kernel's newest may be known already.
func ahead(media time.Duration, packets int) bool {
	if packets < 0 {
		media, packets = -media, -packets
	}
	return media > 0 && media < 10*time.Minute && packets > 0 && media/time.Duration(packets) < sparse
}

// follow goes on with the anchor of the PLAY before, as long as the packet fits it: live555
// and VLC send some packets between PAUSE and the next reply, and the clock may have jumped.
func (r *reading) follow(ts session.RTPTime, rate uint32, at time.Time) {
	if r.set && session.Ticks(ts.Sub(r.newest), rate, 1).Abs() < time.Second {
		r.advance(ts, at)
	}
}

// choose picks the reading of the reply that the first packet agrees with.
func (r *reading) choose(p play, seq session.Seq, ts session.RTPTime, rate uint32, at time.Time) {
	r.waiting, r.set = false, true
	r.firstAt, r.firstTS, r.firstSeq = at, ts, seq
	npt, errIs := p.start, 100*time.Millisecond
	if r.haveRT {
		d := session.Ticks(ts.Sub(r.rt0), rate, p.scale)
		switch {
		case d > -early && d < at.Sub(p.at)+late:
			npt = p.start.Add(d) // the reply is right
		case p.start > session.NPT(absolute) && (d-time.Duration(p.start)).Abs() < absolute+max(at.Sub(p.at), 0):
			npt = session.NPT(d) // rtptime is that of npt 0; the first packet looked at may be a late one
		case r.haveSeq && ahead(d, seq.Sub(r.seq0)):
			npt = p.start.Add(d) // right, and faster than real time
		default:
			errIs = 300 * time.Millisecond // the first packet counts
		}
	} else {
		errIs = 200 * time.Millisecond
	}
	if p.assumed { // some time after the first packet
		npt = p.start.Add(time.Duration(float64(at.Sub(p.at)) * p.scale))
	}
	r.at(npt, ts, rate, p.scale, at)
	r.first, r.err = npt, max(errIs, p.vague)
}

// at anchors timestamp ts at media time npt.
func (r *reading) at(npt session.NPT, ts session.RTPTime, rate uint32, scale float64, at time.Time) {
	r.anchor = session.Anchor{NPT: npt, RTPTime: ts, Rate: rate, Scale: scale}
	r.last, r.lastTS, r.newest, r.lastAt, r.set = npt, ts, ts, at, true
}

// advance moves to a later packet of the same time base.
func (r *reading) advance(ts session.RTPTime, at time.Time) {
	if ts.Sub(r.anchor.RTPTime) > 1<<30 {
		r.anchor = r.anchor.Moved(ts)
	}
	r.newest, r.lastAt = ts, at
	if npt := r.anchor.At(ts); npt > r.last || r.anchor.Scale < 0 && npt < r.last {
		r.last, r.lastTS = npt, ts
	}
}

// staleStart reports whether the packets before this one were of the old place: VLC's server
// sends some of npt 0 after a first PLAY from elsewhere, and then the timestamps jump there.
func (r *reading) staleStart(p play, jump time.Duration, at time.Time) bool {
	return p.first && p.start > session.NPT(2*absolute) && at.Sub(p.at) < staleFor+late &&
		(jump-time.Duration(p.start)).Abs() < absolute
}

// settleSpeed finds out, a second after a PLAY with Speed, whether the server compresses the
// timestamps (GStreamer does, against RFC 2326 §12.35) or quickens the delivery only.
func (r *reading) settleSpeed(p play, ts session.RTPTime, rate uint32, at time.Time) {
	wall := at.Sub(r.firstAt)
	if p.speed == 1 || wall < time.Second || wall > 2*time.Second || r.anchor.Scale != p.scale {
		return
	}
	ratio := float64(session.Ticks(ts.Sub(r.firstTS), rate, 1)) / float64(wall)
	if math.Abs(ratio-p.speed) < math.Abs(ratio-1) {
		r.anchor = session.Anchor{NPT: r.first, RTPTime: r.firstTS, Rate: rate, Scale: p.scale / p.speed}
		r.last = r.anchor.At(r.lastTS)
	}
}
