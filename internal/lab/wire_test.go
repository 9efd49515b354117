package lab

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestReadUnit(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		check    func(unit) bool
		err      error
	}{
		{"request", "PLAY rtsp://h/f RTSP/1.0\r\ncseq: 7\r\nUser-Agent: a\r\nUser-Agent: b\r\n\r\n",
			func(u unit) bool { return u.msg.cseq() == 7 && u.msg.get("user-agent") == "a" }, nil},
		{"reply with body", "\r\n\r\nRTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
			func(u unit) bool { return u.msg.status() == 200 && string(u.msg.body) == "abc" }, nil},
		{"frame", "$\x03\x00\x02hi", func(u unit) bool { return u.channel == 3 && string(u.payload) == "hi" }, nil},
		{"empty frame", "$\x03\x00\x00", func(u unit) bool { return u.msg == nil && len(u.payload) == 0 }, nil},
		{"end", "", nil, io.EOF},
		{"cut frame", "$\x03\x00\x05hi", nil, io.ErrUnexpectedEOF},
		{"cut head", "PLAY rtsp://h/f RTSP/1.0\r\nCSeq: 1\r\n", nil, io.ErrUnexpectedEOF},
		{"cut body", "RTSP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nabc", nil, io.ErrUnexpectedEOF},
		{"binary", "\x16\x03\x01", nil, errGrammar},
		{"no colon", "RTSP/1.0 200 OK\r\nnonsense\r\n\r\n", nil, errGrammar},
		{"negative body", "RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n", nil, errGrammar},
		{"huge body", "RTSP/1.0 200 OK\r\nContent-Length: 99999999\r\n\r\n", nil, errTooLong},
		{"endless line", "PLAY " + strings.Repeat("x", maxHead), nil, errTooLong},
		{"endless head", "PLAY x RTSP/1.0\r\n" + strings.Repeat("a: b\r\n", maxHead/6), nil, errTooLong},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u, err := readUnit(bufio.NewReader(strings.NewReader(tc.in)))
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if tc.check != nil && !tc.check(u) {
				t.Errorf("got %+v", u)
			}
		})
	}
}

func TestParseTransport(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want transport
		bad  bool
	}{
		{"RTP/AVP/UDP;unicast;client_port=5000-5001", transport{client: [2]int{5000, 5001}, server: none(), interleaved: none()}, false},
		{"RTP/AVP;unicast;client_port=5000", transport{client: [2]int{5000, 5001}, server: none(), interleaved: none()}, false},
		{"RTP/SAVP;unicast, RTP/AVP/TCP;interleaved=2-3;ssrc=0A", transport{tcp: true, client: none(), server: none(), interleaved: [2]int{2, 3}, ssrc: "0A"}, false},
		{"RTP/AVP;multicast", transport{multicast: true, client: none(), server: none(), interleaved: none()}, false},
		{"RTP/AVP;client_port=70000-1", transport{}, true},
		{"RTP/AVP/TCP;interleaved=255", transport{}, true},
		{"RTP/AVP;client_port=a-b", transport{}, true},
		{"", transport{}, true},
	} {
		got, err := parseTransport(tc.in)
		if (err != nil) != tc.bad || !tc.bad && got != tc.want {
			t.Errorf("%q: %+v %v", tc.in, got, err)
		}
	}
}

func none() [2]int { return [2]int{-1, -1} }

func TestParseRange(t *testing.T) {
	for _, tc := range []struct {
		in         string
		start, end time.Duration
		given, bad bool
	}{
		{"npt=45.5-180.032", 45500 * time.Millisecond, 180032 * time.Millisecond, true, false},
		{" npt=0-", 0, 0, true, false},
		{"npt=1:02:03.5-", 3723500 * time.Millisecond, 0, true, false},
		{"npt=now-", 0, 0, false, false},
		{"npt=-5", 0, 5 * time.Second, false, false},
		{"clock=19961108T142345.25Z-19961108T142600Z", 45250 * time.Millisecond, 180 * time.Second, true, false},
		{"smpte-25=0:00:45:05-", 45200 * time.Millisecond, 0, true, false},
		{"npt=5", 0, 0, false, true},
		{"npt=x-", 0, 0, false, true},
		{"npt=nan-", 0, 0, false, true},
		{"npt=1e300-", 0, 0, false, true},
		{"smpte=0:00:45-", 0, 0, false, true},
		{"", 0, 0, false, true},
	} {
		r, err := parseRange(tc.in)
		if (err != nil) != tc.bad || r.start != tc.start || r.end != tc.end || r.given != tc.given {
			t.Errorf("%q: %+v %v", tc.in, r, err)
		}
	}
	for _, u := range []Unit{UnitNPT, UnitClock, UnitSMPTE} {
		for _, d := range []time.Duration{0, 40 * time.Millisecond, 3723480 * time.Millisecond} {
			r, err := parseRange(string(u) + "=" + formatTime(u, d, 3) + "-")
			if err != nil || (r.start-d).Abs() > time.Microsecond {
				t.Errorf("%s %v: %+v %v", u, d, r, err)
			}
		}
	}
}

func FuzzReadUnit(f *testing.F) {
	f.Add([]byte("PLAY rtsp://h/f RTSP/1.0\r\nCSeq: 1\r\nRange: npt=1-\r\nTransport: RTP/AVP;client_port=1-2\r\n\r\n$\x00\x00\x01x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		for {
			u, err := readUnit(r)
			if err != nil {
				return
			}
			if u.msg == nil {
				continue
			}
			_, _ = parseRange(u.msg.get("Range"))
			_, _ = parseTransport(u.msg.get("Transport"))
			again, err := readUnit(bufio.NewReader(bytes.NewReader(u.msg.marshal())))
			if err == nil && again.msg.start != u.msg.start {
				t.Errorf("%q became %q", u.msg.start, again.msg.start)
			}
		}
	})
}
