package lab

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// replyTimeout bounds the wait for a reply; generous, because slow machines are no error.
const replyTimeout = 20 * time.Second

// link is one control connection of a player with the media it set up.
type link struct {
	p       *Player
	wire    *wireConn
	local   netip.AddrPort
	remote  netip.AddrPort
	tcp     bool
	base    string // aggregate control URL
	session string
	timeout time.Duration // the server's
	unit    Unit          // the server counts in
	end     string        // of the SDP's range, empty when there is none
	tracks  []*playerTrack
	down    chan error    // why the connection ended, one value
	bye     chan struct{} // closed when every track got its BYE
	closed  chan struct{} // closed by close
	once    sync.Once
	wg      sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	cseq    int
	pending map[int]chan *message
	ready   []*playerTrack // set up
	byes    map[int]bool   // by track
}

// playerTrack is one track of the SDP that was set up.
type playerTrack struct {
	id        int // VideoTrack or AudioTrack
	control   string
	channel   uint8
	rtp, rtcp *net.UDPConn
	server    [2]int // its ports
	lastSR    uint32 // middle of its NTP time, 0: none came; guarded by Player.mu
	lastSRAt  time.Time
}

// dial opens the control connection and starts to read it.
func (p *Player) dial(ctx context.Context, tcp bool) (*link, error) {
	u, err := url.Parse(p.cfg.URL)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = "554"
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	c, err := p.cfg.Host.DialTCP(ctx, addr)
	if err != nil {
		return nil, err
	}
	k := &link{
		p: p, wire: &wireConn{Conn: c}, tcp: tcp, base: p.cfg.URL, timeout: 60 * time.Second, unit: UnitNPT,
		local:  unmapped(c.LocalAddr().(*net.TCPAddr).AddrPort()),
		remote: unmapped(addr),
		down:   make(chan error, 1), bye: make(chan struct{}), closed: make(chan struct{}),
		cseq: p.cfg.FirstCSeq, pending: map[int]chan *message{}, byes: map[int]bool{},
	}
	k.wg.Go(k.read)
	return k, nil
}

// close ends the connection and its sockets and waits for who reads them.
func (k *link) close() {
	k.once.Do(func() { close(k.closed) })
	k.wire.Close()
	for _, t := range k.tracks {
		if t.rtp != nil {
			t.rtp.Close()
			t.rtcp.Close()
		}
	}
	k.wg.Wait()
}

// read takes what the server sends on the control connection.
func (k *link) read() {
	r := bufio.NewReaderSize(k.wire, 8192)
	for {
		k.holdBack()
		u, err := readUnit(r)
		if err != nil {
			k.down <- err
			return
		}
		switch {
		case u.msg == nil:
			k.frame(u.channel, u.payload, time.Now())
		case u.msg.isReply():
			k.mu.Lock()
			ch := k.pending[u.msg.cseq()]
			delete(k.pending, u.msg.cseq())
			k.mu.Unlock()
			if ch != nil {
				ch <- u.msg
			}
		default:
			k.asked(u.msg)
		}
	}
}

// asked answers a request of the server as libavformat does.
func (k *link) asked(m *message) {
	method, _, _ := m.requestLine()
	reply := response(501)
	if method == "OPTIONS" || method == "GET_PARAMETER" {
		reply = response(200, field{"CSeq", m.get("CSeq")})
	}
	_ = k.wire.send(reply) // a dead connection shows in read
}

// holdBack waits while more than ReadAhead is unshown, or it is not known yet what is; not while a
// reply is due.
func (k *link) holdBack() {
	limit := k.p.cfg.ReadAhead
	for limit > 0 && k.tcp {
		k.mu.Lock()
		waiting := len(k.pending) > 0
		k.mu.Unlock()
		k.p.mu.Lock()
		enough := k.p.book.holding || k.p.book.ahead(time.Now()) >= limit
		k.p.mu.Unlock()
		if waiting || !enough {
			return
		}
		select {
		case <-k.closed:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// start sends a request; the channel has its reply.
func (k *link) start(method, url string, head ...field) (<-chan *message, int, error) {
	ch := make(chan *message, 1)
	k.mu.Lock()
	n := k.cseq
	k.cseq++
	k.pending[n] = ch
	k.mu.Unlock()
	head = append(head, field{"User-Agent", k.p.cfg.UserAgent})
	if k.session != "" {
		head = append(head, field{"Session", k.session})
	}
	return ch, n, k.wire.send(request(method, url, n, head...))
}

// do sends a request and waits for its reply. A status from 300 is a *StatusError.
func (k *link) do(ctx context.Context, method, url string, head ...field) (*message, error) {
	ctx, cancel := context.WithTimeout(ctx, replyTimeout)
	defer cancel()
	ch, n, err := k.start(method, url, head...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.pending, n)
	}()
	var m *message
	select {
	case m = <-ch:
	case <-ctx.Done():
		return nil, fmt.Errorf("%s: no reply: %w", method, ctx.Err())
	case err := <-k.down:
		k.down <- err // for the next who asks
		select {
		case m = <-ch: // the reply was the last thing that came
		default:
			return nil, fmt.Errorf("%s: connection ended: %w", method, err)
		}
	}
	if s := m.status(); s >= 300 || s < 200 {
		return m, &StatusError{method, s}
	}
	return m, nil
}

// describe asks for the film and reads its SDP.
func (k *link) describe(ctx context.Context) error {
	if _, err := k.do(ctx, "OPTIONS", k.p.cfg.URL); err != nil {
		return err
	}
	m, err := k.do(ctx, "DESCRIBE", k.p.cfg.URL, field{"Accept", "application/sdp"})
	if err != nil {
		return err
	}
	if b := m.get("Content-Base"); b != "" {
		k.base = b
	}
	id := -1
	for line := range strings.Lines(string(m.body)) {
		line = strings.TrimSpace(line)
		value, isAttr := strings.CutPrefix(line, "a=")
		switch {
		case strings.HasPrefix(line, "m="):
			id = -1
			if strings.HasPrefix(line, "m=video") {
				id = VideoTrack
			} else if strings.HasPrefix(line, "m=audio") {
				id = AudioTrack
			}
		case !isAttr:
		case strings.HasPrefix(value, "control:") && id >= 0 && len(k.tracks) < trackCount:
			k.tracks = append(k.tracks, &playerTrack{id: id, control: k.resolve(value[len("control:"):])})
		case strings.HasPrefix(value, "range:") && id < 0:
			if r, err := parseRange(value[len("range:"):]); err == nil {
				k.unit, k.end = r.unit, r.endText
			}
		}
	}
	if len(k.tracks) == 0 {
		return fmt.Errorf("DESCRIBE: no tracks in the SDP: %w", errGrammar)
	}
	return nil
}

// resolve returns the URL of a track's a=control (RFC 2326 C.1.1).
func (k *link) resolve(control string) string {
	if strings.Contains(control, "://") {
		return control
	}
	return strings.TrimSuffix(k.base, "/") + "/" + control
}

// setup asks for one track.
func (k *link) setup(ctx context.Context, i int) error {
	t := k.tracks[i]
	offer := fmt.Sprintf("RTP/AVP/TCP;unicast;interleaved=%d-%d", 2*i, 2*i+1)
	if !k.tcp {
		port, err := k.openPorts(t)
		if err != nil {
			return err
		}
		offer = fmt.Sprintf("RTP/AVP/UDP;unicast;client_port=%d-%d", port, port+1)
	}
	m, err := k.do(ctx, "SETUP", t.control, field{"Transport", offer})
	if err != nil {
		return err
	}
	id, param, _ := strings.Cut(m.get("Session"), ";")
	k.session = strings.TrimSpace(id)
	if s, ok := strings.CutPrefix(strings.TrimSpace(param), "timeout="); ok {
		if n, err := strconv.Atoi(s); err == nil && n > 0 {
			k.timeout = time.Duration(n) * time.Second
		}
	}
	got, err := parseTransport(m.get("Transport"))
	if err != nil || got.tcp != k.tcp || k.tcp && got.interleaved[0] < 0 {
		return fmt.Errorf("SETUP: Transport %.80q: %w", m.get("Transport"), errGrammar)
	}
	t.server = got.server
	if k.tcp {
		t.channel = uint8(got.interleaved[0])
	}
	k.p.mu.Lock()
	tb := &k.p.book.tracks[t.id]
	*tb = trackBook{}
	if n, err := strconv.ParseUint(got.ssrc, 16, 32); err == nil {
		tb.ssrc, tb.known = uint32(n), true
	}
	k.p.mu.Unlock()
	k.mu.Lock()
	k.ready = append(k.ready, t)
	k.mu.Unlock()
	switch {
	case k.tcp:
	case k.p.cfg.Deaf:
		t.rtp.Close()
		t.rtcp.Close()
	default:
		k.wg.Go(func() { k.readUDP(t, t.rtp, 0) })
		k.wg.Go(func() { k.readUDP(t, t.rtcp, 1) })
	}
	return nil
}

// openPorts binds a pair of neighbouring UDP ports.
func (k *link) openPorts(t *playerTrack) (int, error) {
	err := net.ErrClosed
	for range portTries {
		var a, b *net.UDPConn
		if a, err = k.p.cfg.Host.ListenUDP(netip.AddrPortFrom(k.local.Addr(), 0)); err != nil {
			return 0, err
		}
		port := a.LocalAddr().(*net.UDPAddr).Port
		if port%2 == 0 {
			b, err = k.p.cfg.Host.ListenUDP(netip.AddrPortFrom(k.local.Addr(), uint16(port+1)))
		}
		if b == nil {
			a.Close()
			continue
		}
		_ = a.SetReadBuffer(1 << 20) // the kernel gives what it may
		t.rtp, t.rtcp = a, b
		return port, nil
	}
	return 0, err
}
