package sip

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// packetConn is a UDP socket that hands sipgo whole, plain messages of peers that may speak.
type packetConn struct {
	net.PacketConn
	s *stack
	l *listener

	seen map[netip.AddrPort]struct{} // only touched by the one reader
	errs int                         // in a row, the same

	mu   sync.Mutex
	done bool
}

func newPacketConn(s *stack, l *listener, pc net.PacketConn) *packetConn {
	return &packetConn{PacketConn: pc, s: s, l: l, seen: map[netip.AddrPort]struct{}{}}
}

// maxReadErrors in a row mean that a socket is broken.
const maxReadErrors = 100

// forgetPause is how long nothing is read before sipgo forgets its peers; the kernel keeps what
// arrives.
const forgetPause = 50 * time.Millisecond

// ReadFrom returns the next message that may be parsed. It returns net.ErrClosed when sipgo
// shall begin anew with an empty memory of peers, which it never prunes by itself; the socket
// stays open.
func (c *packetConn) ReadFrom(b []byte) (int, net.Addr, error) {
	if len(c.seen) >= max(1, c.s.cfg.Limits.Peers) {
		c.s.count.add("peers_forgotten")
		time.Sleep(forgetPause) // what was handed over finds its way back first
		c.seen = map[netip.AddrPort]struct{}{}
		return 0, nil, net.ErrClosed
	}
	for {
		n, addr, err := c.PacketConn.ReadFrom(b)
		if err != nil {
			if c.errs++; errors.Is(err, net.ErrClosed) || c.errs > maxReadErrors {
				c.end()
				return n, addr, err
			}
			c.s.count.add("read_errors")
			continue
		}
		c.errs = 0
		c.s.count.add("datagrams")
		u, ok := addr.(*net.UDPAddr)
		if !ok {
			continue
		}
		peer := u.AddrPort()
		if !c.s.admit(c.l, peer.Addr().Unmap()) {
			continue
		}
		if n >= len(b) || n > c.s.cfg.Limits.Datagram {
			c.s.count.add("long_datagrams")
			continue
		}
		v := c.s.scrub(b[:n])
		if v.reason != "" {
			c.s.count.add(v.reason)
		}
		if v.answer != nil {
			_, _ = c.WriteTo(v.answer, addr)
		}
		if v.data == nil || len(v.data) > len(b) {
			continue
		}
		c.seen[peer] = struct{}{}
		return copy(b, v.data), addr, nil
	}
}

// scrub is scrub under recover: it runs in the one reader of a socket, which must not end.
func (s *stack) scrub(b []byte) (v scrubbed) {
	defer func() {
		if p := recover(); p != nil {
			s.count.add("panics")
			v = dropped("no_messages")
		}
	}()
	return scrub(b, s.cfg.Limits.Header)
}

// Close closes the socket.
func (c *packetConn) Close() error {
	c.end()
	return c.PacketConn.Close()
}

// end makes the listener stop serving this socket.
func (c *packetConn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = true
}

func (c *packetConn) closed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// admit reports whether a packet from peer is looked at; what is not is counted.
func (s *stack) admit(l *listener, peer netip.Addr) bool {
	if l.core && s.trust.believes(l.network, peer) {
		return true
	}
	if !s.hears(l) && s.cfg.Refuse == "silent" {
		s.count.add("untrusted")
		return false
	}
	if !s.sources.take(peer) {
		s.count.add("rate_limited")
		return false
	}
	return true
}
