package rtsp

import (
	"errors"
	"testing"
)

type entry struct {
	url          string
	seq, rtptime int64 // -1 absent
	ssrc         int64
}

func entries(info RTPInfo) []entry {
	out := make([]entry, len(info))
	for i, e := range info {
		out[i] = entry{e.URL, -1, -1, -1}
		if e.Seq != nil {
			out[i].seq = int64(*e.Seq)
		}
		if e.RTPTime != nil {
			out[i].rtptime = int64(*e.RTPTime)
		}
		if e.SSRC != nil {
			out[i].ssrc = int64(*e.SSRC)
		}
	}
	return out
}

func TestRTPInfo(t *testing.T) {
	tests := []struct {
		name, in string
		want     []entry
		replaced []string // entry i with seq 7 and rtptime 4294967295
	}{
		{"gst, blank after the comma", "url=rtsp://h:8554/a/stream=0;seq=30562;rtptime=859789641, url=rtsp://h:8554/a/stream=1;seq=9461;rtptime=3823268325",
			[]entry{{"rtsp://h:8554/a/stream=0", 30562, 859789641, -1}, {"rtsp://h:8554/a/stream=1", 9461, 3823268325, -1}},
			[]string{
				"url=rtsp://h:8554/a/stream=0;seq=7;rtptime=4294967295, url=rtsp://h:8554/a/stream=1;seq=9461;rtptime=3823268325",
				"url=rtsp://h:8554/a/stream=0;seq=30562;rtptime=859789641, url=rtsp://h:8554/a/stream=1;seq=7;rtptime=4294967295",
			}},
		{"live555, no blank", "url=rtsp://h/a.mkv/track1;seq=1;rtptime=2,url=rtsp://h/a.mkv/track2;seq=3;rtptime=4",
			[]entry{{"rtsp://h/a.mkv/track1", 1, 2, -1}, {"rtsp://h/a.mkv/track2", 3, 4, -1}},
			[]string{
				"url=rtsp://h/a.mkv/track1;seq=7;rtptime=4294967295,url=rtsp://h/a.mkv/track2;seq=3;rtptime=4",
				"url=rtsp://h/a.mkv/track1;seq=1;rtptime=2,url=rtsp://h/a.mkv/track2;seq=7;rtptime=4294967295",
			}},
		{"url only", "url=rtsp://h/pub/trackID=0,url=rtsp://h/pub/trackID=1",
			[]entry{{"rtsp://h/pub/trackID=0", -1, -1, -1}, {"rtsp://h/pub/trackID=1", -1, -1, -1}},
			[]string{
				"url=rtsp://h/pub/trackID=0;seq=7;rtptime=4294967295,url=rtsp://h/pub/trackID=1",
				"url=rtsp://h/pub/trackID=0,url=rtsp://h/pub/trackID=1;seq=7;rtptime=4294967295",
			}},
		{"seq only", "url=rtsp://h/a;seq=5", []entry{{"rtsp://h/a", 5, -1, -1}}, []string{"url=rtsp://h/a;seq=7;rtptime=4294967295"}},
		{"rtptime only", "url=rtsp://h/a;rtptime=5, url=b", []entry{{"rtsp://h/a", -1, 5, -1}, {"b", -1, -1, -1}},
			[]string{"url=rtsp://h/a;rtptime=4294967295;seq=7, url=b", "url=rtsp://h/a;rtptime=5, url=b;seq=7;rtptime=4294967295"}},
		{"rtptime first", "url=rtsp://h/a;rtptime=5;seq=6", []entry{{"rtsp://h/a", 6, 5, -1}}, []string{"url=rtsp://h/a;rtptime=4294967295;seq=7"}},
		{"empty values", "url=rtsp://h/a;seq=;rtptime=", []entry{{"rtsp://h/a", -1, -1, -1}}, []string{"url=rtsp://h/a;seq=7;rtptime=4294967295"}},
		{"values out of range", "url=rtsp://h/a;seq=65536;rtptime=-5", []entry{{"rtsp://h/a", -1, -1, -1}}, []string{"url=rtsp://h/a;seq=7;rtptime=4294967295"}},
		{"relative url", "url=trackID=3;seq=1;rtptime=2", []entry{{"trackID=3", 1, 2, -1}}, []string{"url=trackID=3;seq=7;rtptime=4294967295"}},
		{"semicolon and comma in the url", "url=rtsp://h/a;b=c,d;e/t1;seq=1;rtptime=2,url=rtsp://h/x;seq=9/t2;seq=3",
			[]entry{{"rtsp://h/a;b=c,d;e/t1", 1, 2, -1}, {"rtsp://h/x;seq=9/t2", 3, -1, -1}},
			[]string{
				"url=rtsp://h/a;b=c,d;e/t1;seq=7;rtptime=4294967295,url=rtsp://h/x;seq=9/t2;seq=3",
				"url=rtsp://h/a;b=c,d;e/t1;seq=1;rtptime=2,url=rtsp://h/x;seq=9/t2;seq=7;rtptime=4294967295",
			}},
		{"percent and query in the url", "url=rtsp://h/a%2C%3B?q=1;2&seq=9/track1;seq=1;rtptime=2",
			[]entry{{"rtsp://h/a%2C%3B?q=1;2&seq=9/track1", 1, 2, -1}}, []string{"url=rtsp://h/a%2C%3B?q=1;2&seq=9/track1;seq=7;rtptime=4294967295"}},
		{"unknown parameters", "url=rtsp://h/a;seq=1;x=y;rtptime=2;z=w", []entry{{"rtsp://h/a", 1, 2, -1}},
			[]string{"url=rtsp://h/a;seq=7;x=y;rtptime=4294967295;z=w"}},
		{"blanks and capitals", " URL=rtsp://h/a; SEQ=1 ; RTPTIME=2 , ,url=b ", []entry{{"rtsp://h/a", 1, 2, -1}, {"b", -1, -1, -1}},
			[]string{" URL=rtsp://h/a; SEQ=7 ; RTPTIME=4294967295 , ,url=b ", " URL=rtsp://h/a; SEQ=1 ; RTPTIME=2 , ,url=b;seq=7;rtptime=4294967295 "}},
		{"semicolon at the end", "url=rtsp://h/a;", []entry{{"rtsp://h/a", -1, -1, -1}}, []string{"url=rtsp://h/a;seq=7;rtptime=4294967295"}},
		{"quoted url of 1.0", `url="rtsp://h/a,b";seq=1;rtptime=2`, []entry{{"rtsp://h/a,b", 1, 2, -1}}, []string{`url="rtsp://h/a,b";seq=7;rtptime=4294967295`}},
		{"no url", "seq=1;rtptime=2,seq=3", []entry{{"", 1, 2, -1}, {"", 3, -1, -1}}, []string{"seq=7;rtptime=4294967295,seq=3", "seq=1;rtptime=2,seq=7;rtptime=4294967295"}},
		{"2.0", `url="rtsp://h/a/audio" ssrc=0A13C760:seq=45102;rtptime=12345678, url="rtsp://h/a,url=/video" ssrc=9A9DE123:seq=30211;rtptime=29567112`,
			[]entry{{"rtsp://h/a/audio", 45102, 12345678, 0x0a13c760}, {"rtsp://h/a,url=/video", 30211, 29567112, 0x9a9de123}},
			[]string{
				`url="rtsp://h/a/audio" ssrc=0A13C760:seq=7;rtptime=4294967295, url="rtsp://h/a,url=/video" ssrc=9A9DE123:seq=30211;rtptime=29567112`,
				`url="rtsp://h/a/audio" ssrc=0A13C760:seq=45102;rtptime=12345678, url="rtsp://h/a,url=/video" ssrc=9A9DE123:seq=7;rtptime=4294967295`,
			}},
		{"2.0 with two sources", `url="rtsp://h/a" ssrc=0000000A:seq=1;rtptime=2 ssrc=0000000B`,
			[]entry{{"rtsp://h/a", 1, 2, 10}, {"rtsp://h/a", -1, -1, 11}},
			[]string{
				`url="rtsp://h/a" ssrc=0000000A:seq=7;rtptime=4294967295 ssrc=0000000B`,
				`url="rtsp://h/a" ssrc=0000000A:seq=1;rtptime=2 ssrc=0000000B:seq=7;rtptime=4294967295`,
			}},
		{"ssrc in the form of 1.0", "url=rtsp://h/a;ssrc=0A13C760;seq=1;rtptime=2", []entry{{"rtsp://h/a", 1, 2, 0x0a13c760}},
			[]string{"url=rtsp://h/a;ssrc=0A13C760;seq=7;rtptime=4294967295"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			info, err := ParseRTPInfo(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			got := entries(info)
			if len(got) != len(tt.want) {
				t.Fatalf("got %+v", got)
			}
			for i, want := range tt.want {
				if got[i] != want {
					t.Errorf("entry %d: %+v, want %+v", i, got[i], want)
				}
				if r := ReplaceRTPInfo(tt.in, i, 7, 4294967295); r != tt.replaced[i] {
					t.Errorf("entry %d replaced:\n%q, want\n%q", i, r, tt.replaced[i])
				}
			}
			back, err := ParseRTPInfo(info.String())
			if err != nil || len(back) != len(info) {
				t.Fatalf("written %q: %v", info.String(), err)
			}
			for i, want := range tt.want {
				if e := entries(back)[i]; e != want {
					t.Errorf("entry %d comes back as %+v", i, e)
				}
			}
		})
	}
}

func TestRTPInfoErrors(t *testing.T) {
	for _, in := range []string{"", " ", " , "} {
		var herr *HeaderError
		if info, err := ParseRTPInfo(in); !errors.As(err, &herr) {
			t.Errorf("%q: %+v, %v", in, info, err)
		}
	}
	for _, i := range []int{-1, 1} {
		if got := ReplaceRTPInfo("url=a", i, 1, 2); got != "url=a" {
			t.Errorf("entry %d: %q", i, got)
		}
	}
}

func TestRTPInfoString(t *testing.T) {
	info := RTPInfo{
		{URL: "rtsp://h/a/stream=0", Seq: ptr(uint16(1)), RTPTime: ptr(uint32(2))},
		{URL: "rtsp://h/a/stream=1"},
		{URL: "rtsp://h/b", SSRC: ptr(uint32(0xa13c760)), Seq: ptr(uint16(3))},
	}
	want := `url=rtsp://h/a/stream=0;seq=1;rtptime=2,url=rtsp://h/a/stream=1,url="rtsp://h/b" ssrc=0A13C760:seq=3`
	if got := info.String(); got != want {
		t.Errorf("got %q", got)
	}
}
