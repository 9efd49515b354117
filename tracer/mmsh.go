package tracer

import (
	"bytes"
	"errors"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
)

// mmshDialogue is MMS over HTTP on a connection. Describe, Play and every seek come on
// connections of their own: what makes them one session is the terminal, the server, the player's
// GUID and what it asks for. Two players of one terminal that send the same constant GUID for the
// same film are taken for one that seeks.
type mmshDialogue struct {
	d *Decoder
	c *conn

	pending []mmshAsked // requests without reply
	s       *sess       // that of the newest Play or Describe with an answer
	back    *sess       // that which the newest request is for
	body    bodyKind
	begun   mmshAsked // request of a body that begins
	reply   mms.Head  // to it
	left    int64     // bytes of a body to be passed over
	upload  int64     // the same of the terminal's
	played  bool      // the body is that of a Play
	asked   bool
}

// mmshAsked is a request. turn counts the requests of all connections: what a newer Play asked
// for, the late reply to an older one does not undo.
type mmshAsked struct {
	mms.Head
	turn uint64
}

// maxHeads bounds the requests without reply; players wait for each.
const maxHeads = 8

// bodyKind is what the server sends now.
type bodyKind uint8

const (
	bodyNone   bodyKind = iota // a head comes next
	bodyBegins                 // its first byte tells whether it is made of chunks: octet-streams are many things
	bodyChunks                 // MMSH chunks
	bodySkip                   // left bytes of something else
	bodyDeaf                   // something else, to the end
)

// looksMMSH takes only what shows a player's signature early: web traffic is not kept, and not
// looked at beyond that.
func looksMMSH(b []byte) verdict {
	_, _, err := mms.NextHead(b)
	switch {
	case err != nil && !errors.Is(err, mms.ErrShort), !begins(b, "GET ") && !begins(b, "POST "):
		return no
	case mms.LooksLikePlayer(b):
		return yes
	case err == nil || len(b) >= mms.PlayerHead:
		return no
	}
	return perhaps
}

// begins reports whether b, as far as it goes, begins with s.
func begins(b []byte, s string) bool {
	return string(b[:min(len(b), len(s))]) == s[:min(len(b), len(s))]
}

func openMMSH(d *Decoder, c *conn, _ []byte, _ time.Time) dialogue {
	return &mmshDialogue{d: d, c: c}
}

func (x *mmshDialogue) units(dir bpf.Dir, h *half, b []byte, at time.Time) []byte {
	if x.s != nil {
		x.s.touched = at
		x.s.rec.Steered = x.c.steered
		if !x.s.dormant.IsZero() {
			x.d.revive(x.s, at)
		}
	}
	if dir == bpf.ToServer {
		return x.up(h, b, at)
	}
	rest := x.down(h, b, at)
	if x.asked && len(x.pending) == 0 && !x.expecting() {
		x.asked = false
		x.d.sink.Replied(x.c.flow)
	}
	return rest
}

// expecting reports whether the header or the first media packet is still to come.
func (x *mmshDialogue) expecting() bool {
	if x.s == nil || x.body != bodyChunks {
		return x.body == bodyBegins
	}
	if x.played && x.s.control != x.c.flow {
		return false
	}
	return !x.s.film.whole || x.played && x.s.film.waiting && !x.d.cfg.NoRTP
}

// up reads the terminal's requests.
func (x *mmshDialogue) up(h *half, b []byte, at time.Time) []byte {
	for len(b) > 0 {
		if n := int(min(x.upload, int64(len(b)))); n > 0 {
			b, x.upload = b[n:], x.upload-int64(n)
			continue
		}
		if !h.synced {
			i := bytes.Index(b, []byte("GET "))
			if i < 0 {
				return b[max(0, len(b)-resyncTail):]
			}
			b, h.synced = b[i:], true
		}
		head, n, err := mms.NextHead(b)
		switch {
		case errors.Is(err, mms.ErrShort):
			return b
		case err != nil || !head.IsRequest():
			x.d.stats.Undecoded++
			h.synced = false
			b = b[1:]
			continue
		}
		kept, _, _ := mms.NextHead(bytes.Clone(head.Raw()))
		b = b[n:]
		if size, ok := head.ContentLength(); ok {
			x.upload = size // logs
		}
		if len(x.pending) >= maxHeads {
			x.pending = x.pending[1:]
		}
		x.d.turns++
		x.pending = append(x.pending, mmshAsked{kept, x.d.turns})
		x.asked = true
		if x.back = x.named(kept); x.back != nil {
			x.back.film.left = time.Time{}
			x.back.touched = at
		}
	}
	return nil
}

// down reads the server's replies and the chunks in them.
func (x *mmshDialogue) down(h *half, b []byte, at time.Time) []byte {
	for len(b) > 0 {
		if !h.synced {
			i := x.resync(b)
			if i < 0 {
				return b[max(0, len(b)-resyncTail):]
			}
			b, h.synced = b[i:], true
		}
		var n int
		var err error
		switch x.body {
		case bodyNone:
			n, err = x.head(b, at)
		case bodyBegins:
			x.begin(b[0]&0x7f == '$', at)
		case bodyChunks:
			n, err = x.chunk(b, at)
		case bodySkip:
			n = int(min(x.left, int64(len(b))))
			if x.left -= int64(n); x.left == 0 {
				x.body = bodyNone
			}
		default:
			return nil
		}
		switch {
		case errors.Is(err, mms.ErrShort):
			return b
		case err != nil:
			x.d.stats.Undecoded++
			h.synced, n = false, 1
		}
		b = b[n:]
	}
	return nil
}

// resync returns where a unit begins in b, or -1: at a reply, or at a media packet of the film.
func (x *mmshDialogue) resync(b []byte) int {
	if x.body == bodyDeaf || x.body == bodyBegins {
		return 0
	}
	if x.body == bodyChunks && x.s != nil {
		if sig, ok := x.s.film.signature(true); ok {
			sig.From = 0
			return firstPacket(sig, b)
		}
	}
	i := bytes.Index(b, []byte("HTTP/1."))
	if i >= 0 {
		x.body = bodyNone
	}
	return i
}

// head reads the head of a reply and matches it to its request.
func (x *mmshDialogue) head(b []byte, at time.Time) (int, error) {
	r, n, err := mms.NextHead(b)
	if err != nil {
		return 0, err
	}
	if r.IsRequest() {
		return 0, mms.ErrNotMMS
	}
	if r.Status() < 200 {
		return n, nil
	}
	var req mmshAsked
	if len(x.pending) > 0 {
		req, x.pending = x.pending[0], x.pending[1:]
	}
	size, sized := r.ContentLength()
	switch {
	case r.Status() < 300 && r.Framed() && !r.Chunked() && req.Raw() != nil:
		x.body, x.left = bodyBegins, size // none told: to the end
		kept, _, _ := mms.NextHead(bytes.Clone(r.Raw()))
		x.begun, x.reply = req, kept
	case sized:
		x.body, x.left = bodySkip, size
		if size == 0 {
			x.body = bodyNone
		}
	default:
		x.body = bodyDeaf
	}
	return n, nil
}

// begin applies a reply whose body turns out to be made of chunks, or not.
func (x *mmshDialogue) begin(chunks bool, at time.Time) {
	req, r := x.begun, x.reply
	x.begun, x.reply = mmshAsked{}, mms.Head{}
	switch {
	case chunks:
		x.body = bodyChunks
		x.answered(req, r, at)
	case x.left > 0:
		x.body = bodySkip
	default:
		x.body = bodyDeaf
	}
}

// answered applies a good reply to a Describe or a Play.
func (x *mmshDialogue) answered(req mmshAsked, r mms.Head, at time.Time) {
	if x.s = x.named(req.Head); x.s == nil {
		if x.s = x.opened(req.Head, at); x.s == nil {
			return
		}
	}
	s, ask, said := x.s, req.Pragma(), r.Pragma()
	x.played = ask.Play
	s.live = said.Feature("broadcast") || said.Feature("live")
	s.rec.Seekable = said.Feature("seekable") && !s.live
	s.film.clientID = said.ClientID
	if !x.c.has(s) {
		x.c.sessions = append(x.c.sessions, s)
	}
	switch {
	case ask.Play && req.turn < s.film.turn:
		return // the player seeks, and has its answer already
	case ask.Play:
		s.film.turn = req.turn
		x.playing(ask, at)
		return
	}
	if s.rec.State == session.Setup {
		s.control = x.c.flow
		x.d.changed(s, at)
	}
}

// playing applies a Play: the start, or a seek on a connection of its own.
func (x *mmshDialogue) playing(ask mms.Pragma, at time.Time) {
	s := x.s
	s.control, s.rec.Steered = x.c.flow, x.c.steered
	packet := uint64(ask.PacketNum)
	if ask.By() == mms.ByOffset && s.film.size > 0 { // counted from the first packet by VLC
		packet = (uint64(ask.OffsetHigh)<<32 | uint64(ask.OffsetLow)) / uint64(s.film.size)
	}
	npt, known := s.startOfFilm(ask.By(), packet, float64(ask.StreamTime)/1000)
	s.film.asked = ask
	s.beginFilm(play{start: npt, known: known, scale: scaleOf(ask.Rate), speed: 1, at: at, first: s.play.at.IsZero()}, 0, false, at)
	x.d.sink.Playing(x.c.flow)
	x.d.changed(s, at)
}

// chunk reads a chunk of a framed reply.
func (x *mmshDialogue) chunk(b []byte, at time.Time) (int, error) {
	c, n, err := mms.NextChunk(b)
	if err != nil {
		return 0, err
	}
	if x.left > 0 {
		if x.left -= int64(n); x.left <= 0 {
			x.body = bodyNone
		}
	}
	s := x.s
	if s == nil || x.played && s.control != x.c.flow {
		return n, nil // of a Play that another one replaced
	}
	switch c.ID {
	case 'H':
		if known := s.film.whole; s.film.piece(c.Data.Flags, c.Payload) && !known {
			s.describeFilm()
			x.d.changed(s, at)
		}
	case 'D':
		if x.played {
			s.film.inc, s.film.haveInc, s.film.sampled = c.Data.Incarnation, true, false
			x.d.filmPacket(s, c.Data, c.Payload, at)
		}
	case 'E':
		if x.played && c.Reason() != uint32(mms.MoreEntries) {
			s.film.over = at
		}
	}
	return n, nil
}

// tail looks for the newest media packet.
func (x *mmshDialogue) tail(b []byte, at time.Time) bool {
	return x.s != nil && x.played && x.s.control == x.c.flow && x.d.sample(x.s, b, true, at)
}
