package ims

import (
	"slices"
	"sync"
	"time"
)

// The columns of the ladder that the core knows of itself; terminals, the application server
// and the media server are named by Name.
const (
	pcscf    = "P-CSCF"
	scscf    = "S-CSCF"
	home     = "HSS"
	presence = "presence"
)

// Event is one line of the ladder: a message from one column to another, or with To empty a
// note at From, or with both empty a note about everything.
type Event struct {
	At       time.Time
	From, To string
	Via      string // a column on the way that changed it; empty: none
	Title    string // "REGISTER", "200 REGISTER", "playing"
	Detail   string
	Answer   bool     // it answers another
	Message  *Message // of a SIP message
}

// eventLog collects events. Safe for concurrent use.
type eventLog struct {
	mu     sync.Mutex
	events []Event
}

// add notes e, now unless it says when.
func (l *eventLog) add(e Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.At.IsZero() {
		e.At = time.Now()
	}
	l.events = append(l.events, e)
}

// all returns the events in the order of their times.
func (l *eventLog) all() []Event {
	l.mu.Lock()
	out := slices.Clone(l.events)
	l.mu.Unlock()
	slices.SortStableFunc(out, func(a, b Event) int { return a.At.Compare(b.At) })
	return out
}

// Note adds a line about a column, or about everything when column is empty.
func (c *Core) Note(column, text string) { c.log.add(Event{From: column, Title: text}) }

// Add adds an event of somebody else, as of the media server.
func (c *Core) Add(e Event) { c.log.add(e) }

// Events returns everything up to now, in the order of time. A SIP message that was sent is in
// it soon, not at once.
func (c *Core) Events() []Event { return c.log.all() }
