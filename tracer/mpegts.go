package tracer

import (
	"time"

	"scas/session"
)

// program follows the clock inside an MPEG transport stream (ISO/IEC 13818-1), whose RTP
// timestamps are sending times and say nothing of the film (RFC 2250 §2).
type program struct {
	pid     uint16 // of the track whose PTS count: the first video one, else the first seen
	video   bool
	have    bool
	first   int64 // PTS of the first access unit since PLAY, 90 kHz
	newest  int64
	firstAt time.Time

	// where the film's own clock stood in an earlier PLAY
	origin    int64 // PTS
	originNPT session.NPT
	placed    bool // they are known
}

const (
	tsPacket = 188
	tsSync   = 0x47
	ptsWrap  = int64(1) << 33
)

// begin forgets the PTS seen: a new PLAY. The old one, that began at npt start, tells what PTS stand for.
func (p *program) begin(start session.NPT, known bool) {
	if p.have && known && !p.placed {
		p.origin, p.originNPT, p.placed = p.first, start, true
	}
	*p = program{origin: p.origin, originNPT: p.originNPT, placed: p.placed}
}

// payload reads the transport packets of one RTP payload, whole or cut, and reports whether
// a PTS was found.
func (p *program) payload(b []byte, at time.Time) bool {
	found := false
	for ; len(b) >= 4 && b[0] == tsSync; b = b[min(tsPacket, len(b)):] {
		pid, id, pts, ok := pesStart(b[:min(tsPacket, len(b))])
		if !ok {
			continue
		}
		video := id&0xf0 == 0xe0
		if p.have && (pid != p.pid && (p.video || !video)) {
			continue
		}
		if !p.have || pid != p.pid {
			*p = program{
				pid: pid, video: video, have: true, first: pts, newest: pts, firstAt: at,
				origin: p.origin, originNPT: p.originNPT, placed: p.placed,
			}
		}
		p.newest = max(p.newest, unwrapPTS(pts, p.newest))
		found = true
	}
	return found
}

// snap is how far before the place that was asked for a server begins: at a key frame.
const snap = 2 * time.Second

// from returns the media time of the first access unit of a PLAY that begins at start, as its reply has
// it. Servers repeat there what was asked for, and begin before; PTS of a file go on with the film.
func (p *program) from(start session.NPT) session.NPT {
	if p.follows(start) {
		return p.place()
	}
	return start
}

// follows reports whether the PTS of this PLAY go on with those of the ones before: then they tell where
// it began. Else the server wrote PTS of its own.
func (p *program) follows(start session.NPT) bool {
	d := time.Duration(start - p.place())
	return p.placed && d > -snap && d < snap
}

func (p *program) place() session.NPT {
	return p.originNPT.Add(session.Ticks(unwrapPTS(p.first, p.origin)-p.origin, 90000, 1))
}

// npt returns the media time of the newest access unit.
func (p *program) npt(start session.NPT) session.NPT {
	return p.from(start).Add(session.Ticks(p.newest-p.first, 90000, 1))
}

func unwrapPTS(pts, near int64) int64 {
	d := (pts - near) & (ptsWrap - 1)
	if d >= ptsWrap/2 {
		d -= ptsWrap
	}
	return near + d
}

// pesStart returns PID, stream id and PTS of a transport packet that starts a PES packet
// (ISO/IEC 13818-1 §2.4.3.2, §2.4.3.6).
func pesStart(b []byte) (pid uint16, streamID byte, pts int64, ok bool) {
	if b[1]&0x40 == 0 || b[3]&0x10 == 0 { // no start, or no payload
		return 0, 0, 0, false
	}
	pid = uint16(b[1]&0x1f)<<8 | uint16(b[2])
	off := 4
	if b[3]&0x20 != 0 {
		if len(b) < 5 {
			return 0, 0, 0, false
		}
		off += 1 + int(b[4])
	}
	if len(b) < off+14 {
		return 0, 0, 0, false
	}
	h := b[off:]
	if h[0] != 0 || h[1] != 0 || h[2] != 1 || h[3] < 0xc0 || h[3] > 0xef || h[6]&0xc0 != 0x80 || h[7]&0x80 == 0 {
		return 0, 0, 0, false
	}
	pts = int64(h[9]>>1&7)<<30 | int64(h[10])<<22 | int64(h[11]>>1)<<15 | int64(h[12])<<7 | int64(h[13]>>1)
	return pid, h[3], pts, true
}
