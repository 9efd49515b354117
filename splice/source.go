package splice

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// buffers lends buffers of one size, so that only connections on which something comes hold
// one: the control connection of a film over UDP is silent for most of its life.
type buffers struct{ pool sync.Pool }

func newBuffers(size int) *buffers {
	return &buffers{sync.Pool{New: func() any { b := make([]byte, size); return &b }}}
}

// source reads a leg into a borrowed buffer. Not safe for concurrent use.
type source struct {
	raw  syscall.RawConn
	from *buffers
	buf  *[]byte // nil between two reads
	n    int
	err  error
	try  func(fd uintptr) bool // read, once: a closure for each read would be garbage
}

func newSource(c *net.TCPConn, from *buffers) (*source, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &source{raw: raw, from: from}
	s.try = s.read
	return s, nil
}

// next waits for bytes and returns them; they are valid until done or the next call. Errors
// are those of net.Conn's Read.
func (s *source) next() ([]byte, error) {
	s.n, s.err = 0, nil
	err := s.raw.Read(s.try)
	switch {
	case err != nil:
		s.done()
		return nil, err
	case s.err != nil:
		s.done()
		return nil, os.NewSyscallError("read", s.err)
	case s.n == 0:
		s.done()
		return nil, io.EOF
	}
	return (*s.buf)[:s.n], nil
}

// read is one attempt; false means that there is nothing yet.
func (s *source) read(fd uintptr) bool {
	if s.buf == nil {
		s.buf = s.from.pool.Get().(*[]byte)
	}
	for {
		s.n, s.err = syscall.Read(int(fd), *s.buf)
		if errors.Is(s.err, syscall.EINTR) {
			continue
		}
		if errors.Is(s.err, syscall.EAGAIN) {
			s.done()
			return false
		}
		return true
	}
}

// done gives the buffer back.
func (s *source) done() {
	if s.buf != nil {
		s.from.pool.Put(s.buf)
		s.buf = nil
	}
}
