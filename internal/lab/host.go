package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
)

// errNoReturn is what onThread says of a function that ended its goroutine.
var errNoReturn = errors.New("the function did not return (a test must not end inside Do)")

// onThread runs fn on an OS thread of its own and puts the thread back into the namespace it
// came from. When that does not work the thread is thrown away instead of given to others.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errNoReturn
		defer func() { done <- err }()
		runtime.LockOSThread()
		home, herr := netns.Get()
		if herr != nil {
			runtime.UnlockOSThread()
			err = herr
			return
		}
		defer func() {
			if netns.Set(home) == nil {
				runtime.UnlockOSThread() // else the goroutine ends locked, and with it the thread
			}
			_ = home.Close()
		}()
		err = fn()
	}()
	return <-done
}

// Do runs fn on an OS thread that is in the namespace ns and returns its error. Sockets fn makes
// stay in the namespace for ever; goroutines fn starts are not in it.
func (l *Lab) Do(ns string, fn func() error) error {
	l.mu.Lock()
	h, ok := l.spaces[ns]
	l.mu.Unlock()
	if !ok {
		return fmt.Errorf("lab: no namespace %q", ns)
	}
	return onThread(func() error {
		if err := netns.Set(h); err != nil {
			return fmt.Errorf("lab: enter %s: %w", l.Name(ns), err)
		}
		return fn()
	})
}

// Command returns a process to be started in the namespace ns; ctx kills it. It runs under
// `ip netns exec`, which also gives it a /sys of the namespace; where iproute2 is missing under
// `nsenter --net`, which every Debian has. Both replace themselves by the program, so the pid
// and signals are the program's own.
func (l *Lab) Command(ctx context.Context, ns, name string, args ...string) *exec.Cmd {
	if ip, err := lookIP(); err == nil {
		return exec.CommandContext(ctx, ip, append([]string{"netns", "exec", l.Name(ns), name}, args...)...)
	}
	mount := "--net=" + filepath.Join("/run/netns", l.Name(ns))
	return exec.CommandContext(ctx, "nsenter", append([]string{mount, "--", name}, args...)...)
}

// lookIP finds ip(8), also where /sbin is not in the PATH.
func lookIP() (string, error) {
	for _, p := range []string{"/usr/sbin/ip", "/sbin/ip"} {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return exec.LookPath("ip")
}

// Start starts cmd in the namespace ns without any helper program: a child gets the namespace of
// the thread that forks it. That thread lives until cmd has ended, when ended is closed: a signal
// a child gets at its parent's death is sent at that of the thread (prctl(2), PR_SET_PDEATHSIG).
func (l *Lab) Start(ns string, cmd *exec.Cmd) (ended <-chan struct{}, err error) {
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		err := l.Do(ns, func() error {
			err := cmd.Start()
			started <- err
			if err == nil {
				_ = cmd.Wait() // what it ended with is in ProcessState
			}
			return nil
		})
		if err != nil {
			started <- err // it was not even tried
		}
	}()
	return done, <-started
}

// Host is where a peer's sockets live. The zero Host is the process's own network; Lab.Host
// gives that of a namespace. Safe for concurrent use.
type Host struct {
	lab  *Lab
	ns   string
	from netip.Addr // of connections; zero: as the routes say
}

// From returns the host with another address for the connections it makes.
func (h Host) From(a netip.Addr) Host {
	h.from = a
	return h
}

// Host returns the network of the namespace ns.
func (l *Lab) Host(ns string) Host { return Host{lab: l, ns: ns} }

// Do runs fn where the host's sockets live; see Lab.Do.
func (h Host) Do(fn func() error) error {
	if h.lab == nil {
		return fn()
	}
	return h.lab.Do(h.ns, fn)
}

// ListenTCP returns a listener on addr (port 0: any). It speaks plain TCP, never MPTCP, as the
// servers scas meets do.
func (h Host) ListenTCP(ctx context.Context, addr netip.AddrPort) (*net.TCPListener, error) {
	var ln net.Listener
	err := h.Do(func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		ln, err = lc.Listen(ctx, "tcp", addr.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// ListenUDP returns a socket bound to addr (port 0: any).
func (h Host) ListenUDP(addr netip.AddrPort) (*net.UDPConn, error) {
	var c *net.UDPConn
	err := h.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	return c, err
}

// DialTCP connects to addr.
func (h Host) DialTCP(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	var c net.Conn
	err := h.Do(func() (err error) {
		var d net.Dialer
		d.SetMultipathTCP(false)
		if h.from.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(h.from, 0))
		}
		c, err = d.DialContext(ctx, "tcp", addr.String())
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}
