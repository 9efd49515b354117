package rtsp

import (
	"net/netip"
	"testing"
)

func TestResolveControl(t *testing.T) {
	tests := []struct{ base, control, want string }{
		{"rtsp://h:8554/vod/pos.mp4/", "stream=0", "rtsp://h:8554/vod/pos.mp4/stream=0"},
		{"rtsp://h:8554/vod/pos.mp4", "stream=0", "rtsp://h:8554/vod/pos.mp4/stream=0"},
		{"rtsp://h/pos.mkv/", "/track1", "rtsp://h/pos.mkv/track1"},
		{"rtsp://h/pos.mkv/", "*", "rtsp://h/pos.mkv/"},
		{"rtsp://h/pos.mkv/", "", "rtsp://h/pos.mkv/"},
		{"rtsp://h:8560/pos", "rtsp://h:8560/pos/trackID=0", "rtsp://h:8560/pos/trackID=0"},
		{"rtsp://h/pos", "trackID=rtsp://x", "rtsp://h/pos/trackID=rtsp://x"},
		{"rtsp://h/a?b=c", "track1", "rtsp://h/a?b=c/track1"},
	}
	for _, tt := range tests {
		if got := ResolveControl(tt.base, tt.control); got != tt.want {
			t.Errorf("%q + %q: %q, want %q", tt.base, tt.control, got, tt.want)
		}
	}
}

func TestMatchControl(t *testing.T) {
	tests := []struct {
		url, base, control string
		want               bool
	}{
		{"rtsp://h/a/stream=0", "rtsp://h/a/", "stream=0", true},
		{"rtsp://h/a/stream=1", "rtsp://h/a/", "stream=0", false},
		{"rtsp://h/a/stream=10", "rtsp://h/a/", "stream=0", false},
		{"rtsp://h/a/mystream=0", "rtsp://h/a/", "stream=0", false},
		{"rtsp://other:80/a/track1", "rtsp://h/a/", "track1", true},
		{"rtsp://h:554/a/track1/", "rtsp://h/a/", "track1", true},
		{"track1", "rtsp://h/a/", "track1", true},
		{"rtsp://h:8560/pos/trackID=0", "rtsp://h:8560/pos", "rtsp://h:8560/pos/trackID=0", true},
		{"rtsp://proxy/pos/trackID=0", "rtsp://h:8560/pos", "rtsp://h:8560/pos/trackID=0", true},
		{"rtsp://h/a/", "rtsp://h/a", "*", true},
		{"rtsp://h/a/", "rtsp://h/a", "", true},
		{"rtsp://h/b/", "rtsp://h/a", "*", false},
		{"rtsp://h/b", "rtsp://h/a", "rtsp://h/", false},
	}
	for _, tt := range tests {
		if got := MatchControl(tt.url, tt.base, tt.control); got != tt.want {
			t.Errorf("%q is %q under %q: %v", tt.url, tt.control, tt.base, got)
		}
	}
}

func TestSameURL(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"rtsp://h/a", "RTSP://H:554/a/", true},
		{"rtsp://u:p@h/a", "rtsp://h/a", true},
		{"rtsp://h:8554/a", "rtsp://h/a", false},
		{"rtsp://h/A", "rtsp://h/a", false},
		{"rtsp://h/a?x", "rtsp://h/a", false},
		{"rtsps://h/a", "rtsps://h:322/a", true},
		{"rtsps://h/a", "rtsp://h/a", false},
		{"rtsp://h", "rtsp://h/", true},
		{"rtsp://[fd78::1]/a", "rtsp://[FD78::1]:554/a", true},
		{"rtsp://h/a%20film%281%29", "rtsp://h/a film(1)", true},
		{"rtsp://h/%c3%a4", "rtsp://h/%C3%A4", true},
		{"rtsp://h/a%2fb", "rtsp://h/a/b", false},
		{"rtsp://h/a%2fb", "rtsp://h/a%2Fb", true},
		{"rtsp://h/a?b%26c", "rtsp://h/a?b&c", false},
		{"rtsp://h/a%", "rtsp://h/a%", true},
		{"rtsp://h/a%zz", "rtsp://h/a%25zz", false},
		{"rtsp://192.0.2.1/a", "rtsp://h/a", false},
		{"*", "*", true},
		{"a/", "a", true},
		{"rtsp://h/a", "a", false},
	}
	for _, tt := range tests {
		if SameURL(tt.a, tt.b) != tt.want || SameURL(tt.b, tt.a) != tt.want {
			t.Errorf("%q and %q: not %v", tt.a, tt.b, tt.want)
		}
	}
}

func TestSameURLAt(t *testing.T) {
	for _, tt := range []struct {
		a, b, server string
		want         bool
	}{
		{"rtsp://192.0.2.1/a", "rtsp://h/a", "192.0.2.1", true},
		{"rtsp://192.0.2.1/a", "rtsp://h/a", "192.0.2.2", false},
		{"rtsp://192.0.2.1/a", "rtsp://h/b", "192.0.2.1", false},
		{"rtsp://192.0.2.1:8554/a", "rtsp://h/a", "192.0.2.1", false},
		{"rtsp://other/a", "rtsp://h/a", "192.0.2.1", false},
		{"rtsp://[fd78:0::1]/a", "rtsp://h/a", "fd78::1", true},
	} {
		server := netip.MustParseAddr(tt.server)
		if SameURLAt(tt.a, tt.b, server) != tt.want || SameURLAt(tt.b, tt.a, server) != tt.want {
			t.Errorf("%q and %q at %s: not %v", tt.a, tt.b, tt.server, tt.want)
		}
	}
}

func TestStripUserinfo(t *testing.T) {
	for in, want := range map[string]string{
		"rtsp://alice:wonder@h:8555/a": "rtsp://h:8555/a",
		"rtsp://a@b:p@ss@h/a@b":        "rtsp://h/a@b",
		"rtsp://@h/a":                  "rtsp://h/a",
		"rtsp://h/a@b":                 "rtsp://h/a@b",
		"rtsp://h?u@x":                 "rtsp://h?u@x",
		"*":                            "*",
	} {
		if got := StripUserinfo(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestBaseURL(t *testing.T) {
	asked := "rtsp://h/a"
	for in, want := range map[string]string{
		"Content-Base: rtsp://h/b/\r\n":                                 "rtsp://h/b/",
		"Content-Location: rtsp://h/c\r\n":                              "rtsp://h/c",
		"Content-Location: rtsp://h/c\r\ncontent-base: rtsp://h/b/\r\n": "rtsp://h/b/",
		"Content-Location: a.sdp\r\n":                                   asked,
		"":                                                              asked,
	} {
		if got := BaseURL(parse(t, "RTSP/1.0 200 OK\r\n"+in+"\r\n"), asked); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
