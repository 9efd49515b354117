// Package bpf is the kernel half of the gateway and the only Go door to it: it loads and attaches
// the tc programs, installs the policy rules that make steering work, and turns maps and the ring
// buffer into plain Go values. It knows flows, sequence numbers and RTP heads; it refuses to know
// what a message means. Specs: RFC 3550 (RTP), RFC 2326 §10.12 (interleaved frames), RFC 9293 (TCP).
package bpf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf/ringbuf"
)

// What callers may test for with errors.Is.
var (
	ErrNoFlow        = errors.New("flow is not known to the kernel half")
	ErrNotSubscribed = errors.New("address is not subscribed")
	ErrTooMany       = errors.New("kernel map is full")
	ErrClosed        = os.ErrClosed // any method after Close
)

// ConflictError says that something Open wants to be its own belongs to somebody else.
type ConflictError struct {
	What  string // "mark", "table", "priority", "filter" or "instance"
	Found string // what was found, as an operator would write it
}

func (e *ConflictError) Error() string { return "gateway " + e.What + " is taken: " + e.Found }

// Gateway is the running kernel half. All methods are safe for concurrent use. It works in the
// network namespace Open was called in.
type Gateway struct {
	cfg    Config
	log    *slog.Logger
	clock  *clock
	kernel *kernel
	names  []string  // of the counters
	mask   [4]uint32 // of IPv6 addresses
	host   *host     // rules, routes and programs on devices
	lock   *instance
	reaper struct {
		stop context.CancelFunc
		done chan struct{}
	}

	readMu sync.Mutex
	events *eventReader

	mu        sync.Mutex // guards what follows, and writes to the maps it mirrors
	closed    bool
	terminals map[scasAddrKey]*terminal
	version   uint32 // of the subscribers map, as the kernel half has it
	addresses *addressBits
	watched   map[Flow]MediaFlow
	legs      map[Flow]time.Time // zero: in use; else when it goes
	cuts      map[cutID]time.Time
	flowCount uint64                   // TCP records at the last count
	left      map[scasAddrKey]struct{} // terminals that are none any more, and may have records
	legsOf    map[scasAddrKey]int      // legs of each terminal
	overShare map[string]uint64        // what terminals did not get, by kind
}

// Open removes what a crash left, loads the programs and attaches them. Rules and routes come with
// the first terminal or leg to be steered, or here when all are.
// Errors: *ConflictError, perhaps several joined; what Config.Validate says; else what the kernel refused, %+v shows a
// verifier log. On an error nothing stays behind.
func Open(cfg Config) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g := newGateway(cfg)
	if err := g.open(); err != nil {
		return nil, fmt.Errorf("gateway: %w", errors.Join(err, g.Close()))
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.reaper.stop, g.reaper.done = cancel, make(chan struct{})
	go func() {
		defer close(g.reaper.done)
		g.reapLoop(ctx)
	}()
	return g, nil
}

func newGateway(cfg Config) *Gateway {
	g := &Gateway{
		cfg:       cfg,
		log:       cfg.Log,
		clock:     newClock(),
		terminals: make(map[scasAddrKey]*terminal),
		version:   1,
		addresses: newAddressBits(),
		watched:   make(map[Flow]MediaFlow),
		legs:      make(map[Flow]time.Time),
		cuts:      make(map[cutID]time.Time),
		left:      make(map[scasAddrKey]struct{}),
		legsOf:    make(map[scasAddrKey]int),
		overShare: make(map[string]uint64),
		mask:      maskOf(cfg.IPv6Prefix),
	}
	if g.log == nil {
		g.log = slog.Default()
	}
	return g
}

func (g *Gateway) open() (err error) {
	if g.lock, err = lockInstance(g.cfg.Table); err != nil {
		return err
	}
	if g.host, err = newHost(g.cfg, g.log); err != nil {
		return err
	}
	if err := g.host.free(); err != nil {
		return err
	}
	if err := g.load(g.host.needBare()); err != nil {
		return err
	}
	if g.cfg.SteerAlways || g.host.policy.left() {
		if err := g.host.steering(); err != nil {
			return err
		}
	}
	if err := g.host.attach(g.kernel); err != nil {
		return err
	}
	return g.host.watchLinks()
}

// load brings programs, maps and the ring buffer up; nothing sends packets through them yet.
func (g *Gateway) load(needBare bool) (err error) {
	if g.kernel, err = load(g.cfg, needBare); err != nil {
		return err
	}
	spec, err := loadScas()
	if err != nil {
		return err
	}
	if g.names, err = counterNames(spec.Types); err != nil {
		return err
	}
	ring, err := ringbuf.NewReader(g.kernel.m("ring"))
	if err != nil {
		return fmt.Errorf("open ring buffer: %w", err)
	}
	g.events = &eventReader{ring: ring}
	return nil
}

// Close undoes everything Open did, in reverse order. What was steered is lost: close its sockets
// first. A second call does nothing.
func (g *Gateway) Close() error {
	g.mu.Lock()
	closed := g.closed
	g.closed = true
	g.mu.Unlock()
	if closed {
		return nil
	}
	if g.reaper.stop != nil {
		g.reaper.stop()
		<-g.reaper.done
	}
	var errs []error
	if g.host != nil {
		errs = append(errs, g.host.remove())
	}
	if g.events != nil {
		errs = append(errs, g.events.ring.Close())
		g.readMu.Lock() // a Read under way returns first
		defer g.readMu.Unlock()
	}
	if g.kernel != nil {
		g.kernel.close()
	}
	if g.lock != nil {
		errs = append(errs, g.lock.Close())
	}
	return errors.Join(slices.DeleteFunc(errs, func(e error) bool { return e == nil })...)
}
