package tracer

import (
	"time"

	"scas/session"
	"scas/tracer/rtsp"
)

const protocolTLS = session.RTSPS

// opaque shows a connection that cannot be read: it can be seen, not moved.
func (d *Decoder) opaque(c *conn, p session.Protocol, _ []byte, at time.Time) {
	c.speaks = speaksOpaque
	s := d.fresh(c, at)
	s.rec.Protocol, s.rec.Opaque = p, true
	s.rec.State = session.Playing
	s.rec.Transport = session.TCP
	if p == session.RTSPHTTP {
		s.rec.Transport = session.HTTP
	}
	d.changed(s, at)
}

// tunnel shows RTSP over HTTP: two connections, GET for replies and media, POST for base64
// requests, joined by x-sessioncookie. One session is shown, for the GET.
func (d *Decoder) tunnel(c *conn, b []byte, at time.Time) {
	_, method, ok := rtsp.TunnelCookie(b)
	switch {
	case !ok:
		d.notOurs(c)
	case method == "GET":
		d.opaque(c, session.RTSPHTTP, b, at)
	default:
		c.speaks = speaksOpaque // the POST of a session shown already
	}
}
