package tracer

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"scas/session"
	"scas/tracer/mms"
)

// Bounds of what an ASF header and its packets may make us believe.
const (
	maxFilm    = 1000 * time.Hour
	maxPreroll = time.Minute
	leastStep  = 100 * time.Millisecond // ± of a packet's time
	mostStep   = 2 * time.Second
	maxName    = 256 // bytes of a player's or a host's name
	maxURL     = 2048
	mediaJump  = 5 * time.Second // back by this much without a new start: another entry of a playlist
)

// film is the ASF content of a session, MMST or MMSH, and how far it was delivered. Times in
// packets: the send time runs from 0; presentation times have the preroll added.
type film struct {
	header  mms.Header
	pieces  []byte // of the header, until it is whole
	whole   bool   // header is valid
	preroll time.Duration
	size    uint32 // largest ASF packet
	packets uint64 // in the file; 0: unknown

	path        string // as the player asked for it
	player      filmPlayer
	openFile    uint32 // of MMST
	incarnation uint32 // of the newest StartPlaying
	talk        *mmstDialogue
	clientID    uint32 // of MMSH
	asked       mms.Pragma
	turn        uint64 // of the newest Play

	// since the newest start
	inc      uint8 // incarnation of its data packets
	haveInc  bool
	rewinds  bool
	waiting  bool // none of its packets came yet
	seen     bool // one came
	start    session.NPT
	startAt  time.Time // arrival of the first packet
	last     session.NPT
	lastAt   time.Time
	passedAt time.Time // of the newest bytes behind the newest packet seen
	ran      time.Time // so much had come then that the player began to run; zero: not yet
	lastSend time.Duration
	location uint32
	step     time.Duration // widest gap between two packets in a row
	sampled  bool          // packets come as samples
	ahead    time.Duration // by how much the bytes behind the newest packet seen carry on
	counted  bool          // ahead is valid
	over     time.Time     // the stream ended; zero: it did not
	left     time.Time     // the terminal closed the connection, and may open another one; zero: it is there
}

// piece takes a piece of the header, and reports whether the header is whole now.
func (f *film) piece(flags uint8, b []byte) bool {
	if len(f.pieces)+len(b) > mms.MaxHeader {
		f.pieces = nil
		return true // not to be had
	}
	f.pieces = append(f.pieces, b...)
	n, err := mms.HeaderSize(f.pieces)
	if flags&mms.FlagSingle == 0 && (err != nil || len(f.pieces) < n) {
		return false
	}
	h, err := mms.ParseHeader(f.pieces)
	f.pieces = nil
	if err == nil {
		f.header, f.whole = h, true
		f.preroll, f.size, f.packets = min(h.Preroll, maxPreroll), h.PacketSize, h.PacketCount
		if h.Broadcast {
			f.packets = 0
		}
	}
	return true
}

// describeFilm copies into s what its header says, as far as the control dialogue did not.
func (s *sess) describeFilm() {
	f := s.film
	if !f.whole {
		return
	}
	if f.header.Broadcast {
		s.live, s.rec.Seekable = true, false
	}
	if d := min(f.header.Duration(), maxFilm); d > 0 && !s.live {
		s.rec.Duration, s.end = session.Ptr(d.Seconds()), session.NPT(d)
	}
	s.tracks = nil
	for _, x := range f.header.Streams {
		s.tracks = append(s.tracks, &track{id: int(x.Number), media: x.Media, codec: x.Codec, channel: -1})
	}
}

// begin starts waiting for the packets of a new start, which asks for npt if known.
func (s *sess) beginFilm(p play, inc uint8, haveInc bool, at time.Time) {
	f := s.film
	s.sought = !p.first
	s.play, s.floor, s.halted, s.since = p, p.start, false, time.Time{}
	f.inc, f.haveInc, f.waiting, f.seen = inc, haveInc, true, false
	f.over, f.left, f.rewinds = time.Time{}, time.Time{}, p.scale < 0
	s.rec.State = session.Playing
	s.touched = at
}

// startOfFilm returns where a start begins that names a place by x.
func (s *sess) startOfFilm(by mms.By, packet uint64, seconds float64) (session.NPT, bool) {
	f := s.film
	switch {
	case s.live:
		return 0, false
	case by == mms.ByNothing:
		return 0, true
	case by == mms.ByPosition:
		return min(session.NPTSeconds(min(seconds, maxFilm.Seconds())), session.NPT(maxFilm)), true
	case f.packets == 0 || s.end == 0:
		return 0, false
	}
	return session.NPT(float64(s.end) * min(float64(packet)/float64(f.packets), 1)), true
}

// signature tells the media packets of f in the middle of a stream.
func (f *film) signature(framed bool) (mms.MediaSignature, bool) {
	if !f.haveInc || f.size == 0 || f.size > mms.MaxData-8 {
		return mms.MediaSignature{}, false
	}
	s := mms.MediaSignature{Incarnation: f.inc, MaxSize: int(f.size) + 8, To: mms.Unused - 1, Framed: framed}
	if f.packets > 0 && f.packets < mms.Unused {
		s.To = uint32(f.packets)
	}
	if f.seen && !f.rewinds {
		s.From = f.location // the packets of one start only go on
	}
	return s, true
}

// filmPacket takes a media packet of the current incarnation, whole or cut.
func (d *Decoder) filmPacket(s *sess, h mms.Data, asf []byte, at time.Time) {
	f := s.film
	s.touched = at
	if !s.dormant.IsZero() {
		d.revive(s, at)
	}
	if d.cfg.NoRTP || s.rec.State != session.Playing {
		return
	}
	p, err := mms.ParsePacket(asf)
	if err != nil {
		d.stats.Undecoded++
		return
	}
	d.stats.MediaPackets++
	s.heard = true
	if s.since.IsZero() {
		s.since = at
	}
	first := f.waiting
	f.packet(h, p, at)
	if f.ran.IsZero() && time.Duration(f.last-f.start) >= s.lag() {
		f.ran = at
	}
	if first {
		d.changed(s, at) // where it is, is known now
	}
}

// packet moves the place by one packet.
func (f *film) packet(h mms.Data, p mms.Packet, at time.Time) {
	send := time.Duration(p.SendTime) * time.Millisecond
	npt := session.NPT(send)
	if p.Timed && (f.whole || f.preroll > 0) { // else the preroll is not known
		npt = max(session.NPT(time.Duration(p.Last)*time.Millisecond-f.preroll), 0)
	}
	if f.waiting || !f.seen || send+mediaJump < f.lastSend {
		f.start, f.startAt, f.last, f.ran = session.NPT(send), at, npt, time.Time{}
		f.waiting, f.seen = false, true
	} else if gap := send - f.lastSend; h.LocationID == f.location+1 && gap > f.step {
		f.step = min(gap, mostStep)
	}
	f.last = max(f.last, npt)
	f.location, f.lastSend, f.lastAt = h.LocationID, send, at
	f.ahead, f.counted = 0, false
}

// beyond takes how many bytes of the server went to the terminal after the newest packet seen,
// none of which were seen: by the size of the film they tell how far it went.
func (f *film) beyond(s *sess, bytes int64) {
	total := float64(f.packets) * float64(f.size+8)
	if !f.seen || bytes < 0 || total == 0 || s.end == 0 {
		return
	}
	f.ahead, f.counted = time.Duration(min(float64(bytes)/total, 1)*float64(s.end)), true
}

// sample looks for the newest media packet in the tail of a segment.
func (d *Decoder) sample(s *sess, b []byte, framed bool, at time.Time) bool {
	sig, ok := s.film.signature(framed)
	if !ok {
		return false
	}
	found := false
	for i := 0; i+mms.Least <= len(b); {
		h, asf, ok := sig.Match(b[i:])
		next := i + sig.Size(h)
		if !ok || next < len(b) && !goesOn(sig, b[next:]) {
			i++
			continue
		}
		s.film.sampled, found = true, true
		d.filmPacket(s, h, asf, at)
		i = next
	}
	return found
}

// goesOn reports whether what follows a media packet can: another one, a message, or as much of
// one as there is.
func goesOn(sig mms.MediaSignature, b []byte) bool {
	if len(b) < mms.Least {
		return true
	}
	_, _, ok := sig.Match(b)
	return ok || mms.IsMessage(b) || sig.Framed && b[0]&0x7f == '$'
}

// delivered returns the newest media time at the terminal, as sess.delivered does.
func (f *film) delivered(s *sess, now time.Time) (session.NPT, time.Duration, session.Source, bool) {
	switch {
	case s.live, !s.play.known && !f.seen:
		return 0, 0, session.SourceClock, false
	case s.rec.State == session.Paused && s.halted && f.seen:
		return s.halt, f.accuracy(s.paused), session.SourceMedia, true
	case s.rec.State == session.Paused && s.halted:
		return s.halt, time.Second, session.SourceClock, true
	case f.seen && !f.left.IsZero() && now.Sub(f.left) > unseenFor && s.rec.State == session.Playing: // may be back, unseen
		return f.clip(s, f.last.Add(f.ahead)), max(f.accuracy(f.left), time.Second), session.SourceClock, true
	case f.seen:
		return f.clip(s, f.last.Add(f.ahead)), f.accuracy(now), session.SourceMedia, true
	}
	npt, err, src := s.byClock(f.until(now))
	if s.sought {
		err = 2 * time.Second // the server begins at the key frame before
	}
	return f.clip(s, npt), err, src, true
}

// clip keeps a position within the film, or within what a film may be where its end is not known.
func (f *film) clip(s *sess, npt session.NPT) session.NPT {
	end := session.NPT(maxFilm)
	if s.end > 0 {
		end = min(end, s.end)
	}
	return max(min(npt, end), 0)
}

// until returns now, or when the terminal left.
func (f *film) until(now time.Time) time.Time {
	if !f.left.IsZero() && f.left.Before(now) {
		return f.left
	}
	return now
}

// newest returns when the newest media passed.
func (f *film) newest() time.Time {
	if f.passedAt.After(f.lastAt) {
		return f.passedAt
	}
	return f.lastAt
}

// accuracy is the honest ± of the newest packet's time: one packet, and when only samples are
// seen, what may have come since: counted in bytes, or guessed from the burst at a start.
func (f *film) accuracy(now time.Time) time.Duration {
	err := max(f.step, leastStep)
	switch since := max(now.Sub(f.lastAt), 0); {
	case f.counted:
		err += f.ahead / 2
	case f.sampled && f.lastAt.Sub(f.startAt) < f.preroll:
		err += f.preroll + min(since, time.Second)
	case f.sampled:
		err += min(since, time.Second)
	}
	return err
}

// hostURL returns the host part of a URL: as the player named it, with the port where it is not
// the usual one.
func hostURL(host string, server netip.AddrPort, usual uint16) string {
	if h, p, err := net.SplitHostPort(host); err == nil {
		if p == strconv.Itoa(int(usual)) {
			return bracketed(h)
		}
		return host
	}
	if host == "" {
		host = server.Addr().String()
	}
	host = bracketed(host)
	if server.Port() != usual {
		host += ":" + strconv.Itoa(int(server.Port()))
	}
	return host
}

// clip returns the first n bytes of s at most.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

func bracketed(host string) string {
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		return "[" + host + "]"
	}
	return host
}

// How long a session stays when nothing of it is left to be seen.
const (
	returnFor = 5 * time.Second  // an MMSH player that seeks closes its connection and opens another one
	drainFor  = 30 * time.Second // after the end of the stream, when nobody closes
)

// gone reports whether the terminal left and did not return, or the stream ended and nobody
// closed.
func (f *film) gone(now time.Time) bool {
	return !f.left.IsZero() && now.Sub(f.left) > returnFor || !f.over.IsZero() && now.Sub(f.over) > drainFor
}

// packetAt reports whether a media packet begins at i that leads on to another one, or beyond b.
func packetAt(sig mms.MediaSignature, b []byte, i int) bool {
	h, _, ok := sig.Match(b[i:])
	next := i + sig.Size(h)
	return ok && (next >= len(b) || goesOn(sig, b[next:]))
}

// firstPacket returns where the first such packet of b begins, or -1.
func firstPacket(sig mms.MediaSignature, b []byte) int {
	for i := range b {
		if packetAt(sig, b, i) {
			return i
		}
	}
	return -1
}
