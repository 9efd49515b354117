package sip

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"scas/session"
)

// radio is a third terminal of alice.
func (b *bed) radio(t *testing.T) *ue {
	t.Helper()
	u := newUE(t, b.phone.as.AddrPort(), "sip:alice@ims.test", "10.0.0.3")
	b.register("radio", "urn:uuid:0000-radio", "radio", u)
	return u
}

// TestFilmThatIsMeant: an order that names no film means the one on the terminal that is asked, and
// never one that cannot be read.
func TestFilmThatIsMeant(t *testing.T) {
	b := newBed(t)
	radio := b.radio(t)
	b.film("f1", b.phone.ip, 60)
	b.film("f2", radio.ip, 60)
	b.phone.say("push tv", 202)
	b.tv.text()
	radio.say("push tv", 202)
	b.tv.text()
	if o := b.stage.ordered(); len(o) != 2 || o[0].Session != "f1" || o[1].Session != "f2" || !o[0].Confirm {
		t.Errorf("ordered %+v", o)
	}

	b = newBed(t)
	radio = b.radio(t)
	secret := b.film("f1", b.phone.ip, 60)
	secret.Opaque = true
	b.stage.Put(secret)
	b.film("f2", radio.ip, 60)
	b.tv.say("pull", 202)
	b.tv.text()
	if o := b.stage.ordered(); len(o) != 1 || o[0].Session != "f2" {
		t.Errorf("ordered %+v", o)
	}
}

// TestNothingToOffer: what cannot be opened, or nowhere, is not offered.
func TestNothingToOffer(t *testing.T) {
	b := newBed(t)
	b.house.add(session.Binding{Key: "car", AoR: "sip:alice@ims.test", Name: "car", Contact: "sip:alice@192.0.2.7", Source: session.FromRegister, Since: b.clock.Now()})
	for _, c := range []struct {
		to, code string
		url      *string
	}{
		{"car", codeOffline, session.Ptr(filmURL)},
		{"tv", codeUnsupported, nil},
		{"tv", codeUnsupported, session.Ptr("rtsp://media.example/a film")},
		{"tv", codeUnsupported, session.Ptr("rtsp://media.example/a\nfilm")},
	} {
		r := b.film("f1", b.phone.ip, 60)
		r.URL = c.url
		b.stage.Put(r)
		b.clock.add(messagesEvery)
		b.phone.order(`{"v":1,"op":"push","to":"`+c.to+`"}`, 202)
		if r := b.phone.machine().Result; r == nil || r.Code != c.code {
			t.Errorf("to %s: %+v, want %s", c.to, r, c.code)
		}
	}
	if o := b.stage.ordered(); len(o) != 0 {
		t.Errorf("ordered %+v", o)
	}
	b.tv.quiet()
}

// TestOpenOffersAreBounded: one user does not pile up offers.
func TestOpenOffersAreBounded(t *testing.T) {
	b := newBed(t)
	u := b.orders.user("sip:alice@ims.test")
	for i := range maxOffers + 1 {
		id := fmt.Sprint("f", i)
		b.film(id, b.phone.ip, 60)
		u.mu.Lock()
		n := u.numbers.give("s "+id, b.clock.Now())
		u.mu.Unlock()
		b.clock.add(messagesEvery)
		b.phone.order(`{"v":1,"op":"push","to":"TV","session":"`+n+`"}`, 202) // its name in capitals
		if i < maxOffers {
			b.tv.next()
		}
	}
	if r := b.phone.machine().Result; r == nil || r.Code != codeRate {
		t.Errorf("one too many: %+v", r)
	}
	if n := len(b.stage.ordered()); n != maxOffers {
		t.Errorf("%d orders", n)
	}
}

// TestOrderOnceMore: the ref of an order that another process took is known from the store, for
// the time it counts.
func TestOrderOnceMore(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 60)
	now := b.clock.Now()
	for ref, expires := range map[string]time.Time{"new": now.Add(time.Minute), "old": now.Add(-time.Minute)} {
		err := b.store.PutTaken(t.Context(), session.Taken{
			Key: "sip:alice@ims.test " + ref, At: now, Expires: expires, Code: 202, Answer: `{"v":1,"op":"result","state":"done","ref":"` + ref + `"}`,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	b.phone.order(`{"v":1,"op":"push","to":"tv","ref":"new"}`, 202)
	if r := b.phone.machine().Result; r == nil || r.State != "done" || r.Ref != "new" {
		t.Errorf("answered %+v", r)
	}
	if o := b.stage.ordered(); len(o) != 0 {
		t.Errorf("carried out again: %+v", o)
	}
	b.phone.order(`{"v":1,"op":"push","to":"tv","ref":"old"}`, 202)
	b.tv.next()
	if o := b.stage.ordered(); len(o) != 1 {
		t.Errorf("%d orders", len(o))
	}
}

// TestOverviewOfLive: a live film has no position to show. An order counts as a choice of the user:
// auto does not take it back at once.
func TestOverviewOfLive(t *testing.T) {
	b := newBed(t)
	live := b.film("f1", b.phone.ip, 60)
	live.Live = true
	b.stage.Put(live)
	b.phone.order(`{"v":1,"op":"list"}`, 200)
	if l := b.phone.machine().Sessions; l == nil || len(l.Items) != 1 || l.Items[0].Position != nil || l.Items[0].On != "phone" {
		t.Errorf("list %+v", l)
	}
	b.clock.add(time.Minute)
	b.phone.say("push tv", 202)
	if got := b.tv.text(); !strings.Contains(got, filmURL) {
		t.Errorf("offer %q", got)
	}
	u := b.orders.user("sip:alice@ims.test")
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.activity.settled.Equal(b.clock.Now()) {
		t.Errorf("settled %v, ordered %v", u.activity.settled, b.clock.Now())
	}
}
