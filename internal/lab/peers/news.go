package peers

import (
	"context"
	"io"
	"sync"
)

// news wakes those who wait for something to become true.
type news struct {
	mu    sync.Mutex
	next  chan struct{} // closed at the next tell
	ended bool
}

func newNews() *news { return &news{next: make(chan struct{})} }

// tell wakes everybody who waits.
func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ended {
		close(n.next)
		n.next = make(chan struct{})
	}
}

// end wakes everybody for the last time.
func (n *news) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ended {
		n.ended = true
		close(n.next)
	}
}

// wait returns nil once ok holds, which is asked at each tell; io.EOF when it did not at the
// end of the news; the context's error when that ended first.
func (n *news) wait(ctx context.Context, ok func() bool) error {
	for {
		n.mu.Lock()
		next, ended := n.next, n.ended
		n.mu.Unlock()
		switch {
		case ok():
			return nil
		case ended:
			return io.EOF
		}
		select {
		case <-next:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
