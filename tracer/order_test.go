package tracer

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// seg is one segment of a test: its offset from the first byte, and its bytes.
type seg struct {
	off  int
	data string
	skip bool
	at   time.Duration
}

func TestOrder(t *testing.T) {
	for _, c := range []struct {
		name  string
		segs  []seg
		want  string // "|" stands for a hole
		start uint32
	}{
		{"in order", []seg{{off: 0, data: "ab"}, {off: 2, data: "cd"}}, "abcd", 100},
		{"over the wrap", []seg{{off: 0, data: "ab"}, {off: 2, data: "cd"}, {off: 4, data: "ef"}}, "abcdef", 0xfffffffd},
		{"twice", []seg{{off: 0, data: "ab"}, {off: 0, data: "ab"}, {off: 2, data: "c"}}, "abc", 1},
		{"overlap", []seg{{off: 0, data: "abc"}, {off: 1, data: "bcde"}}, "abcde", 1},
		{"swapped", []seg{{off: 0, data: "a"}, {off: 3, data: "d"}, {off: 1, data: "bc"}}, "abcd", 0xfffffffe},
		{"three swapped, one twice", []seg{{off: 0, data: "a"}, {off: 3, data: "d"}, {off: 2, data: "c"}, {off: 3, data: "de"}, {off: 1, data: "b"}}, "abcde", 9},
		{"left out on purpose", []seg{{off: 0, data: "ab"}, {off: 9, data: "jk", skip: true}, {off: 11, data: "l"}}, "ab|jkl", 5},
		{"never came", []seg{{off: 0, data: "ab"}, {off: 9, data: "jk"}, {off: 11, data: "l", at: 3 * time.Second}}, "ab|jkl", 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o order
			o.syn(c.start - 1)
			var got []byte
			base := time.Unix(1000, 0)
			for _, s := range c.segs {
				o.add(c.start+uint32(s.off), []byte(s.data), base.Add(s.at), s.skip, func(b []byte, _ time.Time, hole bool) {
					if hole {
						got = append(got, '|')
					}
					got = append(got, b...)
				})
			}
			if string(got) != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestOrderShuffled sends a stream in every disorder that retransmission makes.
func TestOrderShuffled(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	stream := make([]byte, 5000)
	for i := range stream {
		stream[i] = byte(rng.Uint32())
	}
	for round := range 200 {
		var o order
		start := rng.Uint32()
		o.syn(start - 1)
		var segs []seg
		for off := 0; off < len(stream); {
			n := min(1+rng.IntN(120), len(stream)-off)
			segs = append(segs, seg{off: off, data: string(stream[off : off+n])})
			off += n
		}
		for i := range segs { // swap near neighbours, repeat some
			j := min(i+rng.IntN(4), len(segs)-1)
			segs[i], segs[j] = segs[j], segs[i]
			if rng.IntN(5) == 0 {
				segs = append(segs, segs[rng.IntN(i+1)])
			}
		}
		var got []byte
		for _, s := range segs {
			o.add(start+uint32(s.off), []byte(s.data), time.Unix(1, 0), false, func(b []byte, _ time.Time, hole bool) {
				if hole {
					t.Fatal("a hole in a whole stream")
				}
				got = append(got, b...)
			})
		}
		if !bytes.Equal(got, stream) {
			t.Fatalf("round %d: %d bytes came out of %d, or others", round, len(got), len(stream))
		}
	}
}

func TestOrderIsBounded(t *testing.T) {
	var o order
	o.syn(0)
	segment := make([]byte, 1000)
	for i := range 10_000 {
		o.add(uint32(2+2*i*len(segment)), segment, time.Unix(1, 0), false, func([]byte, time.Time, bool) {})
		if o.bytes > maxHeld+len(segment) || len(o.held) > maxHeldParts+1 {
			t.Fatalf("holds %d bytes in %d parts", o.bytes, len(o.held))
		}
	}
}

// TestOrderFarAway: a segment half the sequence space away is neither old nor new, and harms nothing.
func TestOrderFarAway(t *testing.T) {
	for _, far := range []uint32{1<<31 - 1, 1 << 31, 1<<31 + 1} {
		var o order
		var got []byte
		out := func(b []byte, _ time.Time, _ bool) { got = append(got, b...) }
		at := time.Unix(1000, 0)
		o.syn(99)
		o.add(100, []byte("a"), at, false, out)
		o.add(101+far, []byte("stray"), at, false, out)
		o.ack(101+far, at, out)
		o.add(101, []byte("b"), at, false, out)
		if string(got) != "ab" {
			t.Errorf("%d beyond: %q", far, got)
		}
	}
}

// TestOrderLateSYN: a SYN behind bytes of its own connection begins no other one.
func TestOrderLateSYN(t *testing.T) {
	var o order
	o.add(100, []byte("abc"), time.Unix(1000, 0), false, func([]byte, time.Time, bool) {})
	if !o.late(99) || o.late(103) || o.late(4_000_000_000) {
		t.Error("late SYN", o.late(99), o.late(103), o.late(4_000_000_000))
	}
}
