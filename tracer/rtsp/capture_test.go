package rtsp

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/streams.golden")

// captured returns the recorded streams, one direction of one control connection each.
func captured(tb testing.TB) map[string][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/streams/*.bin")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no captures: %v", err)
	}
	all := make(map[string][]byte, len(files))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(f), ".bin")] = b
	}
	return all
}

// opaque reports whether a recorded stream is none of ours: TLS, or RTSP over HTTP.
func opaque(name string) bool {
	return strings.HasPrefix(name, "gsttls-") || strings.Contains(name, "-http-")
}

func TestCapturesLossless(t *testing.T) {
	for name, stream := range captured(t) {
		t.Run(name, func(t *testing.T) {
			for rest := stream; len(rest) > 0; {
				u, n, err := Next(rest)
				if errors.Is(err, ErrShort) || opaque(name) {
					break
				}
				if err != nil {
					t.Fatalf("at %d: %v", len(stream)-len(rest), err)
				}
				if string(u.Raw) != string(rest[:n]) || u.Message != nil && string(u.Message.Marshal()) != string(rest[:n]) {
					t.Fatalf("at %d: %q", len(stream)-len(rest), u.Raw)
				}
				rest = rest[n:]
			}
		})
	}
}

func TestCapturesCutAnywhere(t *testing.T) {
	for name, stream := range captured(t) {
		if opaque(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, _, err := unitsOf(t, stream, whole)
			if err != nil || len(want) == 0 {
				t.Fatalf("%d units, %v", len(want), err)
			}
			checkCuts(t, stream, want)
			if len(stream) > 4000 {
				return
			}
			step := 1 + len(stream)/1500 // every position of the short ones
			for at := 1; at < len(stream); at += step {
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
		})
	}
}

func TestCapturesOpaque(t *testing.T) {
	streams := captured(t)
	for name, want := range map[string]string{
		"l5-ffplay-http-start.1.c2s": "http GET bca0eec84a4aff1f",
		"l5-ffplay-http-start.1.s2c": "http",
		"l5-ffplay-http-start.2.c2s": "http POST bca0eec84a4aff1f",
		"gsttls-gst-tcp-start.1.c2s": "tls",
		"gsttls-gst-tcp-start.1.s2c": "tls",
	} {
		b := streams[name]
		if _, _, err := Next(b); !errors.Is(err, ErrNotRTSP) {
			t.Errorf("%s: %v", name, err)
		}
		got := ""
		if LooksLikeHTTP(b) {
			got = "http"
		}
		if LooksLikeTLS(b) {
			got += "tls"
		}
		if cookie, method, ok := TunnelCookie(b); ok {
			got += " " + method + " " + cookie
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestCapturesGolden writes down what the typed headers and the SDP of every recorded message
// say.
func TestCapturesGolden(t *testing.T) {
	const file = "testdata/streams.golden"
	streams := captured(t)
	var b strings.Builder
	files, _ := filepath.Glob("testdata/streams/*.bin")
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".bin")
		fmt.Fprintf(&b, "# %s\n", name)
		describeStream(&b, streams[name])
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(b.String(), "\n")
	for i, line := range strings.Split(string(want), "\n") {
		if i >= len(got) || got[i] != line {
			t.Fatalf("line %d of %s: want\n%s\ngot\n%s", i+1, file, line, strings.Join(got[min(i, len(got)):min(i+1, len(got))], ""))
		}
	}
	if len(got) != len(strings.Split(string(want), "\n")) {
		t.Errorf("%d lines, want %d", len(got), len(strings.Split(string(want), "\n")))
	}
}

func describeStream(b *strings.Builder, stream []byte) {
	frames, bytes := map[uint8]int{}, 0
	flush := func() {
		if bytes > 0 {
			fmt.Fprintf(b, "frames per channel %v, %d bytes\n", frames, bytes)
		}
		frames, bytes = map[uint8]int{}, 0
	}
	for len(stream) > 0 {
		u, n, err := Next(stream)
		if u.Kind == KindFrame {
			frames[u.Channel]++
			bytes += n
			stream = stream[n:]
			continue
		}
		flush()
		if err != nil {
			fmt.Fprintf(b, "%d bytes left: %v\n", len(stream), err)
			return
		}
		if u.Message != nil {
			describeMessage(b, u.Message, n)
		}
		stream = stream[n:]
	}
	flush()
}

func describeMessage(b *strings.Builder, m *Message, n int) {
	first, _, _ := strings.Cut(string(m.Marshal()), "\r\n")
	cseq, ok := m.CSeq()
	fmt.Fprintf(b, "%s | %d bytes, cseq %d %v\n", first, n, cseq, ok)
	line := func(header string, parsed fmt.Stringer, err error) {
		if _, there := m.Lookup(header); !there {
			return
		}
		if err != nil {
			fmt.Fprintf(b, "  %s error: %v\n", header, err)
			return
		}
		fmt.Fprintf(b, "  %s: %s\n", header, parsed)
	}
	transport, err := ParseTransport(m.Get("Transport"))
	line("Transport", transport, err)
	session, err := ParseSession(m.Get("Session"))
	line("Session", session, err)
	info, err := ParseRTPInfo(m.Get("RTP-Info"))
	line("RTP-Info", info, err)
	r, err := ParseRange(m.Get("Range"))
	line("Range", r, err)
	if m.Get("Content-Type") != "application/sdp" {
		return
	}
	d, err := ParseSDP(m.Body())
	if err != nil {
		fmt.Fprintf(b, "  sdp error: %v\n", err)
		return
	}
	base := BaseURL(m, "?")
	fmt.Fprintf(b, "  sdp: aggregate %s live %v seekable %v duration %v range %v\n", ResolveControl(base, d.Control), d.Live, d.Seekable, d.Duration, d.Range)
	for _, media := range d.Media {
		fmt.Fprintf(b, "  sdp: %s %s %+v\n", media.Media, ResolveControl(base, media.Control), media.PTs)
	}
}

// Every recorded description follows the grammar, so that the tolerant reader has to find what
// the strict one finds.
func TestCapturesTolerantSDP(t *testing.T) {
	n := 0
	for name, stream := range captured(t) {
		for len(stream) > 0 {
			u, size, err := Next(stream)
			if err != nil {
				break
			}
			stream = stream[size:]
			if u.Message == nil || u.Message.Get("Content-Type") != "application/sdp" {
				continue
			}
			n++
			strict, err := strictSDP(u.Message.Body())
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if a, b := fmt.Sprintf("%+v", strict), fmt.Sprintf("%+v", tolerantSDP(u.Message.Body())); a != b {
				t.Errorf("%s:\nstrict   %s\ntolerant %s", name, a, b)
			}
		}
	}
	if n < 30 {
		t.Errorf("%d descriptions only", n)
	}
}
