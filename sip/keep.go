package sip

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"scas/session"
)

// bindingStore makes the store follow the registry: what changed is marked, and written by one
// goroutine in its newest state. A store that is down delays, nothing waits for it, and at most
// one write a binding is due. Safe for concurrent use.
type bindingStore struct {
	store Store
	log   *slog.Logger
	count *counters
	wake  chan struct{}

	mu    sync.Mutex
	dirty map[string]struct{}
}

const (
	storeRetry = time.Second
	storeBatch = 256 // writes under one look at what is dirty
)

func newBindingStore(s Store, log *slog.Logger, c *counters) *bindingStore {
	return &bindingStore{store: s, log: log, count: c, wake: make(chan struct{}, 1), dirty: map[string]struct{}{}}
}

// mark makes the binding with that key be written, or deleted when it is gone by then.
func (k *bindingStore) mark(key string) {
	k.mu.Lock()
	k.dirty[key] = struct{}{}
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// load reads what was kept; it tries again until the store answers or ctx ends.
func (k *bindingStore) load(ctx context.Context) ([]session.Binding, bool) {
	for first := true; ; first = false {
		kept, err := k.store.Bindings(ctx)
		if err == nil {
			return kept, true
		}
		k.count.add("store_failed")
		if first {
			k.log.Warn("bindings not read from the store yet", "err", err)
		}
		if !sleep(ctx, storeRetry) {
			return nil, false
		}
	}
}

// sleep waits; false: ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// returning is a store that can be away and come back with less than it had.
type returning interface {
	// Returned tells each time that the store is back, until ctx ends.
	Returned(ctx context.Context) <-chan struct{}
}

// kept is what the store is to hold.
type kept interface {
	binding(key string) (session.Binding, bool)
	markAll()
}

// run writes until ctx ends, and then what is still due, for a moment. A store that comes back
// is made equal.
func (k *bindingStore) run(ctx context.Context, all kept) {
	var returned <-chan struct{}
	if r, ok := k.store.(returning); ok {
		returned = r.Returned(ctx)
	}
	read := all.binding
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			k.write(last, read)
			return
		case <-k.wake:
		case <-returned:
			if _, ok := k.load(ctx); ok { // what is there as it should be is not written again
				all.markAll()
			}
		}
		if !k.write(ctx, read) && !sleep(ctx, storeRetry) {
			continue
		}
	}
}

// write writes everything that is due; false: the store refused, and the rest waits.
func (k *bindingStore) write(ctx context.Context, read func(key string) (session.Binding, bool)) bool {
	for {
		keys := k.take()
		if len(keys) == 0 {
			return true
		}
		for i, key := range keys {
			b, ok := read(key)
			var err error
			if ok {
				err = k.store.PutBinding(ctx, b)
			} else {
				err = k.store.DeleteBinding(ctx, key)
			}
			if err != nil {
				k.count.add("store_failed")
				k.log.Warn("binding not stored", "err", err)
				for _, rest := range keys[i:] {
					k.mark(rest)
				}
				return false
			}
		}
	}
}

func (k *bindingStore) take() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]string, 0, min(len(k.dirty), storeBatch))
	for key := range k.dirty {
		if len(out) == storeBatch {
			break
		}
		out = append(out, key)
		delete(k.dirty, key)
	}
	return out
}
