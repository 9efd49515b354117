package rtsp

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestNext(t *testing.T) {
	tests := []struct {
		name string
		in   string
		kind Kind
		n    int
		err  error
	}{
		{"request", "PLAY rtsp://h/x RTSP/1.0\r\nCSeq: 1\r\n\r\nrest", KindRequest, 37, nil},
		{"request of 2.0", "PLAY rtsp://h/x RTSP/2.0\r\n\r\n", KindRequest, 28, nil},
		{"no header at all", "OPTIONS * RTSP/1.0\r\n\r\n", KindRequest, 22, nil},
		{"extension method", "X-ACME.ping! rtsp://h/ RTSP/1.0\r\n\r\n", KindRequest, 35, nil},
		{"url with blanks", "DESCRIBE rtsp://h/my film.mp4 RTSP/1.0\r\n\r\n", KindRequest, 42, nil},
		{"raw utf-8 in url", "DESCRIBE rtsp://h/fílm RTSP/1.0\r\n\r\n", KindRequest, 36, nil},
		{"blank after the version", "OPTIONS * RTSP/1.0 \r\n\r\n", KindRequest, 23, nil},
		{"reply", "RTSP/1.0 200 OK\r\n\r\n", KindResponse, 19, nil},
		{"reply without reason", "RTSP/1.0 200\r\n\r\n", KindResponse, 16, nil},
		{"reply with blank for reason", "RTSP/1.0 200 \r\n\r\n", KindResponse, 17, nil},
		{"line feeds only", "RTSP/1.0 200 OK\nCSeq: 1\n\n", KindResponse, 25, nil},
		{"mixed line ends", "RTSP/1.0 200 OK\r\nCSeq: 1\n\r\n", KindResponse, 27, nil},
		{"body", "RTSP/1.0 200 OK\r\ncontent-LENGTH:3\r\n\r\nabcRTSP", KindResponse, 40, nil},
		{"body length folded", "RTSP/1.0 200 OK\r\nContent-Length:\r\n\t3\r\n\r\nabcR", KindResponse, 43, nil},
		{"body length twice, equal", "RTSP/1.0 200 OK\r\nContent-Length: 3\r\nContent-length: 03\r\n\r\nabc", KindResponse, 61, nil},
		{"body length as a list, equal", "RTSP/1.0 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", KindResponse, 44, nil},
		{"body length empty", "RTSP/1.0 200 OK\r\nContent-Length: \r\n\r\nabc", KindResponse, 37, nil},
		{"lines that are no header", "RTSP/1.0 200 OK\r\njunk\r\n: none\r\n folded start\r\n\r\n", KindResponse, 48, nil},
		{"frame", "$\x01\x00\x02abc", KindFrame, 6, nil},
		{"empty frame", "$\x01\x00\x00", KindFrame, 4, nil},
		{"stray crlf", "\r\nRTSP", KindEmpty, 2, nil},
		{"stray lf", "\nRTSP", KindEmpty, 1, nil},
		{"stray cr", "\rRTSP", KindEmpty, 1, nil},

		{"nothing", "", 0, 0, ErrShort},
		{"half a method", "DESC", 0, 0, ErrShort},
		{"half a version", "PLAY rtsp://h/ RT", 0, 0, ErrShort},
		{"no blank line", "RTSP/1.0 200 OK\r\nCSeq: 1\r\n", 0, 0, ErrShort},
		{"half a line end", "RTSP/1.0 200 OK\r\n\r", 0, 0, ErrShort},
		{"half a body", "RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nab", 0, 41, ErrShort},
		{"half a frame header", "$\x01\x00", 0, 0, ErrShort},
		{"half a frame", "$\x01\x00\x02a", 0, 6, ErrShort},
		{"lone cr at the end", "\r", 0, 0, ErrShort},

		{"http get", "GET /x HTTP/1.1\r\n\r\n", 0, 0, ErrNotRTSP},
		{"http get from its first bytes", "GET ", 0, 0, ErrNotRTSP},
		{"http post", "POST /x HT", 0, 0, ErrNotRTSP},
		{"http options", "OPTIONS * HTTP/1.1\r\n", 0, 0, ErrNotRTSP},
		{"http reply", "HTTP/1.0 200 OK\r\n", 0, 0, ErrNotRTSP},
		{"sip", "INVITE sip:a@b SIP/2.0\r\n", 0, 0, ErrNotRTSP},
		{"tls", "\x16\x03\x01\x02\x00\x01", 0, 0, ErrNotRTSP},
		{"no url", "PLAY RTSP/1.0\r\n", 0, 0, ErrNotRTSP},
		{"method only", "PLAY\r\n", 0, 0, ErrNotRTSP},
		{"no version", "PLAY rtsp://h/\r\n", 0, 0, ErrNotRTSP},
		{"bad version", "PLAY rtsp://h/ RTSP/1\r\n", 0, 0, ErrNotRTSP},
		{"status of two digits", "RTSP/1.0 20 OK\r\n", 0, 0, ErrNotRTSP},
		{"status of four digits", "RTSP/1.0 2000 OK\r\n", 0, 0, ErrNotRTSP},
		{"status below 100", "RTSP/1.0 099 OK\r\n", 0, 0, ErrNotRTSP},
		{"reply that is no request either", "RTSP/1.0x a RTSP/1.0\r\n\r\n", 0, 0, ErrNotRTSP},
		{"control byte in the url", "PLAY rtsp://h/\x00", 0, 0, ErrNotRTSP},
		{"method too long", strings.Repeat("A", maxMethod+1), 0, 0, ErrNotRTSP},
		{"base64", "T1BUSU9OUyBydHNwOi8vMTAuNzcuOS4yOjgwL3Bvcy5ta3YgUlRTUC8xLjANCkNTZXE6IDENClVzZXIt", 0, 0, ErrNotRTSP},
		{"body lengths differ", "RTSP/1.0 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 0, 0, ErrNotRTSP},
		{"body lengths differ in a list", "RTSP/1.0 200 OK\r\nContent-Length: 3,4\r\n\r\n", 0, 0, ErrNotRTSP},
		{"body length no number", "RTSP/1.0 200 OK\r\nContent-Length: 3x\r\n\r\n", 0, 0, ErrNotRTSP},
		{"body length two words", "RTSP/1.0 200 OK\r\nContent-Length: 3 3\r\n\r\n", 0, 0, ErrNotRTSP},
		{"body length negative", "RTSP/1.0 200 OK\r\nContent-Length: -3\r\n\r\n", 0, 0, ErrNotRTSP},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u, n, err := Next([]byte(tt.in))
			if !errors.Is(err, tt.err) || n != tt.n || u.Kind != tt.kind {
				t.Fatalf("got %v, n %d, err %v; want %v, %d, %v", u.Kind, n, err, tt.kind, tt.n, tt.err)
			}
			if err != nil {
				return
			}
			if string(u.Raw) != tt.in[:n] {
				t.Errorf("raw %q", u.Raw)
			}
			if u.Message != nil && string(u.Message.Marshal()) != tt.in[:n] {
				t.Errorf("marshal %q", u.Message.Marshal())
			}
			for i := range n {
				if _, _, err := Next([]byte(tt.in[:i])); !errors.Is(err, ErrShort) {
					t.Fatalf("prefix of %d bytes: %v", i, err)
				}
			}
		})
	}
}

func TestNextLimits(t *testing.T) {
	first := "RTSP/1.0 200 OK\r\nX: "
	head := func(n int) []byte {
		return []byte(first + strings.Repeat("x", n-len(first)-4) + "\r\n\r\n")
	}
	if _, n, err := Next(head(MaxHead)); err != nil || n != MaxHead {
		t.Errorf("longest head: n %d, %v", n, err)
	}
	var limit *LimitError
	if _, _, err := Next(head(MaxHead + 1)); !errors.As(err, &limit) || limit.Part != "head" {
		t.Errorf("head too long: %v", err)
	}
	if _, _, err := Next(head(MaxHead + 1)[:MaxHead-1]); !errors.Is(err, ErrShort) {
		t.Errorf("beginning of a head: %v", err)
	}
	for _, tt := range []struct {
		length string
		size   int64
	}{{"131073", MaxBody + 1}, {"99999999999999999999999", 1<<63 - 1}} {
		_, _, err := Next([]byte("RTSP/1.0 200 OK\r\nContent-Length: " + tt.length + "\r\n\r\n"))
		if !errors.As(err, &limit) || limit.Part != "body" || limit.Size != tt.size {
			t.Errorf("body of %s: %v", tt.length, err)
		}
	}
	body := append([]byte("RTSP/1.0 200 OK\r\nContent-Length: 131072\r\n\r\n"), make([]byte, MaxBody)...)
	if _, n, err := Next(body); err != nil || n != len(body) {
		t.Errorf("longest body: n %d, %v", n, err)
	}
	frame := append([]byte("$\x00\xff\xff"), make([]byte, 1<<16-1)...)
	if _, n, err := Next(frame); err != nil || n != MaxFrame {
		t.Errorf("longest frame: n %d, %v", n, err)
	}
}

func TestErrorText(t *testing.T) {
	for err, want := range map[error]string{
		&LimitError{Part: "head", Size: 70000, Limit: MaxHead}:         "rtsp: head of 70000 bytes exceeds 65536",
		&LengthError{Value: "3x"}:                                      `rtsp: content-length "3x" is ambiguous`,
		&HeaderError{Header: "Range", Value: "npt", Reason: "no unit"}: `rtsp: Range "npt": no unit`,
	} {
		if err.Error() != want {
			t.Errorf("got %q", err)
		}
	}
	for k, want := range map[Kind]string{0: "unknown", KindRequest: "request", KindResponse: "response", KindFrame: "frame", KindEmpty: "empty"} {
		if k.String() != want {
			t.Errorf("kind %d: %q", k, k)
		}
	}
}

func TestNextErrorsNameTheirCause(t *testing.T) {
	_, _, err := Next([]byte("RTSP/1.0 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n"))
	var length *LengthError
	if !errors.As(err, &length) || length.Value != "4" || !strings.Contains(err.Error(), `"4"`) {
		t.Errorf("got %v", err)
	}
}

// unitsOf cuts a stream that arrives in the pieces given by cut, which returns the length of
// the next one.
func unitsOf(tb testing.TB, stream []byte, cut func(left int) int) (raws []string, rest []byte, err error) {
	tb.Helper()
	var buf []byte
	for len(stream) > 0 {
		n := cut(len(stream))
		buf, stream = append(buf, stream[:n]...), stream[n:]
		for {
			u, n, err := Next(buf)
			if errors.Is(err, ErrShort) {
				if n != 0 && n <= len(buf) {
					tb.Fatalf("short of %d bytes with %d there", n, len(buf))
				}
				break
			}
			if err != nil {
				return raws, buf, err
			}
			raws = append(raws, u.Kind.String()+string(u.Raw))
			buf = buf[n:]
		}
	}
	return raws, buf, nil
}

func whole(left int) int { return left }

func sameUnits(tb testing.TB, want, got []string, how string, at int) {
	tb.Helper()
	if len(want) != len(got) {
		tb.Fatalf("%s %d: %d units, want %d", how, at, len(got), len(want))
	}
	for i := range want {
		if want[i] != got[i] {
			tb.Fatalf("%s %d: unit %d is %q, want %q", how, at, i, got[i], want[i])
		}
	}
}

func TestNextCutAnywhere(t *testing.T) {
	stream := []byte("$\x00\x00\x05$PLAY" +
		"RTSP/1.0 200 OK\r\nCSeq: 5\r\nContent-Length: 7\r\n\r\n$\x00\x00\x01\r\n\r" +
		"\r\n\r\n\n" +
		"$\x01\x00\x00" +
		"SET_PARAMETER rtsp://h/ RTSP/1.0\nCseq: 9\n folded\n\n" +
		"$\x02\x01\x00" + strings.Repeat("\r\n", 128) +
		"RTSP/2.0 454 Session Not Found\r\n\r\n")
	want, rest, err := unitsOf(t, stream, whole)
	if err != nil || len(rest) > 0 || len(want) != 9 {
		t.Fatalf("%d units, rest %q, %v", len(want), rest, err)
	}
	for at := 1; at < len(stream); at++ {
		first := true
		got, _, _ := unitsOf(t, stream, func(left int) int {
			if first {
				first = false
				return at
			}
			return left
		})
		sameUnits(t, want, got, "cut at", at)
	}
	checkCuts(t, stream, want)
}

// checkCuts feeds a stream by one byte and in random pieces.
func checkCuts(tb testing.TB, stream []byte, want []string) {
	tb.Helper()
	got, _, _ := unitsOf(tb, stream, func(int) int { return 1 })
	sameUnits(tb, want, got, "pieces of", 1)
	for seed := range uint64(10) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		got, _, _ = unitsOf(tb, stream, func(left int) int { return min(left, 1+rnd.IntN(1+rnd.IntN(2000))) })
		sameUnits(tb, want, got, "seed", int(seed))
	}
}

func TestNextAllocs(t *testing.T) {
	frame := append([]byte("$\x00\x05\x00"), make([]byte, 1280)...)
	partial := []byte("DESCRIBE rtsp://10.77.9.2:8554/vod/pos.mp4 RTSP/1.0\r\nCSeq: 2\r\nContent-Length: 10\r\n\r\n12345")
	for _, tt := range []struct {
		name string
		in   []byte
	}{
		{"frame", frame},
		{"part of a frame", frame[:100]},
		{"part of a head", partial[:60]},
		{"part of a body", partial},
		{"line end", []byte("\r\n")},
		{"http", []byte("GET /pos.mkv HTTP/1.1\r\n\r\n")},
	} {
		if n := testing.AllocsPerRun(100, func() { _, _, _ = Next(tt.in) }); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
}

func TestUnitAliases(t *testing.T) {
	b := []byte("$\x03\x00\x02abRTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nxy")
	f, n, _ := Next(b)
	m, _, _ := Next(b[n:])
	if f.Channel != 3 || string(f.Payload) != "ab" || cap(f.Raw) != 6 || cap(f.Payload) != 2 {
		t.Errorf("frame %+v", f)
	}
	clear(b)
	if !bytes.Equal(f.Payload, []byte{0, 0}) {
		t.Error("payload is a copy")
	}
	if string(m.Message.Marshal()) != "RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nxy" {
		t.Error("message does not own its bytes")
	}
}
