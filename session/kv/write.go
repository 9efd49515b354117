package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

// decide returns what is to be under a key, given what is there (nil: nothing). The same
// pointer leaves it, nil deletes it. It may be called several times, and must not change what it is given.
type decide[T any] func(there *T) *T

// known remembers the newest revision and value of keys as this process read or wrote them.
// A wrong memory costs a conflict, no more.
type known struct {
	mu sync.Mutex
	of map[string]knownValue
}

type knownValue struct {
	revision uint64
	value    any
}

func (k *known) get(key string) (knownValue, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.of[key]
	return v, ok
}

func (k *known) set(key string, v knownValue) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.of[key] = v
}

func (k *known) forget(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.of, key)
}

func (k *known) clear() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.of)
}

func (k *known) len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.of)
}

// maxConflicts is how often a write is decided again before it waits for its next turn.
const maxConflicts = 8

// place is a key of a bucket.
type place struct {
	bucket string
	key    string // tokens, separated by dots
}

func at(bucket string, names ...string) place {
	tokens := make([]string, len(names))
	for i, n := range names {
		tokens[i] = token(n)
	}
	return place{bucket, strings.Join(tokens, ".")}
}

func (p place) String() string { return p.bucket + "/" + p.key }

// write puts what d decides under p. A key of a remembered bucket that is not known is
// taken for a new one at first: that is one request, and wrong after a start only.
func write[T any](ctx context.Context, s *Store, p place, d decide[T]) error {
	h, err := s.handles(ctx)
	if err != nil {
		return err
	}
	kv := h.kv[p.bucket]
	for i := range maxConflicts {
		cur, ok := s.known.get(p.String())
		if newKey := i == 0 && remembered(p.bucket); !ok && !(newKey && d(nil) != nil) {
			if cur, err = current[T](ctx, s, kv, p); err != nil {
				return err
			}
		}
		there, _ := cur.value.(*T)
		next := d(there)
		if next == there {
			s.count.skipped.Add(1)
			return nil
		}
		switch err := replace(ctx, s, kv, p, cur.revision, next); {
		case err == nil:
			return nil
		case !conflict(err):
			return err
		}
		s.count.conflicts.Add(1)
	}
	return fmt.Errorf("%s: others keep writing it", p)
}

// current reads what is under p. The zero value when nothing is.
func current[T any](ctx context.Context, s *Store, kv jetstream.KeyValue, p place) (knownValue, error) {
	s.count.reads.Add(1)
	e, err := kv.Get(ctx, p.key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound): // deleted ones as well
		return knownValue{}, nil
	case err != nil:
		return knownValue{}, err
	}
	if v, ok := parse[T](e.Value()); ok {
		return knownValue{e.Revision(), v}, nil
	}
	return knownValue{revision: e.Revision()}, nil // none of ours: replaced
}

// replace writes next, or the deletion, over revision; what is known follows.
func replace[T any](ctx context.Context, s *Store, kv jetstream.KeyValue, p place, revision uint64, next *T) (err error) {
	s.known.forget(p.String()) // until the answer is here
	if next == nil {
		return kv.Purge(ctx, p.key, jetstream.LastRevision(revision), jetstream.PurgeTTL(markerLife))
	}
	text, err := json.Marshal(next)
	if err == nil && len(text) > maxValue-1<<10 {
		err = fmt.Errorf("%d bytes", len(text))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUnwritable, err)
	}
	if revision == 0 {
		revision, err = kv.Create(ctx, p.key, text)
	} else {
		revision, err = kv.Update(ctx, p.key, text, revision)
	}
	if err == nil && remembered(p.bucket) {
		s.known.set(p.String(), knownValue{revision, next})
	}
	return err
}

// read returns the value under p.
func read[T any](ctx context.Context, s *Store, p place) (v T, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	h, err := s.handles(ctx)
	if err != nil {
		return v, false, s.judge(err)
	}
	s.count.reads.Add(1)
	e, err := h.kv[p.bucket].Get(ctx, p.key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return v, false, nil
	}
	if err != nil {
		return v, false, s.judge(fmt.Errorf("read %s: %w", p, err))
	}
	if err := json.Unmarshal(e.Value(), &v); err != nil {
		return v, false, fmt.Errorf("read %s: %w", p, err)
	}
	return v, true, nil
}
