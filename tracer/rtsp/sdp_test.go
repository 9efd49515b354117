package rtsp

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

const gstSDP = `v=0
o=- 1216184943144492951 1 IN IP4 10.77.9.2
s=Session streamed with GStreamer
i=rtsp-server
t=0 0
a=tool:GStreamer
a=type:broadcast
a=control:*
a=range:npt=0-180.032
m=video 0 RTP/AVP 96
c=IN IP4 0.0.0.0
b=AS:30
a=rtpmap:96 H264/90000
a=control:stream=0
m=audio 0 RTP/AVP 97
c=IN IP4 0.0.0.0
a=rtpmap:97 MPEG4-GENERIC/16000/1
a=control:stream=1
`

func TestParseSDP(t *testing.T) {
	d, err := ParseSDP([]byte(strings.ReplaceAll(gstSDP, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	if d.Title != "Session streamed with GStreamer" || d.Control != "*" || d.Live || !d.Seekable || d.Duration != 180032*time.Millisecond {
		t.Errorf("got %+v", d)
	}
	if d.Range == nil || d.Range.String() != "npt=0-180.032" {
		t.Errorf("range %v", d.Range)
	}
	want := []MediaDescription{
		{Media: "video", Proto: "RTP/AVP", Control: "stream=0", PTs: []PT{{96, "H264", 90000, 0}}},
		{Media: "audio", Proto: "RTP/AVP", Control: "stream=1", PTs: []PT{{97, "MPEG4-GENERIC", 16000, 1}}},
	}
	if !reflect.DeepEqual(d.Media, want) {
		t.Errorf("media %+v", d.Media)
	}
	lf, err := ParseSDP([]byte(gstSDP))
	if err != nil || !reflect.DeepEqual(lf, d) {
		t.Errorf("line feeds only: %+v, %v", lf, err)
	}
}

func TestParseSDPRange(t *testing.T) {
	const media = "m=video 0 RTP/AVP 33\r\n"
	tests := []struct {
		name, session, media string
		live, seekable       bool
		duration             time.Duration
		text                 string
	}{
		{"with an end", "a=range:npt=0-60\r\n", "", false, true, time.Minute, "npt=0-60"},
		{"blank after the colon", "a=range: npt=0-180.032\r\n", "", false, true, 180032 * time.Millisecond, "npt=0-180.032"},
		{"start that is not 0", "a=range:npt=10-60\r\n", "", false, true, 50 * time.Second, "npt=10-60"},
		{"hours", "a=range:npt=0:00:00-1:30:00\r\n", "", false, true, 90 * time.Minute, "npt=0:00:00-1:30:00"},
		{"open", "a=range:npt=0-\r\n", "", false, false, 0, "npt=0-"},
		{"now", "a=range:npt=now-\r\n", "", true, false, 0, "npt=now-"},
		{"none", "", "", true, false, 0, ""},
		{"unreadable", "a=range:later\r\n", "", true, false, 0, ""},
		{"clock", "a=range:clock=19961108T142300Z-19961108T143520Z\r\n", "", false, true, 740 * time.Second, "clock=19961108T142300Z-19961108T143520Z"},
		{"clock, open", "a=range:clock=19961108T142300Z-\r\n", "", false, false, 0, "clock=19961108T142300Z-"},
		{"smpte", "a=range:smpte-25=10:07:00-10:08:00:05\r\n", "", false, true, 60200 * time.Millisecond, "smpte-25=10:07:00-10:08:00:05"},
		{"of the media", "", "a=range:npt=0-60\r\n", false, true, time.Minute, "npt=0-60"},
		{"backwards", "a=range:npt=60-0\r\n", "", false, false, 0, "npt=60-0"},
		{"length 0", "a=range:npt=0-0\r\n", "", false, false, 0, "npt=0-0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := ParseSDP([]byte("v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=x\r\nt=0 0\r\n" + tt.session + media + tt.media))
			if err != nil {
				t.Fatal(err)
			}
			text := ""
			if d.Range != nil {
				text = d.Range.String()
			}
			if d.Live != tt.live || d.Seekable != tt.seekable || d.Duration != tt.duration || text != tt.text {
				t.Errorf("live %v seekable %v duration %v range %q", d.Live, d.Seekable, d.Duration, text)
			}
		})
	}
}

func TestParseSDPMedia(t *testing.T) {
	d, err := ParseSDP([]byte("v=0\r\no=- 1 1 IN IP4 1.2.3.4\r\ns=x\r\nc=IN IP4 239.1.2.3/16\r\nt=0 0\r\n" +
		"m=audio 5004 RTP/AVP 96 0 14\r\na=rtpmap:96 opus/16000/2\r\na=lang:de\r\na=control:rtsp://h/x/1\r\n" +
		"m=audio 5006/2 RTP/AVP 96\r\nc=IN IP6 ff15::101/3\r\na=rtpmap:96 L16/11025/2\r\na=rtpmap:97 H264/90000\r\na=lang:fr\r\n" +
		"m=video 0 RTP/AVP 33\r\nc=IN IP4 10.1.2.3\r\na=rtpmap:33 MP2T/27000000\r\n" +
		"m=video 0 RTP/AVP 100\r\nc=IN IP6 ::\r\n" +
		"m=application 0 RTP/AVP *\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []MediaDescription{
		{Media: "audio", Proto: "RTP/AVP", Control: "rtsp://h/x/1", Language: "de", Port: 5004, Addr: netip.MustParseAddr("239.1.2.3"), TTL: 16,
			PTs: []PT{{96, "opus", 48000, 2}, {0, "PCMU", 8000, 1}, {14, "MPA", 90000, 0}}},
		{Media: "audio", Proto: "RTP/AVP", Language: "fr", Port: 5006, Addr: netip.MustParseAddr("ff15::101"), PTs: []PT{{96, "L16", 11025, 2}}},
		{Media: "video", Proto: "RTP/AVP", Addr: netip.MustParseAddr("10.1.2.3"), PTs: []PT{{33, "MP2T", 27000000, 0}}},
		{Media: "video", Proto: "RTP/AVP", PTs: []PT{{100, "", 0, 0}}},
		{Media: "application", Proto: "RTP/AVP", Addr: netip.MustParseAddr("239.1.2.3"), TTL: 16},
	}
	if len(d.Media) != len(want) {
		t.Fatalf("got %+v", d.Media)
	}
	for i := range want {
		if !reflect.DeepEqual(d.Media[i], want[i]) {
			t.Errorf("section %d:\n%+v, want\n%+v", i, d.Media[i], want[i])
		}
	}
	if !d.Media[0].Multicast() || d.Media[2].Multicast() || d.Media[3].Multicast() {
		t.Error("multicast")
	}
}

// What pion/sdp refuses has to give the same facts.
// TestParseSDPRepeatedFormats: a payload type is one, however often the m= line names it.
func TestParseSDPRepeatedFormats(t *testing.T) {
	d, err := ParseSDP([]byte("v=0\r\nm=video 0 RTP/AVP " + strings.Repeat("97 96 ", 1000) + "\r\na=rtpmap:96 H264/90000\r\na=rtpmap:97 H265/90000\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []PT{{PT: 97, Codec: "H265", ClockRate: 90000}, {PT: 96, Codec: "H264", ClockRate: 90000}}
	if got := d.Media[0].PTs; !reflect.DeepEqual(got, want) {
		t.Errorf("%d payload types, want %v", len(got), want)
	}
}

func TestParseSDPTolerant(t *testing.T) {
	want, err := ParseSDP([]byte(gstSDP))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{
		"lines in the wrong order": strings.Replace(gstSDP, "i=rtsp-server\nt=0 0\n", "t=0 0\ni=rtsp-server\n", 1),
		"nothing but what we need": gstSDP[strings.Index(gstSDP, "s="):],
		"unknown kinds":            strings.Replace(gstSDP, "t=0 0\n", "t=0 0\nx=1\n\njunk\n", 1),
		"odd bandwidth":            strings.Replace(gstSDP, "b=AS:30\n", "b=AS:\n", 1),
		"odd time":                 strings.Replace(gstSDP, "t=0 0\n", "t=now-\n", 1),
		"odd origin":               strings.Replace(gstSDP, "o=- 1216184943144492951 1 IN IP4 10.77.9.2\n", "o=x\n", 1),
		"blanks":                   strings.ReplaceAll(strings.ReplaceAll(gstSDP, "\n", " \n"), "a=control:", "a=control: "),
		"no line end at the end":   strings.TrimRight(gstSDP, "\n"),
	}
	for name, in := range tests {
		if got, err := ParseSDP([]byte(in)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	d, err := ParseSDP([]byte("m=data\nm=video 99999 X 96\nm=\n"))
	if err != nil || len(d.Media) != 3 || d.Media[0].Media != "data" || d.Media[1].Port != 0 || len(d.Media[1].PTs) != 1 {
		t.Errorf("m= lines: %+v, %v", d, err)
	}
}

func TestParseSDPErrors(t *testing.T) {
	for _, in := range []string{"", "v=0\r\n", "<html>", gstSDP[:strings.Index(gstSDP, "m=")]} {
		if d, err := ParseSDP([]byte(in)); !errors.Is(err, ErrSDP) {
			t.Errorf("%q: %+v, %v", in, d, err)
		}
	}
}

func TestStaticPT(t *testing.T) {
	rates := map[uint32][]uint8{
		8000: {0, 3, 4, 5, 7, 8, 9, 12, 13, 15, 18}, 16000: {6}, 11025: {16}, 22050: {17},
		44100: {10, 11}, 90000: {14, 25, 26, 28, 31, 32, 33, 34}, 0: {1, 2, 19, 24, 30, 35, 72, 96, 127},
	}
	for rate, pts := range rates {
		for _, n := range pts {
			if pt := staticPT(n); pt.ClockRate != rate || pt.PT != n || (pt.Codec == "") != (rate == 0) {
				t.Errorf("%d: %+v", n, pt)
			}
		}
	}
}
