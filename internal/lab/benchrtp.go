package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/pion/rtp"
	"github.com/vishvananda/netlink"
)

// RTPLoad is a stream of RTP/UDP from the media server through the router to a terminal.
type RTPLoad struct {
	Terminal string         // namespace, default UE1
	Server   netip.AddrPort // first source address; default port 20000 of the IPv4 address of ms
	Client   netip.AddrPort // first destination; default port 30000 of the terminal's
	Flows    int            // flow i goes from Server's port + 2i to Client's port + 2i, default 1
	Payload  int            // bytes of RTP payload, default 1200
	PT       uint8          // payload type, default 96
	Rate     int            // packets per second over all flows; 0: as many as one core sends
	Duration time.Duration  // default 1 s
}

func (w RTPLoad) withDefaults(l *Lab) RTPLoad {
	if w.Terminal == "" {
		w.Terminal = UE1
	}
	if !w.Server.IsValid() {
		w.Server = netip.AddrPortFrom(l.Addr(MS), 20000)
	}
	if !w.Client.IsValid() {
		w.Client = netip.AddrPortFrom(l.Addr(w.Terminal), 30000)
	}
	if w.PT == 0 {
		w.PT = videoPT
	}
	w.Flows = max(w.Flows, 1)
	if w.Payload <= 0 {
		w.Payload = 1200
	}
	if w.Duration <= 0 {
		w.Duration = time.Second
	}
	return w
}

// RTPResult is what came of a load.
type RTPResult struct {
	Sent      uint64
	Delivered uint64 // packets that reached the terminal's interface, of all kinds
	Elapsed   time.Duration
}

// PPS returns the packets per second that arrived.
func (r RTPResult) PPS() float64 { return float64(r.Delivered) / r.Elapsed.Seconds() }

// Loss returns the share of the packets that did not arrive, from 0 to 1.
func (r RTPResult) Loss() float64 {
	if r.Sent == 0 || r.Delivered >= r.Sent {
		return 0
	}
	return 1 - float64(r.Delivered)/float64(r.Sent)
}

// PushRTP sends a load and counts what the terminal's interface received. The sender pays for the
// whole way of a packet (it is forwarded within its send call), so with Rate 0 the inverse of PPS
// is the cost of one packet from socket to socket.
func (l *Lab) PushRTP(ctx context.Context, w RTPLoad) (RTPResult, error) {
	w = w.withDefaults(l)
	var res RTPResult
	socks, closeAll, err := l.flowSockets(w)
	defer closeAll()
	if err != nil {
		return res, fmt.Errorf("lab: rtp load: %w", err)
	}
	before, err := l.received(w.Terminal)
	if err != nil {
		return res, fmt.Errorf("lab: rtp load: %w", err)
	}
	began := time.Now()
	res.Sent = pump(ctx, w, socks)
	res.Elapsed = time.Since(began)
	if res.Delivered, err = l.settled(w.Terminal, before+res.Sent); err != nil {
		return res, fmt.Errorf("lab: rtp load: %w", err)
	}
	res.Delivered -= before
	return res, ctx.Err()
}

// flowSockets opens a connected socket in ms for each flow, and one at the terminal, which
// nobody reads: it keeps the terminal from answering that the port is closed.
func (l *Lab) flowSockets(w RTPLoad) (socks []*net.UDPConn, closeAll func(), err error) {
	var open []*net.UDPConn
	closeAll = func() {
		for _, c := range open {
			c.Close()
		}
	}
	at := func(a netip.AddrPort, i int) *net.UDPAddr {
		return net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.Addr(), a.Port()+uint16(2*i)))
	}
	err = l.Do(w.Terminal, func() error {
		for i := range w.Flows {
			c, err := net.ListenUDP("udp", at(w.Client, i))
			if err != nil {
				return err
			}
			open = append(open, c)
			_ = c.SetReadBuffer(4096)
		}
		return nil
	})
	if err != nil {
		return nil, closeAll, err
	}
	err = l.Do(MS, func() error {
		for i := range w.Flows {
			c, err := net.DialUDP("udp", at(w.Server, i), at(w.Client, i))
			if err != nil {
				return err
			}
			open = append(open, c)
			socks = append(socks, c)
		}
		return nil
	})
	return socks, closeAll, err
}

// pump sends packets round robin until the time is up and returns how many.
func pump(ctx context.Context, w RTPLoad, socks []*net.UDPConn) uint64 {
	p := rtp.Packet{
		Header:  rtp.Header{Version: 2, PayloadType: w.PT},
		Payload: make([]byte, w.Payload),
	}
	buf, err := p.Marshal()
	if err != nil {
		return 0
	}
	var sent uint64
	began := time.Now()
	for {
		// The clock is read once for 32 packets: it is not what is measured.
		elapsed := time.Since(began)
		if elapsed >= w.Duration || ctx.Err() != nil {
			return sent
		}
		if w.Rate > 0 {
			if ahead := time.Duration(sent)*time.Second/time.Duration(w.Rate) - elapsed; ahead > 0 {
				time.Sleep(ahead)
			}
		}
		for range 32 {
			flow := int(sent % uint64(len(socks)))
			turn := sent / uint64(len(socks))
			p.SSRC = 0x5ca50000 + uint32(flow)
			p.SequenceNumber = uint16(turn)
			p.Timestamp = uint32(turn / 8 * 3600) // 8 packets a picture
			if _, err := p.Header.MarshalTo(buf); err != nil {
				return sent
			}
			if _, err := socks[flow].Write(buf); err == nil {
				sent++
			} else if ctx.Err() != nil {
				return sent
			}
		}
	}
}

// received returns the packets the interface of a terminal has received.
func (l *Lab) received(ns string) (uint64, error) {
	var n uint64
	err := l.withHandle(ns, func(nl *netlink.Handle) error {
		dev, err := nl.LinkByName(UEIface)
		if err == nil {
			n = dev.Attrs().Statistics.RxPackets
		}
		return err
	})
	return n, err
}

// settled waits until the counter has reached want or stands still, and returns it.
func (l *Lab) settled(ns string, want uint64) (uint64, error) {
	last, err := l.received(ns)
	for still := 0; err == nil && last < want && still < 10; still++ {
		time.Sleep(5 * time.Millisecond) // packets in the backlog of the kernel; no event tells of them
		var now uint64
		if now, err = l.received(ns); now != last {
			still = 0
		}
		last = now
	}
	return last, err
}
