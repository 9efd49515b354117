package main

import (
	"slices"
	"strings"
	"testing"
)

func TestPlayerCommand(t *testing.T) {
	p := players{}
	for _, text := range []string{"mpv --fs", "mms=mplayer '-x y' {url} \"\""} {
		if err := p.Set(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		link string
		want []string
	}{
		{"rtsp://h/a", []string{"mpv", "--fs", "rtsp://h/a"}},
		{"mms://h/a?b=c", []string{"mplayer", "-x y", "mms://h/a?b=c", ""}},
		{"https://h/$(id);`id`", []string{"mpv", "--fs", "https://h/$(id);`id`"}},
		{"file:///etc/passwd", nil},
		{"--script=/tmp/x", nil},
		{"ftp://h/a", nil},
		{"rtsp:/a", nil},
		{"rtsp://h/a b", nil},
		{"rtsp://h/a\n", nil},
		{"rtsp://" + strings.Repeat("h", 3000), nil},
	} {
		got, err := p.command(c.link, "")
		if !slices.Equal(got, c.want) || (err != nil) != (c.want == nil) {
			t.Errorf("%q: %q, %v", c.link, got, err)
		}
	}
	for in, want := range map[string]string{
		"rtsp://h:8554/a@b?c": "rtsp://u:p@h:8554/a@b?c",
		"rtsp://x:y@h/a":      "rtsp://u:p@h/a",
		"rtsp://h":            "rtsp://u:p@h",
	} {
		if got := withLogin(in, "u:p"); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	for _, bad := range []string{"", "  ", "mpv 'x"} {
		if p.Set(bad) == nil {
			t.Errorf("%q taken", bad)
		}
	}
}
