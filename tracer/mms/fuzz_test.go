package mms

import (
	"bytes"
	"errors"
	"testing"
)

// checkError holds the promises of Next, NextHead and NextChunk about errors.
func checkError(t *testing.T, b []byte, n int, err error) {
	t.Helper()
	var limit *LimitError
	switch {
	case errors.Is(err, ErrShort):
		if n != 0 && n <= len(b) {
			t.Fatalf("short of %d bytes with %d there", n, len(b))
		}
	case errors.Is(err, ErrNotMMS), errors.As(err, &limit):
		if n != 0 {
			t.Fatalf("length %d with %v", n, err)
		}
	default:
		t.Fatal(err)
	}
}

func checkPrefixes(t *testing.T, n int, next func(n int) error) {
	t.Helper()
	for _, short := range []int{1, n / 2, n - 2, n - 1} {
		if err := next(max(min(short, n-1), 0)); !errors.Is(err, ErrShort) {
			t.Fatalf("first %d bytes of %d: %v", short, n, err)
		}
	}
}

func FuzzNext(f *testing.F) {
	for _, e := range examples(f) {
		f.Add(e.raw, e.dir() == ToViewer)
	}
	for _, c := range captured(f) {
		f.Add(c.dirs[ToServer][:min(len(c.dirs[ToServer]), 2000)], false)
		f.Add(c.dirs[ToViewer][:min(len(c.dirs[ToViewer]), 4000)], true)
	}
	f.Fuzz(func(t *testing.T, b []byte, down bool) {
		dir := ToServer
		if down {
			dir = ToViewer
		}
		for len(b) > 0 {
			u, n, err := Next(b, dir)
			if err != nil {
				checkError(t, b, n, err)
				return
			}
			if n < 1 || n > len(b) || !bytes.Equal(u.Raw, b[:n]) {
				t.Fatalf("unit of %d bytes", n)
			}
			checkPrefixes(t, n, func(n int) error { _, _, err := Next(b[:n], dir); return err })
			if u.Kind == KindMessage {
				checkMessages(t, u)
			} else {
				checkPacket(t, u.Payload)
			}
			b = b[n:]
		}
	})
}

// checkMessages reads the fields of all messages of a unit, writes them again, and patches a
// copy: only the bytes that are meant may change.
func checkMessages(t *testing.T, u Unit) {
	t.Helper()
	count := 0
	for m, ok := u.Message, true; ok; m, ok = m.More() {
		if count++; count > len(u.Raw)/8 {
			t.Fatal("messages without end")
		}
		if x := NewBody(m.MID); x != nil && m.Decode(x) == nil {
			again := Append(nil, Stamp{m.Seq, m.TimeSent()}, x)
			v, _, err := Next(again, ToViewer)
			if err != nil && len(again) <= MaxMessage {
				t.Fatalf("%v written again: %v", m.MID, err)
			}
			if y := NewBody(m.MID); err == nil && v.Message.Decode(y) != nil {
				t.Fatalf("%v cannot be read again: %x", m.MID, again)
			}
		}
		_ = m.HR()
	}
	raw := bytes.Clone(u.Raw)
	v, _, err := Next(raw, ToServer)
	if err != nil {
		t.Fatal(err)
	}
	asked := v.Message.AsksForBeginning()
	done := v.Message.SetStart(12.5)
	if asked && !done {
		t.Fatal("cannot be rewritten")
	}
	for i := range raw {
		if at := i - messageHeader - 16; raw[i] != u.Raw[i] && (!done || at < 0 || at >= 16) {
			t.Fatalf("byte %d changed", i)
		}
	}
	if done && v.Message.AsksForBeginning() {
		t.Fatal("asks for the beginning after the rewrite")
	}
}

func checkPacket(t *testing.T, b []byte) {
	t.Helper()
	p, err := ParsePacket(b)
	switch {
	case err != nil && !errors.Is(err, ErrShort) && !errors.Is(err, ErrNotASF):
		t.Fatal(err)
	case err == nil && (p.Payloads > 63 || p.Timed && p.First > p.Last):
		t.Fatalf("%+v", p)
	}
	_, _, _ = MediaSignature{Incarnation: 4, MaxSize: 1 << 16, To: 1 << 20}.Match(b)
}

func FuzzPacket(f *testing.F) {
	for _, e := range examples(f) {
		if len(e.name) >= 6 && e.name[:6] == "packet" {
			f.Add(e.raw)
		}
	}
	for _, c := range captured(f) {
		for b := c.dirs[ToViewer]; !c.http() && len(b) > 0; {
			u, n, err := Next(b, ToViewer)
			if err != nil {
				break
			}
			if b = b[n:]; u.Kind == KindData && u.Data.Incarnation == 4 && u.Data.LocationID%50 == 0 {
				f.Add(u.Payload)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkPacket(t, b)
		whole, err := ParsePacket(b)
		for _, n := range []int{len(b) / 2, len(b) - 1} {
			p, cutErr := ParsePacket(b[:max(n, 0)])
			if err == nil && cutErr == nil && p.SendTime != whole.SendTime {
				t.Fatalf("send time %d, %d when cut", whole.SendTime, p.SendTime)
			}
		}
	})
}

func FuzzHeader(f *testing.F) {
	one, _, _ := Next(find(f, "11."), ToViewer)
	two, _, _ := Next(find(f, "12."), ToViewer)
	f.Add(append(bytes.Clone(one.Payload), two.Payload...))
	for _, c := range captured(f)[:3] {
		if i := bytes.Index(c.dirs[ToViewer], []byte(guidHeader)); i >= 0 {
			f.Add(c.dirs[ToViewer][i:min(i+1000, len(c.dirs[ToViewer]))])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		switch {
		case err != nil && !errors.Is(err, ErrShort) && !errors.Is(err, ErrNotASF):
			t.Fatal(err)
		case err == nil && (h.Size > len(b) || len(h.Streams) > maxStreams || h.Duration() < 0 || h.Preroll < 0 || h.PlayDuration < 0):
			t.Fatalf("%+v", h)
		}
	})
}

func FuzzHead(f *testing.F) {
	for _, s := range []string{ffmpegPlay, vlcPlay, liveplay, "HTTP/1.0 200 OK\r\nPragma: features=\"a,b\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := NextHead(b)
		if err != nil {
			checkError(t, b, n, err)
			return
		}
		checkPrefixes(t, n, func(n int) error { _, _, err := NextHead(b[:n]); return err })
		before := h.Pragma()
		_, _, _, _ = h.Target(), h.Status(), h.Framed(), h.Get("Host")
		out := h.WithStreamTime(12500)
		if len(out) > MaxHead {
			return
		}
		again, n, err := NextHead(out)
		if err != nil || n != len(out) {
			t.Fatalf("rewritten: %v, %d of %d: %q", err, n, len(out), out)
		}
		p := again.Pragma()
		if p.StreamTime != 12500 || h.IsRequest() && before.Play && again.AsksForBeginning() {
			t.Fatalf("%q starts at %d", out, p.StreamTime)
		}
		if again.Method() != h.Method() || again.Target() != h.Target() {
			t.Fatalf("%q", out)
		}
	})
}

func FuzzChunk(f *testing.F) {
	for _, c := range captured(f) {
		if b := c.dirs[ToViewer]; c.http() {
			if _, n, err := NextHead(b); err == nil {
				f.Add(b[n:min(n+4000, len(b))])
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			c, n, err := NextChunk(b)
			if err != nil {
				checkError(t, b, n, err)
				return
			}
			if n < chunkHeader || n > len(b) || !bytes.Equal(c.Raw, b[:n]) {
				t.Fatalf("chunk of %d bytes", n)
			}
			checkPrefixes(t, n, func(n int) error { _, _, err := NextChunk(b[:n]); return err })
			_ = c.Reason()
			if c.ID == 'D' {
				checkPacket(t, c.Payload)
			}
			b = b[n:]
		}
	})
}
