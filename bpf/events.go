package bpf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
)

// eventHead is the length of a record before its payload.
const eventHead = int(unsafe.Offsetof(scasEvent{}.Payload))

// eventReader turns the ring buffer into events; one reader at a time.
type eventReader struct {
	ring *ringbuf.Reader
	rec  ringbuf.Record
	head scasEvent
}

// Read blocks for the next event and stores it in ev; ev.Payload is valid until the next Read.
// Errors: os.ErrClosed after Close, ctx.Err() when ctx is done. Calls from several goroutines take
// turns, but share Payload.
func (g *Gateway) Read(ctx context.Context, ev *Event) error {
	g.readMu.Lock()
	defer g.readMu.Unlock()
	if ctx.Done() != nil {
		stop := context.AfterFunc(ctx, func() { g.events.ring.SetDeadline(time.Unix(1, 0)) })
		defer func() {
			if !stop() {
				g.events.ring.SetDeadline(time.Time{})
			}
		}()
	}
	for {
		err := g.events.ring.ReadInto(&g.events.rec)
		switch {
		case errors.Is(err, os.ErrClosed):
			return os.ErrClosed
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() != nil {
				return ctx.Err()
			}
			g.events.ring.SetDeadline(time.Time{}) // a deadline of an earlier call's context
			continue
		case err != nil:
			return fmt.Errorf("read ring buffer: %w", err)
		}
		return g.decode(ev)
	}
}

func (g *Gateway) decode(ev *Event) error {
	raw, h := g.events.rec.RawSample, &g.events.head
	if len(raw) < eventHead {
		return fmt.Errorf("read ring buffer: record of %d bytes", len(raw))
	}
	copy(bytesOf(h)[:eventHead], raw)
	if int(h.Size) > len(raw)-eventHead {
		return fmt.Errorf("read ring buffer: payload of %d bytes in a record of %d", h.Size, len(raw))
	}
	*ev = Event{
		At:       g.clock.wall(h.At),
		Kind:     EventKind(h.Kind),
		Proto:    Proto(h.Flow.Proto),
		Dir:      Dir(h.Dir),
		Flow:     flowOf(&h.Flow),
		Seq:      h.Seq,
		Ack:      h.Ack,
		TCPFlags: h.TcpFlags,
		Requests: h.Requests,
		Service:  Service(h.Service),
		Channel:  h.Channel,
		Length:   int(h.Length),
		Payload:  raw[eventHead : eventHead+int(h.Size)],
	}
	return nil
}
