package mms

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/captures.golden")

// TestCapturesGolden writes down every message, and media in runs, and compares.
func TestCapturesGolden(t *testing.T) {
	var b strings.Builder
	for _, c := range captured(t) {
		fmt.Fprintf(&b, "# %s\n", c.name)
		for _, dir := range []Dir{ToServer, ToViewer} {
			describe(&b, c, dir)
		}
	}
	const golden = "testdata/captures.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, exp := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(got), len(exp)) {
		if got[i] != exp[i] {
			t.Fatalf("line %d is\n%s\nwant\n%s", i+1, got[i], exp[i])
		}
	}
	if len(got) != len(exp) {
		t.Errorf("%d lines, want %d", len(got), len(exp))
	}
}

// run gathers media packets of one incarnation.
type run struct {
	packets     int
	first, last Data
	from, to    Packet
	pts         uint32
}

func (r *run) flush(b *strings.Builder) {
	if r.packets > 0 {
		fmt.Fprintf(b, "  media inc %d: %d packets %d..%d, sent %d..%d ms, presented %d..%d ms\n", r.first.Incarnation, r.packets,
			r.first.LocationID, r.last.LocationID, r.from.SendTime, r.to.SendTime, r.from.First, r.pts)
	}
	*r = run{}
}

func (r *run) add(b *strings.Builder, d Data, payload []byte) {
	p, err := ParsePacket(payload)
	if err != nil || p.Cut || !p.Timed {
		fmt.Fprintf(b, "  data %+v: %v %+v\n", d, err, p)
		return
	}
	if r.packets > 0 && (d.Incarnation != r.first.Incarnation || d.LocationID != r.last.LocationID+1) {
		r.flush(b)
	}
	if r.packets == 0 {
		r.first, r.from = d, p
	}
	r.packets++
	r.last, r.to, r.pts = d, p, max(r.pts, p.Last)
}

func describe(b *strings.Builder, c conversation, dir Dir) {
	fmt.Fprintf(b, " %s\n", []string{"to server", "to viewer"}[dir])
	if c.http() {
		describeHTTP(b, c.dirs[dir], dir)
		return
	}
	var header []byte
	var media run
	for rest := c.dirs[dir]; len(rest) > 0; {
		u, n, err := Next(rest, dir)
		if err != nil {
			media.flush(b)
			fmt.Fprintf(b, "  %d bytes left: %v\n", len(rest), err)
			return
		}
		rest = rest[n:]
		switch {
		case u.Kind == KindMessage:
			media.flush(b)
			x := NewBody(u.Message.MID)
			err := u.Message.Decode(x)
			fmt.Fprintf(b, "  %d %v %+v %v\n", u.Message.Seq, u.Message.MID, x, err)
		case header == nil || u.Data.Incarnation == 2:
			fmt.Fprintf(b, "  data %+v\n", u.Data)
			header = append(header, u.Payload...)
			if u.Data.Flags == FlagLast {
				h, err := ParseHeader(header)
				fmt.Fprintf(b, "  header %+v %v\n", h, err)
			}
		default:
			media.add(b, u.Data, u.Payload)
		}
	}
	media.flush(b)
}

func describeHTTP(b *strings.Builder, stream []byte, dir Dir) {
	var media run
	for rest := stream; len(rest) > 0; {
		if dir == ToServer || len(rest) == len(stream) {
			h, n, err := NextHead(rest)
			if err != nil {
				fmt.Fprintf(b, "  %d bytes left: %v\n", len(rest), err)
				return
			}
			p := h.Pragma()
			fmt.Fprintf(b, "  %s%s %d framed %v by %v: %+v\n", h.Method(), h.Target(), h.Status(), h.Framed(), p.By(), p)
			rest = rest[n:]
			continue
		}
		c, n, err := NextChunk(rest)
		if err != nil {
			media.flush(b)
			fmt.Fprintf(b, "  %d bytes left: %v\n", len(rest), err)
			return
		}
		rest = rest[n:]
		switch c.ID {
		case 'D':
			media.add(b, c.Data, c.Payload)
		case 'H':
			h, err := ParseHeader(c.Payload)
			fmt.Fprintf(b, "  $H %+v %+v %v\n", c.Data, h, err)
		default:
			media.flush(b)
			fmt.Fprintf(b, "  $%c reason %d\n", c.ID, c.Reason())
		}
	}
	media.flush(b)
}

// TestCapturesLossless puts the units of every stream together again.
func TestCapturesLossless(t *testing.T) {
	for _, c := range captured(t) {
		for _, dir := range []Dir{ToServer, ToViewer} {
			units, rest, err := c.cut(dir, whole)
			if err != nil && !errors.Is(err, ErrShort) {
				t.Errorf("%s %d: %v with %d bytes left", c.name, dir, err, len(rest))
			}
			var got bytes.Buffer
			for _, u := range units {
				got.WriteString(u.raw)
			}
			got.Write(rest)
			if !bytes.Equal(got.Bytes(), c.dirs[dir]) {
				t.Errorf("%s %d: %d bytes of %d", c.name, dir, got.Len(), len(c.dirs[dir]))
			}
		}
	}
}

// TestCapturesCutAnywhere hands the streams over in pieces of several sizes, and the short ones
// cut at every position.
func TestCapturesCutAnywhere(t *testing.T) {
	for _, c := range captured(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, dir := range []Dir{ToServer, ToViewer} {
				want, _, _ := c.cut(dir, whole)
				for _, n := range []int{1, 7, 13, 1448} {
					if got, _, _ := c.cut(dir, func(int) int { return n }); !slices.Equal(got, want) {
						t.Errorf("pieces of %d: %d units, want %d", n, len(got), len(want))
					}
				}
				short := c
				short.dirs[dir] = c.dirs[dir][:min(len(c.dirs[dir]), 3000)]
				want, _, _ = short.cut(dir, whole)
				for at := 1; at < len(short.dirs[dir]); at++ {
					first := true
					got, _, _ := short.cut(dir, func(left int) int {
						if first {
							first = false
							return at
						}
						return left
					})
					if !slices.Equal(got, want) {
						t.Fatalf("cut at %d: %d units, want %d", at, len(got), len(want))
					}
				}
			}
		})
	}
}
