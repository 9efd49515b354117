package ims

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"scas/internal/lab"
)

// capture reads every SIP message that a namespace sends or receives over UDP into a log: an
// AF_PACKET socket on all its interfaces, fragments put together. One goroutine reads.
type capture struct {
	fd    int
	plan  Plan
	log   *eventLog
	quit  chan struct{}
	done  chan struct{}
	parts map[fragmentKey]*fragments

	mu    sync.Mutex // guards what follows
	names map[netip.Addr]string
	seen  map[string]bool // messages by what makes them the same
}

const (
	sipPort       = 5060
	captureBuffer = 8 << 20
	maxParts      = 256 // datagrams that wait for fragments
)

// startCapture begins to read in the namespace of host.
func startCapture(host lab.Host, plan Plan, log *eventLog) (*capture, error) {
	c := &capture{
		fd: -1, plan: plan, log: log, quit: make(chan struct{}), done: make(chan struct{}), parts: map[fragmentKey]*fragments{},
		seen: map[string]bool{}, names: map[netip.Addr]string{plan.PCSCF: pcscf, plan.SCSCF: scscf, plan.HSS: home, plan.Presence: presence},
	}
	err := host.Do(func() (err error) {
		all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})) // network order
		if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		wake := unix.Timeval{Usec: 100_000} // to see quit
		return errors.Join(
			unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer),
			unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wake))
	})
	if err != nil {
		if c.fd >= 0 {
			_ = unix.Close(c.fd)
		}
		return nil, fmt.Errorf("capture: %w", err)
	}
	go c.run()
	return c, nil
}

func (c *capture) close() {
	close(c.quit)
	<-c.done
	_ = unix.Close(c.fd)
}

// name gives an address a column.
func (c *capture) name(a netip.Addr, column string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names[a] = column
}

// run reads packets until close.
func (c *capture) run() {
	defer close(c.done)
	packet, control := make([]byte, 64<<10), make([]byte, 256)
	for {
		select {
		case <-c.quit:
			return
		default:
		}
		n, cn, _, from, err := unix.Recvmsg(c.fd, packet, control, 0)
		if err != nil { // nothing for a while, or interrupted
			continue
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok || ll.Protocol != binary.NativeEndian.Uint16([]byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff}) {
			continue
		}
		if ll.Hatype == unix.ARPHRD_LOOPBACK && ll.Pkttype != unix.PACKET_OUTGOING {
			continue // seen when it was sent
		}
		if d, ok := c.datagram(packet[:n]); ok {
			c.take(d, stamp(control[:cn]))
		}
	}
}

// stamp is when the kernel saw the packet.
func stamp(control []byte) time.Time {
	all, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range all {
		if m.Header.Type == unix.SO_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}

// datagram is a whole UDP datagram.
type datagram struct {
	src, dst netip.AddrPort
	payload  []byte
}

// fragmentKey is what the fragments of one packet have in common (RFC 791 §3.2).
type fragmentKey struct {
	src, dst netip.Addr
	id       uint16
}

// fragments are those of one packet that have come, by their offsets.
type fragments struct {
	pieces map[int][]byte
	size   int // of the whole; 0: the last has not come
}

// datagram returns the UDP datagram that an IPv4 packet is, or completes.
func (c *capture) datagram(p []byte) (d datagram, ok bool) {
	if len(p) < 20 || p[0]>>4 != 4 || p[9] != unix.IPPROTO_UDP {
		return d, false
	}
	head, total := int(p[0]&15)*4, int(binary.BigEndian.Uint16(p[2:]))
	if head < 20 || total < head || total > len(p) {
		return d, false
	}
	src, dst := netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
	body, word := p[head:total], binary.BigEndian.Uint16(p[6:])
	if word&0x3fff != 0 { // more to come, or an offset
		if body, ok = c.whole(fragmentKey{src, dst, binary.BigEndian.Uint16(p[4:])}, body, int(word&0x1fff)*8, word&0x2000 != 0); !ok {
			return d, false
		}
	}
	if len(body) < 8 {
		return d, false
	}
	d.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(body))
	d.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(body[2:]))
	d.payload = body[8:]
	return d, d.src.Port() == sipPort || d.dst.Port() == sipPort
}

// whole keeps a fragment and returns the packet's content when it was the last that missed.
func (c *capture) whole(key fragmentKey, piece []byte, offset int, more bool) ([]byte, bool) {
	f := c.parts[key]
	if f == nil {
		if len(c.parts) >= maxParts {
			clear(c.parts)
		}
		f = &fragments{pieces: map[int][]byte{}}
		c.parts[key] = f
	}
	f.pieces[offset] = append([]byte(nil), piece...)
	if !more {
		f.size = offset + len(piece)
	}
	var out []byte
	for f.size > 0 && len(out) < f.size {
		next, ok := f.pieces[len(out)]
		if !ok || len(next) == 0 {
			return nil, false
		}
		out = append(out, next...)
	}
	if f.size == 0 {
		return nil, false
	}
	delete(c.parts, key)
	return out, true
}

// take notes a message.
func (c *capture) take(d datagram, at time.Time) {
	m, ok := ParseMessage(d.payload)
	if !ok || m.Method == "OPTIONS" { // the probe of answers
		return
	}
	m.At, m.From, m.To = at, d.src, d.dst
	c.mu.Lock()
	key := d.src.String() + d.dst.String() + m.Start + m.Header("Via") + m.Header("CSeq") + m.Header("Call-ID")
	m.Again = c.seen[key]
	c.seen[key] = true
	from, to := c.column(d.src.Addr()), c.column(d.dst.Addr())
	c.mu.Unlock()
	title, detail := m.words()
	c.log.add(Event{At: at, From: from, To: to, Title: title, Detail: detail, Answer: m.Code > 0, Message: &m})
}

func (c *capture) column(a netip.Addr) string {
	if name := c.names[a]; name != "" {
		return name
	}
	return a.String()
}
