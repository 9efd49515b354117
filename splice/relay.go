package splice

// A relay joins two legs. Its stages:
//
//	SubscriberLeg -> up:   read, frame, look at whole messages while the terminal is a target,
//	                       Tracer.Stream, write -> ServerLeg
//	ServerLeg     -> down: read, Tracer.Stream, frame, hold the reply to a start request,
//	                       write -> SubscriberLeg
//
// Each direction is one goroutine that owns its buffers, its framing and its writing side; the
// two run in parallel and share what their protocol remembers and a few counters. Others reach a
// direction through its mailbox: it is woken and runs what it finds there between two reads.
// Nothing is held while nothing is armed: bytes go on as they come.

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"scas/bpf"
)

const (
	upBuffer   = 8 << 10   // requests
	downBuffer = 64 << 10  // media
	unsentMax  = 256 << 10 // bytes that may wait in the SubscriberLeg's socket beyond what is on the wire
	flushMax   = time.Second
	idleHalf   = 5 * time.Minute // silence after which a half-closed connection is ended
)

// relay is one connection of a terminal, joined to its server.
type relay struct {
	s        *Splicer
	flow     bpf.Flow
	terminal *net.TCPConn // SubscriberLeg

	written   atomic.Uint64  // bytes that went to the terminal's socket
	media     atomic.Uint64  // value of written behind the first media after the start reply, 0: none yet
	finishing atomic.Bool    // both FINs are out: what still comes is thrown away
	reset     [2]atomic.Bool // by direction: its source was reset, whatever a read says
	ended     [2]atomic.Bool // by direction: its goroutine is done
	aborted   sync.Once
	gone      chan struct{} // closed when the relay has ended
	downGone  chan struct{} // closed when nothing comes from the server any more

	server   *net.TCPConn // ServerLeg; it and what follows are set by join, before up and down run
	up, down *direction

	mu       sync.Mutex // guards what follows, and join against finish
	deadline time.Time  // of finishing
	talk     talk       // nil until the protocol is known
}

func newRelay(s *Splicer, f bpf.Flow, terminal *net.TCPConn) *relay {
	return &relay{
		s: s, flow: f, terminal: terminal,
		gone: make(chan struct{}), downGone: make(chan struct{}),
	}
}

// run connects to the server and relays until both directions have ended.
func (r *relay) run() {
	defer close(r.gone)
	defer r.s.leave(r)
	server, release, err := r.s.legs.open(r.s.ctx, r.flow)
	if err != nil {
		r.unreachable(err)
		return
	}
	defer release()
	if !r.join(server) {
		r.abort()
		return
	}
	r.tune()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(r.downGone)
		r.down.run()
	})
	r.up.run()
	wg.Wait()
	r.close()
	if m := r.s.moveOf(r.flow); m != nil {
		m.note(note{kind: noteClosed, r: r})
	}
}

// join takes the second leg. It is false when the relay was finished meanwhile.
func (r *relay) join(server *net.TCPConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = server
	up, err1 := newDirection(r, bpf.ToServer, r.terminal, server, r.s.upBuffers)
	down, err2 := newDirection(r, bpf.ToTerminal, server, r.terminal, r.s.downBuffers)
	up.lane = &opening{common: &upward{r: r, d: up}, d: up}
	down.lane = &opening{common: &downward{r: r, d: down}, d: down}
	r.up, r.down = up, down
	return err1 == nil && err2 == nil && !r.finishing.Load()
}

// joined reports whether both legs are there.
func (r *relay) joined() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.up != nil
}

// unreachable answers the terminal with a RST and fails the transfer it came for.
func (r *relay) unreachable(err error) {
	r.terminal.Close()
	if r.s.ctx.Err() != nil {
		return
	}
	r.s.count.unreachable.Add(1)
	r.s.log.Warn("server of a steered connection cannot be reached", "flow", r.flow.Server, "err", cause(err))
	if m := r.s.moveOf(r.flow); m != nil {
		m.note(note{kind: noteUnreachable, r: r})
	}
}

func (r *relay) tune() {
	r.server.SetLinger(0)
	r.server.SetNoDelay(true)
	r.terminal.SetNoDelay(true)
	if c, err := r.terminal.SyscallConn(); err == nil {
		// Without the bound a fast server fills our socket with minutes of film that nothing
		// can overtake. Not fatal where it is missing.
		_ = control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentMax) })
	}
}

// abort ends both legs with a RST.
func (r *relay) abort() {
	r.aborted.Do(func() {
		r.terminal.SetLinger(0)
		r.server.SetLinger(0)
		r.terminal.Close()
		r.server.Close()
	})
}

// close ends both legs in order: what is in the sockets still goes out.
func (r *relay) close() {
	r.aborted.Do(func() {
		r.terminal.SetLinger(-1)
		r.server.SetLinger(-1)
		r.terminal.Close()
		r.server.Close()
	})
}

// finish sends FIN to both sides and ends the relay when both have answered, or after wait.
func (r *relay) finish(wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadline = time.Now().Add(wait)
	r.finishing.Store(true)
	if r.up == nil {
		r.terminal.Close() // still connecting: run sees it in join, or its dial fails
		return
	}
	r.terminal.CloseWrite()
	r.server.CloseWrite()
	r.up.wake()
	r.down.wake()
}

func (r *relay) finishBy() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deadline
}

// acked returns how many of the bytes written to the terminal it has acknowledged.
func (r *relay) acked() uint64 {
	written := r.written.Load() // before the queue is read: the result is never too high
	n := unsent(r.terminal)
	if n < 0 {
		return 0
	}
	return written - min(written, uint64(n))
}

// unsent returns what the peer has not acknowledged yet, -1 when the socket is closed.
func unsent(c *net.TCPConn) int {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1
	}
	n := -1
	_ = control(raw, func(fd int) error {
		v, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		if err == nil {
			n = v
		}
		return err
	})
	return n
}

// flush waits until c's peer has everything, flushMax at most.
func flush(c *net.TCPConn) {
	for end := time.Now().Add(flushMax); unsent(c) > 0 && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) // the kernel offers no event for an empty queue
	}
}

// other returns the opposite direction.
func (r *relay) other(d *direction) *direction {
	if d == r.up {
		return r.down
	}
	return r.up
}
