package tracer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// Capture follows the traffic of a live interface without BPF, by an AF_PACKET socket
// (packet(7); CAP_NET_RAW), until ctx ends. It reports as ReadFile does, in wall-clock time.
func Capture(ctx context.Context, iface string, cfg Config, every time.Duration, r Report) (Stats, error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return Stats{}, fmt.Errorf("capture on %s: %w", iface, err)
	}
	s, link, err := packetSocket(ifi)
	if err != nil {
		return Stats{}, fmt.Errorf("capture on %s: %w", iface, err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { _ = s.SetReadDeadline(time.Unix(1, 0)) })()
	t := newTrace(cfg, every, r)
	in := newFrames(t.d, link)
	b := make([]byte, 1<<17) // a GRO frame
	for {
		n, err := s.Read(b)
		now := time.Now()
		if err != nil {
			if ctx.Err() != nil {
				return t.d.Stats(), nil
			}
			if errors.Is(err, unix.ENETDOWN) {
				continue
			}
			return t.d.Stats(), fmt.Errorf("capture on %s: %w", iface, err)
		}
		t.to(now)
		in.frame(b[:n], now)
	}
}

// packetSocket opens a socket for the frames of one interface, and tells their link type:
// a device without a link header gives packets.
func packetSocket(ifi *net.Interface) (*os.File, layers.LinkType, error) {
	kind, link := unix.SOCK_RAW, layers.LinkTypeEthernet
	if len(ifi.HardwareAddr) == 0 && ifi.Flags&net.FlagLoopback == 0 {
		kind, link = unix.SOCK_DGRAM, layers.LinkTypeRaw
	}
	fd, err := unix.Socket(unix.AF_PACKET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("packet socket: %w", err)
	}
	const all = unix.ETH_P_ALL
	to := &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: ifi.Index}
	if err := unix.Bind(fd, to); err != nil {
		_ = unix.Close(fd)
		return nil, 0, fmt.Errorf("bind packet socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "packet "+ifi.Name), link, nil
}
