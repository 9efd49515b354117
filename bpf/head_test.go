package bpf

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pion/rtp"
)

// receiver is the receiver of RFC 3550 A.1 and A.3 once more, written from the text: what the
// kernel half has to agree with.
type receiver struct {
	seen             bool
	bad              uint32 // sequence number; above 65535: none
	ext, base        uint64
	received         int64
	lost             int64
	ssrc, rtptime    uint32
	highest          uint32
	packets, changes int
}

func (r *receiver) restart(seq uint16) {
	if r.seen {
		r.lost += int64(r.ext-r.base) + 1 - r.received
		r.ext = (r.ext/65536+1)*65536 + uint64(seq)
	} else {
		r.ext = uint64(seq)
	}
	r.base, r.received, r.bad = r.ext, 0, 1<<16
}

func (r *receiver) take(h rtp.Header) {
	r.packets++
	newest := true
	switch d := h.SequenceNumber - uint16(r.ext); {
	case !r.seen:
		r.restart(h.SequenceNumber)
		r.ssrc, r.highest = h.SSRC, h.Timestamp
	case h.SSRC != r.ssrc:
		r.restart(h.SequenceNumber)
		r.ssrc, r.highest = h.SSRC, h.Timestamp
		r.changes++
	case d < 3000:
		newest = d != 0
		r.ext += uint64(d)
		r.bad = 1 << 16
	case d > 65536-100:
		newest = false
	case uint32(h.SequenceNumber) == r.bad:
		r.restart(h.SequenceNumber)
	default:
		r.bad = uint32(h.SequenceNumber + 1)
		return
	}
	r.received++
	r.seen = true
	if newest {
		r.rtptime = h.Timestamp
		if int32(h.Timestamp-r.highest) > 0 {
			r.highest = h.Timestamp
		}
	}
}

func (r *receiver) totalLost() int64 { return r.lost + int64(r.ext-r.base) + 1 - r.received }

// TestHeadEqualsGo gives the same packets to the kernel half and to Go: wraps, loss, reordering,
// duplicates, SSRC changes, far jumps, contributing sources, extensions and padding.
func TestHeadEqualsGo(t *testing.T) {
	b := newBench(t)
	must(t, b.Subscribe(benchUE))
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 3))
			f := benchFlow(uint16(5000 + 2*seed))
			must(t, b.WatchFlow(MediaFlow{Flow: f, PT: []byte{96}, ClockRate: 1 << 30})) // no jumps: tested apart
			want := &receiver{}
			h := rtp.Header{Version: 2, PayloadType: 96, SequenceNumber: uint16(65500 - r.IntN(40)), Timestamp: r.Uint32(), SSRC: r.Uint32()}
			var held []byte
			for i := range 600 {
				h.SequenceNumber += uint16(1 + max(0, r.IntN(30)-28)) // loss
				h.Timestamp += uint32(r.IntN(6000)) - 1000            // B frames
				switch r.IntN(150) {
				case 0:
					h.SSRC = r.Uint32()
				case 1:
					h.SequenceNumber += 20000
				}
				raw := dress(t, r, h)
				if r.IntN(20) == 0 && held == nil { // comes later
					held = raw
					continue
				}
				deliverHead(t, b, f, want, raw)
				if r.IntN(25) == 0 {
					deliverHead(t, b, f, want, raw) // twice
				}
				if held != nil && r.IntN(3) == 0 {
					deliverHead(t, b, f, want, held)
					held = nil
				}
				if i%50 == 49 {
					compare(t, b, f, want)
				}
			}
			compare(t, b, f, want)
		})
	}
}

// dress adds what the kernel half must not stumble over.
func dress(t *testing.T, r *rand.Rand, h rtp.Header) []byte {
	t.Helper()
	p := rtp.Packet{Header: h, Payload: make([]byte, r.IntN(50))}
	p.Marker = r.IntN(2) == 0
	for range r.IntN(3) {
		p.CSRC = append(p.CSRC, r.Uint32())
	}
	if r.IntN(2) == 0 {
		must(t, p.SetExtension(1, []byte{1, 2, 3}))
	}
	raw, err := p.Marshal()
	must(t, err)
	return raw
}

func deliverHead(t *testing.T, b *bench, f Flow, want *receiver, raw []byte) {
	t.Helper()
	var p rtp.Packet
	must(t, p.Unmarshal(raw)) // Go's reading of the same bytes
	want.take(p.Header)
	b.run(progLANOut, udpFrame(t, f.Server, f.Terminal, raw))
}

func compare(t *testing.T, b *bench, f Flow, want *receiver) {
	t.Helper()
	s, ok := b.MediaStats(f)
	if !ok || s.ExtSeq != want.ext || s.RTPTime != want.rtptime || s.MaxRTPTime != want.highest || s.SSRC != want.ssrc ||
		s.Packets != uint64(want.packets) || s.Lost != want.totalLost() || int(s.SSRCChanges) != want.changes {
		t.Fatalf("kernel %+v\nwant %+v, lost %d", s, want, want.totalLost())
	}
}

// TestMediaJump: a timestamp that moves by more than a second of clock is a jump, a frame shown
// out of order is not; both wrap.
func TestMediaJump(t *testing.T) {
	b := newBench(t)
	must(t, b.Subscribe(benchUE))
	for i, c := range []struct {
		name     string
		from, to uint32
		highest  uint32
		jump     bool
	}{
		{"next frame", 1000, 4600, 4600, false},
		{"B frame", 1000, 0xfffffff0, 1000, false},
		{"over the wrap", 0xfffffff0, 1000, 1000, false},
		{"back ten seconds", 2_000_000, 1_100_000, 1_100_000, true},
		{"on ten seconds", 1_100_000, 2_000_000, 2_000_000, true},
		{"back over the wrap", 1000, 0xfff00000, 0xfff00000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := benchFlow(uint16(6000 + 2*i))
			must(t, b.WatchFlow(MediaFlow{Flow: f, ClockRate: 90000}))
			before := b.Stats()["media_jump"]
			b.run(progLANOut, udpFrame(t, f.Server, f.Terminal, packet(t, 96, 1, c.from, 1)))
			b.run(progLANOut, udpFrame(t, f.Server, f.Terminal, packet(t, 96, 2, c.to, 1)))
			s, _ := b.MediaStats(f)
			if s.MaxRTPTime != c.highest || (b.Stats()["media_jump"] != before) != c.jump {
				t.Errorf("highest %d, want %d; jumps %d", s.MaxRTPTime, c.highest, b.Stats()["media_jump"]-before)
			}
		})
	}
}

// TestJitter: the jitter of packets whose stamps are even, and of such that swing, is that of RFC
// 3550 A.8 over their times of arrival.
func TestJitter(t *testing.T) {
	b := newBench(t)
	must(t, b.Subscribe(benchUE))
	for _, c := range []struct {
		name  string
		port  uint16
		swing uint32
	}{
		{"even", 7000, 0},
		{"swings by 0.1 s", 7002, 9000},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := benchFlow(c.port)
			must(t, b.WatchFlow(MediaFlow{Flow: f, ClockRate: 90000}))
			var last time.Time
			var rtptime uint32
			want := 0.0
			for i := range 200 {
				before := rtptime
				rtptime = uint32(monotonic()/1000*9/100) + uint32(i%2)*c.swing
				b.run(progLANOut, udpFrame(t, f.Server, f.Terminal, packet(t, 96, uint16(i), rtptime, 1)))
				s, _ := b.MediaStats(f)
				if i > 0 {
					d := math.Abs(s.Last.Sub(last).Seconds()*90000 - float64(int32(rtptime-before)))
					want += (d - want) / 16
				}
				last = s.Last
			}
			if s, _ := b.MediaStats(f); math.Abs(float64(s.Jitter)-want) > 3 { // each time is rounded to a tick
				t.Errorf("jitter %d ticks, want %.1f", s.Jitter, want)
			}
			if want < float64(c.swing)/2 {
				t.Errorf("%.1f ticks show nothing", want)
			}
		})
	}
}

// TestJumpHeldBack: news that come too soon after a sample go up with a later packet, not never.
func TestJumpHeldBack(t *testing.T) {
	const interval = 10 * time.Second
	b := newBench(t, func(cfg *Config) { cfg.SampleInterval = interval })
	must(t, b.Subscribe(benchUE))
	f := benchFlow(5000)
	must(t, b.WatchFlow(MediaFlow{Flow: f}))
	seq := uint16(0)
	sendNext := func(rtptime uint32) []Event {
		seq++
		b.run(progLANOut, udpFrame(t, f.Server, f.Terminal, packet(t, 96, seq, rtptime, 1)))
		return b.drain()
	}
	evs := sendNext(0)
	if len(evs) != 1 {
		t.Fatalf("first packet: %d events", len(evs))
	}
	first := evs[0].At
	eventually(t, b.Gateway, "the jump goes up", func() bool {
		sent := b.clock.wall(monotonic())
		evs = sendNext(50_000_000)
		if held := sent.Sub(first); len(evs) == 0 && held >= interval/16 {
			t.Errorf("a packet %v later does not go up", held)
		}
		return len(evs) == 1
	})
	if held := evs[0].At.Sub(first); held < interval/16 {
		t.Errorf("goes up after %v, want a sixteenth of %v", held, interval)
	}
}
