package tracer

import (
	"bytes"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/rtsp"
)

const protocolTLS = session.RTSPS

// opaqueDialogue is a connection that cannot be read: it can be seen, not moved.
type opaqueDialogue struct{ rtspDialogue }

func (*opaqueDialogue) units(bpf.Dir, *half, []byte, time.Time) []byte { return nil }
func (*opaqueDialogue) tail([]byte, time.Time) bool                    { return false }

// opaque shows a connection that cannot be read.
func (d *Decoder) opaque(c *conn, p session.Protocol, at time.Time) dialogue {
	s := d.fresh(c, at)
	s.rec.Protocol, s.rec.Opaque = p, true
	s.rec.State = session.Playing
	s.rec.Transport = session.TCP
	if p == session.RTSPHTTP {
		s.rec.Transport = session.HTTP
	}
	d.changed(s, at)
	return &opaqueDialogue{rtspDialogue{d, c}}
}

func looksTLS(b []byte) verdict {
	if rtsp.LooksLikeTLS(b) {
		return yes
	}
	return no
}

func openTLS(d *Decoder, c *conn, _ []byte, at time.Time) dialogue {
	return d.opaque(c, protocolTLS, at)
}

// maxTunnelHead bounds the head of a request that may open RTSP over HTTP.
const maxTunnelHead = 4 << 10

// looksTunnel decides on RTSP over HTTP by its cookie. HTTP without one is not ours, and is
// not RTSP either.
func looksTunnel(b []byte) verdict {
	if !rtsp.LooksLikeHTTP(b) {
		return no
	}
	whole := bytes.Contains(b, []byte("\n\r\n")) || bytes.Contains(b, []byte("\n\n"))
	if !whole && len(b) < maxTunnelHead {
		return perhaps
	}
	return yes
}

// openTunnel shows RTSP over HTTP: two connections, GET for replies and media, POST for base64
// requests, joined by x-sessioncookie. One session is shown, for the GET.
func openTunnel(d *Decoder, c *conn, b []byte, at time.Time) dialogue {
	_, method, ok := rtsp.TunnelCookie(b)
	switch {
	case !ok:
		return nil
	case method == "GET":
		return d.opaque(c, session.RTSPHTTP, at)
	}
	return &opaqueDialogue{rtspDialogue{d, c}} // the POST of a session shown already
}
