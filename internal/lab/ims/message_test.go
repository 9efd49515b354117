package ims

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const thirdParty = "REGISTER sip:192.0.2.9:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.3;branch=z9hG4bK1\r\nTo: <sip:bob@ims.example>\r\n" +
	"From: <sip:192.0.2.3>;tag=1\r\nCall-ID: 1\r\nCSeq: 10 REGISTER\r\nExpires: 720\r\nContent-Type: message/sip\r\n\r\nREGISTER sip:x SIP/2.0\r\n\r\n"

// TestMessageWords: what the ladder says of a message.
func TestMessageWords(t *testing.T) {
	message := func(method, body string, headers ...string) string {
		return method + " sip:x SIP/2.0\r\nTo: <sip:bob@ims.example>\r\nCSeq: 1 " + method + "\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n" + body
	}
	reginfo := `<?xml version="1.0"?><reginfo version="2" state="full"><registration aor="sip:bob@x" id="a" state="active">` +
		`<contact id="1" state="active" event="registered" expires="9"><uri>sip:bob@10.0.0.1</uri></contact></registration></reginfo>`
	pidf := `<presence xmlns:r="urn:x"><tuple id="a"><status><basic>open</basic></status><r:user-input>idle</r:user-input><contact>sip:a@b</contact></tuple></presence>`
	for _, c := range []struct{ raw, want string }{
		{thirdParty, "REGISTER bob, expires 720, with the terminal's REGISTER"},
		{"SIP/2.0 200 OK\r\nCSeq: 10 REGISTER\r\n\r\n", "200 OK (REGISTER)"},
		{message("NOTIFY", reginfo, "Event: reg", "Subscription-State: active;expires=9"), "NOTIFY reg active: registration active, contact registered"},
		{message("NOTIFY", "", "Event: presence", "Subscription-State: active"), "NOTIFY presence active, no document"},
		{message("PUBLISH", pidf), "PUBLISH bob: idle"},
		{message("MESSAGE", `{"v":1,"op":"push","to":"tv"}`), "MESSAGE push to tv"},
		{message("MESSAGE", `{"v":1,"op":"offer","offer":"3","session":"2","from":"phone","pos":21.5,"url":["rtsp://h/f"],"auto":true}`),
			"MESSAGE offer 3 from phone at 21.5 s rtsp://h/f (automatic)"},
		{message("MESSAGE", `{"v":1,"op":"result","offer":"3","state":"declined","code":"no","on":"phone"}`), "MESSAGE result 3 declined (no) on phone"},
		{message("MESSAGE", "Moved: News is now on tv.\nmore"), `MESSAGE "Moved: News is now on tv."`},
	} {
		m, ok := ParseMessage([]byte(c.raw))
		title, detail := m.words()
		if got := title + " " + detail; !ok || got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	for _, raw := range []string{"", "\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "SIP/2.0 \r\n\r\n", "REGISTER sip:x SIP/2.0\r\nno end"} {
		if m, ok := ParseMessage([]byte(raw)); ok {
			t.Errorf("%q is %+v", raw, m)
		}
	}
}

// ipv4 is a packet, or the part of one between two offsets of its content.
func ipv4(content []byte, from, to int) []byte {
	p := make([]byte, 20, 20+to-from)
	p[0], p[9] = 0x45, 17
	binary.BigEndian.PutUint16(p[2:], uint16(20+to-from))
	word := uint16(from / 8)
	if to < len(content) {
		word |= 0x2000
	}
	binary.BigEndian.PutUint16(p[6:], word)
	copy(p[12:], []byte{192, 0, 2, 3})
	copy(p[16:], []byte{192, 0, 2, 9})
	return append(p, content[from:to]...)
}

// TestFragments: a message in fragments, in any order, is the same as whole; what is no message
// is passed over.
func TestFragments(t *testing.T) {
	content := append([]byte{0x13, 0xc4, 0x13, 0xc4, 0, 0, 0, 0}, thirdParty...)
	parts := [][]byte{ipv4(content, 0, 80), ipv4(content, 80, 160), ipv4(content, 160, len(content))}
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {0, 0, 2, 1}} {
		c := &capture{log: &eventLog{}, parts: map[fragmentKey]*fragments{}, seen: map[string]bool{}, names: map[netip.Addr]string{netip.MustParseAddr("192.0.2.9"): "scas"}}
		for _, i := range order {
			if d, ok := c.datagram(parts[i]); ok {
				c.take(d, time.Now())
			}
		}
		if all := c.log.all(); len(all) != 1 || all[0].To != "scas" || all[0].From != "192.0.2.3" || all[0].Message.Start != "REGISTER sip:192.0.2.9:5060 SIP/2.0" {
			t.Errorf("%v: %+v", order, all)
		}
		if len(c.parts) != 0 {
			t.Errorf("%v: %d are left", order, len(c.parts))
		}
	}
	c := &capture{parts: map[fragmentKey]*fragments{}}
	for _, p := range [][]byte{nil, {0x45}, parts[0][:30], ipv4(content[:4], 0, 4), ipv4(make([]byte, 20), 0, 20)} {
		if d, ok := c.datagram(p); ok {
			t.Errorf("% x is %+v", p, d)
		}
	}
}
