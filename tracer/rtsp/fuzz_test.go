package rtsp

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func FuzzNext(f *testing.F) {
	for name, stream := range captured(f) {
		if opaque(name) {
			f.Add(stream[:min(len(stream), 300)])
		} else if _, n, err := Next(stream); err == nil {
			f.Add(stream[:min(len(stream), 3*n)])
		}
	}
	for _, s := range []string{
		"$\x00\x00\x02ab\r\n$\x01\x00\x00", "\n\r\rRTSP/2.0 454\n\n",
		"PLAY rtsp://h/ RTSP/1.0\nCseq :\t9 \n folded\n:x\njunk\n\n",
		"RTSP/1.0 200 OK\r\nContent-Length: 3, 3\r\ncontent-length:\r\n 3\r\n\r\nabc",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		for rest := stream; ; {
			u, n, err := Next(rest)
			if err != nil {
				checkError(t, rest, n, err)
				break
			}
			checkUnit(t, rest, u, n)
			rest = rest[n:]
		}
		want, _, werr := unitsOf(t, stream, whole)
		got, _, gerr := unitsOf(t, stream, func(int) int { return 1 })
		sameUnits(t, want, got, "pieces of", 1)
		if (werr == nil) != (gerr == nil) {
			t.Fatalf("at once %v, by bytes %v", werr, gerr)
		}
	})
}

func checkError(t *testing.T, b []byte, n int, err error) {
	t.Helper()
	var limit *LimitError
	switch {
	case errors.Is(err, ErrShort):
		if n != 0 && n <= len(b) {
			t.Fatalf("short of %d bytes with %d there", n, len(b))
		}
	case errors.Is(err, ErrNotRTSP), errors.As(err, &limit):
		if n != 0 {
			t.Fatalf("length %d with %v", n, err)
		}
	default:
		t.Fatal(err)
	}
}

func checkUnit(t *testing.T, b []byte, u Unit, n int) {
	t.Helper()
	if n < 1 || n > len(b) || !bytes.Equal(u.Raw, b[:n]) {
		t.Fatalf("unit of %d bytes: %q", n, u.Raw)
	}
	for _, short := range []int{1, n / 2, n - 2, n - 1} {
		if _, _, err := Next(b[:max(min(short, n-1), 0)]); !errors.Is(err, ErrShort) {
			t.Fatalf("first %d bytes of %q: %v", short, b[:n], err)
		}
	}
	if u.Message == nil {
		return
	}
	if !bytes.Equal(u.Message.Marshal(), b[:n]) {
		t.Fatalf("marshal %q, want %q", u.Message.Marshal(), b[:n])
	}
	for _, name := range []string{"X-Fuzz", "CSeq", "Range"} {
		checkSet(t, u.Message, name)
	}
}

// checkSet changes one header and expects every other field and the body to stay.
func checkSet(t *testing.T, m *Message, name string) {
	t.Helper()
	before, there := m.Fields(), m.find(name)
	c := m.Clone()
	c.Set(name, "npt=1-")
	back, err := ParseMessage(c.Marshal())
	if err != nil {
		t.Fatalf("after Set: %q: %v", c.Marshal(), err)
	}
	after := back.Fields()
	if there < 0 {
		there = len(before)
		before = append(before, Field{Name: name})
	}
	before[there].Value = "npt=1-"
	if len(after) != len(before) {
		t.Fatalf("after Set: %d fields, want %d: %q", len(after), len(before), c.Marshal())
	}
	for i := range before {
		if after[i] != before[i] {
			t.Fatalf("after Set: field %d is %q, want %q", i, after[i], before[i])
		}
	}
	if !bytes.Equal(back.Body(), m.Body()) || back.URL() != m.URL() || back.Status() != m.Status() {
		t.Fatalf("after Set: %q", c.Marshal())
	}
	c.Set(name, m.Get(name))
	if m.find(name) >= 0 && !strings.ContainsAny(m.cut(m.headers[m.find(name)].value), "\r\n") && !bytes.Equal(c.Marshal(), m.Marshal()) {
		t.Fatalf("set back: %q, want %q", c.Marshal(), m.Marshal())
	}
}

func FuzzTransport(f *testing.F) {
	for _, s := range []string{
		"RTP/AVP;unicast;client_port=51094-51095", "RTP/AVP/TCP;unicast;interleaved=0-1",
		`RTP/AVP;unicast;client_port=1-2;server_port=3-4;ssrc=71DD9F63;mode="PLAY"`,
		"RTP/AVP;unicast;destination=10.77.1.2;source=10.77.9.2;client_port=4588-4589;server_port=6970",
		`RTP/AVP;multicast;destination=224.2.0.1;port=3456-3457;ttl=127;layers=2;mode="PLAY,RECORD"`,
		`RTP/AVP/UDP;unicast;dest_addr=":5"/"[::1]:6";src_addr="192.0.2.5:9000";ssrc=A/B, X`,
		`a;source="x;y,z";b="`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, err := ParseTransport(s)
		if err != nil {
			return
		}
		second, err := ParseTransport(first.String())
		if err != nil || second.String() != first.String() || len(second) != len(first) {
			t.Fatalf("%q is written as %q, then %q: %v", s, first.String(), second.String(), err)
		}
		for i := range first {
			a, b := first[i], second[i]
			if a.ClientPort != b.ClientPort || a.ServerPort != b.ServerPort || a.Interleaved != b.Interleaved || a.TCP() != b.TCP() || a.Port != b.Port || a.Mode != b.Mode {
				t.Fatalf("%q: %+v comes back as %+v", s, a, b)
			}
		}
	})
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{
		"npt=45-", "npt=0-180.032", "npt=now-", " npt = 0 - 1 ", "npt=0:01:02.5-", "npt=-20",
		"clock=19961108T142300Z-", "smpte-25=10:07:00-10:07:33:05.01", "npt=30-;time=19970123T143720Z", "bytes=0-",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRange(s)
		if err != nil {
			return
		}
		if r.String() != s {
			t.Fatalf("%q is written as %q", s, r.String())
		}
		scale := r.Scale()
		at := 45 * time.Second
		moved, written, ok := r.WithStart(scale, at)
		if !ok {
			if moved != s {
				t.Fatalf("%q became %q", s, moved)
			}
			return
		}
		if written > at || written < at-time.Second {
			t.Fatalf("%q: %v written as %v", s, at, written)
		}
		m, err := ParseRange(moved)
		if err != nil {
			t.Fatalf("%q became %q: %v", s, moved, err)
		}
		start, end := m.Media(scale)
		_, before := r.Media(scale)
		if start == nil || (*start-written).Abs() > time.Microsecond || value(end) != value(before) {
			t.Fatalf("%q became %q: %v - %v", s, moved, value(start), value(end))
		}
	})
}

func FuzzRTPInfo(f *testing.F) {
	for _, s := range []string{
		"url=rtsp://h/a;seq=1;rtptime=2, url=rtsp://h/b;seq=3;rtptime=4", "url=a,url=b;rtptime=5;seq=6",
		`url="rtsp://h/a" ssrc=0000000A:seq=1;rtptime=2 ssrc=0000000B:seq=3, url="b" ssrc=C`,
		"url=rtsp://h/a;b=c,d;e/t1;seq=;rtptime=-2;x=y", "seq=1,seq=2", "url=a;", `url="a`, "url=;ssrc=1;ssrc=2",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		info, err := ParseRTPInfo(s)
		if err != nil {
			return
		}
		_ = info.String()
		want := entries(info)
		for i := range info {
			replaced := ReplaceRTPInfo(s, i, 7, 4294967295)
			again, err := ParseRTPInfo(replaced)
			if err != nil || len(again) != len(info) {
				t.Fatalf("%q became %q: %d entries, %v", s, replaced, len(again), err)
			}
			for j, e := range entries(again) {
				w := want[j]
				if i == j {
					w.seq, w.rtptime = 7, 4294967295
				}
				if e != w {
					t.Fatalf("%q became %q: entry %d is %+v, want %+v", s, replaced, j, e, w)
				}
			}
		}
	})
}

func FuzzSDP(f *testing.F) {
	f.Add([]byte(gstSDP))
	f.Add([]byte("m=\na=rtpmap:96 \nc=IN IP4 224.0.0.1/1/2\nm=x 1/2 y 0 96 999\na=range:npt=5-\n"))
	for _, stream := range captured(f) {
		for i := 0; i < 3 && len(stream) > 0; i++ {
			u, n, err := Next(stream)
			if err != nil {
				break
			}
			if u.Message != nil && len(u.Message.Body()) > 0 {
				f.Add(u.Message.Body())
			}
			stream = stream[n:]
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseSDP(b)
		if err != nil {
			if !errors.Is(err, ErrSDP) || len(d.Media) > 0 {
				t.Fatalf("%+v, %v", d, err)
			}
			return
		}
		if len(d.Media) == 0 || d.Seekable != (d.Duration > 0) || d.Live && d.Seekable || d.Seekable && d.Range.End == nil {
			t.Fatalf("%+v", d)
		}
		for _, m := range d.Media {
			_ = ResolveControl("rtsp://h/", m.Control)
			if m.Addr.IsValid() && m.Addr.IsUnspecified() {
				t.Fatalf("%+v", m)
			}
		}
	})
}
