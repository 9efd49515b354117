package sip

import (
	"testing"
	"time"

	"scas/session"
)

const (
	phoneInstance = "urn:uuid:00000000-0000-1000-8000-000000000001"
	tvInstance    = "urn:uuid:00000000-0000-1000-8000-000000000002"
)

func twoTerminals() []session.Binding {
	return []session.Binding{
		{Key: "phone", Instance: session.Ptr(phoneInstance), Contact: "sip:alice@127.0.20.11:5060"},
		{Key: "tv", Instance: session.Ptr(tvInstance), Contact: "sip:alice@127.0.20.12:5060"},
	}
}

func TestActiveCaptured(t *testing.T) {
	ts := twoTerminals()
	a := newActivity()
	read := func(name string) presenceDoc {
		t.Helper()
		doc, err := parsePIDF(captured(t, name))
		if err != nil {
			t.Fatal(err)
		}
		return doc
	}
	now := time.Date(2026, 11, 22, 11, 0, 5, 0, time.UTC)
	a.observe(read("presence-03-notify-one-device-active.sip"), ts, now)
	if got := a.active(ts, "", now); got != "phone" {
		t.Fatalf("one device: %q", got)
	}
	a.observe(read("presence-04-notify-two-devices-active.sip"), ts, now.Add(time.Second))
	if got := a.active(ts, "tv", now); got != "tv" { // equal times: stay
		t.Fatalf("tie: %q", got)
	}
	later := now.Add(90 * time.Second)
	a.observe(read("presence-05-notify-first-idle-second-active.sip"), ts, later)
	if got := a.active(ts, "phone", later); got != "tv" {
		t.Fatalf("phone idle and away: %q", got)
	}
	a.observe(read("presence-06-notify-all-closed.sip"), ts, later)
	if got := a.active(ts, "phone", later); got != "" {
		t.Fatalf("all gone: %q", got)
	}
}

func TestEvidenceTime(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	ago := func(s int) time.Time { return now.Add(-time.Duration(s) * time.Second) }
	for _, c := range []struct {
		name  string
		u     userInput
		stamp time.Time
		want  time.Time
	}{
		{"nothing", userInput{}, ago(1), time.Time{}},
		{"active, no time", userInput{present: true, active: true}, time.Time{}, now},
		{"active, timestamp", userInput{present: true, active: true}, ago(20), ago(20)},
		{"active, last input before the timestamp", userInput{present: true, active: true, last: ago(30)}, ago(20), ago(30)},
		{"clock ahead", userInput{present: true, active: true}, now.Add(time.Hour), now},
		{"clock behind", userInput{present: true, active: true}, ago(601), now},
		{"idle, no time", userInput{present: true}, ago(5), time.Time{}},
		{"idle within the threshold", userInput{present: true, threshold: time.Minute, last: ago(59)}, now, ago(59)},
		{"idle beyond the threshold", userInput{present: true, threshold: time.Minute, last: ago(60)}, now, time.Time{}},
		{"idle, clock ahead", userInput{present: true, last: now.Add(time.Second)}, now, time.Time{}},
	} {
		if got := evidenceTime(c.u, c.stamp, now); !got.Equal(c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func activeDoc(instance string, stamp time.Time) presenceDoc {
	return presenceDoc{tuples: []pidfTuple{{
		id: "t-1", basic: "open", deviceID: instance, timestamp: stamp, input: userInput{present: true, active: true},
	}}}
}

func TestDecideHysteresis(t *testing.T) {
	ts := twoTerminals()
	t0 := time.Unix(1_800_000_000, 0)
	at := func(s int) time.Time { return t0.Add(time.Duration(s) * time.Second) }
	a := newActivity()
	ask := func(s int, wantTo string, wantAgain int) {
		t.Helper()
		to, again := a.decide("f", "phone", t0, ts, at(s))
		if to != wantTo || wantAgain >= 0 != !again.IsZero() || wantAgain >= 0 && !again.Equal(at(wantAgain)) {
			t.Fatalf("at %d: %q, again %v; want %q, %d", s, to, again.Sub(t0), wantTo, wantAgain)
		}
	}
	ask(1, "", -1)
	a.observe(activeDoc(tvInstance, at(8)), ts, at(8))
	ask(8, "", -1) // leads by 8 s only
	a.observe(activeDoc(tvInstance, at(12)), ts, at(12))
	ask(12, "", 17)
	ask(15, "", 17)
	ask(17, "tv", -1)
	a.autoMoved("f", at(17))
	ask(18, "", 77) // once a minute
	a.heard("phone", at(20))
	ask(21, "", -1) // the phone is newer
	a.observe(activeDoc(tvInstance, at(40)), ts, at(40))
	ask(40, "", 45)
	a.settle(at(43)) // the user gave an order
	ask(46, "", -1)
	a.observe(activeDoc(tvInstance, at(90)), ts, at(90))
	ask(90, "", 95)
	ask(95, "tv", -1)
	ask(391, "", -1) // too old
}

func TestDecideHolds(t *testing.T) {
	ts := twoTerminals()
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		name string
		edit func(*presenceDoc)
		want string
	}{
		{"moves", func(*presenceDoc) {}, "tv"},
		{"on the phone", func(d *presenceDoc) { d.persons = []pidfPerson{{id: "x", activities: []string{"on-the-phone"}}} }, ""},
		{"away from the target", func(d *presenceDoc) {
			d.persons = []pidfPerson{{id: "p-1", activities: []string{"away"}}, {id: "p-2"}}
		}, ""},
		{"away elsewhere", func(d *presenceDoc) {
			d.persons = []pidfPerson{{id: "p-1"}, {id: "p-2", activities: []string{"away"}}}
		}, "tv"},
		{"the only person sleeps", func(d *presenceDoc) { d.persons = []pidfPerson{{id: "q", activities: []string{"sleeping"}}} }, ""},
		{"closed", func(d *presenceDoc) { d.tuples[0].basic = "closed" }, ""},
		{"not this user's device", func(d *presenceDoc) { d.tuples[0].deviceID = "urn:uuid:9" }, ""},
		{"by contact", func(d *presenceDoc) { d.tuples[0].deviceID, d.tuples[0].contact = "", "sip:alice@127.0.20.12" }, "tv"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newActivity()
			doc := activeDoc(tvInstance, now)
			c.edit(&doc)
			a.observe(doc, ts, now)
			a.decide("f", "phone", now.Add(-time.Hour), ts, now)
			if to, _ := a.decide("f", "phone", now.Add(-time.Hour), ts, now.Add(winnerFor)); to != c.want {
				t.Errorf("to %q, want %q", to, c.want)
			}
		})
	}
}

func TestSameElementIsNoNewEvidence(t *testing.T) {
	ts := twoTerminals()
	now := time.Unix(1_800_000_000, 0)
	a := newActivity()
	old := activeDoc(phoneInstance, now.Add(-time.Hour)) // a clock that is wrong
	a.observe(old, ts, now)
	both := activeDoc(tvInstance, now.Add(20*time.Second))
	both.tuples = append(both.tuples, old.tuples...)
	a.observe(both, ts, now.Add(20*time.Second))
	if got := a.of("phone").at(); !got.Equal(now) {
		t.Errorf("the phone's old element counts as new: %v", got)
	}
	if got := a.active(ts, "phone", now.Add(20*time.Second)); got != "tv" {
		t.Errorf("active %q", got)
	}
	a.forget(ts[:1])
	if a.seen["tv"] != nil || a.seen["phone"] == nil {
		t.Error("forget")
	}
}
