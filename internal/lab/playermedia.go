package lab

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
)

// readUDP takes what comes on one socket of a track; side is 0 for RTP, 1 for RTCP.
func (k *link) readUDP(t *playerTrack, c *net.UDPConn, side int) {
	buf := make([]byte, 65536)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		at := time.Now()
		if err != nil {
			select {
			case <-k.closed:
				return
			default:
				continue // an ICMP error of something sent; the socket is fine
			}
		}
		want := t.server[side]
		if from.Addr().Unmap() != k.remote.Addr() || want >= 0 && int(from.Port()) != want {
			k.p.mu.Lock()
			k.p.book.foreign++
			k.p.mu.Unlock()
			continue
		}
		if side == 0 {
			k.media(t, buf[:n], at)
		} else {
			k.control(t, buf[:n], at)
		}
	}
}

// frame takes one interleaved frame.
func (k *link) frame(channel uint8, payload []byte, at time.Time) {
	k.mu.Lock()
	i := slices.IndexFunc(k.ready, func(t *playerTrack) bool { return t.channel == channel&^1 })
	var t *playerTrack
	if i >= 0 {
		t = k.ready[i]
	}
	k.mu.Unlock()
	switch {
	case t == nil || !k.tcp:
	case channel == t.channel:
		k.media(t, payload, at)
	default:
		k.control(t, payload, at)
	}
}

// media takes one RTP packet.
func (k *link) media(t *playerTrack, b []byte, at time.Time) {
	var pkt rtp.Packet
	k.p.mu.Lock()
	defer k.p.mu.Unlock()
	if err := pkt.Unmarshal(b); err != nil || pkt.Version != 2 {
		k.p.book.corrupt++
		return
	}
	before := k.p.book.total
	k.p.book.packet(t.id, pkt, len(b), at)
	if k.p.book.total != before {
		k.p.changed()
	}
}

// control takes RTCP from the server.
func (k *link) control(t *playerTrack, b []byte, at time.Time) {
	pkts, err := rtcp.Unmarshal(b)
	if err != nil {
		return
	}
	for _, pkt := range pkts {
		switch pkt := pkt.(type) {
		case *rtcp.SenderReport:
			k.p.mu.Lock()
			t.lastSR, t.lastSRAt = uint32(pkt.NTPTime>>16), at
			k.p.mu.Unlock()
		case *rtcp.Goodbye:
			k.goodbye(t, pkt.Sources)
		}
	}
}

// goodbye notes that a track ended; when all did, the film is over. A BYE for a stranger's SSRC
// changes nothing.
func (k *link) goodbye(t *playerTrack, sources []uint32) {
	k.p.mu.Lock()
	tb := k.p.book.tracks[t.id]
	ours := tb.known && slices.Contains(sources, tb.ssrc)
	if !ours {
		k.p.book.foreign++
	}
	k.p.mu.Unlock()
	if !ours {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	before := len(k.byes)
	k.byes[t.id] = true
	if len(k.byes) != before && len(k.byes) == len(k.ready) {
		close(k.bye)
	}
}

// punch opens holes in what may lie between for the media, as the copied player does. Nothing of
// it has to arrive.
func (k *link) punch() {
	if k.tcp || k.p.cfg.Punch == PunchNone {
		return
	}
	for _, t := range k.tracks {
		if t.server[0] < 0 {
			continue
		}
		to := [2]netip.AddrPort{
			netip.AddrPortFrom(k.remote.Addr(), uint16(t.server[0])),
			netip.AddrPortFrom(k.remote.Addr(), uint16(t.server[1])),
		}
		data, times := [2][]byte{}, 1
		switch k.p.cfg.Punch {
		case PunchLavf:
			data[0] = []byte{0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			data[1], _ = (&rtcp.ReceiverReport{}).Marshal()
		case PunchGst:
			noise := make([]byte, 200)
			for i := range noise {
				noise[i] = byte(rand.Uint32())
			}
			data, times = [2][]byte{noise, noise}, 3
		default:
			vlc := []byte{0xce, 0xfa, 0xed, 0xfe}
			data, times = [2][]byte{vlc, vlc}, 2
		}
		for range times {
			_, _ = t.rtp.WriteToUDPAddrPort(data[0], to[0])
			_, _ = t.rtcp.WriteToUDPAddrPort(data[1], to[1])
		}
	}
}

// report sends a receiver report for every track that plays.
func (k *link) report(now time.Time) {
	for _, t := range k.tracks {
		k.p.mu.Lock()
		tb := k.p.book.tracks[t.id]
		r := rtcp.ReceptionReport{
			SSRC: tb.ssrc, TotalLost: uint32(max(0, tb.lost())) & 0xffffff,
			LastSequenceNumber: uint32(tb.highest - 1<<16), LastSenderReport: t.lastSR,
		}
		if t.lastSR != 0 {
			r.Delay = uint32(now.Sub(t.lastSRAt) * 65536 / time.Second)
		}
		k.p.mu.Unlock()
		if !tb.seen {
			continue
		}
		p, err := rtcp.Marshal([]rtcp.Packet{
			&rtcp.ReceiverReport{SSRC: uint32(k.local.Port()) + uint32(t.id), Reports: []rtcp.ReceptionReport{r}},
			&rtcp.SourceDescription{Chunks: []rtcp.SourceDescriptionChunk{{
				Source: uint32(k.local.Port()) + uint32(t.id),
				Items:  []rtcp.SourceDescriptionItem{{Type: rtcp.SDESCNAME, Text: "player"}},
			}}},
		})
		if err != nil {
			continue
		}
		if k.tcp {
			_ = k.wire.frame(t.channel+1, p, func() bool { return false })
		} else if t.server[1] >= 0 {
			_, _ = t.rtcp.WriteToUDPAddrPort(p, netip.AddrPortFrom(k.remote.Addr(), uint16(t.server[1])))
		}
	}
}
