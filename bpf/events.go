package bpf

import (
	"context"
	"errors"
	"fmt"
	"os"
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

	ctx  context.Context // of the newest Read
	stop func() bool     // takes back what ctx's end does
}

// Read blocks for the next event and stores it in ev; ev.Payload is valid until the next Read.
// Errors: os.ErrClosed after Close, ctx.Err() when ctx is done. Calls from several goroutines take
// turns, but share Payload.
func (g *Gateway) Read(ctx context.Context, ev *Event) error {
	g.readMu.Lock()
	defer g.readMu.Unlock()
	if g.events.ctx != ctx { // once for a loop of reads
		if g.events.stop != nil {
			g.events.stop()
		}
		g.events.ctx = ctx
		g.events.stop = context.AfterFunc(ctx, func() { _ = g.events.ring.Flush() }) // wakes a blocked read
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := g.events.ring.ReadInto(&g.events.rec)
		switch {
		case errors.Is(err, os.ErrClosed):
			return os.ErrClosed
		case errors.Is(err, ringbuf.ErrFlushed):
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
