package mms

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// example is one vector of testdata/example.txt.
type example struct {
	name, what string
	raw        []byte
}

func examples(tb testing.TB) []example {
	tb.Helper()
	f, err := os.Open("testdata/example.txt")
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var all []example
	for s := bufio.NewScanner(f); s.Scan(); {
		name, what, ok := strings.Cut(s.Text(), " | ")
		switch {
		case strings.HasPrefix(s.Text(), "#") || s.Text() == "":
		case ok:
			all = append(all, example{name: name, what: what})
		default:
			b, err := hex.DecodeString(strings.ReplaceAll(s.Text(), " ", ""))
			if err != nil {
				tb.Fatal(err)
			}
			all[len(all)-1].raw = append(all[len(all)-1].raw, b...)
		}
	}
	if len(all) != 39 {
		tb.Fatalf("%d examples", len(all))
	}
	return all
}

func (e example) dir() Dir {
	if strings.Contains(e.name, "S>C") {
		return ToViewer
	}
	return ToServer
}

// conversation is one TCP connection of a capture, each direction in order.
type conversation struct {
	name string
	dirs [2][]byte
}

// captured returns the connections of all captures, in the order they opened. The recorder lost
// segments; each was a write of whole units, so that what is left joins.
func captured(tb testing.TB) []conversation {
	tb.Helper()
	files, err := filepath.Glob("../testdata/mms/*.pcap")
	if err != nil || len(files) != 27 {
		tb.Fatalf("%d captures: %v", len(files), err)
	}
	var all []conversation
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, conversations(strings.TrimSuffix(filepath.Base(f), ".pcap"), b)...)
	}
	return all
}

type flowKey struct{ client, server uint16 }

func conversations(name string, pcap []byte) []conversation {
	type segment struct {
		seq  uint32
		data []byte
	}
	segments := map[flowKey]*[2][]segment{}
	var order []flowKey
	for b := pcap[24:]; len(b) >= 16; {
		n := binary.LittleEndian.Uint32(b[8:])
		ip := b[16+14 : 16+n]
		b = b[16+n:]
		if ip[9] != 6 {
			continue
		}
		tcp := ip[int(ip[0]&15)*4 : binary.BigEndian.Uint16(ip[2:])]
		src, dst, seq := binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:]), binary.BigEndian.Uint32(tcp[4:])
		k, dir := flowKey{src, dst}, ToServer
		if src == 1755 || src == 18080 {
			k, dir = flowKey{dst, src}, ToViewer
		}
		if segments[k] == nil {
			segments[k] = &[2][]segment{}
			order = append(order, k)
		}
		if data := tcp[int(tcp[12]>>4)*4:]; len(data) > 0 {
			segments[k][dir] = append(segments[k][dir], segment{seq, data})
		}
	}
	var all []conversation
	for i, k := range order {
		c := conversation{name: fmt.Sprintf("%s/%d", name, i+1)}
		for dir, parts := range segments[k] {
			slices.SortStableFunc(parts, func(a, b segment) int { return int(int32(a.seq - b.seq)) })
			for i, next := 0, uint32(0); i < len(parts); i++ {
				seen := 0
				if i > 0 {
					seen = max(0, min(int(int32(next-parts[i].seq)), len(parts[i].data)))
				}
				c.dirs[dir] = append(c.dirs[dir], parts[i].data[seen:]...)
				next = parts[i].seq + uint32(len(parts[i].data))
			}
		}
		all = append(all, c)
	}
	return all
}

// http reports whether a conversation is MMSH.
func (c conversation) http() bool { return strings.HasPrefix(c.name, "mmsh-") }

// unit is a unit of either protocol, for comparisons: its bytes and what they are.
type unit struct {
	raw, text string
}

// mmst cuts one direction of MMST into units, handing the stream over in pieces: more says how
// many bytes of what is left come next.
func mmst(b []byte, dir Dir, more func(left int) int) (all []unit, rest []byte, err error) {
	have := 0
	for len(b) > 0 {
		if have == 0 {
			have = min(more(len(b)), len(b))
		}
		u, n, err := Next(b[:have], dir)
		switch {
		case err == ErrShort && have < len(b):
			have += max(1, min(more(len(b)-have), len(b)-have))
			continue
		case err != nil:
			return all, b, err
		}
		all = append(all, unit{string(u.Raw), u.Kind.String() + " " + u.Message.MID.String()})
		b, have = b[n:], have-n
	}
	return all, b, nil
}

// mmsh does the same with the heads of MMSH, and the chunks behind a reply.
func mmsh(b []byte, dir Dir, more func(left int) int) (all []unit, rest []byte, err error) {
	have, body := 0, false
	for len(b) > 0 {
		if have == 0 {
			have = min(more(len(b)), len(b))
		}
		var n int
		var u unit
		if body {
			var c Chunk
			c, n, err = NextChunk(b[:have])
			u = unit{string(c.Raw), "$" + string(c.ID)}
		} else {
			var h Head
			h, n, err = NextHead(b[:have])
			u = unit{string(h.Raw()), h.Method() + h.Target()}
		}
		switch {
		case err == ErrShort && have < len(b):
			have += max(1, min(more(len(b)-have), len(b)-have))
			continue
		case err != nil:
			return all, b, err
		}
		body = body || dir == ToViewer
		all = append(all, u)
		b, have = b[n:], have-n
	}
	return all, b, nil
}

func (c conversation) cut(dir Dir, more func(left int) int) ([]unit, []byte, error) {
	if c.http() {
		return mmsh(c.dirs[dir], dir, more)
	}
	return mmst(c.dirs[dir], dir, more)
}

func whole(left int) int { return left }
