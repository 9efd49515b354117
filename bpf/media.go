package bpf

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
)

// noSeq is the kernel half's NO_SEQ: no sequence number is expected after a jump.
const noSeq = 1 << 16

// WatchFlow makes a UDP media flow known. Server port 0 stands for one that was not announced: the
// first packet from the server's address that fits makes the flow. A second call for the same flow
// starts its record anew. Errors: ErrTooMany. A terminal that is not subscribed is accepted; its
// packets are looked at once it is.
func (g *Gateway) WatchFlow(m MediaFlow) error {
	m.Flow = unmapped(m.Flow)
	k, err := keyOf(UDP, m.Flow)
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	rec := newMedia(m)
	return g.change("watch", m.Terminal.Addr(), func(t *terminal) error {
		_, again := g.watched[m.Flow]
		if again {
			g.dropLearned(m.Flow)
		} else if t.media+t.learn >= g.cfg.mediaShare() { // a pattern makes a flow
			return g.shareError("media")
		}
		if err := full(g.kernel.m("media_flows").Put(k, &rec)); err != nil {
			return err
		}
		g.watched[m.Flow] = m
		if again {
			return nil
		}
		t.media++
		if m.Server.Port() == 0 {
			t.learn++
		}
		return nil
	})
}

func newMedia(m MediaFlow) scasMedia {
	rec := scasMedia{ClockRate: m.ClockRate, BadSeq: noSeq}
	if rec.ClockRate == 0 {
		rec.ClockRate = defaultClockRate
	}
	rec.Ticks = uint64(rec.ClockRate) << 32 / 1_000_000_000 // as ticks_of of the kernel half
	for _, pt := range m.PT {
		rec.PtMask[pt>>6&1] |= 1 << (pt & 63)
	}
	if len(m.PT) == 0 {
		rec.PtMask = [2]uint64{^uint64(0), ^uint64(0)}
	}
	if m.RTCP {
		rec.Flags |= uint32(scasMediaFlagMEDIA_RTCP)
	}
	if m.Server.Port() == 0 {
		rec.Flags |= uint32(scasMediaFlagMEDIA_LEARN)
	}
	return rec
}

// dropLearned takes what was learned from the pattern f out of the kernel. Call with g.mu held.
func (g *Gateway) dropLearned(f Flow) {
	l := g.learned(f)
	if _, watched := g.watched[l]; l == f || watched {
		return
	}
	if k, err := keyOf(UDP, l); err == nil {
		_ = g.kernel.m("media_flows").Delete(k) // gone is what is wanted
	}
}

// UnwatchFlow is the reverse of WatchFlow. Errors: ErrNoFlow.
func (g *Gateway) UnwatchFlow(f Flow) error {
	f = unmapped(f)
	k, err := keyOf(UDP, f)
	if err != nil {
		return fmt.Errorf("unwatch: %w", err)
	}
	return g.change("unwatch", f.Terminal.Addr(), func(t *terminal) error {
		if _, ok := g.watched[f]; !ok {
			return ErrNoFlow
		}
		g.dropLearned(f)
		if err := gone(g.kernel.m("media_flows").Delete(k)); err != nil {
			return err
		}
		delete(g.watched, f)
		t.media--
		if f.Server.Port() == 0 {
			t.learn--
		}
		return nil
	})
}

// learned returns the flow a pattern was learned as, f itself when it is none or was not learned.
func (g *Gateway) learned(f Flow) Flow {
	if f.Server.Port() != 0 {
		return f
	}
	k, err := keyOf(UDP, f)
	if err != nil {
		return f
	}
	var rec scasMedia
	if !readRecord(g, "media_flows", &k, &rec, &rec.Turn) || rec.Learned == 0 {
		return f
	}
	return Flow{f.Terminal, netip.AddrPortFrom(f.Server.Addr(), swap16(uint16(rec.Learned)))}
}

// MediaStats returns the record of the UDP media flow f as WatchFlow named it, or as it was
// learned; false when there is none. It is read whole: its numbers belong together.
func (g *Gateway) MediaStats(f Flow) (MediaStats, bool) {
	f = g.learned(unmapped(f))
	k, err := keyOf(UDP, f)
	if err != nil {
		return MediaStats{}, false
	}
	var r scasMedia
	if !readRecord(g, "media_flows", &k, &r, &r.Turn) {
		return MediaStats{}, false
	}
	is := func(flag scasMediaFlag) bool { return r.Flags&uint32(flag) != 0 }
	s := MediaStats{
		Server:       f.Server.Port(),
		HaveMedia:    is(scasMediaFlagMEDIA_SEEN),
		HaveFirst:    is(scasMediaFlagMEDIA_FIRST),
		SSRC:         r.Ssrc,
		PT:           r.Pt,
		ExtSeq:       r.Ext,
		RTPTime:      r.Rtptime,
		MaxRTPTime:   r.MaxRtptime,
		FirstSeq:     r.FirstSeq,
		FirstRTPTime: r.FirstRtptime,
		Packets:      r.Packets,
		Bytes:        r.Bytes,
		Lost:         r.Lost,
		Jitter:       r.Jitter >> 4,
		SSRCChanges:  r.SsrcChanges,
		RTCPToServer: r.RtcpUp,
		RTCPToTerm:   r.RtcpDown,
		First:        g.clock.wall(r.First),
		Last:         g.clock.wall(r.Last),
		Unreachable:  g.clock.wall(r.Unreachable),
		Lossy:        is(scasMediaFlagMEDIA_LOSSY),
	}
	if s.HaveMedia {
		s.Lost += int64(r.Ext-r.Base+1) - int64(r.Received)
	}
	return s, true
}

// gone is nil for a key that was not there to delete.
func gone(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}
