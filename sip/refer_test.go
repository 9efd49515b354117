package sip

import (
	"strings"
	"testing"
	"time"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

func TestRefer(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 60)
	refer := func(to, more string) string {
		return b.phone.request("REFER", "Contact: <"+b.phone.contact()+">\r\nRefer-To: "+to+"\r\n"+more, "")
	}
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
		if got := b.phone.send(refer(c.to, c.more)); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	if n := len(b.stage.ordered()); n != 0 {
		t.Fatalf("%d orders", n)
	}
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
		if got := b.phone.send(refer(c.to, "")); got != 200 {
			t.Fatalf("%s: %d", c.to, got)
		}
		first := b.phone.next()
		if first.Method != gosip.NOTIFY || string(first.Body()) != "SIP/2.0 100 Trying\r\n" ||
			headerText(first, "Event") != "refer" || !strings.HasPrefix(headerText(first, "Content-Type"), "message/sipfrag") {
			t.Fatalf("first NOTIFY %s", first)
		}
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
	if got := b.phone.send(refer("<sip:tv@ims.test>", "Refer-Sub: false\r\n")); got != 200 {
		t.Fatalf("%d", got)
	}
	b.tv.text()
	b.stage.play(t, "t4")
	if m := b.phone.next(); m.Method != gosip.MESSAGE || !strings.HasPrefix(string(m.Body()), "Moved") {
		t.Errorf("without subscription: %s", m)
	}
}

func TestFilmFollows(t *testing.T) {
	b := newBed(t, func(c *Config) { c.Presence = "sip:127.0.0.1:1" })
	b.film("f1", b.phone.ip, 60)
	doc := func(stamp time.Time) presenceDoc { return activeDoc(tvInstance, stamp) }
	b.clock.add(leadNeeded + time.Second)
	b.orders.observe("sip:alice@ims.test", doc(b.clock.Now()))
	u := b.orders.user("sip:alice@ims.test")
	eventually(t, "looked at without auto", func() bool { return len(b.orders.due()) == 0 })
	b.tv.say("auto on", 202) // from here evidence counts
	b.tv.text()
	b.clock.add(leadNeeded + time.Second)
	b.orders.observe("sip:alice@ims.test", doc(b.clock.Now()))
	eventually(t, "a candidate", func() bool {
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
	eventually(t, "looked at", func() bool { u.mu.Lock(); defer u.mu.Unlock(); return u.check.IsZero() })
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
