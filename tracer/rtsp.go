package tracer

import (
	"bytes"
	"errors"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/rtsp"
)

// rtspDialogue is RTSP on a connection.
type rtspDialogue struct {
	d *Decoder
	c *conn
}

// rtspBegin decides a connection by as many bytes.
const rtspBegin = 16

func looksRTSP(b []byte) verdict {
	_, _, err := rtsp.Next(b)
	switch {
	case err == nil || errors.Is(err, rtsp.ErrShort) && len(b) >= rtspBegin:
		return yes
	case errors.Is(err, rtsp.ErrShort):
		return perhaps
	case resync(nil, b) >= 0: // joined in the middle of a message
		return yes
	}
	return no
}

func openRTSP(d *Decoder, c *conn, b []byte, _ time.Time) dialogue {
	if _, _, err := rtsp.Next(b); err != nil && !errors.Is(err, rtsp.ErrShort) {
		c.toServer.synced = false
	}
	return &rtspDialogue{d, c}
}

// closed ends the sessions of a connection: a terminal that closes has left; a server that
// closes may go on sending media.
func (x *rtspDialogue) closed(dir bpf.Dir, reset bool, at time.Time) {
	for _, s := range x.c.sessions {
		switch {
		case s.control != x.c.flow:
		case dir == bpf.ToServer || reset || s.rec.Transport != session.UDP:
			x.d.end(s, at)
		default:
			s.serving = true
		}
	}
}

// forgotten leaves the sessions whose media travel elsewhere until they end.
func (x *rtspDialogue) forgotten(at time.Time) {
	for _, s := range x.c.sessions {
		if s.control == x.c.flow && (s.rec.Opaque || s.rec.Transport != session.UDP) {
			x.d.end(s, at)
		}
	}
}

// tail looks for the newest RTP header.
func (x *rtspDialogue) tail(b []byte, at time.Time) bool {
	for i := len(b) - 16; i >= 0; i-- {
		if b[i] != '$' {
			continue
		}
		ch, ok := x.c.channels[b[i+1]]
		if ok && !ch.rtcp && ch.t.signature(b[i+4:]) {
			ch.t.sampled = true
			x.d.packet(mediaFlow(ch), bpf.ToTerminal, b[i+4:], at)
			return true
		}
	}
	return false
}

// units reads the units at the front of b and returns what is left of it.
func (x *rtspDialogue) units(dir bpf.Dir, h *half, b []byte, at time.Time) []byte {
	d, c := x.d, x.c
	for len(b) > 0 {
		if !h.synced {
			i := resync(c, b)
			if i < 0 {
				return b[max(0, len(b)-resyncTail):]
			}
			b, h.synced, h.looked, h.need = b[i:], true, 0, 0
		}
		if len(b) < h.need {
			return b
		}
		if len(b) < rtsp.MaxHead && h.looked > 0 && !h.toLook(b) {
			h.looked = len(b)
			return b
		}
		h.looked, h.need = 0, 0
		d.read += uint64(len(b))
		u, n, err := rtsp.Next(b)
		switch {
		case errors.Is(err, rtsp.ErrShort):
			line := bytes.IndexByte(b, '\n')
			if h.line = line < 0; n == 0 && (line >= 2 || h.line && len(b) >= longLine) { // a whole first line was judged
				h.looked = len(b)
			}
			h.need = n
			return b
		case err != nil:
			d.stats.Undecoded++
			h.synced = false
			b = b[1:]
			continue
		}
		b = b[n:]
		if c.steered && u.Kind != rtsp.KindFrame {
			d.holds(c.flow.Terminal.Addr()).read += n
		}
		d.unit(c, dir, u, at)
	}
	return nil
}

// longLine is from where on a first line without its end is not looked at with each piece of it.
const longLine = 1 << 10

// toLook reports whether what came behind the bytes of b that were looked at may hold the blank line
// behind the head, or the end of its first line where that is what is waited for.
func (h *half) toLook(b []byte) bool {
	if h.line {
		return bytes.IndexByte(b[h.looked:], '\n') >= 0
	}
	b = b[h.looked-3:]
	return bytes.Contains(b, []byte("\n\n")) || bytes.Contains(b, []byte("\n\r\n"))
}

func (d *Decoder) unit(c *conn, dir bpf.Dir, u rtsp.Unit, at time.Time) {
	switch {
	case u.Kind == rtsp.KindFrame:
		d.frame(c, dir, u.Channel, u.Payload, at)
	case u.Kind == rtsp.KindRequest && dir == bpf.ToServer:
		d.request(c, u.Message, at)
	case u.Kind == rtsp.KindResponse && dir == bpf.ToTerminal:
		d.reply(c, u.Message, at)
	}
	// Requests of the server and the answers to them change nothing: no player obeys one.
}

// resyncTail is how much of an unreadable run is kept: a marker may be cut.
const resyncTail = 64

// resync returns where in b a unit begins when the bytes before are unknown, or -1: at a
// start line, or at an interleaved frame that leads to another one or to the end.
func resync(c *conn, b []byte) int {
	best := -1
	if i := bytes.Index(b, []byte("RTSP/")); i >= 0 {
		if i+9 <= len(b) && b[i+8] == ' ' {
			best = i
		} else if j := bytes.LastIndexByte(b[:i], '\n') + 1; j < i {
			best = j
		}
	}
	for i := 0; i+4 <= len(b) && (best < 0 || i < best); i++ {
		if b[i] == '$' && c.knows(b[i+1]) && leadsOn(c, b[i:]) {
			return i
		}
	}
	return best
}

func (c *conn) knows(ch uint8) bool {
	if c == nil {
		return false
	}
	_, ok := c.channels[ch]
	return ok
}

// leadsOn reports whether the frame at the front of b ends at b's end or at another frame.
func leadsOn(c *conn, b []byte) bool {
	n := 4 + int(b[2])<<8 + int(b[3])
	switch {
	case n < 12 || n > len(b):
		return false
	case n == len(b):
		return b[4]&0xc0 == 0x80
	}
	return b[n] == 'R' || b[n] == '$' && n+1 < len(b) && c.knows(b[n+1])
}

// take removes and returns the request a reply answers: that with its CSeq, or else the
// oldest (a reply without CSeq is matched by order).
func (c *conn) take(m *rtsp.Message) (request, bool) {
	cseq, ok := m.CSeq()
	for i, r := range c.pending {
		if !ok || r.haveSeq && r.cseq == cseq {
			c.pending = append(c.pending[:i], c.pending[i+1:]...)
			return r, true
		}
	}
	return request{}, false
}
