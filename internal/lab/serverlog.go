package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// ServerEventKind is what happened.
type ServerEventKind string

// The kinds of server events.
const (
	ServerRequest ServerEventKind = "request" // a request was answered
	ServerReport  ServerEventKind = "report"  // an RTCP receiver report came
	ServerEnd     ServerEventKind = "end"     // the film was sent to its end
	ServerTimeout ServerEventKind = "timeout" // the session expired
	ServerGone    ServerEventKind = "gone"    // the session ended with its connection
)

// ServerEvent is one thing a server saw. Fields that do not apply are zero.
type ServerEvent struct {
	At      time.Time
	Kind    ServerEventKind
	Remote  netip.AddrPort // the control connection
	Session string
	Method  string
	URL     string
	Head    []string // header lines of the request as they came
	Status  int      // of the reply
	NPT     float64  // of the session, seconds
	SSRC    uint32   // a report is about
}

// Header returns the value of a header of the request, or an empty string.
func (e ServerEvent) Header(name string) string {
	m := message{}
	for _, line := range e.Head {
		m.head = append(m.head, splitField(line))
	}
	return m.get(name)
}

// maxEvents is how many events a server remembers.
const maxEvents = 1 << 16

// eventLog keeps events and wakes who waits for one.
type eventLog struct {
	mu     sync.Mutex
	events []ServerEvent
	first  int           // number of events[0]
	grown  chan struct{} // closed and replaced at each event
}

func newEventLog() *eventLog { return &eventLog{grown: make(chan struct{})} }

func (l *eventLog) add(e ServerEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.At.IsZero() {
		e.At = time.Now()
	}
	if len(l.events) >= maxEvents {
		l.events = slices.Delete(l.events, 0, maxEvents/2)
		l.first += maxEvents / 2
	}
	l.events = append(l.events, e)
	close(l.grown)
	l.grown = make(chan struct{})
}

// since returns the events from number n on, the number after them, and a channel that is
// closed when there are more.
func (l *eventLog) since(n int) ([]ServerEvent, int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = min(max(n, l.first), l.first+len(l.events))
	return slices.Clone(l.events[n-l.first:]), l.first + len(l.events), l.grown
}

// Log returns all that happened so far, the oldest first; at most the newest 65536 events.
func (s *Server) Log() []ServerEvent {
	out, _, _ := s.log.since(0)
	return out
}

// Await returns the first event that matches, also one of the past.
func (s *Server) Await(ctx context.Context, match func(ServerEvent) bool) (ServerEvent, error) {
	next := 0
	for {
		events, n, grown := s.log.since(next)
		for _, e := range events {
			if match(e) {
				return e, nil
			}
		}
		next = n
		select {
		case <-grown:
		case <-ctx.Done():
			return ServerEvent{}, fmt.Errorf("lab: no such server event: %w", ctx.Err())
		}
	}
}

// Events returns what happens from now on until ctx ends; then the channel is closed.
func (s *Server) Events(ctx context.Context) <-chan ServerEvent {
	_, next, grown := s.log.since(maxEvents * maxEvents)
	ch := make(chan ServerEvent)
	go func() {
		defer close(ch)
		for {
			select {
			case <-grown:
			case <-ctx.Done():
				return
			}
			var events []ServerEvent
			events, next, grown = s.log.since(next)
			for _, e := range events {
				select {
				case ch <- e:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return ch
}

// Requests returns the requests of a method answered so far; an empty method is all.
func (s *Server) Requests(method string) []ServerEvent {
	return slices.DeleteFunc(s.Log(), func(e ServerEvent) bool {
		return e.Kind != ServerRequest || method != "" && e.Method != method
	})
}

// SentPacket is one RTP packet that left a server.
type SentPacket struct {
	At      time.Time
	Track   int
	Seq     uint16
	RTPTime uint32
	Number  uint32 // picture or sound frame
	NPT     time.Duration
}

// ServerSession is a snapshot of one session of a server.
type ServerSession struct {
	ID         string
	URL        string
	Remote     netip.AddrPort // the control connection that made it
	UserAgent  string
	TCP        bool // interleaved
	Playing    bool
	Starts     []float64 // npt of each start, seconds
	NPT        float64   // of the newest video packet, seconds
	Packets    uint64
	Bytes      uint64 // RTP, with headers
	LastPacket time.Time
	SSRC       []uint32 // by track; 0 not set up
	Log        []SentPacket
}

// Sessions returns the sessions that live now, the oldest first.
func (s *Server) Sessions() []ServerSession {
	s.mu.Lock()
	all := make([]*serverSession, 0, len(s.sessions))
	for _, x := range s.sessions {
		all = append(all, x)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b *serverSession) int { return a.born.Compare(b.born) })
	out := make([]ServerSession, 0, len(all))
	for _, x := range all {
		out = append(out, x.snapshot())
	}
	return out
}
