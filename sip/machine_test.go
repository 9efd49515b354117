package sip

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"scas/session"
)

func TestParseMachine(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       command
		bad        bool
	}{
		{"push", `{"v":1,"op":"push","ref":"r1","session":"7","to":"tv"}`,
			command{op: opPush, ref: "r1", session: "7", to: "tv"}, false},
		{"pull", `{"v":1,"op":"pull","ref":"r2","session":"7"}`, command{op: opPull, ref: "r2", session: "7"}, false},
		{"list with blanks", " {\"v\" : 1, \"op\":\"list\"}\r\n", command{op: opList}, false},
		{"accept", `{"v":1,"op":"accept","ref":"a1","offer":"31"}`, command{op: opAccept, ref: "a1", offer: "31"}, false},
		{"decline, reason not known", `{"v":1,"op":"decline","offer":"31","reason":"tired"}`,
			command{op: opDecline, offer: "31", reason: "no"}, false},
		{"decline busy", `{"v":1,"op":"decline","offer":"31","reason":"busy"}`,
			command{op: opDecline, offer: "31", reason: "busy"}, false},
		{"auto", `{"v":1,"op":"auto","mode":"on"}`, command{op: opAuto, auto: true}, false},
		{"unknown members", `{"v":1,"op":"list","x":{"y":[1]},"OP":"push"}`, command{op: opList}, false},
		{"instance", `{"v":1,"op":"pull","me":"urn:uuid:1"}`, command{op: opPull, me: "urn:uuid:1"}, false},
		{"no v", `{"op":"list"}`, command{}, true},
		{"v 2", `{"v":2,"op":"list"}`, command{}, true},
		{"v as text", `{"v":"1","op":"list","ref":"r"}`, command{ref: "r"}, true},
		{"number as session", `{"v":1,"op":"pull","session":7}`, command{}, true},
		{"session that is none", `{"v":1,"op":"pull","session":"7;x"}`, command{}, true},
		{"ref with a blank", `{"v":1,"op":"list","ref":"a b"}`, command{}, true},
		{"ref too long", `{"v":1,"op":"list","ref":"` + strings.Repeat("a", 33) + `"}`, command{}, true},
		{"string too long", `{"v":1,"op":"push","to":"` + strings.Repeat("a", 129) + `"}`, command{}, true},
		{"push without target", `{"v":1,"op":"push"}`, command{}, true},
		{"op unknown", `{"v":1,"op":"help"}`, command{}, true},
		{"name", `{"v":1,"op":"name","name":"TV"}`, command{}, true},
		{"array", `[1]`, command{}, true},
		{"null", `null`, command{}, true},
		{"two values", `{"v":1,"op":"list"}{}`, command{}, true},
		{"cut", `{"v":1,"op":"list"`, command{}, true},
		{"deep", `{"v":1,"op":"list","x":` + strings.Repeat("[", 5) + strings.Repeat("]", 5) + `}`, command{}, true},
		{"not UTF-8", "{\"v\":1,\"op\":\"list\",\"x\":\"\xff\"}", command{}, true},
		{"too long", `{"v":1,"op":"list","x":"` + strings.Repeat("a", 1024) + `"}`, command{}, true},
		{"empty", ``, command{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseMachine([]byte(c.body))
			if c.bad != errors.Is(err, errMachine) || got != c.want {
				t.Errorf("got %+v, %v; want %+v, bad %v", got, err, c.want, c.bad)
			}
		})
	}
}

func TestEncodeKeepsURL(t *testing.T) {
	url := "rtsp://media.example:554/news?a=1&b=<2>"
	raw, err := encode(Offer{V: 1, Op: "offer", Offer: "31", URL: []string{url}, Expires: 60})
	if err != nil || !strings.Contains(string(raw), url) {
		t.Fatalf("%s, %v: the URL is not there byte for byte", raw, err)
	}
	in := parseIncoming(raw)
	if in == nil || in.Offer == nil || in.Offer.URL[0] != url {
		t.Fatalf("read back: %+v", in)
	}
	if strings.Contains(string(raw), "asked") {
		t.Error("an inner field is shown")
	}
}

func TestResultOfTransfer(t *testing.T) {
	for _, c := range []struct {
		state       session.TransferState
		reason      session.Reason
		word, code_ string
	}{
		{session.Done, "", "done", codeOK},
		{session.Declined, "", "declined", codeNo},
		{session.Expired, "", "expired", codeExpired},
		{session.Cancelled, "", "cancelled", codeNo},
		{session.Failed, "", "failed", codeInternal},
		{session.Failed, session.ServerRefused("453"), "failed", codeGateway},
		{session.Failed, session.TargetLeft, "failed", codeOffline},
		{session.Failed, session.OriginEnded, "failed", codeUnknownSession},
		{session.Failed, session.NotSeekable, "failed", codeUnsupported},
		{session.Failed, session.NotAllowed, "failed", codeNotAllowed},
		{session.Failed, session.Busy, "failed", codeBusy},
		{session.Failed, session.SameTerminal, "failed", codeSameTerminal},
	} {
		x := session.Transfer{State: c.state}
		if c.reason != "" {
			x.Reason = &c.reason
		}
		if word, code := ended(x); word != c.word || code != c.code_ {
			t.Errorf("%s %s: %s %s, want %s %s", c.state, c.reason, word, code, c.word, c.code_)
		}
		if text := resultText(c.state, c.code_, "News", "phone", "tv"); !strings.Contains(text, "News") {
			t.Errorf("%s: %q", c.state, text)
		}
	}
}

func FuzzParseMachine(f *testing.F) {
	f.Add([]byte(`{"v":1,"op":"push","ref":"r1","session":"7","to":"tv"}`))
	f.Add([]byte(`{"v":1,"op":"offer","offer":"31","url":["rtsp://a/b"],"pos":1.5}`))
	f.Add([]byte(`{"v":1,"op":"sessions","items":[{"session":"7"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		parseIncoming(b)
		c, err := parseMachine(b)
		if err != nil {
			return
		}
		raw, err := encode(Order{V: 1, Op: string(c.op), Ref: c.ref, Me: c.me, Session: c.session, To: c.to,
			Offer: c.offer, Reason: c.reason, Mode: map[bool]string{true: "on", false: "off"}[c.auto], Name: c.name})
		if err != nil || !json.Valid(raw) {
			t.Fatalf("%q: %s %v", b, raw, err)
		}
		if len(raw) > maxBody {
			return
		}
		if again, err := parseMachine(raw); err != nil || again != c {
			t.Errorf("%q: %+v became %+v, %v", b, c, again, err)
		}
	})
}

func FuzzContent(f *testing.F) {
	f.Add("message/cpim", []byte("From: <sip:a@b>\r\n\r\nContent-Type: text/plain\r\n\r\nlist"))
	f.Add("text/plain;charset=UTF-8", []byte("list"))
	f.Fuzz(func(t *testing.T, kind string, b []byte) {
		if got, _ := contentOf(kind, b); got == "" {
			t.Error("no type")
		}
	})
}

func TestContentOf(t *testing.T) {
	cpim := "From: <sip:alice@ims.test>\r\nTo: <sip:scas@ims.test>\r\n\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nlist"
	for _, c := range []struct{ header, body, kind, content string }{
		{"text/plain;charset=UTF-8", "list", "text/plain", "list"},
		{"TEXT/Plain", "list", "text/plain", "list"},
		{"", "list", "text/plain", "list"},
		{"message/cpim", cpim, "text/plain", "list"},
		{"message/cpim", "From: x\r\n\r\nContent-Type: message/cpim\r\n\r\nx", "message/cpim", "x"},
		{"message/cpim", "no headers", "message/cpim", "no headers"},
		{"application/im-iscomposing+xml", "<x/>", "application/im-iscomposing+xml", "<x/>"},
	} {
		if kind, content := contentOf(c.header, []byte(c.body)); kind != c.kind || string(content) != c.content {
			t.Errorf("%s: %s %q", c.header, kind, content)
		}
	}
}
