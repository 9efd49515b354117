package tracer

import "scas/bpf"

// Bounds on what all connections together make a Decoder keep of units that are not whole yet and
// of segments that came early, in bytes.
const (
	maxKept    = 512 << 20
	keptParts  = 16      // one terminal's may be such a part
	smallShare = 8 << 10 // a connection that keeps no more loses nothing
)

// kept returns how much memory the unread bytes of a connection take.
func (c *conn) kept() int {
	return cap(c.toServer.buf) + c.toServer.order.bytes + cap(c.toViewer.buf) + c.toViewer.order.bytes
}

// account notes what a connection keeps. Where all keep too much, or all of its terminal, it loses its
// unread bytes and is read on from its next unit.
func (d *Decoder) account(c *conn) {
	d.charge(c, c.kept())
	if d.kept <= d.mostKept && d.holds(c.flow.Terminal.Addr()).kept <= d.mostKept/keptParts || c.charged <= smallShare {
		return
	}
	for _, dir := range []bpf.Dir{bpf.ToServer, bpf.ToTerminal} {
		h := c.half(dir)
		h.order.held, h.order.bytes = nil, 0
		h.buf, h.synced, h.looked, h.need = nil, false, 0, 0
	}
	d.gap(c, bpf.ToTerminal, c.touched)
	d.charge(c, 0)
}

// charge sets what a connection counts for.
func (d *Decoder) charge(c *conn, bytes int) {
	if bytes == c.charged {
		return
	}
	d.kept += bytes - c.charged
	d.holds(c.flow.Terminal.Addr()).kept += bytes - c.charged
	c.charged = bytes
}
