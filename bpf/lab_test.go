package bpf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// deadline is how long a test waits for what must come; only a broken one waits that long.
const deadline = 20 * time.Second

// root skips a test that needs root, or fails it where everything must run.
func root(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("SCAS_PRIV") == "1" {
		tb.Fatal("needs root: loads BPF programs")
	}
	tb.Skip("needs root: loads BPF programs")
}

var spaceCount atomic.Int64

// space is a network namespace without a name: it ends with its last user.
type space struct {
	tb testing.TB
	h  netns.NsHandle
	nl *netlink.Handle
}

// newSpace makes a namespace with lo up.
func newSpace(tb testing.TB) *space {
	tb.Helper()
	s := &space{tb: tb}
	must(tb, onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		var err error
		if s.h, err = netns.Get(); err != nil {
			return err
		}
		s.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	}))
	tb.Cleanup(func() {
		s.nl.Close()
		_ = s.h.Close()
	})
	s.up("lo")
	for _, which := range []string{"all", "default"} { // addresses are of use at once
		s.sysctl("net/ipv6/conf/"+which+"/accept_dad", "0")
	}
	return s
}

// onThread runs f on a thread of its own, which is thrown away with its namespace.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// do runs f in the namespace.
func (s *space) do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(s.h); err != nil {
			return err
		}
		return f()
	})
}

func (s *space) link(name string) netlink.Link {
	s.tb.Helper()
	l, err := s.nl.LinkByName(name)
	must(s.tb, err)
	return l
}

func (s *space) up(name string) { s.tb.Helper(); must(s.tb, s.nl.LinkSetUp(s.link(name))) }

func (s *space) addr(name, cidr string) {
	s.tb.Helper()
	a, err := netlink.ParseAddr(cidr)
	must(s.tb, err)
	a.Flags = unix.IFA_F_NODAD
	must(s.tb, s.nl.AddrAdd(s.link(name), a))
}

// gateway adds a default route.
func (s *space) gateway(ip string) {
	s.tb.Helper()
	must(s.tb, s.nl.RouteAdd(&netlink.Route{Gw: net.ParseIP(ip)}))
}

func (s *space) sysctl(name, value string) {
	s.tb.Helper()
	must(s.tb, s.do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) }))
}

// veth joins two namespaces.
func veth(tb testing.TB, a *space, aName string, b *space, bName string) {
	tb.Helper()
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: aName, MTU: 1500}, PeerName: bName, PeerNamespace: netlink.NsFd(b.h)}
	must(tb, a.nl.LinkAdd(v))
	a.up(aName)
	b.up(bName)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// lab is a terminal, the gateway under test and a server: ue -lan0- gw -wan0- ms.
type lab struct {
	tb         testing.TB
	ue, gw, ms *space
}

// Addresses of the lab by family: IPv4, IPv6.
var (
	ueIP = [2]string{"10.78.1.2", "fd78:1::2"}
	msIP = [2]string{"10.78.9.2", "fd78:9::2"}
)

func newLab(tb testing.TB) *lab {
	tb.Helper()
	root(tb)
	l := &lab{tb: tb, ue: newSpace(tb), gw: newSpace(tb), ms: newSpace(tb)}
	veth(tb, l.gw, "lan0", l.ue, "eth0")
	veth(tb, l.gw, "wan0", l.ms, "eth0")
	l.gw.sysctl("net/ipv4/ip_forward", "1")
	l.gw.sysctl("net/ipv6/conf/all/forwarding", "1")
	for _, dev := range []string{"all", "lan0", "wan0"} { // the strictest a router can be
		l.gw.sysctl("net/ipv4/conf/"+dev+"/rp_filter", "1")
		l.gw.sysctl("net/ipv4/conf/"+dev+"/src_valid_mark", "1")
	}
	l.gw.addr("lan0", "10.78.1.1/24")
	l.gw.addr("lan0", "fd78:1::1/64")
	l.gw.addr("wan0", "10.78.9.1/24")
	l.gw.addr("wan0", "fd78:9::1/64")
	l.ue.addr("eth0", ueIP[0]+"/24")
	l.ue.addr("eth0", ueIP[1]+"/64")
	l.ms.addr("eth0", msIP[0]+"/24")
	l.ms.addr("eth0", msIP[1]+"/64")
	for _, gw := range []string{"10.78.1.1", "fd78:1::1"} {
		l.ue.gateway(gw)
	}
	for _, gw := range []string{"10.78.9.1", "fd78:9::1"} {
		l.ms.gateway(gw)
	}
	return l
}

// config is the default one with the lab's interfaces, and small maps.
func (l *lab) config() Config {
	cfg := DefaultConfig()
	cfg.LAN, cfg.WAN = []string{"lan0"}, []string{"wan0"}
	cfg.Table = 8470 + int(spaceCount.Add(1))
	cfg.MaxSubscribers, cfg.MaxFlows, cfg.RingBytes = 64, 256, 1<<20
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	return cfg
}

// open starts a gateway in the lab's router.
func (l *lab) open(cfg Config) *Gateway {
	l.tb.Helper()
	var g *Gateway
	err := l.gw.do(func() (err error) {
		g, err = Open(cfg)
		return err
	})
	if err != nil {
		l.tb.Fatalf("%+v", err)
	}
	l.tb.Cleanup(func() { must(l.tb, g.Close()) })
	return g
}

// listen opens a TCP listener in a namespace, not MPTCP.
func (s *space) listen(addr string, control ...func(fd int) error) *net.TCPListener {
	s.tb.Helper()
	var ln net.Listener
	lc := net.ListenConfig{Control: controlOf(control)}
	lc.SetMultipathTCP(false)
	must(s.tb, s.do(func() (err error) {
		ln, err = lc.Listen(context.Background(), "tcp", addr)
		return err
	}))
	s.tb.Cleanup(func() { _ = ln.Close() })
	return ln.(*net.TCPListener)
}

// dial opens a TCP connection from a namespace; local may be empty.
func (s *space) dial(local, addr string, control ...func(fd int) error) (*net.TCPConn, error) {
	var c net.Conn
	d := net.Dialer{Timeout: deadline, Control: controlOf(control)}
	d.SetMultipathTCP(false)
	if local != "" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(local))
	}
	err := s.do(func() (err error) {
		c, err = d.Dial("tcp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.tb.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn), nil
}

func controlOf(fs []func(fd int) error) func(_, _ string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) {
			for _, f := range fs {
				if err == nil {
					err = f(int(fd))
				}
			}
		})
		return errors.Join(cerr, err)
	}
}

// udp opens a UDP socket in a namespace.
func (s *space) udp(addr string) *net.UDPConn {
	s.tb.Helper()
	var c *net.UDPConn
	must(s.tb, s.do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
		return err
	}))
	s.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// connect joins the terminal to a server listening on the port, through the gateway.
func (l *lab) connect(family, port int) (ue, ms *net.TCPConn, f Flow) {
	l.tb.Helper()
	addr := net.JoinHostPort(msIP[family], strconv.Itoa(port))
	ln := l.ms.listen(addr)
	ue, err := l.ue.dial("", addr)
	must(l.tb, err)
	must(l.tb, ln.SetDeadline(time.Now().Add(deadline)))
	ms, err = ln.AcceptTCP()
	must(l.tb, err)
	l.tb.Cleanup(func() { _ = ms.Close() })
	return ue, ms, Flow{Terminal: addrPort(ue.LocalAddr()), Server: addrPort(ue.RemoteAddr())}
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := netip.MustParseAddrPort(a.String())
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// send writes all of b.
func send(tb testing.TB, c net.Conn, b []byte) {
	tb.Helper()
	must(tb, c.SetWriteDeadline(time.Now().Add(deadline)))
	_, err := c.Write(b)
	must(tb, err)
}

// receive reads n bytes.
func receive(tb testing.TB, c net.Conn, n int) []byte {
	tb.Helper()
	b := make([]byte, n)
	must(tb, c.SetReadDeadline(time.Now().Add(deadline)))
	_, err := io.ReadFull(c, b)
	must(tb, err)
	return b
}

// next reads events until one satisfies want.
func next(tb testing.TB, g *Gateway, what string, want func(*Event) bool) Event {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var ev Event
	for {
		if err := g.Read(ctx, &ev); err != nil {
			tb.Fatalf("waiting for %s: %v; counters: %s", what, err, nonZero(g.Stats()))
		}
		if want(&ev) {
			ev.Payload = append([]byte(nil), ev.Payload...)
			return ev
		}
	}
}

// eventually waits until ok.
func eventually(tb testing.TB, g *Gateway, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(deadline); !ok(); {
		if time.Now().After(end) {
			tb.Fatalf("%s: not within %v; counters: %s", what, deadline, nonZero(g.Stats()))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func nonZero(s Stats) (text string) {
	for k, v := range s {
		if v != 0 {
			text += fmt.Sprintf("%s=%d ", k, v)
		}
	}
	return text
}

// bothFamilies runs a test for IPv4 and IPv6.
func bothFamilies(t *testing.T, f func(t *testing.T, family int)) {
	for family, name := range []string{"IPv4", "IPv6"} {
		t.Run(name, func(t *testing.T) { f(t, family) })
	}
}
