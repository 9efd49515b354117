package splice

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"scas/bpf"
)

// Listen opens the two transparent listeners that steered connections arrive at; v6 is nil on
// a host without IPv6. They are bound to loopback, where nobody but the steering finds them:
// the kernel hands them connections to any address. An accepted connection has the server the
// terminal asked for as its local address and the terminal as its remote one.
//
// MPTCP is off, since a SOCKMAP refuses such sockets. mark goes to the listeners and is
// inherited by what they accept, so that the datapath knows our packets. Needs CAP_NET_ADMIN.
//
// Every connection of a Splicer carries SO_LINGER{1,0} while it is relayed: when the process
// is killed, both sides get a RST at once. A FIN would start an ACK war between two peers
// whose sequence numbers differ, as soon as the steering is gone. An orderly close clears it
// first.
func Listen(ctx context.Context, mark uint32) (v4, v6 *net.TCPListener, err error) {
	v4, err = listen(ctx, "tcp4", "127.0.0.1:0", mark)
	if err != nil {
		return nil, nil, err
	}
	v6, err = listen(ctx, "tcp6", "[::1]:0", mark)
	if noIPv6(err) {
		return v4, nil, nil
	}
	if err != nil {
		v4.Close()
		return nil, nil, err
	}
	return v4, v6, nil
}

func listen(ctx context.Context, network, addr string, mark uint32) (*net.TCPListener, error) {
	lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error { return errors.Join(transparent(fd, network, mark), anySize(fd, network)) })
	}}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("splice: listen for steered connections: %w", err)
	}
	return l.(*net.TCPListener), nil
}

func noIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// control runs fn on the descriptor of a connection.
func control(c syscall.RawConn, fn func(fd int) error) error {
	var inner error
	if err := c.Control(func(fd uintptr) { inner = fn(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// transparent lets a socket have an address that is not the host's, and marks it.
func transparent(fd int, network string, mark uint32) error {
	level, option := unix.SOL_IP, unix.IP_TRANSPARENT
	if network[len(network)-1] == '6' {
		level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return fmt.Errorf("set transparent: %w", err)
	}
	return marked(fd, mark)
}

// anySize keeps segments from being lost on a link beyond the router that takes smaller ones: what it
// says of that by ICMP goes to whom the segment seems to come from, and never here. IPv4 is left to
// be fragmented, IPv6 fits any link (RFC 8200 §5). What a listener accepts inherits it.
func anySize(fd int, network string) error {
	const segment6 = 1280 - 40 - 20
	if network[len(network)-1] == '6' {
		return os.NewSyscallError("set segment size", unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, segment6))
	}
	return os.NewSyscallError("allow fragments", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT))
}

func marked(fd int, mark uint32) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("set mark: %w", err)
	}
	return nil
}

var errNotSteered = errors.New("connection was not steered to us")

// steeredTo returns whom an accepted connection joins. One that somebody opened to the
// listener itself joins nobody.
func steeredTo(c *net.TCPConn) (bpf.Flow, error) {
	server, terminal := addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())
	if !server.IsValid() || !terminal.IsValid() || server.Addr().IsLoopback() || terminal.Addr().IsLoopback() {
		return bpf.Flow{}, errNotSteered
	}
	return bpf.Flow{Terminal: terminal, Server: server}, nil
}

// addrPort returns an address as flows have it: unmapped, without a zone.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// passing reports whether accept may succeed again after err.
func passing(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EPERM, unix.EPROTO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
