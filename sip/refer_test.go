package sip

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

// refer writes a REFER of the phone.
func (b *bed) refer(to, more string) string {
	return b.phone.request("REFER", "Contact: <"+b.phone.contact()+">\r\nRefer-To: "+to+"\r\n"+more, "")
}

// trying returns the first NOTIFY that a REFER brings.
func (b *bed) trying(t *testing.T) *gosip.Request {
	t.Helper()
	m := b.phone.next()
	if m.Method != gosip.NOTIFY || string(m.Body()) != "SIP/2.0 100 Trying\r\n" || headerText(m, "Subscription-State") != "active;expires=300" ||
		headerText(m, "Event") != "refer" || !strings.HasPrefix(headerText(m, "Content-Type"), "message/sipfrag") {
		t.Fatalf("first NOTIFY %s", m)
	}
	return m
}

func TestReferRefused(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 60)
	for _, c := range []struct {
		name, to, more string
		want           int
	}{
		{"another user", "<sip:bob@ims.test>", "", 403},
		{"another domain", "<sip:tv@evil.example>", "", 403},
		{"no SIP", "<http://evil.example/>", "", 403},
		{"another user's instance", "<sip:bob@ims.test;gr=" + tvInstance + ">", "", 403},
		{"a call", "<sip:tv@ims.test>", "Target-Dialog: x;local-tag=a;remote-tag=b\r\n", 481},
		{"embedded Replaces", "<sip:tv@ims.test?Replaces=x>", "", 403},
		{"two", "<sip:tv@ims.test>", "Refer-To: <sip:tv@ims.test>\r\n", 400},
	} {
		b.clock.add(messagesEvery)
		if got := b.phone.send(b.refer(c.to, c.more)); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if n := len(b.stage.ordered()); n != 0 {
		t.Fatalf("%d orders", n)
	}
}

func TestRefer(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 60)
	for i, c := range []struct {
		to  string
		ev  session.Event
		end string
	}{
		{"<sip:tv@ims.test>", session.Refused, "SIP/2.0 603 Decline"},
		{"<sip:alice@ims.test;gr=" + tvInstance + ">", session.TimedOut, "SIP/2.0 408 Request Timeout"},
		{"<" + b.tv.contact() + ">", session.Fail, "SIP/2.0 500 Server Internal Error"},
	} {
		b.clock.add(messagesEvery)
		if got := b.phone.send(b.refer(c.to, "")); got != 200 {
			t.Fatalf("%s: %d", c.to, got)
		}
		first := b.trying(t)
		b.tv.text()
		id := []string{"t1", "t2", "t3"}[i]
		b.stage.step(id, c.ev, "")
		last := b.phone.next()
		if string(last.Body()) != c.end+"\r\n" || headerText(last, "Subscription-State") != "terminated;reason=noresource" ||
			last.CSeq().SeqNo <= first.CSeq().SeqNo || last.CallID().Value() != first.CallID().Value() ||
			last.From().Params.String() != first.From().Params.String() {
			t.Errorf("%s: last NOTIFY %s", c.to, last)
		}
		b.tv.text()
	}
	b.clock.add(messagesEvery)
	if got := b.phone.send(b.refer("<sip:tv@ims.test>", "Refer-Sub: false\r\n")); got != 200 {
		t.Fatalf("%d", got)
	}
	b.tv.text()
	b.stage.play(t, "t4")
	if m := b.phone.next(); m.Method != gosip.MESSAGE || !strings.HasPrefix(string(m.Body()), "Moved") {
		t.Errorf("without subscription: %s", m)
	}
}

// The subscription that a REFER makes is refreshed and ended by SUBSCRIBE (RFC 6665 §4.2.1).
func TestReferSubscription(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 60)
	if got := b.phone.send(b.refer("<sip:tv@ims.test>", "")); got != 200 {
		t.Fatal(got)
	}
	first := b.trying(t)
	b.tv.text()
	cseq := 100
	subscribe := func(from *ue, event, expires string) int {
		cseq++
		raw := from.request("SUBSCRIBE", "Contact: <"+from.contact()+">\r\nEvent: "+event+"\r\nExpires: "+expires+"\r\n", "")
		raw = regexp.MustCompile(`(?m)^Call-ID: .*$`).ReplaceAllString(raw, "Call-ID: "+first.CallID().Value()+"\r")
		raw = regexp.MustCompile(`(?m)^CSeq: .*$`).ReplaceAllString(raw, fmt.Sprintf("CSeq: %d SUBSCRIBE\r", cseq))
		return from.send(strings.Replace(raw, "To: <sip:scas@ims.test>", "To: "+headerText(first, "From"), 1))
	}
	alone := b.phone.request("SUBSCRIBE", "Contact: <"+b.phone.contact()+">\r\nEvent: refer\r\n", "")
	if got := b.phone.send(alone); got != 403 {
		t.Errorf("without a REFER: %d", got)
	}
	if got := subscribe(b.phone, "presence", "60"); got != 489 {
		t.Errorf("of presence: %d", got)
	}
	if got := subscribe(b.stranger, "refer", "0"); got != 481 {
		t.Errorf("another user's: %d", got)
	}
	b.clock.add(200 * time.Second)
	if got := subscribe(b.phone, "refer", "9999"); got != 200 {
		t.Fatalf("refresh: %d", got)
	}
	b.trying(t)
	cseq--
	if got := subscribe(b.phone, "refer", "60"); got != 500 {
		t.Errorf("a late one: %d", got)
	}
	if got := subscribe(b.phone, "refer", "0"); got != 200 {
		t.Fatalf("end: %d", got)
	}
	if m := b.phone.next(); headerText(m, "Subscription-State") != "terminated;reason=timeout" || string(m.Body()) != "SIP/2.0 100 Trying\r\n" {
		t.Errorf("last NOTIFY %s", m)
	}
	until(t, "forgotten", func() bool { return subscribe(b.phone, "refer", "60") == 481 })
	b.stage.step("t1", session.Refused, "")
	b.tv.text()
	b.phone.quiet()
}

func TestFilmFollows(t *testing.T) {
	b := newBed(t, func(c *Config) { c.Presence = "sip:127.0.0.1:1" })
	b.film("f1", b.phone.ip, 60)
	doc := func(stamp time.Time) presenceDoc { return activeDoc(tvInstance, stamp) }
	b.clock.add(leadNeeded + time.Second)
	b.orders.observe("sip:alice@ims.test", doc(b.clock.Now()))
	u := b.orders.user("sip:alice@ims.test")
	until(t, "looked at without auto", func() bool { return len(b.orders.due()) == 0 })
	b.tv.say("auto on", 202) // from here evidence counts
	b.tv.text()
	b.clock.add(leadNeeded + time.Second)
	b.orders.observe("sip:alice@ims.test", doc(b.clock.Now()))
	until(t, "a candidate", func() bool {
		u.mu.Lock()
		defer u.mu.Unlock()
		return u.activity.candidate == "tv" && u.check.After(b.clock.Now())
	})
	if n := len(b.stage.ordered()); n != 0 {
		t.Fatalf("%d orders at once", n)
	}
	b.clock.add(winnerFor)
	if got := b.tv.text(); !strings.Contains(got, "Go on here?\n"+filmURL+"\n") {
		t.Fatalf("%q", got)
	}
	if o := b.stage.ordered(); len(o) != 1 || o[0].Trigger != session.Auto || !o[0].Confirm || o[0].To.IP != b.tv.ip {
		t.Fatalf("%+v", o)
	}
	b.tv.say("no", 202)
	if got := b.phone.text(); got != "tv said no: News stays on phone.\n" {
		t.Errorf("%q", got)
	}
	b.tv.text()
	b.orders.observe("sip:alice@ims.test", doc(b.clock.Now().Add(-time.Second))) // from before the no
	until(t, "looked at", func() bool { u.mu.Lock(); defer u.mu.Unlock(); return u.check.IsZero() })
	if n := len(b.stage.ordered()); n != 1 {
		t.Errorf("%d orders", n)
	}
}

func TestPresenceNotified(t *testing.T) {
	b := newBed(t)
	body := captured(t, "presence-03-notify-one-device-active.sip")
	n := notification{key: "sip:alice@ims.test", state: "active", contentType: PresenceType, body: body}
	terminals := b.house.terminalsOf(n.key)
	for _, bad := range []notification{
		{key: n.key, contentType: PresenceType},
		{key: n.key, contentType: "text/plain", body: body},
		{key: n.key, contentType: PresenceType, body: []byte("<!DOCTYPE x>")},
		{key: n.key, contentType: PresenceType, body: []byte(strings.Replace(string(body), "sip:alice@", "sip:bob@", 1))},
	} {
		b.orders.presenceNotified(bad)
	}
	if got := b.orders.activeOf(n.key, terminals); got != "" {
		t.Fatalf("active %q", got)
	}
	b.orders.presenceNotified(n)
	if got := b.orders.activeOf(n.key, terminals); got != "phone" {
		t.Errorf("active %q", got)
	}
	named := b.orders.name(n.key, terminals)
	if len(named) != 2 || named[0].Name != "phone" || named[0].Active == nil || !*named[0].Active || *named[1].Active {
		t.Errorf("%+v", named)
	}
}
