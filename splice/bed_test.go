package splice

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"scas/bpf"
	"scas/session"
)

// patience is how long a test waits for what must come; machines are slow at times.
const patience = 20 * time.Second

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
	ahead  atomic.Int64 // of the splicer's clock, ns
	mu     sync.Mutex
	from   []netip.AddrPort // addresses that legs were to come from
	other  netip.AddrPort   // where the next connections go; zero: to server
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
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())) }
	s, err := New(cfg, b.k, b.tr, b.table, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.wire = b.wire
	s.target = func(c *net.TCPConn) (bpf.Flow, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		f := bpf.Flow{Terminal: addrPort(c.RemoteAddr()), Server: b.server}
		if b.other.IsValid() {
			f.Server = b.other
		}
		return f, nil
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

// forward puts the splicer's clock forward.
func (b *bed) forward(d time.Duration) { b.ahead.Add(int64(d)) }

// looked waits until the transfer of a session's film has looked how things are.
func (b *bed) looked(id string) {
	b.t.Helper()
	at := b.tr.askedAfter(b.t, id, b.s.now())
	b.tr.askedAfter(b.t, id, at) // the next look begins when the one before is over
}

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

// balance checks that of all bytes that came in it is known where they went. Bytes are counted
// behind the write: their reader may be here before.
func (b *bed) balance() {
	b.t.Helper()
	var in, out uint64
	defer func() {
		if b.t.Failed() {
			b.t.Logf("bytes in %d, out %d: %v", in, out, b.s.Stats())
		}
	}()
	eventually(b.t, "all bytes are accounted for", func() bool {
		m := b.s.Stats()
		in = m["bytes_from_terminal"] + m["bytes_from_server"] + m["bytes_inserted"]
		out = m["bytes_to_server"] + m["bytes_to_terminal"] + m["bytes_dropped"] + m["bytes_undelivered"]
		return in == out
	})
}

// digested waits until all that one side of a relay has sent was read and is dealt with.
func (b *bed) digested(f bpf.Flow, dir bpf.Dir, counter string, bytes uint64) {
	b.t.Helper()
	eventually(b.t, "read", func() bool { return b.s.Stats()[counter] == bytes })
	d := b.s.relay(f).down
	if dir == bpf.ToServer {
		d = b.s.relay(f).up
	}
	done := make(chan struct{})
	if !d.do(func() { close(done) }) { // it is run between two reads
		b.t.Fatal("the relay has ended")
	}
	select {
	case <-done:
	case <-time.After(patience):
		b.t.Fatal("the relay is stuck")
	}
}

// waiting returns how many bytes a connection has for its reader.
func waiting(t testing.TB, c *net.TCPConn) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = control(raw, func(fd int) (err error) {
			n, err = unix.IoctlGetInt(fd, unix.TIOCINQ)
			return err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// stuff writes frames until nothing more is taken for some time, and returns how many bytes went.
func stuff(t testing.TB, c *net.TCPConn) (sent int64) {
	t.Helper()
	defer c.SetWriteDeadline(time.Now().Add(patience))
	for frame := rtpFrame(0, 1, 2, 1<<15); sent < 256<<20; {
		c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := c.Write(frame)
		sent += int64(n)
		if err != nil {
			return sent
		}
	}
	t.Fatal("everything is taken")
	return 0
}
