package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// listener is one place the API is served on. Trusted: whoever reached it may ask (socket).
type listener struct {
	net.Listener
	trusted bool
	path    string // of the unix socket
}

func (s *Server) listen() error {
	if s.cfg.Listen != "" {
		l, err := net.Listen("tcp", s.cfg.Listen)
		if err != nil {
			return fmt.Errorf("listen for the API: %w", err)
		}
		s.lns = append(s.lns, listener{Listener: newLimit(l, s.cfg.MaxConns)})
	}
	if s.cfg.Socket != "" {
		l, err := listenSocket(s.cfg.Socket)
		if err != nil {
			return fmt.Errorf("listen on socket %s: %w", s.cfg.Socket, err)
		}
		s.lns = append(s.lns, listener{Listener: newLimit(l, s.cfg.MaxConns), trusted: true, path: s.cfg.Socket})
	}
	return nil
}

func (s *Server) closeListeners() {
	for _, l := range s.lns {
		_ = l.Close() // Serve has closed it as a rule
		if l.path != "" {
			_ = os.Remove(l.path) // the next start replaces it anyhow
		}
	}
	s.lns = nil
}

// listenSocket makes a unix socket of mode 0660 at path. It appears there only when it has
// that mode, and in place of one that nobody serves any more.
func listenSocket(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, errors.New("another scas serves on it")
	}
	if fi, err := os.Lstat(path); err == nil && fi.Mode().Type() != fs.ModeSocket {
		return nil, errors.New("a file that is no socket is in the way")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(fresh, 0o660); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(fresh))
	}
	return l, nil
}

// limit is a listener with at most a given number of connections open; more wait in the
// kernel's queue.
type limit struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func newLimit(l net.Listener, n int) *limit {
	return &limit{Listener: l, slots: make(chan struct{}, n), done: make(chan struct{})}
}

func (l *limit) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitConn{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limit) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitConn struct {
	net.Conn
	free func()
}

func (c *limitConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}
