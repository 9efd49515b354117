package splice

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"scas/bpf"
)

const (
	tryTerminal  = 3 * time.Second  // of a server nobody tried yet as the terminal: one lost SYN, then one more
	routerFor    = 10 * time.Minute // a server that cannot be reached as the terminal is tried again after this
	slowFor      = time.Minute      // one that was only slow
	legLinger    = 5 * time.Second  // the datapath knows a closed leg this long, for its last segments
	maxRemember  = 4096
	dialAttempts = 8 // ports tried for a leg with a port of its own
)

// legs opens ServerLegs. It knows which of them the datapath was told of, and how each server
// was last reached. Safe for concurrent use.
type legs struct {
	mode  Upstream
	mark  uint32
	dial  time.Duration
	k     Kernel
	now   func() time.Time
	count *counters
	// connect opens one leg; tests replace it.
	connect func(ctx context.Context, from, to netip.AddrPort) (*net.TCPConn, error)
	// other returns f with a port that the terminal does not use.
	other func(f bpf.Flow) bpf.Flow

	mu      sync.Mutex // guards what follows
	told    map[bpf.Flow]*told
	reached map[netip.AddrPort]reached
}

// told is a leg the datapath knows.
type told struct {
	users int
	until time.Time // with no users: when it is taken back
}

// reached is how a server was reached last.
type reached struct {
	router bool
	until  time.Time     // when router is no longer believed
	span   time.Duration // for how long it was
}

func newLegs(cfg Config, k Kernel, count *counters) *legs {
	l := &legs{
		mode: cfg.Upstream, mark: cfg.Mark, dial: cfg.Dial, k: k, now: cfg.Now, count: count,
		told: map[bpf.Flow]*told{}, reached: map[netip.AddrPort]reached{}, other: func(f bpf.Flow) bpf.Flow { return f },
	}
	l.connect = l.connectTCP
	return l
}

// open connects to f.Server, as f.Terminal or as the router, as the mode says. release must be
// called when the connection is closed. The error of a server that refuses is its own; it is
// not asked a second time then.
func (l *legs) open(ctx context.Context, f bpf.Flow) (c *net.TCPConn, release func(), err error) {
	known, isKnown := l.recall(f.Server)
	if l.mode == UpstreamRouter || l.mode == UpstreamAuto && isKnown && known.router {
		return l.asRouter(ctx, f)
	}
	limit := l.dial
	if l.mode == UpstreamAuto && !isKnown {
		limit = min(limit, tryTerminal)
	}
	c, release, err = l.asTerminal(ctx, f, limit)
	if taken(err) {
		c, release, err = l.asTerminal(ctx, l.other(f), limit)
	}
	if err == nil {
		l.remember(f.Server, reached{})
		return c, release, nil
	}
	if l.mode == UpstreamTerminal || isKnown || !noWay(err) || ctx.Err() != nil {
		l.forget(f.Server)
		return nil, nil, err
	}
	l.count.fellBack.Add(1)
	believed := believe(err, known.span)
	c, release, err = l.asRouter(ctx, f)
	if err == nil && believed > 0 {
		l.remember(f.Server, reached{router: true, until: l.now().Add(believed), span: believed})
	}
	return c, release, err
}

// believe returns for how long a leg that failed as the terminal speaks for the next ones to that
// server: a port in use or a full map says nothing of them, silence may be one slow handshake, and
// less so each time. before is for how long the last one did.
func believe(err error, before time.Duration) time.Duration {
	var t net.Error
	switch {
	case errors.Is(err, unix.EADDRINUSE) || errors.Is(err, bpf.ErrTooMany):
		return 0
	case errors.As(err, &t) && t.Timeout():
		return min(max(slowFor, 2*before), routerFor)
	}
	return routerFor
}

// taken reports whether a leg failed because the gateway has a connection with these addresses and
// ports: an earlier one, in TIME_WAIT. A terminal that has started anew comes back with the same port.
func taken(err error) bool {
	return errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// noWay reports whether a leg with the terminal's address may have failed for that address,
// not for the server.
func noWay(err error) bool {
	var t net.Error
	if errors.As(err, &t) && t.Timeout() || errors.Is(err, bpf.ErrTooMany) {
		return true
	}
	for _, e := range []error{
		unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EADDRNOTAVAIL, unix.EADDRINUSE, unix.EPERM, unix.EACCES, unix.EINVAL,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (l *legs) asTerminal(ctx context.Context, f bpf.Flow, limit time.Duration) (*net.TCPConn, func(), error) {
	if err := l.tell(f); err != nil {
		return nil, nil, fmt.Errorf("leg %v: %w", f, err)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c, err := l.connect(ctx, f.Terminal, f.Server)
	if err != nil {
		l.untell(f)
		return nil, nil, err
	}
	l.count.asTerminal.Add(1)
	return c, func() { l.untell(f) }, nil
}

func (l *legs) asRouter(ctx context.Context, f bpf.Flow) (*net.TCPConn, func(), error) {
	ctx, cancel := context.WithTimeout(ctx, l.dial)
	defer cancel()
	c, err := l.connect(ctx, netip.AddrPort{}, f.Server)
	if err != nil {
		return nil, nil, err
	}
	l.count.asRouter.Add(1)
	return c, func() {}, nil
}

// connectTCP dials; a zero from means an address of the host.
func (l *legs) connectTCP(ctx context.Context, from, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Control: func(network, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			if !from.IsValid() {
				return marked(fd, l.mark)
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
				return err
			}
			return errors.Join(transparent(fd, network, l.mark), anySize(fd, network))
		})
	}}
	d.SetMultipathTCP(false)
	network := "tcp4"
	if to.Addr().Is6() {
		network = "tcp6"
	}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	c, err := d.DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// tell announces a leg to the datapath, once for all that use it.
func (l *legs) tell(f bpf.Flow) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.told[f]; ok {
		t.users++
		return nil
	}
	if err := l.k.AddLeg(f); err != nil {
		return err
	}
	l.told[f] = &told{users: 1}
	return nil
}

func (l *legs) untell(f bpf.Flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t, ok := l.told[f]; ok && t.users > 0 {
		t.users--
		t.until = l.now().Add(legLinger)
	}
}

// reap takes back the legs that are closed, until ctx ends.
func (l *legs) reap(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.takeBack(func(t *told) bool { return t.users == 0 && !l.now().Before(t.until) })
		}
	}
}

// close takes back all legs.
func (l *legs) close() { l.takeBack(func(*told) bool { return true }) }

func (l *legs) takeBack(which func(*told) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for f, t := range l.told {
		if which(t) {
			_ = l.k.RemoveLeg(f) // an error means that it is gone already
			delete(l.told, f)
		}
	}
}

// recall returns how a server was reached last, and whether that is still believed.
func (l *legs) recall(server netip.AddrPort) (r reached, believed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.reached[server]
	return r, ok && !(r.router && l.now().After(r.until))
}

func (l *legs) remember(server netip.AddrPort, r reached) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.reached[server]; !known && len(l.reached) >= maxRemember {
		for any := range l.reached { // the others are not forgotten for one terminal that opens thousands
			delete(l.reached, any)
			break
		}
	}
	l.reached[server] = r
}

func (l *legs) forget(server netip.AddrPort) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.reached, server)
}

// ownFlow returns f with a port that the terminal itself does not use towards that server.
func (s *Splicer) ownFlow(f bpf.Flow) bpf.Flow {
	for range dialAttempts {
		port := ephemeral + rand.N(ephemeralTo-ephemeral+1)
		f.Terminal = netip.AddrPortFrom(f.Terminal.Addr(), uint16(port))
		if _, used := s.k.TCPStats(f); !used && s.relay(f) == nil {
			break
		}
	}
	return f
}
