package lab

import (
	"time"

	"github.com/pion/rtp"
)

// mmsMedia sorts the packets of an MMS player. Like a decoder it shows nothing before the first
// key picture of a segment. Guarded by Player.mu.
type mmsMedia struct {
	inc     uint8 // of the StartPlaying whose packets are wanted; over MMSH all are
	waiting bool  // for the reply to it; packets that come before are of the one before
	starts  int   // StartPlaying without a reply yet
	synced  bool  // a key picture has come
	fresh   bool  // no packet has come since the start
	seqs    [trackCount]uint16

	have      bool
	firstLoc  uint32
	lastLoc   uint32
	gaps      int
	delivered time.Duration
	unknown   int
}

// begin begins a segment for a start at npt.
func (g *mmsMedia) begin(b *book, npt time.Duration) {
	info := &startInfo{asked: &npt}
	for t, seq := range g.seqs { // all that comes now is of this start
		info.info[t] = rtpInfo{seq: seq, haveSeq: true}
	}
	b.release(info)
	g.synced, g.fresh = false, true
}

// take takes one data packet.
func (g *mmsMedia) take(b *book, film *ASF, u mmsUnit, any bool, at time.Time) {
	if g.waiting || !any && u.inc != g.inc {
		return
	}
	if !g.have {
		g.have, g.firstLoc = true, u.location
	} else if !g.fresh && u.location > g.lastLoc+1 && g.lastLoc != g.firstLoc {
		g.gaps += int(u.location - g.lastLoc - 1) // the number of a first packet may be made up
	}
	g.fresh, g.lastLoc = false, u.location
	p, err := parseASFPacket(u.payload)
	if err != nil || len(u.payload) > film.PacketSize {
		b.corrupt++
		return
	}
	for _, x := range p.payloads {
		g.payload(b, film, x, at)
	}
}

// payload takes one payload of the synthetic film.
func (g *mmsMedia) payload(b *book, film *ASF, x asfPayload, at time.Time) {
	if x.timed {
		g.delivered = max(0, time.Duration(x.pts)*time.Millisecond-film.Preroll)
	}
	stamp, err := ReadStamp(x.data)
	track := x.stream - 1
	if !film.coded {
		b.packets++
		b.bytes += uint64(len(x.data))
		b.lastSeen = at
		g.unknown++
		return
	}
	if err != nil || stamp.Track != track || uint32((stamp.NPT+film.Preroll)/time.Millisecond) != x.pts {
		b.corrupt++
		return
	}
	if !g.synced && (track != VideoTrack || !stamp.Key || stamp.Fragment != 0) {
		return
	}
	g.synced = true
	h := rtp.Header{SSRC: uint32(track + 1), SequenceNumber: g.seqs[track], Timestamp: x.pts}
	g.seqs[track]++
	b.packet(track, rtp.Packet{Header: h, Payload: x.data}, len(x.data), at)
}
