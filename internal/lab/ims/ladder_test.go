package ims

import (
	"strings"
	"testing"
	"time"
)

// TestLadder draws one of each kind of line.
func TestLadder(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(100, 0).Add(time.Duration(ms) * time.Millisecond) }
	events := []Event{
		{At: at(0), Title: "push"},
		{At: at(1), From: "phone", To: pcscf, Title: "MESSAGE", Detail: "push to tv", Message: &Message{}},
		{At: at(2), From: scscf, To: home, Title: "SAR"},
		{At: at(3), From: pcscf, To: "phone", Title: "200 OK", Answer: true, Message: &Message{Code: 200}},
		{At: at(4), From: "elsewhere", To: pcscf, Title: "MESSAGE"},
		{At: at(1500), From: "phone", To: "media", Via: "scas", Title: "PLAY", Detail: "npt=1-"},
		{At: at(1600), From: "scas", Title: "committed"},
	}
	var b strings.Builder
	if err := Ladder(&b, Columns([]string{"phone"}, []string{"scas", "media"}), events); err != nil {
		t.Fatal(err)
	}
	want := `
      s     phone    P-CSCF    S-CSCF      HSS    presence    scas      media
  0.000  ── push ────────────────────────────────────────────────────────────
  0.001       ├────────►│         │         │         │         │         │     MESSAGE push to tv
  0.002       │         │         ├────────►│         │         │         │     SAR
  0.003       │◄╌╌╌╌╌╌╌╌┤         │         │         │         │         │     200 OK
  1.500       ├═════════╪═════════╪═════════╪═════════╪═════════◆════════►│     PLAY npt=1-
  1.600       │         │         │         │         │         ●         │     committed
`
	if got := b.String(); got != want[1:] {
		t.Errorf("drawn:\n%s\nwant:%s", got, want)
	}
}
