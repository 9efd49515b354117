package splice

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
)

// patience is how long a test waits for what must come; machines are slow at times.
const patience = 20 * time.Second

// fakeKernel takes orders and answers with what a test put in.
type fakeKernel struct {
	mu    sync.Mutex
	armed map[netip.Addr]bool
	legs  map[bpf.Flow]bool
	cuts  []string
	media map[bpf.Flow]bpf.MediaStats
	tcp   map[bpf.Flow]bpf.TCPStats
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{
		armed: map[netip.Addr]bool{}, legs: map[bpf.Flow]bool{},
		media: map[bpf.Flow]bpf.MediaStats{}, tcp: map[bpf.Flow]bpf.TCPStats{},
	}
}

func (k *fakeKernel) do(fn func()) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	fn()
	return nil
}

func (k *fakeKernel) Arm(a netip.Addr) error                { return k.do(func() { k.armed[a] = true }) }
func (k *fakeKernel) Disarm(a netip.Addr) error             { return k.do(func() { delete(k.armed, a) }) }
func (k *fakeKernel) AddLeg(f bpf.Flow) error               { return k.do(func() { k.legs[f] = true }) }
func (k *fakeKernel) RemoveLeg(f bpf.Flow) error            { return k.do(func() { delete(k.legs, f) }) }
func (k *fakeKernel) setMedia(f bpf.Flow, m bpf.MediaStats) { k.do(func() { k.media[f] = m }) }

func (k *fakeKernel) CutFlow(p bpf.Proto, f bpf.Flow, d bpf.CutDir, long time.Duration) error {
	return k.do(func() { k.cuts = append(k.cuts, fmt.Sprintf("%v %v %d", p, f, d)) })
}

func (k *fakeKernel) TrimCut(p bpf.Proto, f bpf.Flow, long time.Duration) error {
	return k.do(func() { k.cuts = append(k.cuts, fmt.Sprintf("trim %v %v", p, f)) })
}
func (k *fakeKernel) Copy(bpf.Flow) error { return nil }

// takesFIN notes what a player answers to a forged FIN, when it has the server's bytes up to has.
func (k *fakeKernel) takesFIN(s segment, has uint32) {
	f := bpf.Flow{Terminal: s.to, Server: s.from}
	k.do(func() {
		st, ok := k.tcp[f]
		if !ok || s.flags&flagFIN == 0 {
			return
		}
		if s.seq == has {
			has++
		}
		st.ToServer.NewestAck, st.ToServer.HaveAck = has, true
		k.tcp[f] = st
	})
}

func (k *fakeKernel) MediaStats(f bpf.Flow) (bpf.MediaStats, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.media[f]
	return m, ok
}

func (k *fakeKernel) TCPStats(f bpf.Flow) (bpf.TCPStats, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.tcp[f]
	return m, ok
}

func (k *fakeKernel) isArmed(a netip.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.armed[a]
}

func (k *fakeKernel) cutList() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.cuts)
}

// fakeTracer knows the sessions a test put in, and keeps what was streamed.
type fakeTracer struct {
	mu      sync.Mutex
	details map[string]tracer.Detail
	flows   map[bpf.Flow][]string
	streams map[bpf.Flow]*[2][]byte
	closed  map[bpf.Flow]*[2]int
	moved   []string
	tap     func(seq uint32, b []byte)
	// adopt makes a session of every new flow, from a template; nil: none.
	adopt func(f bpf.Flow) (id string, d tracer.Detail)
}

func newFakeTracer() *fakeTracer {
	return &fakeTracer{
		details: map[string]tracer.Detail{}, flows: map[bpf.Flow][]string{},
		streams: map[bpf.Flow]*[2][]byte{}, closed: map[bpf.Flow]*[2]int{},
	}
}

func (t *fakeTracer) Stream(f bpf.Flow, dir bpf.Dir, b []byte, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.streams[f] == nil {
		t.streams[f] = &[2][]byte{}
		if t.adopt != nil {
			if id, d := t.adopt(f); id != "" {
				t.details[id], t.flows[f] = d, []string{id}
			}
		}
	}
	t.streams[f][dir] = append(t.streams[f][dir], b...)
}

func (t *fakeTracer) StreamClosed(f bpf.Flow, dir bpf.Dir, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed[f] == nil {
		t.closed[f] = &[2]int{}
	}
	t.closed[f][dir]++
	for id, d := range t.details {
		if d.Control == f {
			d.Record.State, d.Terminated = session.Ended, true
			t.details[id] = d
		}
	}
}

func (t *fakeTracer) Detail(id string, now time.Time) (tracer.Detail, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.details[id]
	return d, ok
}

func (t *fakeTracer) ByFlow(f bpf.Flow) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flows[f]
}

func (t *fakeTracer) Moved(id string, f bpf.Flow, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moved = append(t.moved, id)
}

func (t *fakeTracer) Tap(f bpf.Flow, fn func(seq uint32, b []byte)) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tap = fn
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.tap = nil
	}
}

func (t *fakeTracer) set(id string, change func(*tracer.Detail)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.details[id]
	change(&d)
	t.details[id] = d
}

func (t *fakeTracer) streamed(f bpf.Flow, dir bpf.Dir) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.streams[f] == nil {
		return ""
	}
	return string(t.streams[f][dir])
}

// fakeWire notes what would leave the gateway.
type fakeWire struct {
	mu        sync.Mutex
	datagrams []string
	segments  []segment
	forged    func(segment) // is called with each
}

func (w *fakeWire) datagram(from, to netip.AddrPort, b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.datagrams = append(w.datagrams, fmt.Sprintf("%v>%v %x", from, to, b))
	return nil
}

func (w *fakeWire) forge(s segment) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.segments = append(w.segments, s)
	w.forged(s)
	return nil
}

// bed is a Splicer between terminals and one server, all on loopback without privileges.
type bed struct {
	t      testing.TB
	s      *Splicer
	k      *fakeKernel
	tr     *fakeTracer
	wire   *fakeWire
	table  *session.Table
	front  *net.TCPListener
	back   *net.TCPListener
	server netip.AddrPort
	conns  chan *net.TCPConn // what reached the server
	stop   func()
	mu     sync.Mutex
	from   []netip.AddrPort // addresses that legs were to come from
}

func quietConfig() Config {
	c := DefaultConfig()
	c.Settle, c.SettleGst, c.SettleVLC = 100*time.Millisecond, 150*time.Millisecond, 200*time.Millisecond
	c.Return, c.Drain, c.NoMedia, c.Retry = 300*time.Millisecond, 100*time.Millisecond, 5*time.Second, 5*time.Second
	return c
}

func newBed(t testing.TB, cfg Config) *bed {
	t.Helper()
	b := &bed{
		t: t, k: newFakeKernel(), tr: newFakeTracer(), wire: &fakeWire{}, table: session.NewTable(),
		conns: make(chan *net.TCPConn, 1024),
	}
	b.wire.forged = func(s segment) { b.k.takesFIN(s, s.seq) }
	b.front, b.back = loopback(t), loopback(t)
	b.server = b.back.Addr().(*net.TCPAddr).AddrPort()
	s, err := New(cfg, b.k, b.tr, b.table, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.wire = b.wire
	s.target = func(c *net.TCPConn) (bpf.Flow, error) {
		return bpf.Flow{Terminal: addrPort(c.RemoteAddr()), Server: b.server}, nil
	}
	s.legs.connect = func(ctx context.Context, from, to netip.AddrPort) (*net.TCPConn, error) {
		b.mu.Lock()
		b.from = append(b.from, from)
		b.mu.Unlock()
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp4", to.String())
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	}
	b.s = s
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, b.front) }()
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := b.back.AcceptTCP()
			if err != nil {
				return
			}
			b.conns <- c
		}
	})
	b.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-served:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(patience):
			buf := make([]byte, 1<<20)
			t.Errorf("Serve does not return:\n%s", buf[:runtime.Stack(buf, true)])
		}
		b.back.Close()
		accepting.Wait()
	})
	t.Cleanup(b.stop)
	return b
}

func loopback(t testing.TB) *net.TCPListener {
	t.Helper()
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

const (
	phone = "127.0.0.2"
	tv    = "127.0.0.3"
)

// connect opens a connection of a terminal and returns both ends of what is relayed.
func (b *bed) connect(from string) (terminal, server *net.TCPConn, f bpf.Flow) {
	b.t.Helper()
	terminal = b.dial(from)
	server = b.accepted()
	return terminal, server, bpf.Flow{Terminal: addrPort(terminal.LocalAddr()), Server: b.server}
}

func (b *bed) dial(from string) *net.TCPConn {
	b.t.Helper()
	c, err := b.tryDial(from)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

func (b *bed) tryDial(from string) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.Dial("tcp4", b.front.Addr().String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), c.SetDeadline(time.Now().Add(patience))
}

func (b *bed) accepted() *net.TCPConn {
	b.t.Helper()
	select {
	case c := <-b.conns:
		c.SetDeadline(time.Now().Add(patience))
		b.t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(patience):
		b.t.Fatal("nothing reaches the server")
	}
	return nil
}

// eventually waits until ok returns true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func send(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatalf("send %q: %v", text, err)
	}
}

// expect reads exactly text.
func expect(t testing.TB, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("got %q (%v), want %q", got[:n], err, text)
	}
}

// until reads up to and including the end of one message head.
func until(t testing.TB, c net.Conn) string {
	t.Helper()
	var out strings.Builder
	var one [1]byte
	for !strings.HasSuffix(out.String(), "\r\n\r\n") {
		if _, err := c.Read(one[:]); err != nil {
			t.Fatalf("after %q: %v", out.String(), err)
		}
		out.Write(one[:])
	}
	return out.String()
}

func (b *bed) balance() {
	b.t.Helper()
	m := b.s.Stats()
	in := m["bytes_from_terminal"] + m["bytes_from_server"] + m["bytes_inserted"]
	out := m["bytes_to_server"] + m["bytes_to_terminal"] + m["bytes_dropped"] + m["bytes_undelivered"]
	if in != out {
		b.t.Errorf("bytes in %d, out %d: %v", in, out, m)
	}
}
