package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/pion/rtp"
)

// interleaved is what a server sends over TCP: frames, with a reply now and then.
type interleaved struct {
	bytes  []byte
	frames []interleavedFrame
}

type interleavedFrame struct {
	at      int // of the '$'
	channel uint8
	packet  rtp.Packet
}

const replyText = "RTSP/1.0 200 OK\r\nCSeq: 9\r\nSession: 12$34\r\n\r\n"

// newStream returns n frames of video (channel 0, PT 96) and audio (channel 2, PT 97) with RTCP
// between; sizes up to max, filled with random bytes in which '$' and text are frequent.
func newStream(tb testing.TB, r *rand.Rand, n, max int, replies bool) (s interleaved) {
	tb.Helper()
	add := func(channel uint8, b []byte) {
		s.bytes = append(s.bytes, '$', channel, byte(len(b)>>8), byte(len(b)))
		s.bytes = append(s.bytes, b...)
	}
	seq := [2]uint16{65500, 7}
	for i := range n {
		track := min(r.IntN(4), 1)
		ch := uint8(2 * track)
		if i%7 == 3 {
			add(ch+1, []byte{0x80, 201, 0, 1, 0, 0, 0, byte(i)}) // an RR of 8 bytes
		}
		if replies && i%11 == 5 {
			s.bytes = append(s.bytes, replyText...)
		}
		payload := make([]byte, 1+r.IntN(max))
		for j := range payload {
			payload[j] = "$\x00$\x02$R\r\n\x80\x60"[r.IntN(10)]
		}
		p := rtp.Packet{Header: rtp.Header{Version: 2, PayloadType: uint8(96 + track), SequenceNumber: seq[track],
			Timestamp: uint32(i) * 3000, SSRC: uint32(0xabcd00 + track), Marker: i%2 == 0}, Payload: payload}
		seq[track]++
		b, err := p.Marshal()
		must(tb, err)
		s.frames = append(s.frames, interleavedFrame{len(s.bytes), ch, p})
		add(ch, b)
	}
	return s
}

// newest returns the last frame of a channel that begins before the offset by at least 16 bytes.
func (s interleaved) newest(channel uint8, before int) (last interleavedFrame, count int) {
	for _, f := range s.frames {
		if f.channel == channel && f.at+16 <= before {
			last, count = f, count+1
		}
	}
	return last, count
}

var streamChannels = []Channel{{Number: 0, PT: 96, SSRC: 0xabcd00}, {Number: 2, PT: 97}}

// startWalk makes a flow the walk can begin on; the stream's first byte has sequence number isn+1.
func (b *bench) startWalk(isn uint32, ch []Channel) Flow {
	b.tb.Helper()
	must(b.tb, b.Subscribe(benchUE))
	f := benchFlow(554)
	b.tcp(segment{flow: f, flags: FlagSYN, seq: 1})
	b.tcp(segment{flow: f, flags: FlagSYN | FlagACK, dir: ToTerminal, seq: isn, ack: 2})
	must(b.tb, b.Channels(f, ch))
	b.drain()
	return f
}

func (b *bench) checkChannel(f Flow, isn uint32, s interleaved, i int, exact bool) {
	b.tb.Helper()
	st, ok := b.TCPStats(f)
	if !ok || len(st.Channels) <= i {
		b.tb.Fatalf("record %+v, %v", st, ok)
	}
	c := st.Channels[i]
	want, count := s.newest(c.Channel, len(s.bytes))
	h := want.packet.Header
	if !st.InStep || c.Seq != h.SequenceNumber || c.RTPTime != h.Timestamp || c.SSRC != h.SSRC ||
		c.FrameSeq != isn+1+uint32(want.at) || int(c.FrameLen) != 12+len(want.packet.Payload) {
		b.tb.Errorf("channel %+v, want newest %+v at %d; in step %v", c, h, isn+1+uint32(want.at), st.InStep)
	}
	if exact && (c.Packets != uint64(count) || st.Gaps != 0) {
		b.tb.Errorf("%d frames and %d gaps, want %d and none", c.Packets, st.Gaps, count)
	}
}

// TestWalk cuts streams in many ways; every frame is seen, and the newest is known exactly.
func TestWalk(t *testing.T) {
	for _, c := range []struct {
		name     string
		max      int // bytes of payload
		cut      func(r *rand.Rand) int
		replies  bool
		channels []Channel
	}{
		{"wire size", 1400, func(*rand.Rand) int { return 1448 }, false, streamChannels},
		{"merged", 300, func(*rand.Rand) int { return 3000 }, false, streamChannels},
		{"small pieces", 60, func(r *rand.Rand) int { return 1 + r.IntN(7) }, false, []Channel{{Number: 0, PT: 96, SSRC: 0xabcd00}, {Number: 2, PT: 97, SSRC: 0xabcd01}}},
		{"big frames", 9000, func(*rand.Rand) int { return 1448 }, false, streamChannels},
		{"any size", 2000, func(r *rand.Rand) int { return 1 + r.IntN(2500) }, false, streamChannels},
	} {
		for seed := range uint64(3) {
			t.Run(fmt.Sprintf("%s/%d", c.name, seed), func(t *testing.T) {
				b := newBench(t)
				r := rand.New(rand.NewPCG(seed, 1))
				isn := uint32(0xffff0000) // wraps on the way
				f := b.startWalk(isn, c.channels)
				s := newStream(t, r, 300, c.max, c.replies)
				for at := 0; at < len(s.bytes); {
					n := min(c.cut(r), len(s.bytes)-at)
					b.tcp(segment{flow: f, dir: ToTerminal, seq: isn + 1 + uint32(at), payload: s.bytes[at : at+n]})
					at += n
				}
				b.checkChannel(f, isn, s, 0, true)
				b.checkChannel(f, isn, s, 1, true)
			})
		}
	}
}

// TestWalkReplies steps over replies between the frames.
func TestWalkReplies(t *testing.T) {
	b := newBench(t)
	r := rand.New(rand.NewPCG(1, 1))
	f := b.startWalk(1000, streamChannels)
	s := newStream(t, r, 300, 900, true)
	for at := 0; at < len(s.bytes); at += 1448 {
		if at%(1448*8) == 0 {
			must(t, b.Sample(f)) // user space saw a PLAY: searching is not rationed
		}
		b.tcp(segment{flow: f, dir: ToTerminal, seq: 1001 + uint32(at), payload: s.bytes[at:min(at+1448, len(s.bytes))]})
	}
	b.checkChannel(f, 1000, s, 0, false)
	st, _ := b.TCPStats(f)
	_, count := s.newest(0, len(s.bytes))
	if got := st.Channels[0].Packets; got < uint64(count)*9/10 {
		t.Errorf("%d frames of %d", got, count)
	}
	if n := b.Stats()["walk_text"]; n == 0 {
		t.Error("no reply was met")
	}
}

// TestWalkDamage loses, repeats and swaps segments; after the last damage the walk is in step again.
func TestWalkDamage(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			b := newBench(t)
			r := rand.New(rand.NewPCG(seed, 2))
			f := b.startWalk(5, streamChannels)
			s := newStream(t, r, 400, 1000, false)
			var parts [][2]int
			for at := 0; at < len(s.bytes); at += 1448 {
				p := [2]int{at, min(at+1448, len(s.bytes))}
				switch damage := r.IntN(20); {
				case at > len(s.bytes)*3/4 || damage > 3:
					parts = append(parts, p)
				case damage == 1:
					parts = append(parts, p, p)
				case damage == 2 && len(parts) > 0:
					parts = append(parts[:len(parts)-1], p, parts[len(parts)-1])
				case damage == 3: // comes again later
					parts = append(parts, [2]int{at + 1448, min(at+2896, len(s.bytes))}, p)
				}
			}
			for i, p := range parts {
				if i%8 == 0 {
					must(t, b.Sample(f))
				}
				b.tcp(segment{flow: f, dir: ToTerminal, seq: 6 + uint32(p[0]), payload: s.bytes[p[0]:p[1]]})
			}
			b.checkChannel(f, 5, s, 0, false)
			b.checkChannel(f, 5, s, 1, false)
		})
	}
}

// TestWalkEvents: the first frame after Channels and Reset goes up, then jumps; RTCP always.
func TestWalkEvents(t *testing.T) {
	b := newBench(t)
	f := b.startWalk(0, streamChannels)
	seq := uint32(1)
	sendFrame := func(channel uint8, body []byte) uint32 {
		raw := append([]byte{'$', channel, 0, 0}, body...)
		binary.BigEndian.PutUint16(raw[2:], uint16(len(body)))
		b.tcp(segment{flow: f, dir: ToTerminal, seq: seq, payload: raw})
		at := seq
		seq += uint32(len(raw))
		return at
	}
	expect := func(what string, kind EventKind, at uint32, body []byte) {
		t.Helper()
		evs := b.drain()
		if len(evs) != 1 || evs[0].Kind != kind || evs[0].Seq != at || !bytes.Equal(evs[0].Payload, body) || evs[0].Length != len(body) ||
			evs[0].Flow != f || evs[0].Proto != TCP {
			t.Errorf("%s: events %+v", what, evs)
		}
	}
	p := packet(t, 96, 1, 1000, 0xabcd00)
	expect("first frame", EventFrame, sendFrame(0, p), p)
	sendFrame(0, packet(t, 96, 2, 4000, 0xabcd00))
	if evs := b.drain(); len(evs) != 0 {
		t.Errorf("second frame: %+v", evs)
	}
	sr := []byte{0x80, 203, 0, 1, 0, 0xab, 0xcd, 0}
	expect("BYE", EventRTCP, sendFrame(1, sr), sr)
	must(t, b.Reset(f))
	p = packet(t, 96, 3, 7000, 0xabcd00)
	at := sendFrame(0, p)
	expect("frame after reset", EventFrame, at, p)
	st, _ := b.TCPStats(f)
	if c := st.Channels[0]; c.FirstSeq != 3 || c.FirstRTPTime != 7000 || c.FirstSeqTCP != at || c.Packets != 3 || !c.HaveFirst {
		t.Errorf("channel %+v", c)
	}
	sendFrame(0, packet(t, 96, 4, 9_000_000, 0xabcd00)) // within a sixteenth of the interval: held back
	if evs := b.drain(); len(evs) != 0 {
		t.Errorf("jump: %+v", evs)
	}
	st, _ = b.TCPStats(f)
	if c := st.Channels[0]; c.MaxRTPTime != 9_000_000 || c.RTPTime != 9_000_000 {
		t.Errorf("channel %+v", c)
	}
}

// TestTailSample: without channels the tails of segments go up, eight an interval, until one is of use.
func TestTailSample(t *testing.T) {
	b := newBench(t)
	must(t, b.Subscribe(benchUE))
	f := benchFlow(554)
	big := bytes.Repeat([]byte("0123456789abcdef"), 200)
	for i := range 12 { // joined in its middle
		b.tcp(segment{flow: f, dir: ToTerminal, seq: uint32(1 + i*len(big)), payload: big})
	}
	tails := 0
	for _, e := range b.drain() {
		if e.Kind != EventTail {
			continue
		}
		tails++
		if len(e.Payload) != 2048 || !bytes.Equal(e.Payload, big[len(big)-2048:]) || e.Length != len(big) ||
			(e.Seq-1)%uint32(len(big)) != uint32(len(big)-2048) {
			t.Errorf("tail %d bytes at %d", len(e.Payload), e.Seq)
		}
	}
	if tails != 8 {
		t.Errorf("%d tails, want 8", tails)
	}
	must(t, b.Sample(f))
	b.tcp(segment{flow: f, dir: ToTerminal, seq: 1_000_000, payload: big})
	must(t, b.SampleHit(f))
	b.tcp(segment{flow: f, dir: ToTerminal, seq: 2_000_000, payload: big})
	if evs := b.drain(); len(evs) != 1 {
		t.Errorf("%d events, want 1: SampleHit ends it", len(evs))
	}
}

// TestChannelsLimits: unknown flows and too many channels are refused.
func TestChannelsLimits(t *testing.T) {
	b := newBench(t)
	if err := b.Channels(benchFlow(554), streamChannels); err == nil {
		t.Error("channels of an unknown flow")
	}
	f := b.startWalk(0, streamChannels)
	if err := b.Channels(f, make([]Channel, 9)); err == nil {
		t.Error("nine channels")
	}
	must(t, b.Channels(f, []Channel{{Number: 0, PT: 96, SSRC: 5}}))
	if st, _ := b.TCPStats(f); len(st.Channels) != 2 || st.Channels[0].SSRC != 5 {
		t.Errorf("channels %+v", st.Channels)
	}
}

// TestWalkNumbers: any eight channel numbers are told apart, neighbours as well, and the number after
// one is its RTCP unless it is a channel itself.
func TestWalkNumbers(t *testing.T) {
	b := newBench(t)
	var ch []Channel
	for i, n := range []uint8{255, 1, 2, 0x80, 0x7f, 9, 11, 200} {
		ch = append(ch, Channel{Number: n, PT: 96, SSRC: uint32(100 + i)})
	}
	f := b.startWalk(0, ch)
	var all []byte
	frame := func(channel uint8, p []byte) { all = append(append(all, '$', channel, 0, byte(len(p))), p...) }
	for i, c := range ch {
		for n := range i + 1 {
			frame(c.Number, packet(t, 96, uint16(n), 7, c.SSRC))
		}
	}
	for _, n := range []uint8{0, 3, 0x81, 10, 12, 201} { // RTCP of 255, 2, 0x80, 9, 11, 200
		frame(n, []byte{0x80, 201, 0, 1, 0, 0, 0, n})
	}
	b.tcp(segment{flow: f, dir: ToTerminal, seq: 1, payload: all})
	s, _ := b.TCPStats(f)
	rtcp := 0
	for _, e := range b.drain() {
		if e.Kind == EventRTCP {
			rtcp++
		}
	}
	if !s.InStep || s.NextFrame != 1+uint32(len(all)) || len(s.Channels) != 8 || rtcp != 6 {
		t.Errorf("record %+v, %d RTCP packets; counters %s", s, rtcp, nonZero(b.Stats()))
	}
	for i, c := range s.Channels {
		if c.Channel != ch[i].Number || c.Packets != uint64(i+1) || c.SSRC != ch[i].SSRC {
			t.Errorf("channel %d: %+v", i, c)
		}
	}
	all = nil
	frame(77, packet(t, 96, 1, 7, 1))
	b.tcp(segment{flow: f, dir: ToTerminal, seq: s.NextFrame, payload: all})
	if s, _ := b.TCPStats(f); s.InStep || b.Stats()["walk_channel"] != 1 {
		t.Errorf("a channel nobody announced: %+v, counters %s", s, nonZero(b.Stats()))
	}
}
