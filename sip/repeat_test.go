package sip

import (
	"strings"
	"testing"
)

// TestRepeatedDeregistration: the end of a registration that is repeated towards an application
// server that was restarted meanwhile ends nothing that began after it.
func TestRepeatedDeregistration(t *testing.T) {
	star := func(raw string) string {
		from := strings.Index(raw, "Contact: ")
		return raw[:from] + "Contact: *" + raw[from+strings.Index(raw[from:], "\r\n"):]
	}
	for name, leave := range map[string]func(d *device) string{
		"one terminal": func(d *device) string { return third(d.user, 0, "message/sip", d.inner()) },
		"all of them":  func(d *device) string { return third(d.user, 0, "message/sip", star(d.inner())) },
		"by the core":  func(d *device) string { return third(d.user, 0, "", "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			core, store := newWirePeer(t, loopback()), &flakyStore{Memory: NewMemory()}
			d := &device{user: "sip:alice@ims.test", ip: "10.0.0.1", instance: "urn:uuid:1", callID: "a", expires: 600}
			first := newRegBedAt(t, core, store, &fakeClock{}, nil)
			first.tell(third(d.user, 600, "message/sip", d.inner()))
			first.openIs(d.ip)
			d.expires = 0
			last := leave(d)
			first.tell(last)
			first.openIs("")
			first.end()

			second := newRegBedAt(t, core, store, &fakeClock{}, nil)
			d.callID, d.seq, d.expires = "b", 0, 600 // the terminal was switched on again
			second.tell(third(d.user, 600, "message/sip", d.inner()))
			second.openIs(d.ip)
			second.tell(last)
			second.tell(third("sip:carol@ims.test", 600, "", "")) // whatever was to come of the last one has begun
			until(t, "it is known for a repetition", func() bool { return second.s.Stats()["register_repeated"] == 1 })
			second.openIs(d.ip)

			d.expires = 0
			second.tell(leave(d)) // a new one counts
			second.openIs("")
		})
	}
}
