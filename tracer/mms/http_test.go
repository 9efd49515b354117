package mms

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const (
	ffmpegPlay = "GET /clip.asf?stream-time=7 HTTP/1.1\r\nUser-Agent: NSPlayer/4.1.0.3856\r\nHost: h:8080\r\n" +
		"Pragma: no-cache,rate=1.000000,request-context=2\r\nPragma: xPlayStrm=1\r\nPragma: xClientGUID={c77e7400}\r\n" +
		"Pragma: no-cache,rate=1.000000,stream-time=0Connection: Close\r\n\r\n"
	vlcPlay = "GET /clip.asf HTTP/1.0\r\nHost: h\r\nPragma: no-cache,rate=1.000000,stream-time=0,stream-offset=0:0,packet-num=4294967295,max-duration=0\r\n" +
		"pragma :  xPlayStrm=1\r\n\r\n"
	liveplay = "GET /live HTTP/1.0\r\nPragma: no-cache,rate=1.000000,request-context=2\r\nPragma: xPlayStrm=1\r\nConnection: Close\r\n\r\n"
)

func head(t testing.TB, s string) Head {
	t.Helper()
	h, n, err := NextHead([]byte(s))
	if err != nil || n != len(s) {
		t.Fatalf("%d of %d: %v", n, len(s), err)
	}
	return h
}

func TestWithStreamTime(t *testing.T) {
	for _, c := range []struct{ name, in, old, new string }{
		{"a header swallowed", ffmpegPlay, "stream-time=0Connection", "stream-time=20500Connection"},
		{"all tokens", vlcPlay, "stream-time=0,", "stream-time=20500,"},
		{"other places unused", strings.Replace(strings.Replace(vlcPlay, "0:0", "0:999", 1), "4294967295", "12", 1),
			"stream-time=0,stream-offset=0:999,packet-num=12", "stream-time=20500,stream-offset=0:0,packet-num=4294967295"},
		{"none", liveplay, "Connection", "Pragma: stream-time=20500\r\nConnection"},
		{"no digits", "GET / HTTP/1.0\r\nPragma: stream-time=,xPlayStrm=1\r\n\r\n", "time=", "time=20500"},
		{"line ends of one byte", strings.ReplaceAll(vlcPlay, "\r\n", "\n"), "stream-time=0,", "stream-time=20500,"},
		{"no pragma", "GET / HTTP/1.0\r\nHost: h\r\n\r\n", "Host", "Pragma: stream-time=20500\r\nHost"},
		{"no header", "GET / HTTP/1.0\r\n\r\n", "\r\n\r\n", "\r\nPragma: stream-time=20500\r\n\r\n"},
	} {
		h := head(t, c.in)
		want := strings.Replace(c.in, c.old, c.new, 1)
		if got := string(h.WithStreamTime(20500)); got != want {
			t.Errorf("%s:\n%q\nwant\n%q", c.name, got, want)
		}
		if p := head(t, want).Pragma(); p.StreamTime != 20500 || p.By() != ByPosition {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
}

func TestAsksForBeginning(t *testing.T) {
	for _, c := range []struct {
		in   string
		want bool
	}{
		{ffmpegPlay, true},
		{vlcPlay, true},
		{liveplay, true},
		{strings.Replace(ffmpegPlay, "time=0C", "time=20000C", 1), false},
		{strings.Replace(vlcPlay, "0:0", "0:135800", 1), false},
		{strings.Replace(vlcPlay, "0:0", "4294967295:4294967295", 1), true},
		{strings.Replace(vlcPlay, "num=4294967295", "num=17", 1), false},
		{strings.Replace(vlcPlay, "xPlayStrm", "xOther", 1), false}, // a Describe
	} {
		if got := head(t, c.in).AsksForBeginning(); got != c.want {
			t.Errorf("%v of %q", got, c.in)
		}
	}
}

func TestPragmaOfReply(t *testing.T) {
	h := head(t, "HTTP/1.0 200 OK\r\nContent-Type: application/x-mms-framed;x=y\r\n"+
		"Pragma: no-cache, client-id=1601279413, features=\"seekable,stridable\", timeout=60000\r\n\r\n")
	p := h.Pragma()
	if h.IsRequest() || h.Status() != 200 || !h.Framed() || p.ClientID != 1601279413 || !slices.Equal(p.Features, []string{"seekable", "stridable"}) || !p.Feature("seekable") {
		t.Errorf("%+v", p)
	}
}

func TestHugeNumbers(t *testing.T) {
	p := head(t, "GET / HTTP/1.0\r\nPragma: stream-time=99999999999999999999999,packet-num=4294967296,stream-offset=:,rate=1e999,request-context=-1\r\n\r\n").Pragma()
	if p.StreamTime != Unused || p.PacketNum != Unused || p.OffsetHigh|p.OffsetLow != 0 || p.RequestContext != 0 {
		t.Errorf("%+v", p)
	}
}

func TestHeadRefuses(t *testing.T) {
	var limit *LimitError
	for in, want := range map[string]error{
		"get / HTTP/1.0": ErrNotMMS, " GET": ErrNotMMS, "\x16\x03\x01": ErrNotMMS, "$D": ErrNotMMS, "ABCDEFGHIJKLMNOPQ": ErrNotMMS,
		"": ErrShort, "G": ErrShort, "GET / HTTP/1.0\r\nA: b\r\n": ErrShort, "HTT": ErrShort, "HTTP/1.0 200": ErrShort,
	} {
		if _, _, err := NextHead([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%q: %v", in, err)
		}
	}
	if _, _, err := NextHead([]byte("GET / " + strings.Repeat("a", MaxHead))); !errors.As(err, &limit) {
		t.Errorf("endless: %v", err)
	}
}

func TestChunks(t *testing.T) {
	b := AppendReason(AppendDataChunk(nil, 'H', Data{Incarnation: 0, Flags: FlagLast}, []byte("header")), 'E', 1)
	b = append(b, 0xa4, 'x', 0, 0)
	c, n, err := NextChunk(b)
	if err != nil || c.ID != 'H' || string(c.Payload) != "header" || c.Data.Size != 14 || n != 18 || c.More {
		t.Fatalf("%+v %v", c, err)
	}
	c, m, err := NextChunk(b[n:])
	if err != nil || c.ID != 'E' || c.Reason() != 1 {
		t.Fatalf("%+v %v", c, err)
	}
	if c, _, err = NextChunk(b[n+m:]); err != nil || c.ID != 'x' || !c.More || len(c.Payload) != 0 {
		t.Fatalf("%+v %v", c, err)
	}
	if _, _, err := NextChunk([]byte("HTTP/1.0")); !errors.Is(err, ErrNotMMS) {
		t.Error(err)
	}
}

func TestLooksLikePlayer(t *testing.T) {
	for in, want := range map[string]bool{
		ffmpegPlay: true, "GET / HTTP/1.1\r\nUser-Agent: Mozilla/5.0\r\n\r\n": false,
		"GET / HTTP/1.1\r\nCookie: " + strings.Repeat("a", PlayerHead) + "\r\nUser-Agent: NSPlayer/9": false,
		"GET / HTTP/1.1\r\nPragma: xClientGUID={":                                                     true,
	} {
		if got := LooksLikePlayer([]byte(in)); got != want {
			t.Errorf("%v: %q", got, in)
		}
	}
}

func TestSamePath(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want Same
	}{
		{"dir/a%20b.asf?x=1", "dir/a b.asf?x=1", SamePaths},
		{"dir/a%20b.asf?x=1", "/dir/a%20b.asf", SameButQuery},
		{"dir/a.asf?x=1", "dir/a.asf?x=2", Different},
		{"dir/a.asf", "dir/b.asf", Different},
		{"100%.asf", "100%25.asf", SamePaths}, // an escape that is none stays
		{"a.asf", "/a.asf", SamePaths},
	} {
		if got := SamePath(c.a, c.b); got != c.want {
			t.Errorf("%q %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
	if got := URL("mms", "h:1", "/a b%20ü.asf"); got != "mms://h:1/a%20b%20%C3%BC.asf" {
		t.Error(got)
	}
}
