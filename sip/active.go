package sip

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"scas/session"
)

// Rules of the active terminal (ims-sip 2.4).
const (
	evidenceLife  = 300 * time.Second // older evidence does not count
	clockSlack    = 600 * time.Second // an active element older than this has a wrong clock
	idleThreshold = 60 * time.Second  // when the document names none
	leadNeeded    = 10 * time.Second  // over the terminal that plays
	winnerFor     = 5 * time.Second   // hysteresis
	autoEvery     = 60 * time.Second  // automatic moves of one session
)

// sighting is what is known of a user's being at one terminal.
type sighting struct {
	presence time.Time // newest input that presence tells; zero: none
	message  time.Time // newest request the terminal itself sent us; zero: none
	element  userInput // what presence came from: the same element again is no new evidence
	stamp    time.Time
	priority float64
	closed   bool
	away     bool
}

func (s sighting) at() time.Time {
	if s.message.After(s.presence) {
		return s.message
	}
	return s.presence
}

// activity tells at which of a user's terminals the user is. One per user. Not safe for
// concurrent use.
type activity struct {
	seen      map[string]*sighting // by binding key
	hold      bool                 // on the phone: nothing moves by itself
	settled   time.Time            // of the newest order: only evidence after it moves a session
	candidate string
	since     time.Time
	moved     map[string]time.Time // newest automatic move by session
}

func newActivity() *activity {
	return &activity{seen: map[string]*sighting{}, moved: map[string]time.Time{}}
}

func (a *activity) of(key string) *sighting {
	s := a.seen[key]
	if s == nil {
		s = &sighting{}
		a.seen[key] = s
	}
	return s
}

// heard notes a request that the terminal itself sent.
func (a *activity) heard(key string, now time.Time) { a.of(key).message = now }

// settle makes evidence up to now void for automatic moves: the user has decided.
func (a *activity) settle(now time.Time) { a.settled, a.candidate = now, "" }

// forget drops terminals that are gone.
func (a *activity) forget(terminals []session.Binding) {
	for key := range a.seen {
		if !slices.ContainsFunc(terminals, func(b session.Binding) bool { return b.Key == key }) {
			delete(a.seen, key)
		}
	}
}

// observe takes a presence document that arrived now. What cannot be tied to one of the
// terminals is ignored.
func (a *activity) observe(doc presenceDoc, terminals []session.Binding, now time.Time) {
	a.hold = false
	for _, p := range doc.persons {
		a.hold = a.hold || slices.Contains(p.activities, "on-the-phone")
	}
	for _, b := range terminals {
		a.observeOne(doc, b, now)
	}
}

func (a *activity) observeOne(doc presenceDoc, b session.Binding, now time.Time) {
	s := a.of(b.Key)
	s.closed, s.away = false, false
	var input userInput
	var stamp time.Time
	var ids []string
	open, tuples := 0, 0
	take := func(u userInput, t time.Time) {
		if u.present && (!input.present || u.active && !input.active) {
			input, stamp = u, t
		}
	}
	for _, t := range doc.tuples {
		if !ties(b, t.deviceID, t.contact) {
			continue
		}
		tuples++
		if t.basic != "closed" {
			open++
		}
		s.priority = t.priority
		ids = append(ids, t.id)
		take(t.input, t.timestamp)
	}
	for _, d := range doc.devices {
		if ties(b, d.deviceID, "") {
			ids = append(ids, d.id)
			take(d.input, cmp.Or(d.timestamp, stamp))
		}
	}
	s.closed = tuples > 0 && open == 0
	s.away = awayFrom(doc.persons, ids)
	if input == s.element && stamp.Equal(s.stamp) {
		return
	}
	s.element, s.stamp = input, stamp
	s.presence = evidenceTime(input, stamp, now)
}

// evidenceTime is when the user was last at a terminal, by an element that arrived now; zero
// when it does not say. Terminals' clocks lie: see ims-sip 2.4.
func evidenceTime(u userInput, stamp, now time.Time) time.Time {
	switch {
	case !u.present:
		return time.Time{}
	case u.active:
		t := u.last
		if t.IsZero() {
			t = stamp
		}
		if t.IsZero() || t.After(now) || now.Sub(t) > clockSlack {
			return now
		}
		return t
	case u.last.IsZero() || u.last.After(now):
		return time.Time{}
	}
	threshold := u.threshold
	if threshold == 0 {
		threshold = idleThreshold
	}
	if now.Sub(u.last) >= threshold {
		return time.Time{}
	}
	return u.last
}

// ties reports whether a device id or a contact of a document means this terminal.
func ties(b session.Binding, deviceID, contact string) bool {
	if deviceID != "" && b.Instance != nil {
		return sameInstance(b, deviceID)
	}
	if contact == "" || b.Contact == "" {
		return false
	}
	if sameURI(contact, b.Contact) || b.GRUU != nil && strings.EqualFold(contact, *b.GRUU) {
		return true
	}
	u, ok := parseURI(contact)
	v, vok := parseURI(b.Contact)
	return ok && vok && u.host == v.host && cmp.Or(u.port, "5060") == cmp.Or(v.port, "5060")
}

// bareInstance takes quotes and brackets off an instance id.
func bareInstance(s string) string { return strings.Trim(s, `"<> `) }

// sameInstance reports whether a terminal is that device.
func sameInstance(b session.Binding, instance string) bool {
	return b.Instance != nil && strings.EqualFold(bareInstance(*b.Instance), bareInstance(instance))
}

// awayFrom reports whether the user says not to be at the terminal whose parts have the ids: by
// the person published with it, or by the only person of the document.
func awayFrom(persons []pidfPerson, ids []string) bool {
	for _, p := range persons {
		mine := len(persons) == 1
		for _, id := range ids {
			mine = mine || tail(id) != "" && tail(id) == tail(p.id)
		}
		gone := slices.ContainsFunc(p.activities, func(s string) bool {
			return s == "away" || s == "sleeping" || s == "permanent-absence"
		})
		if mine && gone {
			return true
		}
	}
	return false
}

// tail is what follows the kind in an id such as t-UUID, d-UUID, p-UUID: publishers name the
// parts of one document alike.
func tail(id string) string {
	_, rest, _ := strings.Cut(id, "-")
	return rest
}

// active returns the key of the terminal the user is at, "" when nothing tells. On a tie the
// better priority wins, then stay.
func (a *activity) active(terminals []session.Binding, stay string, now time.Time) string {
	best, bestAt := "", time.Time{}
	for _, b := range terminals {
		s := a.seen[b.Key]
		if s == nil || s.closed || s.away || s.at().IsZero() || now.Sub(s.at()) > evidenceLife {
			continue
		}
		better := best == "" || s.at().After(bestAt)
		if best != "" && s.at().Equal(bestAt) {
			q, p := s.priority, a.seen[best].priority
			better = q > p || q == p && b.Key == stay
		}
		if better {
			best, bestAt = b.Key, s.at()
		}
	}
	return best
}

// decide returns the terminal that a session, which plays on terminal stay since started,
// should move to by itself now, "" when to none; again is when to ask once more, zero when only
// new evidence can change the answer.
func (a *activity) decide(sid, stay string, started time.Time, terminals []session.Binding, now time.Time) (to string, again time.Time) {
	best := a.active(terminals, stay, now)
	if best == "" || best == stay || a.hold {
		a.candidate = ""
		return "", again
	}
	at := a.seen[best].at()
	there := started // to have started it there is to have been there
	if s := a.seen[stay]; s != nil && s.at().After(there) {
		there = s.at()
	}
	if at.Sub(there) < leadNeeded || !at.After(a.settled) {
		a.candidate = ""
		return "", again
	}
	if a.candidate != best {
		a.candidate, a.since = best, now
	}
	if wait := a.since.Add(winnerFor); now.Before(wait) {
		return "", wait
	}
	if last, ok := a.moved[sid]; ok && now.Before(last.Add(autoEvery)) {
		return "", last.Add(autoEvery)
	}
	return best, again
}

// autoMoved notes an automatic move.
func (a *activity) autoMoved(sid string, now time.Time) {
	for id, at := range a.moved {
		if now.Sub(at) > autoEvery {
			delete(a.moved, id)
		}
	}
	a.moved[sid] = now
}
