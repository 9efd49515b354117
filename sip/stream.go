package sip

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// streamListener accepts TCP connections of peers that may speak, so many at once, of which one source
// that is not believed gets a share.
type streamListener struct {
	net.Listener
	s   *stack
	l   *listener
	tls *tls.Config // nil: plain

	mu   sync.Mutex // guards what follows
	all  int        // connections
	held map[netip.Addr]int
}

// What one source gets of the connections: a part, but so many at least.
const (
	sourceParts = 16
	sourceLeast = 4
)

func newStreamListener(s *stack, l *listener, ln net.Listener) *streamListener {
	return &streamListener{Listener: ln, s: s, l: l, held: map[netip.Addr]int{}}
}

// enter takes a place for a connection of peer; refused is the counter of why there is none.
func (sl *streamListener) enter(peer netip.Addr) (refused string) {
	source, most := sourceOf(peer), sl.s.cfg.Limits.Connections
	sl.mu.Lock()
	defer sl.mu.Unlock()
	switch {
	case sl.all >= most:
		return "connections_refused"
	case sl.held[source] >= max(most/sourceParts, sourceLeast) && !sl.s.trust.believes(sl.l.network, peer):
		return "connections_over_share"
	}
	sl.all++
	sl.held[source]++
	return ""
}

// leave gives the place back.
func (sl *streamListener) leave(peer netip.Addr) {
	source := sourceOf(peer)
	sl.mu.Lock()
	defer sl.mu.Unlock()
	sl.all--
	if sl.held[source]--; sl.held[source] == 0 {
		delete(sl.held, source)
	}
}

func newTLSListener(s *stack, l *listener, ln net.Listener, conf *tls.Config) *streamListener {
	sl := newStreamListener(s, l, ln)
	sl.tls = conf
	return sl
}

// Accept returns the next connection that is heard.
func (sl *streamListener) Accept() (net.Conn, error) {
	for {
		c, err := sl.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
		if err != nil || !sl.s.admit(sl.l, peer.Addr().Unmap()) {
			_ = c.Close()
			continue
		}
		if refused := sl.enter(peer.Addr().Unmap()); refused != "" {
			sl.s.count.add(refused)
			_ = c.Close()
			continue
		}
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetKeepAlivePeriod(30 * time.Second)
		}
		inner := c
		if sl.tls != nil {
			inner = tls.Server(c, sl.tls)
		}
		return &streamConn{Conn: inner, sl: sl, peer: peer.Addr().Unmap()}, nil
	}
}

// streamConn cuts a byte stream into messages and hands sipgo only whole ones, each in the
// time and size that Limits allow. Reads are sequential; writes may come from anywhere.
type streamConn struct {
	net.Conn
	sl   *streamListener
	peer netip.Addr

	in  []byte // read and not yet a whole message
	out []byte // whole, and not yet taken

	once sync.Once
}

// errFraming ends a connection whose messages cannot be told apart any more.
var errFraming = errors.New("message boundary lost")

// Read returns bytes of whole messages.
func (c *streamConn) Read(b []byte) (int, error) {
	for len(c.out) == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, c.out)
	c.out = c.out[n:]
	return n, nil
}

// next fills out with the next message that may be parsed.
func (c *streamConn) next() error {
	n, err := c.frame()
	if err != nil {
		return err
	}
	if n == 0 {
		return c.fill()
	}
	if !c.sl.s.trust.believes(c.sl.l.network, c.peer) && !c.sl.s.sources.take(c.peer) {
		c.sl.s.count.add("rate_limited")
		c.in = c.in[n:]
		return nil
	}
	c.sl.s.count.add("stream_messages")
	v := c.sl.s.scrub(c.in[:n])
	if v.reason != "" {
		c.sl.s.count.add(v.reason)
	}
	if v.answer != nil {
		if _, err := c.Write(v.answer); err != nil {
			return err
		}
	}
	c.out = append([]byte(nil), v.data...)
	c.in = c.in[n:]
	return nil
}

// frame returns the length of the first message in c.in; 0: more bytes are needed.
func (c *streamConn) frame() (int, error) {
	for {
		if len(c.in) >= 4 && string(c.in[:4]) == "\r\n\r\n" { // RFC 5626 §3.5.1: ping
			if _, err := c.Write([]byte("\r\n")); err != nil {
				return 0, err
			}
			c.in = c.in[4:]
			continue
		}
		if len(c.in) >= 4 && c.in[0] == '\r' && c.in[1] == '\n' {
			c.in = c.in[2:]
			continue
		}
		break
	}
	limits := c.sl.s.cfg.Limits
	end := bytes.Index(c.in, []byte("\r\n\r\n"))
	if end < 0 {
		if len(c.in) > limits.Head {
			return 0, errFraming
		}
		return 0, nil
	}
	length, ok := streamLength(c.in[:end+2])
	if end > limits.Head || length > limits.Datagram {
		return 0, errFraming
	}
	if !ok { // RFC 3261 §18.3: a 400, and the stream is lost
		c.sl.s.count.add("malformed")
		first := bytes.Index(c.in, []byte("\r\n"))
		if h, why := scanHead(c.in[first+2:end+2], limits.Header); why == "" && !bytes.HasPrefix(c.in, []byte("SIP/")) {
			_, _ = c.Write(refuse(c.in[:first], h, "400 Bad Content-Length").answer)
		}
		return 0, errFraming
	}
	if total := end + 4 + length; total <= len(c.in) {
		return total, nil
	}
	return 0, nil
}

// streamLength is the Content-Length of a head; a response may do without one (clients that
// leave it out have no body either, ims-sip 3.5).
func streamLength(head []byte) (int, bool) {
	found, length := false, 0
	for _, line := range bytes.Split(head, []byte("\r\n"))[1:] {
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || longName(string(bytes.ToLower(bytes.TrimSpace(name)))) != "content-length" {
			continue
		}
		n, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 31)
		if err != nil || found {
			return 0, false
		}
		found, length = true, int(n)
	}
	return length, found || bytes.HasPrefix(head, []byte("SIP/"))
}

// fill reads once. A connection may be idle for Limits.Idle, a begun message has
// Limits.Message.
func (c *streamConn) fill() error {
	wait := c.sl.s.cfg.Limits.Idle
	if len(c.in) > 0 {
		wait = c.sl.s.cfg.Limits.Message
	}
	if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, err := c.Conn.Read(buf)
	c.in = append(c.in, buf[:n]...)
	if n > 0 {
		return nil
	}
	if err != nil {
		return net.ErrClosed // whatever the reason, the peer is gone; sipgo would log others
	}
	return nil
}

// Write bounds how long a peer may take to read.
func (c *streamConn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.sl.s.cfg.Limits.Message)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// Close gives the place back.
func (c *streamConn) Close() error {
	c.once.Do(func() { c.sl.leave(c.peer) })
	return c.Conn.Close()
}
