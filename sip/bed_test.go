package sip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

// regBed is a server with one core peer, on loopback addresses of its own.
type regBed struct {
	t     testing.TB
	s     *Server
	gate  *fakeGate
	store *flakyStore
	clock *fakeClock
	core  *wirePeer
	logs  *lockedBuffer
	done  chan struct{}
	stop  context.CancelFunc
}

// lockedBuffer is a log that a test can read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// fakeClock can be put forward.
type fakeClock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *fakeClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *fakeClock) forward(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// fakeGate records which addresses are open.
type fakeGate struct {
	mu     sync.Mutex
	open   map[netip.Addr]session.Binding
	opens  int
	closes int
	fail   bool
}

func (g *fakeGate) Open(b session.Binding) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail {
		return errors.New("gateway away")
	}
	g.opens++
	g.open[b.IP] = b
	return nil
}

func (g *fakeGate) Close(b session.Binding) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.fail {
		return errors.New("gateway away")
	}
	g.closes++
	delete(g.open, b.IP)
	return nil
}

func (g *fakeGate) setFail(v bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail = v
}

func (g *fakeGate) addrs() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var out []string
	for a := range g.open {
		out = append(out, a.String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// flakyStore is a store that can be down.
type flakyStore struct {
	*Memory
	mu   sync.Mutex
	down bool
}

func (s *flakyStore) setDown(v bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = v
}

func (s *flakyStore) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errors.New("store away")
	}
	return nil
}

func (s *flakyStore) PutBinding(ctx context.Context, b session.Binding) error {
	return errors.Join(s.err(), s.Memory.PutBinding(ctx, b))
}

func (s *flakyStore) Bindings(ctx context.Context) ([]session.Binding, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Memory.Bindings(ctx)
}

// loopback returns a loopback address that other tests hardly use.
func loopback() string {
	return fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254))
}

// baseConfig is a server at a loopback address that trusts core.
func baseConfig(core string) Config {
	cfg := DefaultConfig()
	cfg.Listen = []string{"udp://" + loopback() + ":0"}
	cfg.URI = "sip:scas@ims.test"
	cfg.Trusted = []string{core}
	cfg.Terminals = []netip.Prefix{netip.MustParsePrefix("127.0.20.0/24"), netip.MustParsePrefix("10.0.0.0/8")}
	cfg.Subscribers = []string{"sip:alice@ims.test", "sip:bob@ims.test", "sip:carol@ims.test"}
	return cfg
}

// newRegBed starts a server; change may alter its configuration.
func newRegBed(t testing.TB, change func(cfg *Config)) *regBed {
	t.Helper()
	core := newWirePeer(t, loopback())
	return newRegBedAt(t, core, &flakyStore{Memory: NewMemory()}, &fakeClock{}, change)
}

// discreetLog returns a logger, and what it has said. The test fails when that tells above debug
// level who a user is, where, or what is watched.
func discreetLog(t testing.TB) (*slog.Logger, *lockedBuffer) {
	t.Helper()
	said := &lockedBuffer{}
	t.Cleanup(func() {
		for line := range strings.Lines(said.String()) {
			if personal := regexp.MustCompile(`@|sip:[a-z]|tel:|rtsp:|10\.\d+\.\d+\.\d+`); !strings.Contains(line, "level=DEBUG") && personal.MatchString(line) {
				t.Errorf("the log tells: %s", line)
			}
		}
	})
	return slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug})), said
}

func newRegBedAt(t testing.TB, core *wirePeer, store *flakyStore, c *fakeClock, change func(cfg *Config)) *regBed {
	t.Helper()
	cfg := baseConfig(core.ip)
	cfg.RegEvent = false
	if change != nil {
		change(&cfg)
	}
	b := &regBed{
		t: t, gate: &fakeGate{open: map[netip.Addr]session.Binding{}}, store: store, clock: c, core: core,
		done: make(chan struct{}),
	}
	var log *slog.Logger
	log, b.logs = discreetLog(t)
	s, err := New(cfg, Deps{
		Mover: noMover{}, Sessions: noMover{}, Transfers: session.NewTable(),
		Store: b.store, Gate: b.gate, Now: b.clock.now,
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	b.s = s
	ctx, cancel := context.WithCancel(context.Background())
	b.stop = cancel
	go func() {
		defer close(b.done)
		if err := s.Serve(ctx); err != nil {
			t.Errorf("serve: %v", err)
		}
	}()
	t.Cleanup(b.end)
	return b
}

// end stops the server and waits for it.
func (b *regBed) end() {
	b.stop()
	select {
	case <-b.done:
	case <-time.After(patience):
		b.t.Error("the server did not end")
	}
}

// udp is the server's i-th listener.
func (b *regBed) udp(i int) netip.AddrPort { return b.s.stack.listeners[i].local }

// noMover carries out nothing.
type noMover struct{}

func (noMover) Move(context.Context, session.Order) (session.Transfer, error) {
	return session.Transfer{}, errors.New("no")
}
func (noMover) Answer(string, bool) error { return errors.New("no") }
func (noMover) Cancel(string) (session.Transfer, error) {
	return session.Transfer{}, errors.New("no")
}
func (noMover) List() []session.Record { return nil }

// wirePeer is a SIP element on an address of its own: it sends raw bytes from port 5060 and
// keeps what comes back, to whatever port the Via asked for.
type wirePeer struct {
	t     testing.TB
	ip    string
	conns []*net.UDPConn
	res   chan *gosip.Response
	req   chan *gosip.Request

	mu     sync.Mutex
	answer func(r *gosip.Request) *gosip.Response // nil: silence
}

func newWirePeer(t testing.TB, ip string) *wirePeer {
	t.Helper()
	p := &wirePeer{t: t, ip: ip, res: make(chan *gosip.Response, 1024), req: make(chan *gosip.Request, 1024)}
	for _, port := range []int{5060, 5050, 5061} {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip), Port: port})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		p.conns = append(p.conns, c)
		go p.read(c)
	}
	return p
}

func (p *wirePeer) read(c *net.UDPConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		m, err := gosip.NewParser(gosip.WithHeadersParsers(lenientParsers())).ParseSIP(bytes.Clone(buf[:n]))
		if err != nil {
			continue
		}
		switch m := m.(type) {
		case *gosip.Response:
			m.SetSource(from.String())
			p.res <- m
		case *gosip.Request:
			p.mu.Lock()
			f := p.answer
			p.mu.Unlock()
			if f != nil {
				if res := f(m); res != nil {
					_, _ = c.WriteToUDPAddrPort([]byte(res.String()), from)
				}
			}
			p.req <- m
		}
	}
}

// answers makes the peer answer requests.
func (p *wirePeer) answers(f func(r *gosip.Request) *gosip.Response) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = f
}

// send sends raw bytes.
func (p *wirePeer) send(to netip.AddrPort, raw string) {
	p.t.Helper()
	if _, err := p.conns[0].WriteToUDPAddrPort([]byte(raw), to); err != nil {
		p.t.Fatal(err)
	}
}

// ask sends raw bytes and returns the answer.
func (p *wirePeer) ask(to netip.AddrPort, raw string) *gosip.Response {
	p.t.Helper()
	p.send(to, raw)
	return p.response()
}

func (p *wirePeer) response() *gosip.Response {
	p.t.Helper()
	select {
	case r := <-p.res:
		return r
	case <-time.After(patience):
		p.t.Fatal("no answer")
	}
	return nil
}

// request returns the next request of a method that the peer got.
func (p *wirePeer) request(method string) *gosip.Request {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case r := <-p.req:
			if string(r.Method) == method {
				return r
			}
		case <-deadline:
			p.t.Fatalf("no %s came", method)
		}
	}
}

// capture reads a recorded message as the peer would send it now: with a branch of its own.
func capture(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/registrations/" + name)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, _ := strings.Cut(string(b), "branch=z9hG4bK")
	return head + fmt.Sprintf("branch=z9hG4bK%d.", rand.Int64()) + rest
}

// until waits until f is true.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// openIs waits until exactly these addresses are open.
func (b *regBed) openIs(addrs string) {
	b.t.Helper()
	deadline := time.Now().Add(patience)
	for b.gate.addrs() != addrs {
		if time.Now().After(deadline) {
			b.t.Fatalf("open is %q, want %q; %v", b.gate.addrs(), addrs, b.s.Stats())
		}
		time.Sleep(2 * time.Millisecond)
	}
}
