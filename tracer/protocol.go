package tracer

import (
	"time"

	"scas/bpf"
)

// A protocol is a grammar package, a dialogue, and one line of protocols.

// dialogue is what a recognised connection speaks. It reads the bytes of both directions and
// keeps the sessions it finds in them up to date.
type dialogue interface {
	// units reads the units at the front of b, the bytes of one direction in order, and returns
	// what is left: the beginning of a unit. It must not grow without bound, and b is not kept
	// but for it. While h.synced is false the bytes before b are missing; a dialogue that finds
	// a unit again sets it.
	units(dir bpf.Dir, h *half, b []byte, at time.Time) []byte
	// tail takes the end of a server's segment, cut anywhere, none of which went through units,
	// and reports whether it found media in it.
	tail(b []byte, at time.Time) bool
	// closed says that one direction ended, or with reset both.
	closed(dir bpf.Dir, reset bool, at time.Time)
	// forgotten says that the connection is not followed any more.
	forgotten(at time.Time)
}

// verdict is what a protocol says of the first bytes of a terminal.
type verdict uint8

const (
	no      verdict = iota
	perhaps         // more bytes will tell
	yes
)

// protocol is how one kind of connection is recognised and read.
type protocol struct {
	service bpf.Service // on whose ports it may be
	looks   func(b []byte) verdict
	open    func(d *Decoder, c *conn, b []byte, at time.Time) dialogue
}

// protocols returns all that can be read. The first that does not say no decides.
func protocols() []protocol {
	return []protocol{
		{bpf.ServiceRTSP, looksTLS, openTLS},
		{bpf.ServiceMMS, looksMMST, openMMST},
		{bpf.ServiceMMSH, looksMMSH, openMMSH},
		{bpf.ServiceRTSP, looksTunnel, openTunnel},
		{bpf.ServiceRTSP, looksRTSP, openRTSP},
	}
}

// recognise decides by the first bytes of the terminal what a connection carries, and
// returns the bytes to be read. On a service port only that service is looked for.
func (d *Decoder) recognise(c *conn, h *half, b []byte, at time.Time) []byte {
	b = append(h.buf, b...)
	h.buf = nil
	service := d.cfg.Services[c.flow.Server.Port()]
	for _, p := range d.protocols {
		if service != 0 && service != p.service {
			continue
		}
		switch p.looks(b) {
		case perhaps:
			h.buf = b
			return nil
		case yes:
			c.speaks, h.synced = speaksOurs, true
			if c.talk = p.open(d, c, b, at); c.talk == nil {
				d.notOurs(c)
				return nil
			}
			return b
		}
	}
	d.notOurs(c)
	return nil
}
