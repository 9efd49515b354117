package sip

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"scas/session"
)

// third writes a third-party REGISTER.
func third(to string, expires int, contentType, body string) string {
	head := ""
	if contentType != "" {
		head = "Content-Type: " + contentType + "\r\n"
	}
	return fmt.Sprintf("REGISTER sip:scas.ims.test:5060 SIP/2.0\r\nVia: SIP/2.0/UDP scscf.ims.test;branch=z9hG4bK%d\r\n"+
		"To: <%s>\r\nFrom: <sip:scscf.ims.test:5060>;tag=x\r\nCSeq: 10 REGISTER\r\nCall-ID: %d@scscf\r\n"+
		"Max-Forwards: 10\r\nExpires: %d\r\nPath: <sip:scscf.ims.test:5060;lr>,<sip:term@127.0.10.1;lr>\r\n"+
		"Contact: <sip:scscf.ims.test:5060>\r\n%sContent-Length: %d\r\n\r\n%s",
		rand.Int64(), to, rand.Int64(), expires, head, len(body), body)
}

// device is a terminal as the core sees it.
type device struct {
	user, ip, instance, callID string
	seq, expires               int
}

// inner writes the REGISTER of a terminal as the S-CSCF passes it on.
func (d *device) inner() string {
	d.seq++
	return fmt.Sprintf("REGISTER sip:ims.test SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.10.1;branch=z9hG4bKp\r\n"+
		"Via: SIP/2.0/UDP %s:5060;received=%s;branch=z9hG4bKu;rport=5060\r\nFrom: <%s>;tag=1\r\nTo: <%s>\r\n"+
		"Call-ID: %s\r\nCSeq: %d REGISTER\r\nContact: <sip:u@%s:5060>;+sip.instance=\"<%s>\"\r\nExpires: %d\r\n"+
		"User-Agent: lab-tv/1.0\r\nAuthorization: Digest username=\"u\",response=\"topsecretdigest\"\r\nContent-Length: 0\r\n\r\n",
		d.ip, d.ip, d.user, d.user, d.callID, d.seq, d.ip, d.instance, d.expires)
}

// tell sends a third-party REGISTER and wants 200.
func (b *regBed) tell(raw string) {
	b.t.Helper()
	if r := b.core.ask(b.udp(0), raw); r.StatusCode != 200 {
		b.t.Fatalf("answered %d %s", r.StatusCode, r.Reason)
	}
}

// TestRegisterCaptures replays what Kamailio sent: two devices come and go.
func TestRegisterCaptures(t *testing.T) {
	b := newRegBed(t, func(cfg *Config) { cfg.Outbound = "sip:127.0.10.3" })
	for _, step := range []struct{ file, open string }{
		{"tpreg-01-initial-include-request.sip", "127.0.20.11"},
		{"tpreg-02-second-device.sip", "127.0.20.11 127.0.20.12"},
		{"tpreg-03-refresh-first-device.sip", "127.0.20.11 127.0.20.12"},
		{"tpreg-06-service-info.sip", "127.0.20.11 127.0.20.12"},
		{"tpreg-07-include-response.sip", "127.0.20.11 127.0.20.12"},
		{"tpreg-08-no-body-short-expiry.sip", "127.0.20.11 127.0.20.12"},
		{"tpreg-04-dereg-one-of-two-devices.sip", "127.0.20.11"},
		{"tpreg-05-dereg-last-device.sip", ""},
	} {
		raw := capture(t, step.file)
		res := b.core.ask(b.udp(0), raw)
		if res.StatusCode != 200 {
			t.Fatalf("%s: answered %d %s", step.file, res.StatusCode, res.Reason)
		}
		if want := headerOf(raw, "Expires"); headerText(res, "Expires") != want || !strings.Contains(headerText(res, "Contact"), ";expires="+want) {
			t.Errorf("%s: answer has Expires %q, Contact %q", step.file, headerText(res, "Expires"), headerText(res, "Contact"))
		}
		b.openIs(step.open)
		if step.file == "tpreg-02-second-device.sip" {
			b.checkTwo(t)
		}
	}
	until(t, "the store is empty", func() bool { kept, _ := b.store.Bindings(t.Context()); return len(kept) == 0 })
	if strings.Contains(b.logs.String(), "86b4c359ac197597b4fe02fdb1adea30") || strings.Contains(b.logs.String(), "nonce") {
		t.Error("a credential is in the log")
	}
}

func headerOf(raw, name string) string {
	_, rest, _ := strings.Cut(raw, "\r\n"+name+": ")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

func (b *regBed) checkTwo(t *testing.T) {
	t.Helper()
	all := b.s.Terminals()
	if len(all) != 2 {
		t.Fatalf("%d terminals", len(all))
	}
	x := all[0]
	if x.AoR != "sip:alice@ims.test" || x.Instance == nil || *x.Instance != "urn:uuid:00000000-0000-1000-8000-000000000001" ||
		x.Source != session.FromRegister || x.UserAgent == nil || *x.UserAgent != "lab-tv/1.0" || len(x.Path) != 2 {
		t.Errorf("%+v", x)
	}
	if aor, ok := b.s.registry.userOf("tel:+15550100"); !ok || aor != x.AoR {
		t.Error("P-Associated-URI, malformed as it is, was not read")
	}
	to, ok := b.s.registry.targetOf(x)
	if !ok || to.URI != "sip:alice@127.0.20.11:5060" || len(to.Route) != 2 || to.Route[1] != "<sip:term@127.0.10.1;lr>" {
		t.Errorf("target %+v", to)
	}
}

// TestRegisterEffects: what each kind of message does, and what must do nothing.
func TestRegisterEffects(t *testing.T) {
	alice := func() *device {
		return &device{user: "sip:alice@ims.test", ip: "10.0.0.1", instance: "urn:uuid:1", callID: "a", expires: 600}
	}
	multipart := func(parts ...string) string { return "--b\r\n" + strings.Join(parts, "\r\n--b\r\n") + "\r\n--b--\r\n" }
	for _, c := range []struct {
		name string
		do   func(b *regBed)
		open string
	}{
		{"message/sip", func(b *regBed) { b.tell(third("sip:alice@ims.test", 600, "message/sip", alice().inner())) }, "10.0.0.1"},
		{"multipart", func(b *regBed) {
			b.tell(third("sip:alice@ims.test", 600, "multipart/mixed;boundary=b", multipart(
				"Content-Type: application/3gpp-ims+xml\r\n\r\n<ims-3gpp version=\"1\"><service-info><![CDATA[<x/>]]></service-info></ims-3gpp>",
				"Content-Type: message/sip\r\n\r\n"+alice().inner())))
		}, "10.0.0.1"},
		{"multipart in multipart", func(b *regBed) {
			b.tell(third("sip:alice@ims.test", 600, "multipart/mixed;boundary=b", multipart(
				"Content-Type: multipart/mixed;boundary=c\r\n\r\n--c\r\nContent-Type: message/sip\r\n\r\n"+alice().inner()+"\r\n--c--\r\n")))
		}, ""},
		{"no body", func(b *regBed) { b.tell(third("sip:alice@ims.test", 600, "", "")) }, ""},
		{"garbage body", func(b *regBed) { b.tell(third("sip:alice@ims.test", 600, "message/sip", "nonsense")) }, ""},
		{"doctype", func(b *regBed) {
			b.tell(third("sip:alice@ims.test", 600, "application/3gpp-ims+xml", `<!DOCTYPE x [<!ENTITY a "b">]><ims-3gpp version="1"/>`))
		}, ""},
		{"user outside", func(b *regBed) {
			d := &device{user: "sip:eve@ims.test", ip: "10.0.0.6", instance: "e", callID: "e", expires: 600}
			b.tell(third("sip:eve@ims.test", 600, "message/sip", d.inner()))
		}, ""},
		{"body about another", func(b *regBed) {
			d := alice()
			d.user = "sip:bob@ims.test"
			b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
		}, ""},
		{"foreign address", func(b *regBed) {
			d := alice()
			d.ip = "192.0.2.66"
			b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
		}, ""},
		{"loopback outside the lab", func(b *regBed) {
			d := alice()
			d.ip = "127.0.0.1"
			b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
		}, ""},
		{"new address", func(b *regBed) {
			d := alice()
			b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
			b.openIs("10.0.0.1")
			d.ip = "10.0.0.2"
			b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
		}, "10.0.0.2"},
		{"one address, two devices", func(b *regBed) {
			one, two := alice(), alice()
			two.instance, two.callID = "urn:uuid:2", "b"
			b.tell(third("sip:alice@ims.test", 600, "message/sip", one.inner()))
			b.openIs("10.0.0.1")
			b.tell(third("sip:alice@ims.test", 600, "message/sip", strings.Replace(two.inner(), "sip:u@", "sip:v@", 1)))
			one.expires = 0
			b.tell(third("sip:alice@ims.test", 0, "message/sip", one.inner()))
			until(b.t, "one left", func() bool { return len(b.s.Terminals()) == 1 })
		}, "10.0.0.1"},
		{"late copy of an older REGISTER", func(b *regBed) {
			d := alice()
			first := d.inner()
			d.ip = "10.0.0.2"
			b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
			b.openIs("10.0.0.2")
			b.tell(third("sip:alice@ims.test", 600, "message/sip", first))
		}, "10.0.0.2"},
		{"all contacts", func(b *regBed) {
			d := alice()
			b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
			b.openIs("10.0.0.1")
			d.expires = 0
			raw := d.inner()
			from := strings.Index(raw, "Contact: ")
			to := from + strings.Index(raw[from:], "\r\n")
			b.tell(third("sip:alice@ims.test", 0, "message/sip", raw[:from]+"Contact: *"+raw[to:]))
		}, ""},
		{"gone, without body", func(b *regBed) {
			b.tell(third("sip:alice@ims.test", 600, "message/sip", alice().inner()))
			b.openIs("10.0.0.1")
			b.tell(third("sip:alice@ims.test", 0, "", ""))
		}, ""},
		{"sent-by without received", func(b *regBed) {
			b.tell(third("sip:alice@ims.test", 600, "message/sip", strings.Replace(alice().inner(), "received=10.0.0.1;", "", 1)))
		}, "10.0.0.1"},
		{"address of Via before that of Contact", func(b *regBed) {
			raw := strings.Replace(alice().inner(), "sip:u@10.0.0.1", "sip:u@10.9.9.9", 1)
			b.tell(third("sip:alice@ims.test", 600, "message/sip", raw))
		}, "10.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newRegBed(t, nil)
			b.t = t
			c.do(b)
			b.tell(third("sip:carol@ims.test", 600, "", "")) // whatever was to come of the last one has begun
			b.openIs(c.open)
			if strings.Contains(b.logs.String(), "topsecretdigest") {
				t.Error("a credential is in the log")
			}
			if n := b.s.Stats()["panics"]; n != 0 {
				t.Errorf("%d panics", n)
			}
		})
	}
}

// TestRegisterExpiry: a binding ends by our own timer, with the life of the shorter of inner
// and outer and the grace, and the address is closed with it.
func TestRegisterExpiry(t *testing.T) {
	b := newRegBed(t, nil)
	d := &device{user: "sip:alice@ims.test", ip: "10.0.0.1", instance: "urn:uuid:1", callID: "a", expires: 600}
	b.tell(third("sip:alice@ims.test", 720, "message/sip", d.inner()))
	b.openIs("10.0.0.1")
	b.clock.forward(625 * time.Second)
	b.s.registry.expire()
	b.openIs("10.0.0.1")
	b.clock.forward(6 * time.Second)
	b.openIs("")
	if b.s.Stats()["bindings"] != 0 {
		t.Errorf("%v", b.s.Stats())
	}
}

// TestUntrusted: who is not trusted is not heard, and changes nothing.
func TestUntrusted(t *testing.T) {
	b := newRegBed(t, nil)
	spoof := newWirePeer(t, loopback())
	d := &device{user: "sip:alice@ims.test", ip: "10.0.0.1", instance: "urn:uuid:1", callID: "a", expires: 600}
	spoof.send(b.udp(0), third("sip:alice@ims.test", 600, "message/sip", d.inner()))
	until(t, "dropped", func() bool { return b.s.Stats()["untrusted"] == 1 })
	select {
	case r := <-spoof.res:
		t.Errorf("answered %d", r.StatusCode)
	default:
	}
	if b.s.Stats()["bindings"] != 0 {
		t.Error("a spoofed REGISTER made a binding")
	}
	loud := newRegBed(t, func(cfg *Config) { cfg.Refuse = "403" })
	if r := spoof.ask(loud.udp(0), third("sip:alice@ims.test", 600, "message/sip", d.inner())); r.StatusCode != 403 || headerText(r, "Server") != "" {
		t.Errorf("answered %d", r.StatusCode)
	}
}

// TestGateRetry: a gateway that is away is told once it is back.
func TestGateRetry(t *testing.T) {
	b := newRegBed(t, nil)
	b.gate.setFail(true)
	d := &device{user: "sip:alice@ims.test", ip: "10.0.0.1", instance: "urn:uuid:1", callID: "a", expires: 600}
	b.tell(third("sip:alice@ims.test", 600, "message/sip", d.inner()))
	until(t, "an error is counted", func() bool { return b.s.Stats()["gate_errors"] > 0 })
	b.gate.setFail(false)
	b.openIs("10.0.0.1")
}

// TestRestart: bindings come back from the store, also from one that is down at first; those
// of users who left the service do not.
func TestRestart(t *testing.T) {
	core := newWirePeer(t, loopback())
	store := &flakyStore{Memory: NewMemory()}
	first := newRegBedAt(t, core, store, &fakeClock{}, nil)
	for i, user := range []string{"sip:alice@ims.test", "sip:bob@ims.test"} {
		d := &device{user: user, ip: fmt.Sprintf("10.0.0.%d", i+1), instance: fmt.Sprint("urn:uuid:", i), callID: user, expires: 600}
		first.tell(third(user, 600, "message/sip", d.inner()))
	}
	first.openIs("10.0.0.1 10.0.0.2")
	until(t, "stored", func() bool { kept, _ := store.Bindings(t.Context()); return len(kept) == 2 })
	first.end()
	if first.gate.addrs() != "10.0.0.1 10.0.0.2" {
		t.Error("a restart closed addresses")
	}
	store.setDown(true)
	second := newRegBedAt(t, core, store, &fakeClock{}, func(cfg *Config) { cfg.Subscribers = []string{"sip:alice@ims.test"} })
	until(t, "the store was asked", func() bool { return second.s.Stats()["store_failed"] > 0 })
	store.setDown(false)
	second.openIs("10.0.0.1")
	until(t, "bob is forgotten", func() bool { kept, _ := store.Bindings(t.Context()); return len(kept) == 1 })
	d := &device{user: "sip:alice@ims.test", ip: "10.0.0.1", instance: "urn:uuid:0", callID: "sip:alice@ims.test", expires: 0, seq: 1}
	second.tell(third("sip:alice@ims.test", 0, "message/sip", d.inner()))
	second.openIs("")
}

// TestStatic: terminals of the configuration are there without SIP and hold their address.
func TestStatic(t *testing.T) {
	b := newRegBed(t, func(cfg *Config) {
		cfg.Static = []StaticTerminal{{AoR: "sip:bob@ims.test", Name: "tv", IP: netip.MustParseAddr("10.0.0.9")}}
	})
	b.openIs("10.0.0.9")
	d := &device{user: "sip:bob@ims.test", ip: "10.0.0.9", instance: "urn:uuid:1", callID: "a", expires: 600}
	b.tell(third("sip:bob@ims.test", 600, "message/sip", d.inner()))
	until(t, "two bindings", func() bool { return b.s.Stats()["bindings"] == 2 })
	d.expires = 0
	b.tell(third("sip:bob@ims.test", 0, "message/sip", d.inner()))
	until(t, "one binding", func() bool { return b.s.Stats()["bindings"] == 1 })
	b.openIs("10.0.0.9")
}
