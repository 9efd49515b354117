package bpf

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const testMark = 0x20000000

// transparent makes a socket one of ours.
func transparent(family int) func(fd int) error {
	return func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, testMark); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		if family == 0 {
			return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
		}
		return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1)
	}
}

// listener opens the transparent listener and hands it to the gateway.
func (l *lab) listener(g *Gateway, family int) *net.TCPListener {
	l.tb.Helper()
	ln := l.gw.listen([]string{"127.0.0.1:0", "[::1]:0"}[family], transparent(family))
	if family == 0 {
		must(l.tb, g.SetListener(ln, nil))
	} else {
		must(l.tb, g.SetListener(nil, ln))
	}
	return ln
}

func accept(tb testing.TB, ln *net.TCPListener) *net.TCPConn {
	tb.Helper()
	must(tb, ln.SetDeadline(time.Now().Add(deadline)))
	c, err := ln.AcceptTCP()
	must(tb, err)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// echo checks that bytes go both ways.
func echo(tb testing.TB, a, b net.Conn) {
	tb.Helper()
	send(tb, a, []byte("there"))
	if got := receive(tb, b, 5); string(got) != "there" {
		tb.Errorf("received %q", got)
	}
	send(tb, b, []byte("and back"))
	if got := receive(tb, a, 8); string(got) != "and back" {
		tb.Errorf("received %q", got)
	}
}

// TestSteer steers an armed terminal's connection into our listener, and connects the upstream leg
// with the terminal's own address and port: both peers see each other.
func TestSteer(t *testing.T) {
	for _, clsact := range []bool{false, true} {
		t.Run(fmt.Sprintf("clsact=%v", clsact), func(t *testing.T) {
			bothFamilies(t, func(t *testing.T, family int) { testSteer(t, family, clsact) })
		})
	}
}

func testSteer(t *testing.T, family int, clsact bool) {
	l := newLab(t)
	cfg := l.config()
	cfg.Attach = attachBy(clsact)
	g := l.open(cfg)
	ln := l.listener(g, family)
	terminal := netip.MustParseAddr(ueIP[family])
	must(t, g.Subscribe(terminal))
	must(t, g.Arm(terminal))
	server := netip.AddrPortFrom(netip.MustParseAddr(msIP[family]), 8554)
	sln := l.ms.listen(server.String())

	ue, err := l.ue.dial("", server.String())
	must(t, err)
	lan := accept(t, ln)
	f := Flow{Terminal: addrPort(ue.LocalAddr()), Server: server}
	if addrPort(lan.RemoteAddr()) != f.Terminal || addrPort(lan.LocalAddr()) != server {
		t.Errorf("accepted %v <- %v, want %v", lan.LocalAddr(), lan.RemoteAddr(), f)
	}
	must(t, g.AddLeg(f))
	wan, err := l.gw.dial(f.Terminal.String(), server.String(), transparent(family))
	must(t, err)
	ms := accept(t, sln)
	if got := addrPort(ms.RemoteAddr()); got != f.Terminal {
		t.Errorf("the server sees %v, want %v", got, f.Terminal)
	}
	must(t, g.Disarm(terminal)) // what is steered stays so
	go func() { _, _ = io.Copy(wan, lan) }()
	go func() { _, _ = io.Copy(lan, wan) }()
	echo(t, ue, ms)
	if s, ok := g.TCPStats(f); !ok || !s.Steered {
		t.Errorf("record %+v, %v", s, ok)
	}
	s := g.Stats()
	if s["steer_new"] != 1 || s["lan_in_steered"] == 0 || s["wan_in_leg"] == 0 || s["lan_out_own"] == 0 || s["event_tcp"] != 0 {
		t.Errorf("counters %s", nonZero(s))
	}

	// A record that was lost is found again by its socket.
	k, err := keyOf(TCP, f)
	must(t, err)
	must(t, g.kernel.m("flows").Delete(k))
	echo(t, ue, ms)
	if n := g.Stats()["steer_recovered"]; n != 1 {
		t.Errorf("recovered %d times", n)
	}

	// The next connection is untouched.
	ue2, err := l.ue.dial("", server.String())
	must(t, err)
	echo(t, ue2, accept(t, sln))
	if n := g.Stats()["steer_new"]; n != 1 {
		t.Errorf("steered %d connections", n)
	}
}

// TestSteerGone: when our socket is gone, packets of its connection go on, and the terminal's next
// connection from the same port works.
func TestSteerGone(t *testing.T) {
	l := newLab(t)
	g := l.open(l.config())
	ln := l.listener(g, 0)
	terminal := netip.MustParseAddr(ueIP[0])
	must(t, g.Subscribe(terminal))
	must(t, g.Arm(terminal))
	server := msIP[0] + ":8554"
	sln := l.ms.listen(server)
	reuse := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }
	ue, err := l.ue.dial(ueIP[0]+":40000", server, reuse)
	must(t, err)
	lan := accept(t, ln)
	must(t, lan.SetLinger(0))
	must(t, lan.Close()) // RST to the terminal
	must(t, ue.SetReadDeadline(time.Now().Add(deadline)))
	if _, err := ue.Read(make([]byte, 1)); err == nil {
		t.Fatal("terminal got bytes, want a reset")
	}
	_ = ue.Close()
	must(t, g.Disarm(terminal))
	ue, err = l.ue.dial(ueIP[0]+":40000", server, reuse)
	must(t, err)
	echo(t, ue, accept(t, sln))
	if s, ok := g.TCPStats(Flow{addrPort(ue.LocalAddr()), addrPort(ue.RemoteAddr())}); !ok || s.Steered || !s.SynSeen {
		t.Errorf("record %+v, %v", s, ok)
	}
}

// TestSteerWaiting: a terminal that opens the same port again while our socket of the connection
// before is in TIME_WAIT reaches the listener.
func TestSteerWaiting(t *testing.T) {
	l := newLab(t)
	g := l.open(l.config())
	ln := l.listener(g, 0)
	terminal := netip.MustParseAddr(ueIP[0])
	must(t, g.Subscribe(terminal))
	must(t, g.Arm(terminal))
	server := msIP[0] + ":8554"
	for range 2 {
		reuse := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }
		ue, err := l.ue.dial(ueIP[0]+":40000", server, reuse)
		must(t, err)
		lan := accept(t, ln)
		echo(t, ue, lan)
		must(t, lan.Close()) // ours closes first: TIME_WAIT
		must(t, ue.SetReadDeadline(time.Now().Add(deadline)))
		if _, err := ue.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("read: %v, want EOF", err)
		}
		must(t, ue.Close())
	}
	if n := g.Stats()["steer_new"]; n != 2 {
		t.Errorf("steered %d connections, want 2", n)
	}
}

// TestSteerUnanswered: where nothing answers what is steered, as where a packet filter of the router
// drops it, the terminal reaches the server by itself.
func TestSteerUnanswered(t *testing.T) {
	l := newLab(t)
	l.gw.sysctl("net/core/somaxconn", "0")
	g := l.open(l.config())
	l.listener(g, 0)
	must(t, g.Subscribe(netip.MustParseAddr(ueIP[0])))
	must(t, g.Arm(netip.MustParseAddr(ueIP[0])))
	_, err := l.ue.dial("", msIP[0]+":8554") // fills the queue: the next one is dropped
	must(t, err)
	ue, ms, f := l.connect(0, 8554)
	echo(t, ue, ms)
	if s, ok := g.TCPStats(f); !ok || s.Steered || !s.SynSeen {
		t.Errorf("record %+v, %v", s, ok)
	}
	if s := g.Stats(); s["steer_unanswered"] != 1 || s["steer_new"] != 3 {
		t.Errorf("counters %s", nonZero(s))
	}
}

// TestNoListener: an armed terminal plays untouched when there is nobody to steer to.
func TestNoListener(t *testing.T) {
	l := newLab(t)
	g := l.open(l.config())
	must(t, g.Subscribe(netip.MustParseAddr(ueIP[0])))
	must(t, g.Arm(netip.MustParseAddr(ueIP[0])))
	ue, ms, f := l.connect(0, 8554)
	echo(t, ue, ms)
	if s, ok := g.TCPStats(f); !ok || s.Steered || !s.SynSeen {
		t.Errorf("record %+v, %v", s, ok)
	}
	if g.Stats()["steer_no_listener"] == 0 {
		t.Errorf("counters %s", nonZero(g.Stats()))
	}
}

// TestSteerAlways: every subscriber is steered, and nobody else.
func TestSteerAlways(t *testing.T) {
	l := newLab(t)
	cfg := l.config()
	cfg.SteerAlways = true
	g := l.open(cfg)
	ln := l.listener(g, 0)
	server := msIP[0] + ":8554"
	sln := l.ms.listen(server)
	ue, err := l.ue.dial("", server)
	must(t, err)
	ms := accept(t, sln)
	echo(t, ue, ms)
	must(t, g.Subscribe(netip.MustParseAddr(ueIP[0])))
	echo(t, ue, ms) // under way already: watched only
	ue, err = l.ue.dial("", server)
	must(t, err)
	echo(t, ue, accept(t, ln))
}

// TestSYNCookies: a connection whose request the listener forgot is still accepted.
func TestSYNCookies(t *testing.T) {
	l := newLab(t)
	l.gw.sysctl("net/ipv4/tcp_syncookies", "2") // always
	g := l.open(l.config())
	ln := l.listener(g, 0)
	must(t, g.Subscribe(netip.MustParseAddr(ueIP[0])))
	must(t, g.Arm(netip.MustParseAddr(ueIP[0])))
	ue, err := l.ue.dial("", msIP[0]+":8554")
	must(t, err)
	echo(t, ue, accept(t, ln))
}

// TestArmStranger: only subscribers can be armed.
func TestArmStranger(t *testing.T) {
	l := newLab(t)
	g := l.open(l.config())
	if err := g.Arm(netip.MustParseAddr(ueIP[0])); err == nil {
		t.Error("a stranger was armed")
	}
	if err := g.RemoveLeg(Flow{}); err == nil {
		t.Error("a leg nobody added was removed")
	}
}

// TestSteerLocal: the router's own service on a service port is not steered.
func TestSteerLocal(t *testing.T) {
	bothFamilies(t, func(t *testing.T, family int) {
		l := newLab(t)
		g := l.open(l.config())
		l.listener(g, family)
		must(t, g.Subscribe(netip.MustParseAddr(ueIP[family])))
		must(t, g.Arm(netip.MustParseAddr(ueIP[family])))
		own := l.gw.listen([]string{"10.78.1.1:80", "[fd78:1::1]:80"}[family])
		ue, err := l.ue.dial("", own.Addr().String())
		must(t, err)
		echo(t, ue, accept(t, own))
		if s := g.Stats(); s["steer_local"] == 0 || s["steer_new"] != 0 {
			t.Errorf("counters %s", nonZero(s))
		}
	})
}
