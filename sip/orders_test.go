package sip

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"scas/session"
)

func TestPushByWords(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 751.2)
	b.phone.say("list", 200)
	if got, want := b.phone.text(), "1 News, on phone, 12:31\nTerminals: phone (this one, active), tv\nSay: push 1 tv\n"; got != want {
		t.Fatalf("list: %q, want %q", got, want)
	}
	b.phone.say("push tv", 202)
	m := b.tv.next()
	lines := strings.Split(string(m.Body()), "\n")
	if lines[0] != "News is on phone at 12:31. Go on here?" || !slices.Contains(lines, filmURL) {
		t.Fatalf("offer %q", m.Body())
	}
	if headerText(m, "Expires") != "60" || m.Recipient.String() != b.tv.contact() {
		t.Errorf("Expires %q to %s", headerText(m, "Expires"), m.Recipient.String())
	}
	if o := b.stage.ordered(); len(o) != 1 || o[0].Session != "f1" || o[0].To.IP != b.tv.ip || !o[0].Confirm || o[0].Trigger != session.Push {
		t.Fatalf("orders %+v", o)
	}
	b.tv.say("yes", 202)
	if got := b.tv.text(); !strings.Contains(got, "\n"+filmURL+"\n") {
		t.Errorf("after yes: %q", got)
	}
	if x, _ := b.stage.Transfer("t1"); x.State != session.Armed {
		t.Fatalf("state %s", x.State)
	}
	b.stage.play(t, "t1")
	for _, u := range []*ue{b.phone, b.tv} {
		if got := u.text(); got != "Moved: News is now on tv.\n" {
			t.Errorf("result %q", got)
		}
	}
	b.phone.quiet()
	b.tv.quiet()
	if n := b.orders.openOffers(b.orders.user("sip:alice@ims.test")); n != 0 {
		t.Errorf("%d offers stay open", n)
	}
}

func TestPullByMachine(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 12.34)
	b.tv.order(`{"v":1,"op":"pull","ref":"r2","me":"`+tvInstance+`"}`, 202)
	in := b.tv.machine()
	if in.Offer == nil || in.Offer.Ref != "r2" || in.Offer.URL[0] != filmURL || in.Offer.Auto || *in.Offer.Position != 12.3 ||
		in.Offer.From != "phone" || in.Offer.Expires != 30 {
		t.Fatalf("offer %+v", in.Offer)
	}
	b.stage.play(t, "t1") // opening the link is all it takes
	r := b.tv.machine().Result
	if r == nil || r.Ref != "r2" || r.State != "done" || r.Code != codeOK || r.On != "tv" || r.Offer != in.Offer.Offer {
		t.Fatalf("result %+v", r)
	}
	if got := b.phone.text(); got != "Moved: News is now on tv.\n" {
		t.Errorf("the phone: %q", got)
	}
	// the same order again is answered again and moves nothing
	b.tv.order(`{"v":1,"op":"pull","ref":"r2"}`, 202)
	if again := b.tv.machine().Result; again == nil || *again != *r {
		t.Errorf("again %+v", again)
	}
	if n := len(b.stage.ordered()); n != 1 {
		t.Errorf("%d orders", n)
	}
}

func TestDeclinedAndExpired(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 1)
	b.tv.order(`{"v":1,"op":"list","ref":"r0"}`, 200) // the tv speaks the machine form from now on
	if l := b.tv.machine().Sessions; l == nil || l.Ref != "r0" || len(l.Items) != 1 || l.Items[0].On != "phone" || !l.Terminals[1].Me {
		t.Fatalf("list %+v", l)
	}
	b.phone.say("push tv", 202)
	o := b.tv.machine().Offer
	b.tv.order(`{"v":1,"op":"decline","ref":"r1","offer":"`+o.Offer+`","reason":"busy"}`, 202)
	if got := b.phone.text(); got != "tv said no: News stays on phone.\n" {
		t.Errorf("declined: %q", got)
	}
	if r := b.tv.machine().Result; r.State != "declined" || r.Code != codeBusy {
		t.Errorf("the tv: %+v", r)
	}
	b.phone.say("push tv", 202)
	if again := b.tv.machine().Offer; again.Offer == o.Offer || again.Session != o.Session {
		t.Errorf("numbers: %+v after %+v", again, o)
	}
	b.stage.step("t2", session.TimedOut, "")
	if got := b.phone.text(); got != "No answer from tv in time: News stays on phone.\n" {
		t.Errorf("expired: %q", got)
	}
	if r := b.tv.machine().Result; r.State != "expired" || r.Code != codeExpired {
		t.Errorf("the tv: %+v", r)
	}
	b.tv.order(`{"v":1,"op":"accept","offer":"`+o.Offer+`"}`, 202)
	if r := b.tv.machine().Result; r.State != "failed" || r.Code != codeExpired {
		t.Errorf("late yes: %+v", r)
	}
}

func TestOfferNotDelivered(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 1)
	b.tv.answerWith(480)
	b.phone.say("push tv", 202)
	b.tv.next()
	if got := b.phone.text(); got != "Called off: News stays on phone.\n" {
		t.Errorf("got %q", got)
	}
	if x, _ := b.stage.Transfer("t1"); x.State != session.Cancelled {
		t.Errorf("state %s", x.State)
	}
}

func TestTargetLeaves(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 1)
	b.phone.order(`{"v":1,"op":"push","ref":"r1","to":"`+tvInstance+`"}`, 202)
	b.tv.next()
	b.orders.left(b.house.terminalsOf("sip:alice@ims.test")[1])
	if r := b.phone.machine().Result; r.State != "cancelled" || r.Code != codeOffline || r.Ref != "r1" {
		t.Errorf("result %+v", r)
	}
}

func TestRefusedOrders(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 1)
	alien := b.film("f2", b.stranger.ip, 1)
	alien.AoR = session.Ptr("sip:mallory@ims.test")
	b.stage.Put(alien)
	u := b.orders.user("sip:alice@ims.test")
	u.mu.Lock()
	n := u.numbers.give("s f2", b.clock.Now()) // as if guessed
	u.mu.Unlock()
	for _, c := range []struct {
		body, code string
		refuse     session.Reason
	}{
		{`{"v":1,"op":"push","to":"fridge"}`, codeUnknownTerminal, ""},
		{`{"v":1,"op":"push","to":"tv","session":"` + n + `"}`, codeUnknownSession, ""},
		{`{"v":1,"op":"push","to":"tv","session":"999"}`, codeUnknownSession, ""},
		{`{"v":1,"op":"pull"}`, codeSameTerminal, ""},
		{`{"v":1,"op":"push","to":"tv"}`, codeBusy, session.Busy},
		{`{"v":1,"op":"push","to":"tv"}`, codeUnsupported, session.Unsupported},
		{`{"v":1,"op":"push","to":"tv"}`, codeNotAllowed, session.NotAllowed},
		{`{"v":1,"op":"accept","offer":"5"}`, codeExpired, ""},
		{`{"v":1,"op":"cancel","offer":"5"}`, codeExpired, ""},
		{`{"v":1,"op":"name","name":"tv"}`, codeNotAllowed, ""},
	} {
		b.clock.add(messagesEvery)
		b.stage.refuseWith(c.refuse)
		b.phone.order(c.body, 202)
		if r := b.phone.machine().Result; r == nil || r.Code != c.code || r.State != "failed" {
			t.Errorf("%s: %+v, want %s", c.body, r, c.code)
		}
	}
	for _, o := range b.stage.ordered() {
		if o.Session == "f2" {
			t.Error("another user's film was ordered")
		}
	}
	b.tv.quiet()
}

func TestRefusedRequests(t *testing.T) {
	b := newBed(t)
	text := "Content-Type: text/plain\r\n"
	b.stranger.say("list", 403)
	for _, c := range []struct {
		name, raw string
		want      int
	}{
		{"no assertion", strings.Replace(b.phone.request("MESSAGE", text, "list"), "P-Asserted-Identity", "X-No", 1), 403},
		{"somebody else's service", strings.Replace(b.phone.request("MESSAGE", text, "list"), "sip:scas@ims.test SIP", "sip:bob@ims.test SIP", 1), 404},
		{"another type", b.phone.request("MESSAGE", "Content-Type: image/png\r\n", "x"), 415},
		{"too long", b.phone.request("MESSAGE", text, strings.Repeat("list ", 300)), 413},
		{"typing", b.phone.request("MESSAGE", "Content-Type: application/im-iscomposing+xml\r\n", "<isComposing/>"), 200},
		{"not the machine form", b.phone.request("MESSAGE", "Content-Type: "+MoveType+"\r\n", "list"), 400},
	} {
		b.clock.add(messagesEvery)
		if got := b.phone.send(c.raw); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	b.phone.quiet()
	b.clock.add(messagesEvery)
	b.phone.say("<script>alert(1)</script>", 200)
	if got := b.phone.text(); got != helpText {
		t.Errorf("nonsense: %q", got)
	}
}

// TestOrderBeforeRegistration: the first order of a terminal that the core has not told of yet is
// not taken for one of the user's only other terminal.
func TestOrderBeforeRegistration(t *testing.T) {
	b := newBed(t, func(c *Config) { c.Terminals = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")} })
	b.house.remove("tv")
	b.tv.say("list", 403)
	b.phone.quiet()
	b.register("tv", tvInstance, "lab-tv/1.0", b.tv)
	b.tv.say("list", 200)
	if got := b.tv.text(); !strings.Contains(got, "tv (this one") {
		t.Errorf("the TV is told %q", got)
	}
	// an address outside their network tells nothing: the only terminal it is
	b.house.remove("tv")
	hidden := newUE(t, b.phone.as.AddrPort(), "sip:alice@ims.test", "192.0.2.7")
	hidden.say("list", 200)
	if got := b.phone.text(); !strings.Contains(got, "phone (this one") {
		t.Errorf("the phone is told %q", got)
	}
}

func TestRateAndRepetition(t *testing.T) {
	b := newBed(t)
	raw := b.phone.request("MESSAGE", "Content-Type: text/plain\r\n", "help")
	for range 3 {
		// a new branch: another transaction, the same request
		raw2 := strings.Replace(raw, "z9hG4bK", "z9hG4bK"+newToken(4), 1)
		if code := b.phone.send(raw2); code != 200 {
			t.Fatalf("%d", code)
		}
	}
	b.phone.text()
	for range 2*messagesBurst - 1 {
		b.phone.say("help", 200)
		b.phone.text()
	}
	b.phone.quiet()
	b.phone.say("help", 480)
	b.tv.say("list", 480) // the limit is the user's
	for i := range messagesBurst {
		b.phone.say("cancel "+strconv.Itoa(i), 202) // orders are not questions
		b.phone.text()
	}
	b.phone.say("cancel", 480)
	b.clock.add(messagesEvery)
	b.tv.say("help", 200)
	b.tv.text()
	b.tv.say("cancel", 202)
}

// A user who floods the service is held back, and nobody else.
func TestFlood(t *testing.T) {
	b := newBed(t)
	b.house.add(session.Binding{
		Key: "mallory", AoR: b.stranger.user, IP: b.stranger.ip, Contact: b.stranger.contact(), Source: session.FromRegister, Since: b.clock.Now(),
	})
	taken := map[int]int{}
	for range 200 {
		raw := b.stranger.request("MESSAGE", "Content-Type: text/plain\r\n", "auto off")
		taken[b.stranger.send(raw)]++
	}
	if taken[202] != messagesBurst || taken[480] != 200-messagesBurst {
		t.Errorf("%v", taken)
	}
	for range messagesBurst {
		b.stranger.text()
	}
	b.stranger.quiet()
	b.phone.say("list", 200)
	b.phone.text()
	b.phone.say("auto on", 202)
	b.phone.text()
}

func TestSeveralSessions(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 60)
	b.clock.add(time.Second)
	b.film("f2", b.phone.ip, 3700)
	b.tv.say("pull", 202)
	want := "Which one?\n1 News, on phone, 1:01:40\n2 News, on phone, 1:00\n"
	if got := b.tv.text(); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "Say: pull 1\n") {
		t.Fatalf("got %q", got)
	}
	b.tv.say("pull 2", 202)
	if got := b.tv.text(); !strings.Contains(got, "Open this to go on here (30 s):\n"+filmURL+"\n") {
		t.Fatalf("got %q", got)
	}
	if o := b.stage.ordered(); len(o) != 1 || o[0].Session != "f1" || o[0].Confirm {
		t.Fatalf("%+v", o)
	}
}

func TestPausedWhenNothingPlays(t *testing.T) {
	b := newBed(t)
	r := b.film("f1", b.phone.ip, 60)
	r.State = session.Paused
	b.stage.Put(r)
	b.tv.say("pull", 202)
	b.tv.text()
	if o := b.stage.ordered(); len(o) != 1 || o[0].Session != "f1" {
		t.Fatalf("%+v", o)
	}
}

func TestNameAutoCancel(t *testing.T) {
	b := newBed(t)
	b.film("f1", b.phone.ip, 1)
	b.tv.say("name salon", 202)
	if got := b.tv.text(); got != "This terminal is salon now.\n" {
		t.Fatal(got)
	}
	b.phone.say("auto on", 202)
	if got := b.phone.text(); !strings.HasPrefix(got, "Auto is on") {
		t.Fatal(got)
	}
	kept, _ := b.store.Users(t.Context())
	if len(kept) != 1 || !kept[0].Auto || kept[0].Names[tvInstance] != "salon" {
		t.Errorf("stored %+v", kept)
	}
	b.phone.say("push salon", 202)
	b.tv.text()
	b.phone.say("cancel", 202)
	for _, u := range []*ue{b.phone, b.tv} {
		if got := u.text(); got != "Called off: News stays on phone.\n" {
			t.Errorf("%q", got)
		}
	}
}

func TestOperatorsTransferIsOffered(t *testing.T) {
	b := newBed(t)
	r := b.film("f1", b.phone.ip, 1)
	b.stage.PutTransfer(session.Transfer{
		ID: "x1", Session: "f1", AoR: r.AoR, From: r.Terminal, To: session.Terminal{IP: b.tv.ip}, Trigger: session.API,
		State: session.Armed, URL: filmURL,
	})
	if got := b.tv.text(); !strings.Contains(got, "\n"+filmURL+"\n") {
		t.Fatalf("%q", got)
	}
	b.stage.play(t, "x1")
	if got := b.phone.text(); got != "Moved: News is now on tv.\n" {
		t.Errorf("%q", got)
	}
}

func TestCapturedMessages(t *testing.T) {
	for _, c := range []struct{ file, ip, user, want string }{
		{"baresip-01-message-list.sip", "192.0.2.13", "sip:alice@ims.test", "Nothing is playing.\n"},
		{"linphone-01-message-list.sip", "127.0.0.1", "sip:bob@ims.test", "Nothing is playing.\n"},
		{"baresip-02-message-push-tv.sip", "192.0.2.13", "sip:alice@ims.test", "Not done: there is no such terminal.\n"},
	} {
		t.Run(c.file, func(t *testing.T) {
			raw, err := os.ReadFile("testdata/messages/" + c.file)
			if err != nil {
				t.Fatal(err)
			}
			b := newBed(t)
			u := newUE(t, b.phone.as.AddrPort(), c.user, c.ip)
			b.house.mu.Lock()
			b.house.of, b.house.alias = map[string][]session.Binding{}, map[identity]string{}
			b.house.mu.Unlock()
			b.house.add(session.Binding{Key: "k", AoR: c.user, IP: u.ip, Contact: u.contact(), Since: b.clock.Now()})
			// the answer to the core must come here
			text := strings.Replace(string(raw), "SIP/2.0/UDP 127.0.10.3;", "SIP/2.0/UDP "+u.conn.LocalAddr().String()+";", 1)
			if code := u.send(text); code != 200 && code != 202 {
				t.Fatalf("%d", code)
			}
			if got := u.text(); !strings.HasPrefix(got, c.want) {
				t.Errorf("%q", got)
			}
		})
	}
}
