package rtsp

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func parse(tb testing.TB, s string) *Message {
	tb.Helper()
	m, err := ParseMessage([]byte(s))
	if err != nil {
		tb.Fatalf("parse %q: %v", s, err)
	}
	return m
}

func TestMessageRequest(t *testing.T) {
	m := parse(t, "OPTIONS rtsp://10.77.9.2:8554/vod/pos.mp4 RTSP/1.0\r\n"+
		"Cseq :  7 \r\n"+
		"User-Agent: GStreamer/1.22.0\r\n"+
		"User-Agent: RealMedia Player\r\n"+
		"X-Empty:\r\n"+
		"X-Folded: one\r\n\ttwo\r\n  \r\n three \r\n"+
		"X-Colon: a:b\r\n"+
		"content-length: 2\r\n\r\nhi")
	if !m.IsRequest() || m.Method() != MethodOptions || m.URL() != "rtsp://10.77.9.2:8554/vod/pos.mp4" || m.Version() != Version10 || m.Status() != 0 || m.Reason() != "" {
		t.Errorf("start line: %q %q %q %d", m.Method(), m.URL(), m.Version(), m.Status())
	}
	if n, ok := m.CSeq(); n != 7 || !ok {
		t.Errorf("cseq %d %v", n, ok)
	}
	for name, want := range map[string]string{
		"user-agent": "GStreamer/1.22.0", "USER-AGENT": "GStreamer/1.22.0", "X-Empty": "",
		"x-folded": "one two  three", "X-Colon": "a:b", "X-Absent": "",
	} {
		if got := m.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, ok := m.Lookup("X-Empty"); !ok {
		t.Error("empty header counts as absent")
	}
	if _, ok := m.Lookup("X-Absent"); ok {
		t.Error("absent header found")
	}
	if got := m.Values("user-agent"); !reflect.DeepEqual(got, []string{"GStreamer/1.22.0", "RealMedia Player"}) {
		t.Errorf("values %q", got)
	}
	if got := m.Fields(); len(got) != 7 || got[0] != (Field{"Cseq", "7"}) {
		t.Errorf("fields %q", got)
	}
	if string(m.Body()) != "hi" {
		t.Errorf("body %q", m.Body())
	}
}

func TestMessageReply(t *testing.T) {
	tests := []struct {
		in, version string
		status      int
		reason      string
	}{
		{"RTSP/1.0 200 OK", "RTSP/1.0", 200, "OK"},
		{"RTSP/2.0 454 Session Not Found", "RTSP/2.0", 454, "Session Not Found"},
		{"RTSP/1.0 200", "RTSP/1.0", 200, ""},
		{"RTSP/1.0  200   Fine  thanks ", "RTSP/1.0", 200, "Fine  thanks"},
		{"rtsp/1.0 551\tno", "rtsp/1.0", 551, "no"},
	}
	for _, tt := range tests {
		m := parse(t, tt.in+"\r\n\r\n")
		if m.IsRequest() || m.Method() != "" || m.URL() != "" || m.Version() != tt.version || m.Status() != tt.status || m.Reason() != tt.reason {
			t.Errorf("%q: %q %d %q", tt.in, m.Version(), m.Status(), m.Reason())
		}
		if _, ok := m.CSeq(); ok {
			t.Errorf("%q has a cseq", tt.in)
		}
	}
}

func TestMessageCSeq(t *testing.T) {
	for value, want := range map[string]int{"0": 0, "9001": 9001, "2147483647": 1<<31 - 1, "2147483648": -1, "-1": -1, "1 2": -1, "": -1, "x": -1} {
		n, ok := parse(t, "RTSP/1.0 200 OK\r\nCSeq: "+value+"\r\n\r\n").CSeq()
		if ok != (want >= 0) || ok && n != want {
			t.Errorf("%q: %d %v", value, n, ok)
		}
	}
}

func TestParseMessageErrors(t *testing.T) {
	for in, want := range map[string]error{
		"":                               ErrShort,
		"RTSP/1.0 200 OK\r\n":            ErrShort,
		"$\x00\x00\x00":                  ErrNotRTSP,
		"RTSP/1.0 200 OK\r\n\r\ntrailer": ErrNotRTSP,
	} {
		if _, err := ParseMessage([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestSet(t *testing.T) {
	tests := []struct {
		name, in, header, value, want string
	}{
		{"replaced in place",
			"PLAY rtsp://h/ RTSP/1.0\r\nRange: npt=0-180.032\r\nCSeq: 5\r\n\r\n", "range", "npt=45.000-180.032",
			"PLAY rtsp://h/ RTSP/1.0\r\nRange: npt=45.000-180.032\r\nCSeq: 5\r\n\r\n"},
		{"blanks and case kept",
			"PLAY rtsp://h/ RTSP/1.0\r\nrAnGe :\t npt=0- \t\r\n\r\n", "Range", "npt=45.000-",
			"PLAY rtsp://h/ RTSP/1.0\r\nrAnGe :\t npt=45.000- \t\r\n\r\n"},
		{"no blank after the colon",
			"PLAY rtsp://h/ RTSP/1.0\r\nRange:npt=0-\r\n\r\n", "Range", "x",
			"PLAY rtsp://h/ RTSP/1.0\r\nRange:x\r\n\r\n"},
		{"empty value",
			"PLAY rtsp://h/ RTSP/1.0\r\nRange: \r\n\r\n", "Range", "x",
			"PLAY rtsp://h/ RTSP/1.0\r\nRange: x\r\n\r\n"},
		{"folded value",
			"PLAY rtsp://h/ RTSP/1.0\r\nRange: a\r\n b\r\nX: y\r\n\r\n", "Range", "x",
			"PLAY rtsp://h/ RTSP/1.0\r\nRange: x\r\nX: y\r\n\r\n"},
		{"first of two",
			"PLAY rtsp://h/ RTSP/1.0\r\nA: 1\r\na: 2\r\n\r\n", "a", "x",
			"PLAY rtsp://h/ RTSP/1.0\r\nA: x\r\na: 2\r\n\r\n"},
		{"added",
			"PLAY rtsp://h/ RTSP/1.0\r\nCSeq: 5\r\n\r\n", "Range", "npt=45.000-",
			"PLAY rtsp://h/ RTSP/1.0\r\nCSeq: 5\r\nRange: npt=45.000-\r\n\r\n"},
		{"added with the line end in use",
			"PLAY rtsp://h/ RTSP/1.0\nCSeq: 5\n\n", "Range", "npt=45.000-",
			"PLAY rtsp://h/ RTSP/1.0\nCSeq: 5\nRange: npt=45.000-\n\n"},
		{"added before a body",
			"PLAY rtsp://h/ RTSP/1.0\r\nContent-Length: 2\r\n\r\n\r\n", "X", "y",
			"PLAY rtsp://h/ RTSP/1.0\r\nContent-Length: 2\r\nX: y\r\n\r\n\r\n"},
		{"added to nothing",
			"RTSP/1.0 200 OK\r\n\r\n", "CSeq", "5",
			"RTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n"},
		{"no second header inside a value",
			"RTSP/1.0 200 OK\r\n\r\n", "CSeq", "5\r\nEvil: 1",
			"RTSP/1.0 200 OK\r\nCSeq: 5  Evil: 1\r\n\r\n"},
		{"bytes that are no utf-8",
			"RTSP/1.0 200 OK\r\nX: \xff\r\n\r\n", "Y", "\xfe",
			"RTSP/1.0 200 OK\r\nX: \xff\r\nY: \xfe\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := parse(t, tt.in)
			before := m.Clone()
			m.Set(tt.header, tt.value)
			if got := string(m.Marshal()); got != tt.want {
				t.Errorf("got\n%q, want\n%q", got, tt.want)
			}
			if string(before.Marshal()) != tt.in {
				t.Error("clone changed")
			}
			old := m.Get("CSeq")
			m.Set(tt.header, "again")
			if m.Get(tt.header) != "again" || !strings.EqualFold(tt.header, "cseq") && m.Get("CSeq") != old {
				t.Errorf("second change: %q", m.Marshal())
			}
		})
	}
}

func TestSetVersion(t *testing.T) {
	m := NewRequest(MethodTeardown, "rtsp://h/", Field{"CSeq", "3"})
	m.SetVersion(Version20)
	if got := string(m.Marshal()); got != "TEARDOWN rtsp://h/ RTSP/2.0\r\nCSeq: 3\r\n\r\n" {
		t.Errorf("request %q", got)
	}
	m = NewResponse(200, "")
	m.SetVersion(Version20)
	m.SetVersion("2.0")
	if got := string(m.Marshal()); got != "RTSP/2.0 200 OK\r\n\r\n" || m.Version() != Version20 {
		t.Errorf("reply %q", got)
	}
}

func TestBuild(t *testing.T) {
	m := NewResponse(200, "", Field{"CSeq", "1"}, Field{"Content-Type", "application/sdp"})
	m.SetBody([]byte("v=0\r\n"))
	m.Set("X", "y")
	want := "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Type: application/sdp\r\nContent-Length: 5\r\nX: y\r\n\r\nv=0\r\n"
	if got := string(m.Marshal()); got != want {
		t.Errorf("got %q", got)
	}
	m.SetBody(nil)
	if got := string(m.Marshal()); !strings.Contains(got, "Content-Length: 0\r\n") || !strings.HasSuffix(got, "\r\n\r\n") {
		t.Errorf("body removed: %q", got)
	}
	if got := string(NewResponse(454, "Gone", Field{"A", "b\r\n\r\nPLAY"}).Marshal()); got != "RTSP/1.0 454 Gone\r\nA: b    PLAY\r\n\r\n" {
		t.Errorf("got %q", got)
	}
	for status, want := range map[int]string{-1: "Unknown", 0: "Unknown", 199: "Unknown", 200: "OK", 457: "Invalid Range", 551: "Option Not Supported", 552: "Unknown"} {
		if got := Reason(status); got != want {
			t.Errorf("reason of %d: %q", status, got)
		}
	}
}

func TestBuildWithoutStartLine(t *testing.T) {
	m := NewRequest("", "")
	m.Set("CSeq", "1")
	m.SetVersion(Version20)
	if _, err := ParseMessage(m.Marshal()); err == nil {
		t.Errorf("%q parses", m.Marshal())
	}
}
