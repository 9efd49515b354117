package splice

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// arpFile is where the kernel shows who is where on IPv4 links.
const arpFile = "/proc/net/arp"

// errNoNeighbour: the link of a terminal is not known, or has none of our kind of addresses.
var errNoNeighbour = errors.New("no such neighbour")

// forbidden reports whether the router's own rules keep a packet of ours from leaving. Beside NAT a
// filter takes a segment in the name of a server for invalid: the connection it is of has another
// address on the far side.
func forbidden(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) }

// onLink sends an IPv4 packet to a neighbour, past filters and routes.
func (o sockets) onLink(to netip.Addr, packet []byte) error {
	table, err := os.ReadFile(arpFile)
	if err != nil {
		return fmt.Errorf("neighbours: %w", err)
	}
	device, mac, ok := neighbour(string(table), to)
	if !ok {
		return errNoNeighbour
	}
	link, err := net.InterfaceByName(device)
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	defer unix.Close(fd)
	if err := marked(fd, o.mark); err != nil {
		return err
	}
	at := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16([]byte{unix.ETH_P_IP >> 8, unix.ETH_P_IP & 0xff}), Ifindex: link.Index, Halen: uint8(len(mac))}
	copy(at.Addr[:], mac)
	if err := unix.Sendto(fd, packet, 0, at); err != nil {
		return fmt.Errorf("send on %s: %w", device, err)
	}
	return nil
}

// neighbour finds an address in the kernel's table: address, hardware type, flags, hardware
// address, mask, device.
func neighbour(table string, a netip.Addr) (device string, mac net.HardwareAddr, ok bool) {
	const fields, complete = 6, "0x2"
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) != fields || f[0] != a.String() || f[2] != complete {
			continue
		}
		if mac, err := net.ParseMAC(f[3]); err == nil {
			return f[5], mac, true
		}
	}
	return "", nil, false
}
