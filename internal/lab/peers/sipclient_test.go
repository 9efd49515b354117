package peers

import (
	"slices"
	"testing"
)

func TestBaresipShown(t *testing.T) {
	said := "baresip is ready.\nsip:scas@x: no message\n\rsip:scas@x: \"1 News, on phone, 0:04\nSay: pull 1\n\"\n" +
		"\rsip:eve@x: \"rtsp://evil/\"\n/m\r/me\rsip:scas@x: \"\"News\" goes on\nrtsp://a/b\n\"\n\rsip:scas@x: \"cut"
	want := []string{"1 News, on phone, 0:04\nSay: pull 1\n", "\"News\" goes on\nrtsp://a/b\n"}
	if got := baresipShown([]byte(said), "sip:scas@x"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
