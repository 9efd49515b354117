// Package splice owns the media-path sockets: it accepts the connections that the kernel steers
// to the gateway, joins each to its server by a second leg, relays both ways, and carries out
// transfers: it rewrites the target's start request, repairs the reply, decides when the target
// plays, and ends the origin.
//
// What it is not asked to change it relays byte for byte, and what it cannot read it relays
// unread. It refuses to know how RTSP and MMS are written (tracer/rtsp, tracer/mms), where a
// viewer is in the film (tracer), how steering works (bpf) and who may order a move (sip, admin).
//
// Specifications: RFC 2326 (§10.5 PLAY, §10.12 interleaved frames, §12.29 Range, §12.33
// RTP-Info), RFC 3550 §6 (RTCP BYE), RFC 9293 (forged FIN and RST), [MS-MMSP] (StartPlaying,
// ConnectFunnel, EndOfStream), [MS-WMSP] (stream-time, end of stream).
//
// Locks, in the order they may be held together: Splicer.mu, then legs.mu or requests.mu.
package splice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net"
	"net/netip"
	"sync"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
)

// Kernel is what the splicer orders from the datapath; *bpf.Gateway is one.
type Kernel interface {
	Arm(netip.Addr) error
	Disarm(netip.Addr) error
	AddLeg(bpf.Flow) error
	RemoveLeg(bpf.Flow) error
	CutFlow(p bpf.Proto, f bpf.Flow, d bpf.CutDir, for_ time.Duration) error
	// TrimCut has a cut end after for_ at the latest; bpf.ErrNoFlow when it was lifted.
	TrimCut(p bpf.Proto, f bpf.Flow, for_ time.Duration) error
	MediaStats(bpf.Flow) (bpf.MediaStats, bool)
	TCPStats(bpf.Flow) (bpf.TCPStats, bool)
	Copy(bpf.Flow) error
}

// Tracer reads what is relayed and knows all sessions; *tracer.Live is one.
type Tracer interface {
	// Stream takes bytes as the server sent them or gets them, in order for each direction.
	Stream(f bpf.Flow, dir bpf.Dir, b []byte, at time.Time)
	StreamClosed(f bpf.Flow, dir bpf.Dir, at time.Time)
	Detail(id string, now time.Time) (tracer.Detail, bool)
	ByFlow(f bpf.Flow) []string
	// Moved says that a session was ended together with its control connection f.
	Moved(id string, f bpf.Flow, now time.Time)
	// Tap has fn called with the server's bytes of a watched connection and their TCP sequence
	// number until stop has returned; fn must not call back.
	Tap(f bpf.Flow, fn func(seq uint32, b []byte)) (stop func())
}

// Upstream says from which address the leg towards the server comes.
type Upstream string

// The upstream modes.
const (
	UpstreamAuto     Upstream = "auto"     // as terminal, as router where that does not work
	UpstreamTerminal Upstream = "terminal" // the terminal's own address and port
	UpstreamRouter   Upstream = "router"   // an address of the gateway
)

// Config is what a Splicer has to know. The zero value is not valid; start from DefaultConfig.
type Config struct {
	Mark       uint32   // the one bit of the packet mark that is ours; default 0x20000000
	Upstream   Upstream // default auto
	IPv6Prefix int      // length that makes two IPv6 addresses one terminal, 1 to 128; default 64
	MaxRelays  int      // connections relayed at a time, of which one terminal gets a quarter at most; default 20000

	Overlap       time.Duration // shown twice rather than missed, 0 to 1 min; default 1 s
	Settle        time.Duration // media over UDP without complaint until the target counts as playing; default 2 s
	SettleGst     time.Duration // the same for GStreamer, which falls back to TCP after 5 s; default 6 s
	SettleVLC     time.Duration // the same for LibVLC, which falls back after 10.5 s; default 12 s
	OfferTimeout  time.Duration // for a yes; default 60 s
	AttachTimeout time.Duration // for the target's start request; default 30 s
	ReplyHold     time.Duration // longest time a reply waits for the first packets, 0 to 400 ms; default 400 ms
	NoMedia       time.Duration // without media after a start request until the transfer fails; default 15 s
	Return        time.Duration // for a target that hung up to come back; default 5 s
	Retry         time.Duration // after committed, in which a new start request is rewritten again; default 15 s
	Drain         time.Duration // least time the origin's player gets to end by itself; default 3 s
	Dial          time.Duration // longest time a server may take to accept a connection; default 5 s

	Suffix string // of the ids of transfers: tells those of this gateway from those of others; default none

	// AoR returns the user of a terminal; ok is false for an address that is no terminal. nil:
	// every address is taken, and of no user.
	AoR func(netip.Addr) (aor string, ok bool)
	Now func() time.Time // nil: time.Now
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{
		Mark: 0x20000000, Upstream: UpstreamAuto, IPv6Prefix: 64, MaxRelays: 20000,
		Overlap: time.Second, Settle: 2 * time.Second, SettleGst: 6 * time.Second, SettleVLC: 12 * time.Second,
		OfferTimeout: time.Minute, AttachTimeout: 30 * time.Second, ReplyHold: 400 * time.Millisecond,
		NoMedia: 15 * time.Second, Return: 5 * time.Second, Retry: 15 * time.Second, Drain: 3 * time.Second,
		Dial: 5 * time.Second,
	}
}

// Validate returns all that is wrong with c, joined.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if bits.OnesCount32(c.Mark) != 1 {
		bad("mark: %#x is not exactly one bit", c.Mark)
	}
	if c.Upstream != UpstreamAuto && c.Upstream != UpstreamTerminal && c.Upstream != UpstreamRouter {
		bad("upstream: %q is not auto, terminal or router", c.Upstream)
	}
	if c.IPv6Prefix < 1 || c.IPv6Prefix > 128 {
		bad("ipv6 prefix: %d is not in 1..128", c.IPv6Prefix)
	}
	if c.MaxRelays < 1 {
		bad("relays: at least 1")
	}
	if c.Overlap < 0 || c.Overlap > time.Minute {
		bad("overlap: %v is not in 0s..1m", c.Overlap)
	}
	if c.ReplyHold < 0 || c.ReplyHold > 400*time.Millisecond {
		bad("reply hold: %v is not in 0s..400ms", c.ReplyHold)
	}
	for name, d := range map[string]time.Duration{
		"settle": c.Settle, "offer timeout": c.OfferTimeout, "attach timeout": c.AttachTimeout, "no media": c.NoMedia,
		"return": c.Return, "drain": c.Drain, "dial": c.Dial,
	} {
		if d <= 0 || d > time.Hour {
			bad("%s: %v is not in 0s..1h", name, d)
		}
	}
	return errors.Join(errs...)
}

// Splicer relays steered connections and carries out transfers. Safe for concurrent use.
type Splicer struct {
	cfg    Config
	k      Kernel
	t      Tracer
	table  *session.Table
	log    *slog.Logger
	count  counters
	legs   *legs
	wire   outside
	target func(*net.TCPConn) (bpf.Flow, error) // whom an accepted connection joins

	protocols []protocol

	upBuffers, downBuffers *buffers

	spare spare

	ctx  context.Context // ends with Serve
	stop context.CancelFunc
	wg   sync.WaitGroup // relays, transfers and what they started

	mu        sync.Mutex // guards what follows
	draining  bool
	stopped   bool
	listeners []*net.TCPListener
	relays    map[bpf.Flow]*relay
	held      map[netip.Addr]int   // relays that run, by terminal
	moves     map[string]*move     // by transfer, open or in its retry window
	targets   map[netip.Addr]*move // by terminal, the newest
	orders    uint64
}

// New returns a Splicer that writes transfers to table. Nothing runs until Serve, except what
// Move starts.
func New(cfg Config, k Kernel, t Tracer, table *session.Table, log *slog.Logger) (*Splicer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("splice: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Splicer{
		cfg: cfg, k: k, t: t, table: table, log: log, target: steeredTo, protocols: protocols(),
		relays: map[bpf.Flow]*relay{}, held: map[netip.Addr]int{}, moves: map[string]*move{}, targets: map[netip.Addr]*move{},
	}
	s.upBuffers, s.downBuffers = newBuffers(upBuffer), newBuffers(downBuffer)
	s.legs = newLegs(cfg, k, &s.count)
	s.legs.other = s.ownFlow
	s.wire = sockets{mark: cfg.Mark}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Serve relays what the listeners accept until ctx ends or Drain is done; then it closes the
// listeners, ends every relayed connection with a FIN to both sides within a second, and
// returns when nothing of the Splicer runs any more. It can be called once.
func (s *Splicer) Serve(ctx context.Context, ls ...*net.TCPListener) error {
	s.mu.Lock()
	s.listeners = append(s.listeners, ls...)
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var accepting sync.WaitGroup
	var err error
	var once sync.Once
	for _, l := range ls {
		accepting.Go(func() {
			if e := s.accept(l); e != nil {
				once.Do(func() { err = e })
				cancel()
			}
		})
	}
	s.spare.keep()
	s.wg.Go(func() { s.legs.reap(s.ctx) })
	select {
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	s.closeListeners()
	accepting.Wait()
	s.shutdown()
	return err
}

// accept runs until the listener is closed.
func (s *Splicer) accept(l *net.TCPListener) error {
	for {
		c, err := l.AcceptTCP()
		switch {
		case err == nil:
			s.welcome(c)
		case errors.Is(err, net.ErrClosed):
			return nil
		case passing(err):
			s.count.acceptErrors.Add(1)
			if !s.spare.turnAway(l) {
				time.Sleep(50 * time.Millisecond) // nothing else to wait for
			}
		default:
			return fmt.Errorf("splice: accept on %v: %w", l.Addr(), err)
		}
	}
}

// welcome starts the relay of an accepted connection, or refuses it with a RST.
func (s *Splicer) welcome(c *net.TCPConn) {
	s.count.accepted.Add(1)
	c.SetLinger(0) // a killed daemon answers RST on both legs at once; see Listen
	flow, err := s.target(c)
	if err != nil {
		s.count.notSteered.Add(1)
		c.Close()
		return
	}
	r := newRelay(s, flow, c)
	if !s.enter(r) {
		s.count.refused.Add(1)
		c.Close()
		return
	}
	s.wg.Go(r.run)
}

// enter takes a relay into the table. It is false when there are too many, all in all or of this
// terminal.
func (s *Splicer) enter(r *relay) bool {
	key := s.key(r.flow.Terminal.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped || len(s.relays) >= s.cfg.MaxRelays:
		return false
	case s.held[key] >= max(s.cfg.MaxRelays/shares, 1):
		s.count.overShare.Add(1)
		return false
	}
	s.held[key]++
	s.relays[r.flow] = r // in the place of one that is about to end: the terminal uses its port again
	return true
}

// shares is how many terminals it takes to use up the relays.
const shares = 4

func (s *Splicer) leave(r *relay) {
	key := s.key(r.flow.Terminal.Addr())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[key]--; s.held[key] == 0 {
		delete(s.held, key)
	}
	if s.relays[r.flow] == r {
		delete(s.relays, r.flow)
	}
}

// relay returns the relay of a connection, nil when it is not ours.
func (s *Splicer) relay(f bpf.Flow) *relay {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.relays[f]
}

func (s *Splicer) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l.Close()
	}
}

// shutdown ends transfers and relays and waits for them.
func (s *Splicer) shutdown() {
	s.mu.Lock()
	s.draining, s.stopped = true, true
	all := make([]*relay, 0, len(s.relays))
	for _, r := range s.relays {
		all = append(all, r)
	}
	s.mu.Unlock()
	s.stop()
	for _, r := range all {
		r.finish(lastWords)
	}
	s.wg.Wait()
	s.legs.close()
	s.spare.drop()
}

// lastWords is how long a connection may take to answer our FIN when the daemon ends.
const lastWords = 500 * time.Millisecond

// Drain takes no new connection and no new order, ends the transfers that wait for their
// target, and returns when the last relayed connection has ended, or when ctx does. It does
// not end Serve.
func (s *Splicer) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	waiting := make([]*move, 0, len(s.moves))
	for _, m := range s.moves {
		waiting = append(waiting, m)
	}
	s.mu.Unlock()
	s.closeListeners()
	for _, m := range waiting {
		m.drain()
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		left := len(s.relays)
		s.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// key is what makes two addresses one terminal.
func (s *Splicer) key(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, err := a.Prefix(s.cfg.IPv6Prefix)
	if err != nil {
		return a
	}
	return p.Addr()
}

func (s *Splicer) now() time.Time { return s.cfg.Now() }
