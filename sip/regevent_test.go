package sip

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// notifier is an S-CSCF that takes SUBSCRIBEs.
type notifier struct {
	b    *regBed
	tag  string
	code int // for new dialogs
	lost int // for dialogs that it does not know
	seq  int
}

// newNotifier answers SUBSCRIBEs.
func newNotifier(b *regBed) *notifier {
	n := &notifier{b: b, tag: fmt.Sprint(rand.Int32()), code: 200, lost: 481}
	b.core.answers(func(r *gosip.Request) *gosip.Response {
		if r.Method != "SUBSCRIBE" {
			return nil
		}
		if tag, ok := r.To().Params.Get("tag"); ok && tag != n.tag {
			return gosip.NewResponseFromRequest(r, n.lost, "Gone", nil)
		}
		res := gosip.NewResponseFromRequest(r, n.code, "Answer", nil)
		res.To().Params.Add("tag", n.tag)
		res.AppendHeader(gosip.NewHeader("Expires", "600"))
		res.AppendHeader(gosip.NewHeader("Contact", "<sip:"+b.core.ip+":5060>"))
		return res
	})
	return n
}

// notify sends a NOTIFY in the dialog of a SUBSCRIBE and returns the answer's code.
func (n *notifier) notify(sub *gosip.Request, state, body string) int {
	n.seq++
	from, _ := sub.From().Params.Get("tag")
	raw := fmt.Sprintf("NOTIFY sip:scas@x SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%d\r\nMax-Forwards: 70\r\n"+
		"To: <sip:scas@ims.test>;tag=%s\r\nFrom: <sip:alice@ims.test>;tag=%s\r\nCall-ID: %s\r\nCSeq: %d NOTIFY\r\n"+
		"Contact: <sip:%s:5060>\r\nEvent: reg\r\nSubscription-State: %s\r\nContent-Type: application/reginfo+xml\r\nContent-Length: %d\r\n\r\n%s",
		n.b.core.ip, rand.Int64(), from, n.tag, sub.CallID().Value(), n.seq, n.b.core.ip, state, len(body), body)
	return n.b.core.ask(n.b.udp(0), raw).StatusCode
}

// reginfo writes a document; each contact is "id state uri".
func reginfo(version int, kind, state string, contacts ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<?xml version="1.0"?><reginfo xmlns="urn:ietf:params:xml:ns:reginfo" xmlns:gr="urn:ietf:params:xml:ns:gruuinfo" version="%d" state="%s">`, version, kind)
	for _, aor := range []string{"sip:alice@ims.test", "tel:+15550100"} {
		fmt.Fprintf(&b, `<registration aor="%s" id="%s" state="%s">`, aor, aor, state)
		for _, c := range contacts {
			var id, st, uri string
			fmt.Sscan(c, &id, &st, &uri)
			fmt.Fprintf(&b, `<contact id="%s" state="%s" event="registered" expires="500"><uri>%s</uri><gr:pub-gruu uri="sip:alice@ims.test;gr=urn:uuid:%s"/></contact>`, id, st, uri, id)
		}
		b.WriteString("</registration>")
	}
	return b.String() + "</reginfo>"
}

func regEventBed(t *testing.T) (*regBed, *notifier) {
	t.Helper()
	core := newWirePeer(t, loopback())
	b := newRegBedAt(t, core, &flakyStore{Memory: NewMemory()}, &fakeClock{}, func(cfg *Config) {
		cfg.RegEvent = true
		cfg.Outbound = "sip:" + core.ip
		cfg.Subscribers = []string{"*@ims.test"}
	})
	return b, newNotifier(b)
}

// TestRegEvent follows one user: a REGISTER without body, contacts by NOTIFY, changes, gaps,
// the end.
func TestRegEvent(t *testing.T) {
	b, n := regEventBed(t)
	b.tell(third("sip:alice@ims.test", 600, "", ""))
	sub := b.core.request("SUBSCRIBE")
	for name, want := range map[string]string{
		"Event": "reg", "Accept": "application/reginfo+xml", "Expires": "600000", "P-Asserted-Identity": "<sip:scas@ims.test>",
		"To": "<sip:alice@ims.test>", "Route": "<sip:" + b.core.ip + ";lr>",
	} {
		if got := headerText(sub, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if u := sub.From().Address.User; u != "scas" {
		t.Errorf("From has user %q", u)
	}
	if c := n.notify(sub, "active;expires=600", reginfo(2, "full", "active", "1 active sip:alice@10.0.0.1:5060")); c != 200 {
		t.Fatalf("NOTIFY answered %d", c)
	}
	b.openIs("10.0.0.1")
	x := b.s.Terminals()[0]
	if x.Source != "reg-event" || !x.Confirmed || x.GRUU == nil || len(x.Identities) != 2 {
		t.Errorf("%+v", x)
	}
	if to, _ := b.s.registry.targetOf(x); to.URI != *x.GRUU {
		t.Errorf("target %+v", to)
	}
	n.notify(sub, "active;expires=600", reginfo(3, "partial", "active", "2 active sip:alice@10.0.0.2:5060"))
	b.openIs("10.0.0.1 10.0.0.2")
	n.notify(sub, "active;expires=600", reginfo(2, "full", "terminated")) // older: ignored
	n.notify(sub, "active;expires=600", reginfo(4, "partial", "active", "1 terminated sip:alice@10.0.0.1:5060"))
	b.openIs("10.0.0.2")
	n.notify(sub, "active;expires=600", reginfo(9, "partial", "active", "3 active sip:alice@10.0.0.3:5060"))
	again := b.core.request("SUBSCRIBE") // a version is missing: the whole state is asked for
	if again.CallID().Value() != sub.CallID().Value() || again.CSeq().SeqNo != sub.CSeq().SeqNo+1 {
		t.Errorf("refresh outside the dialog: %s", again)
	}
	if tag, _ := again.To().Params.Get("tag"); tag != n.tag {
		t.Errorf("refresh to tag %q", tag)
	}
	b.openIs("10.0.0.2")
	b.clock.forward(3 * time.Second)
	n.notify(sub, "active;expires=600", reginfo(10, "full", "active", "3 active sip:alice@10.0.0.3:5060"))
	b.openIs("10.0.0.3")
	b.clock.forward(3 * time.Second)
	n.notify(sub, "active;expires=600", strings.ReplaceAll(reginfo(11, "full", "terminated"), "tel:+15550100", "tel:+15550100"))
	b.openIs("")
}

// TestRegEventCaptures: Kamailio's documents as they are.
func TestRegEventCaptures(t *testing.T) {
	for _, c := range []struct{ file, open string }{
		{"regevent-03-notify-full-one-contact.sip", "127.0.20.11"},
		{"regevent-04-notify-after-dereg-one.sip", "127.0.20.11"},
		{"regevent-05-notify-after-dereg-last.sip", ""},
		{"regevent-07-notify-after-expiry.sip", ""},
	} {
		t.Run(c.file, func(t *testing.T) {
			b, n := regEventBed(t)
			b.tell(third("sip:alice@ims.test", 600, "", ""))
			b.tell(third("sip:bob@ims.test", 600, "", ""))
			b.tell(third("sip:dave@ims.test", 600, "", ""))
			raw, err := os.ReadFile("testdata/registrations/" + c.file)
			if err != nil {
				t.Fatal(err)
			}
			_, body, _ := strings.Cut(string(raw), "\r\n\r\n")
			doc, err := parseRegInfo([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			sub := b.core.request("SUBSCRIBE")
			for !strings.Contains(headerText(sub, "To"), doc.Registrations[0].AoR) {
				sub = b.core.request("SUBSCRIBE")
			}
			if code := n.notify(sub, "active;expires=600", body); code != 200 {
				t.Fatalf("answered %d", code)
			}
			until(t, "taken in", func() bool { return b.s.Stats()["reginfo_taken"] == 1 })
			b.openIs(c.open)
		})
	}
}

// TestRegEventEnds: network removal without any REGISTER closes at once; the device that no
// NOTIFY announced stays while the registrar shows it when asked.
func TestRegEventEnds(t *testing.T) {
	b, n := regEventBed(t)
	d := &device{user: "sip:alice@ims.test", ip: "10.0.0.1", instance: "urn:uuid:1", callID: "a", expires: 600}
	b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
	b.openIs("10.0.0.1")
	b.clock.forward(confirmDelay)
	sub := b.core.request("SUBSCRIBE")
	n.notify(sub, "active;expires=600", reginfo(0, "full", "active", "1 active sip:u@10.0.0.1:5060"))
	until(t, "confirmed", func() bool { return b.s.Terminals()[0].Confirmed })
	if x := b.s.Terminals()[0]; x.Source != "register" || x.UserAgent == nil {
		t.Errorf("confirming lost facts: %+v", x)
	}
	two := &device{user: "sip:alice@ims.test", ip: "10.0.0.2", instance: "urn:uuid:2", callID: "b", expires: 600}
	b.tell(third("sip:alice@ims.test", 600, "message/sip", two.inner()))
	b.openIs("10.0.0.1 10.0.0.2")
	b.clock.forward(confirmDelay)
	b.core.request("SUBSCRIBE") // the second device is asked about
	n.notify(sub, "active;expires=600", reginfo(1, "full", "active", "1 active sip:u@10.0.0.1:5060"))
	b.openIs("10.0.0.1") // and the registrar does not have it
	n.notify(sub, "terminated;reason=noresource", reginfo(2, "full", "terminated"))
	b.openIs("")
}

// TestRegEventUnconfirmed: an address that a working registrar never shows is closed.
func TestRegEventUnconfirmed(t *testing.T) {
	b, n := regEventBed(t)
	d := &device{user: "sip:alice@ims.test", ip: "10.0.0.1", instance: "urn:uuid:1", callID: "a", expires: 600}
	b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
	b.openIs("10.0.0.1")
	b.clock.forward(confirmDelay)
	sub := b.core.request("SUBSCRIBE")
	n.notify(sub, "active;expires=600", "")
	b.clock.forward(proofTime)
	b.openIs("")
	if b.s.Stats()["bindings_unconfirmed"] != 1 {
		t.Errorf("%v", b.s.Stats())
	}
}

// TestRegEventOuterZero: Expires 0 without body is decided by the registrar within 2 s.
func TestRegEventOuterZero(t *testing.T) {
	b, n := regEventBed(t)
	d := &device{user: "sip:alice@ims.test", ip: "10.0.0.1", instance: "urn:uuid:1", callID: "a", expires: 600}
	b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
	b.clock.forward(confirmDelay)
	sub := b.core.request("SUBSCRIBE")
	n.notify(sub, "active;expires=600", reginfo(0, "full", "active", "1 active sip:u@10.0.0.1:5060"))
	until(t, "confirmed", func() bool { return b.s.Stats()["reginfo_taken"] == 1 })
	b.tell(third("sip:alice@ims.test", 0, "", ""))
	b.core.request("SUBSCRIBE")
	n.notify(sub, "active;expires=600", reginfo(1, "full", "active", "1 active sip:u@10.0.0.1:5060"))
	until(t, "kept", func() bool { return b.s.Stats()["reginfo_taken"] == 2 })
	b.clock.forward(goneWait + time.Second)
	b.s.registry.expire()
	b.openIs("10.0.0.1")
	b.tell(third("sip:alice@ims.test", 0, "", ""))
	b.core.request("SUBSCRIBE") // no NOTIFY this time
	b.clock.forward(goneWait)
	b.openIs("")
}

// TestRegEventCoreRestart: a core that forgot the dialog answers 481 and gets a new one; what
// is open stays open.
func TestRegEventCoreRestart(t *testing.T) {
	b, n := regEventBed(t)
	b.tell(third("sip:alice@ims.test", 600, "", ""))
	sub := b.core.request("SUBSCRIBE")
	n.notify(sub, "active;expires=600", reginfo(5, "full", "active", "1 active sip:alice@10.0.0.1:5060"))
	b.openIs("10.0.0.1")
	n = newNotifier(b) // restarted
	b.clock.forward(410 * time.Second)
	lost := b.core.request("SUBSCRIBE")
	fresh := b.core.request("SUBSCRIBE")
	if lost.CallID().Value() != sub.CallID().Value() || fresh.CallID().Value() == sub.CallID().Value() {
		t.Errorf("dialogs %s %s %s", sub.CallID(), lost.CallID(), fresh.CallID())
	}
	if c := n.notify(sub, "active", reginfo(1, "full", "terminated")); c != 481 {
		t.Errorf("NOTIFY of the old dialog answered %d", c)
	}
	n.notify(fresh, "active;expires=600", reginfo(0, "full", "active", "1 active sip:alice@10.0.0.1:5060"))
	until(t, "taken in", func() bool { return b.s.Stats()["reginfo_taken"] == 2 })
	b.openIs("10.0.0.1")
}

// TestRegEventRecheck: the next registration at a core that was restarted finds out that the
// subscription is gone, though the core does not say it by 481.
func TestRegEventRecheck(t *testing.T) {
	b, n := regEventBed(t)
	d := &device{user: "sip:alice@ims.test", ip: "10.0.0.1", instance: "urn:uuid:1", callID: "a", expires: 600}
	b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
	b.clock.forward(confirmDelay)
	sub := b.core.request("SUBSCRIBE")
	n.notify(sub, "active;expires=600", reginfo(5, "full", "active", "1 active sip:u@10.0.0.1:5060"))
	until(t, "confirmed", func() bool { return b.s.Stats()["reginfo_taken"] == 1 })
	n = newNotifier(b) // restarted
	n.lost = 500
	b.clock.forward(recheckRest)
	b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
	b.clock.forward(confirmDelay)
	lost := b.core.request("SUBSCRIBE")
	fresh := b.core.request("SUBSCRIBE")
	if lost.CallID().Value() != sub.CallID().Value() || fresh.CallID().Value() == sub.CallID().Value() {
		t.Errorf("dialogs %s %s %s", sub.CallID(), lost.CallID(), fresh.CallID())
	}
	n.notify(fresh, "terminated;reason=noresource", reginfo(0, "full", "terminated"))
	b.openIs("")
}

// TestRegEventRefusals: NOTIFYs that must not be believed, and answers that end a subscription.
func TestRegEventRefusals(t *testing.T) {
	b, n := regEventBed(t)
	b.tell(third("sip:alice@ims.test", 600, "", ""))
	sub := b.core.request("SUBSCRIBE")
	alien := strings.NewReplacer("sip:alice@ims.test\"", "sip:bob@ims.test\"", "tel:+15550100", "sip:bob2@ims.test").
		Replace(reginfo(1, "full", "active", "1 active sip:bob@10.0.0.7:5060"))
	n.notify(sub, "active;expires=600", alien)
	until(t, "refused", func() bool { return b.s.Stats()["reginfo_alien"] == 1 })
	n.notify(sub, "active;expires=600", "<!DOCTYPE a>"+reginfo(2, "full", "active", "1 active sip:alice@10.0.0.7:5060"))
	until(t, "refused", func() bool { return b.s.Stats()["reginfo_bad"] == 1 })
	raw := third("sip:alice@ims.test", 0, "", "")
	raw = strings.NewReplacer("REGISTER sip", "NOTIFY sip", "10 REGISTER", "10 NOTIFY", "Max-Forwards", "Event: nonsense\r\nMax-Forwards").Replace(raw)
	if r := b.core.ask(b.udp(0), raw); r.StatusCode != 489 || headerText(r, "Allow-Events") == "" {
		t.Errorf("another package: %d", r.StatusCode)
	}
	b.openIs("")

	n.code = 403
	b.tell(third("sip:bob@ims.test", 600, "", ""))
	until(t, "rejected", func() bool { return b.s.Stats()["subscribes_rejected"] == 1 })
	d := &device{user: "sip:bob@ims.test", ip: "10.0.0.2", instance: "urn:uuid:9", callID: "z", expires: 600}
	b.tell(third("sip:bob@ims.test", 600, "message/sip", d.inner()))
	b.clock.forward(2 * proofTime)
	b.s.registry.expire()
	b.openIs("10.0.0.2") // where reg event does not work, REGISTER alone counts
}

// TestRegEventRelearn: after a restart the restored bindings are asked about, and what the
// registrar no longer has is closed.
func TestRegEventRelearn(t *testing.T) {
	core := newWirePeer(t, loopback())
	store := &flakyStore{Memory: NewMemory()}
	change := func(cfg *Config) { cfg.RegEvent = true; cfg.Outbound = "sip:" + core.ip }
	first := newRegBedAt(t, core, store, &fakeClock{}, change)
	newNotifier(first)
	d := &device{user: "sip:alice@ims.test", ip: "10.0.0.1", instance: "urn:uuid:1", callID: "a", expires: 600}
	first.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
	first.openIs("10.0.0.1")
	until(t, "stored", func() bool { kept, _ := store.Bindings(t.Context()); return len(kept) == 1 })
	first.end()

	clock := &fakeClock{}
	second := newRegBedAt(t, core, store, clock, change)
	n := newNotifier(second)
	second.openIs("10.0.0.1")
	clock.forward(confirmDelay)
	sub := core.request("SUBSCRIBE")
	n.notify(sub, "active;expires=600", reginfo(2, "full", "active", "1 active sip:u@10.0.0.1:5060"))
	until(t, "confirmed", func() bool { return second.s.Terminals()[0].Confirmed })
	clock.forward(3 * time.Second)
	n.notify(sub, "terminated;reason=noresource", reginfo(3, "full", "terminated"))
	second.openIs("")
}
