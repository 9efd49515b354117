package splice

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// outside is what leaves the gateway in somebody else's name without a connection.
type outside interface {
	// datagram sends one UDP packet from an address that need not be ours.
	datagram(from, to netip.AddrPort, b []byte) error
	// forge sends one TCP segment in the name of one side of a connection.
	forge(s segment) error
}

// sockets is outside on this host. It needs CAP_NET_ADMIN and CAP_NET_RAW.
type sockets struct{ mark uint32 }

func (o sockets) datagram(from, to netip.AddrPort, b []byte) error {
	network, family := "udp4", unix.AF_INET
	if to.Addr().Is6() {
		network, family = "udp6", unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("udp socket: %w", err)
	}
	defer unix.Close(fd)
	if err := transparent(fd, network, o.mark); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("share address: %w", err)
	}
	if err := unix.Bind(fd, sockaddr(from)); err != nil {
		return fmt.Errorf("bind %v: %w", from, err)
	}
	if err := unix.Sendto(fd, b, 0, sockaddr(to)); err != nil {
		return fmt.Errorf("send %v to %v: %w", from, to, err)
	}
	return nil
}

func (o sockets) forge(s segment) error {
	family := unix.AF_INET
	if s.to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("raw socket: %w", err)
	}
	defer unix.Close(fd)
	if err := marked(fd, o.mark); err != nil {
		return err
	}
	// The port of the destination must be 0 with a raw IPv6 socket.
	packet := s.marshal()
	err = unix.Sendto(fd, packet, 0, sockaddr(netip.AddrPortFrom(s.to.Addr(), 0)))
	if forbidden(err) && s.to.Addr().Is4() {
		if e := o.onLink(s.to.Addr(), packet); !errors.Is(e, errNoNeighbour) {
			return e
		}
	}
	if err != nil {
		return fmt.Errorf("send segment %v to %v: %w", s.from, s.to, err)
	}
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
