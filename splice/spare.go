package splice

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// spare is a descriptor that is kept for when there are no more: a connection that nobody can take
// is refused with it, or its player would wait for ever. Safe for concurrent use.
type spare struct {
	mu   sync.Mutex
	file *os.File // nil: none
}

func (s *spare) keep() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open()
}

// open takes one if there is one. Call with s.mu held.
func (s *spare) open() { s.file, _ = os.Open(os.DevNull) }

func (s *spare) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file.Close()
}

// turnAway refuses the connection that waits longest at l with a RST. It is false when it cannot.
func (s *spare) turnAway(l *net.TCPListener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		s.open() // somebody may have given one back
	}
	if s.file == nil {
		return false
	}
	s.file.Close()
	defer s.open()
	const moment = 10 * time.Millisecond // there may be none that waits
	if l.SetDeadline(time.Now().Add(moment)) != nil {
		return false
	}
	c, err := l.AcceptTCP()
	if errors.Join(err, l.SetDeadline(time.Time{})) != nil {
		return false
	}
	c.SetLinger(0)
	c.Close()
	return true
}
