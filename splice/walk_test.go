package splice

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"scas/tracer/rtsp"
)

func rtpFrame(channel uint8, seq uint16, rtptime uint32, size int) []byte {
	b := make([]byte, 4+12+size)
	b[0], b[1] = '$', channel
	binary.BigEndian.PutUint16(b[2:], uint16(12+size))
	b[4], b[5] = 0x80, 96
	binary.BigEndian.PutUint16(b[6:], seq)
	binary.BigEndian.PutUint32(b[8:], rtptime)
	for i := range size {
		b[16+i] = byte(i * 7)
	}
	return b
}

// walked is what a stream consists of, as text.
func walked(t *testing.T, stream []byte, cut func() int) string {
	t.Helper()
	var w walker
	var out []string
	for len(stream) > 0 {
		b := stream[:min(cut(), len(stream))]
		stream = stream[len(b):]
		for len(b) > 0 {
			n, s := w.step(b)
			b = b[n:]
			switch {
			case s == stepFrame && w.whole:
				out = append(out, fmt.Sprintf("$%d %v %d %d", w.last.channel, w.last.rtp, w.last.seq, w.last.rtptime))
			case s == stepMessage && w.unit.Message != nil:
				out = append(out, string(w.unit.Message.Marshal()))
			case s == stepMessage:
				out = append(out, fmt.Sprintf("%q", w.unit.Raw))
			case s == stepBlind:
				return strings.Join(append(out, "blind"), "|")
			}
		}
	}
	if !w.boundary() {
		out = append(out, "open")
	}
	return strings.Join(out, "|")
}

func TestWalkerCuts(t *testing.T) {
	play := "PLAY rtsp://h/film RTSP/1.0\r\nCSeq: 4\r\nRange: npt=0.000-\r\n\r\n"
	body := "SET_PARAMETER rtsp://h/film RTSP/1.0\nCSeq: 5\nContent-Length: 7\n\na\n\nb\r\n\r"
	ok := "RTSP/1.0 200 OK\r\nCseq: 4\r\n\r\n"
	f1, f2 := string(rtpFrame(0, 65535, 1<<31, 40)), string(rtpFrame(1, 7, 9, 0))
	short := "$\x03\x00\x02ab"
	empty := "$\x02\x00\x00"
	tests := []struct{ name, stream, want string }{
		{"request", play, play},
		{"body with blank lines and bare line feeds", body + ok, body + "|" + ok},
		{"frames before and after", f1 + ok + f2 + f1, "$0 true 65535 2147483648|" + ok + "|$1 true 7 9|$0 true 65535 2147483648"},
		{"short and empty frames", short + empty + ok, "$3 false 0 0|$2 false 0 0|" + ok},
		{"stray line ends", "\r\n" + ok + "\r" + play + "\n", `"\r\n"|` + ok + `|"\r"|` + play + `|"\n"`},
		{"cut short", ok + play[:20], ok + "|open"},
		{"tls", "\x16\x03\x01\x00\xa5", "blind"},
		{"other protocol", "SSH-2.0-x\r\n", "blind"},
		{"http tunnel", "GET /film HTTP/1.0\r\n\r\n", "blind"},
		{"after a message", ok + "%%%%", ok + "|blind"},
		{"bad length", "RTSP/1.0 200 OK\r\nContent-Length: x\r\n\r\n", "blind"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			cuts := map[string]func() int{
				"whole": func() int { return 1 << 20 }, "ones": func() int { return 1 },
				"random": func() int { return 1 + r.IntN(9) },
			}
			for name, cut := range cuts {
				if got := walked(t, []byte(tt.stream), cut); got != tt.want {
					t.Errorf("%s: got %q, want %q", name, got, tt.want)
				}
			}
		})
	}
}

func TestWalkerBounds(t *testing.T) {
	endless := func(line string) []byte {
		return []byte("OPTIONS * RTSP/1.0\r\n" + strings.Repeat(line, 2*rtsp.MaxHead/len(line)))
	}
	for name, stream := range map[string][]byte{
		"one header that never ends": endless("x"), "headers without end": endless("A: b\r\n"),
		"a first line that never ends": bytes.Repeat([]byte("A"), 2*rtsp.MaxHead),
	} {
		var w walker
		taken := 0
		for len(stream) > 0 && !w.blind {
			n, _ := w.step(stream[:min(5, len(stream))])
			stream, taken = stream[n:], taken+n
		}
		if !w.blind || taken > rtsp.MaxHead+8 {
			t.Errorf("%s: blind %v after %d bytes", name, w.blind, taken)
		}
	}
}

// TestWalkerIsLinear: what comes in pieces is not read from its beginning with each of them.
func TestWalkerIsLinear(t *testing.T) {
	head := "SET_PARAMETER rtsp://h/f RTSP/1.0\nContent-Length: 20000\n" + strings.Repeat("a:\n", 15_000) + "\n"
	stream := []byte(head + strings.Repeat("\n", 20_000))
	var w walker
	s := stepPart
	for i := range stream {
		if s == stepMessage {
			t.Fatalf("over after %d bytes", i)
		}
		_, s = w.step(stream[i : i+1])
	}
	if s != stepMessage || !w.boundary() || w.read > 300_000 {
		t.Errorf("step %d after %d bytes; the grammar was shown %d", s, len(stream), w.read)
	}
}

func TestWalkerFrameAllocates(t *testing.T) {
	var w walker
	b := bytes.Repeat(rtpFrame(0, 1, 2, 1400), 20)
	if n := testing.AllocsPerRun(100, func() {
		for p := b; len(p) > 0; {
			k, _ := w.step(p[:min(len(p), 700)])
			p = p[k:]
		}
	}); n != 0 {
		t.Errorf("%v allocations for 20 frames", n)
	}
}

func FuzzWalker(f *testing.F) {
	f.Add([]byte("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x00\x00\x01a"), uint8(1))
	f.Add(append(rtpFrame(0, 1, 2, 3), "RTSP/1.0 200 OK\n\n"...), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		whole := walked(t, b, func() int { return 1 << 30 })
		pieces := walked(t, b, func() int { return int(cut)%16 + 1 })
		// A long first line that cannot be one is judged at its end only.
		if strings.TrimSuffix(pieces, "open") == strings.TrimSuffix(whole, "blind") {
			return
		}
		if whole != pieces {
			t.Errorf("cut changes the units: %q, %q", whole, pieces)
		}
	})
}
