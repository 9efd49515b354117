package sip

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"scas/session"
)

// captured returns the body of a NOTIFY of a Kamailio 5.6.3 presence server.
func captured(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/presence/" + name)
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := bytes.Cut(raw, []byte("\r\n\r\n"))
	return body
}

func TestParsePIDFCaptured(t *testing.T) {
	one, err := parsePIDF(captured(t, "presence-03-notify-one-device-active.sip"))
	if err != nil {
		t.Fatal(err)
	}
	const device = "urn:uuid:00000000-0000-1000-8000-000000000001"
	if one.entity != "sip:alice@ims.test" || len(one.tuples) != 1 || len(one.devices) != 1 || len(one.persons) != 1 {
		t.Fatalf("%+v", one)
	}
	x := one.tuples[0]
	if x.basic != "open" || x.deviceID != device || x.contact != "sip:alice@127.0.20.11:5060" || x.priority != 0.8 ||
		!x.input.active || x.input.threshold != time.Minute || x.timestamp != time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC) {
		t.Errorf("tuple %+v", x)
	}
	if d := one.devices[0]; d.deviceID != device || !d.input.active {
		t.Errorf("device %+v", d)
	}
	if a := one.persons[0].activities; len(a) != 1 || a[0] != "tv" {
		t.Errorf("activities %v", a)
	}

	two, err := parsePIDF(captured(t, "presence-05-notify-first-idle-second-active.sip"))
	if err != nil || len(two.tuples) != 2 || len(two.persons) != 2 || len(two.devices) != 2 {
		t.Fatalf("%+v, %v", two, err)
	}
	if i := two.tuples[0].input; i.active || !i.present || i.last != time.Date(2026, 11, 22, 11, 0, 20, 0, time.UTC) {
		t.Errorf("idle: %+v", i)
	}
	for _, name := range []string{"presence-06-notify-all-closed.sip", "baresip-05-presence-notify.sip"} {
		closed, err := parsePIDF(captured(t, name))
		if err != nil || len(closed.tuples) != 1 || closed.tuples[0].basic != "closed" {
			t.Errorf("%s: %+v, %v", name, closed, err)
		}
	}
}

func TestParsePIDFRefuses(t *testing.T) {
	const head = `<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="sip:a@b">`
	for name, doc := range map[string]string{
		"empty":        "",
		"no XML":       "hello",
		"doctype":      `<!DOCTYPE presence [<!ENTITY a "b">]>` + head + `</presence>`,
		"entity":       head + `<tuple id="a"><contact>&a;</contact></tuple></presence>`,
		"other root":   `<reginfo xmlns="urn:ietf:params:xml:ns:reginfo"/>`,
		"no namespace": `<presence entity="sip:a@b"/>`,
		"cut":          head + `<tuple id="a">`,
		"deep":         head + strings.Repeat("<x>", 20) + strings.Repeat("</x>", 20) + `</presence>`,
		"parts":        head + strings.Repeat(`<tuple id="a"/>`, 65) + `</presence>`,
		"long":         head + strings.Repeat(" ", 64<<10) + `</presence>`,
		"latin 1":      `<?xml version="1.0" encoding="ISO-8859-1"?>` + head + `</presence>`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parsePIDF([]byte(doc)); !errors.Is(err, errPIDF) {
				t.Errorf("taken: %v", err)
			}
		})
	}
}

func TestPresenceOfIsReadBack(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	raw := presenceOf("sip:a&b@x", "urn:uuid:<1>", "sip:a@192.0.2.1:5060", false, now.Add(-time.Minute), "away", now)
	doc, err := parsePIDF(raw)
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	x := doc.tuples[0]
	if doc.entity != "sip:a&b@x" || x.deviceID != "urn:uuid:<1>" || x.input.active || !x.input.last.Equal(now.Add(-time.Minute)) ||
		!x.timestamp.Equal(now) || doc.persons[0].activities[0] != "away" || doc.devices[0].deviceID != x.deviceID {
		t.Errorf("%+v\n%s", doc, raw)
	}
}

func FuzzParsePIDF(f *testing.F) {
	for _, name := range []string{"presence-03-notify-one-device-active.sip", "presence-06-notify-all-closed.sip"} {
		f.Add(captured(f, name))
	}
	b := []session.Binding{{Key: "k", Contact: "sip:a@192.0.2.1", Instance: session.Ptr("urn:uuid:1")}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		doc, err := parsePIDF(raw)
		if err != nil {
			return
		}
		now := time.Unix(1_800_000_000, 0)
		a := newActivity()
		a.observe(doc, b, now)
		if at := a.of("k").at(); at.After(now) {
			t.Errorf("evidence from the future: %v", at)
		}
	})
}
