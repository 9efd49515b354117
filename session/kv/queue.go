package kv

import (
	"context"
	"hash/maphash"
	"strings"
	"sync"
	"time"
)

// lanes is how many writes are on their way at a time. A cluster of three acknowledges one
// in 1 to 3 ms; registrations come at 2000/s and more.
const lanes = 16

// op is one write that waits.
type op struct {
	key   string // of the queue: bucket and key; unique for an entry of the log
	value any    // what is written, for readers that must not see older things
	run   func(ctx context.Context) error
}

// queue holds the writes that wait, bounded in number. A newer write of a key takes the place
// of the one that waits. Safe for concurrent use.
type queue struct {
	limit int
	seed  maphash.Seed

	mu    sync.Mutex
	lanes []*lane
	n     int           // writes in all lanes, those on their way included
	empty chan struct{} // closed when n gets 0; nil when nobody waits for that
}

// lane is what one goroutine writes, one after the other. Guarded by the queue's mutex.
type lane struct {
	waiting map[string]*op
	order   []string
	flying  *op
	wake    chan struct{} // buffered, 1
}

func newQueue(limit, n int) *queue {
	q := &queue{limit: limit, seed: maphash.MakeSeed()}
	for range n {
		q.lanes = append(q.lanes, &lane{waiting: map[string]*op{}, wake: make(chan struct{}, 1)})
	}
	return q
}

func (q *queue) lane(key string) *lane {
	return q.lanes[maphash.String(q.seed, key)%uint64(len(q.lanes))]
}

// put adds o. It returns ErrFull when share of the queue's room is taken, 1 is all of it.
func (q *queue) put(o *op, share float64) error {
	l := q.lane(o.key)
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, ok := l.waiting[o.key]; ok {
		l.waiting[o.key] = o
		return nil
	}
	if q.n >= int(float64(q.limit)*share) {
		return ErrFull
	}
	q.n++
	l.waiting[o.key] = o
	l.order = append(l.order, o.key)
	l.rouse()
	return nil
}

func (l *lane) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// peek returns the value of the newest write of key that is not done.
func (q *queue) peek(key string) (any, bool) {
	l := q.lane(key)
	q.mu.Lock()
	defer q.mu.Unlock()
	if o := l.waiting[key]; o != nil {
		return o.value, true
	}
	if l.flying != nil && l.flying.key == key {
		return l.flying.value, true
	}
	return nil, false
}

// take returns the oldest write of l, nil when there is none. It has to be given back by
// done or again.
func (q *queue) take(l *lane) *op {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(l.order) == 0 {
		l.order = nil // lets the array of a long queue go
		return nil
	}
	key := l.order[0]
	l.order = l.order[1:]
	l.flying = l.waiting[key]
	delete(l.waiting, key)
	return l.flying
}

func (q *queue) done(l *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l.flying = nil
	q.less()
}

// again puts the write that was taken back in front, unless a newer one of its key has come.
func (q *queue) again(l *lane) {
	q.mu.Lock()
	defer q.mu.Unlock()
	o := l.flying
	l.flying = nil
	if _, ok := l.waiting[o.key]; ok {
		q.less()
		return
	}
	l.waiting[o.key] = o
	l.order = append([]string{o.key}, l.order...)
}

// less counts one write less. Called with the mutex held.
func (q *queue) less() {
	if q.n--; q.n == 0 && q.empty != nil {
		close(q.empty)
		q.empty = nil
	}
}

func (q *queue) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}

func (q *queue) flush(ctx context.Context) error {
	q.mu.Lock()
	if q.n == 0 {
		q.mu.Unlock()
		return nil
	}
	if q.empty == nil {
		q.empty = make(chan struct{})
	}
	empty := q.empty
	q.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Waits between tries of a write: doubled from least to most.
const (
	leastWait = 50 * time.Millisecond
	mostWait  = 5 * time.Second
)

// runLane writes what is in a lane, until ctx ends.
func (s *Store) runLane(ctx context.Context, i int) {
	l := s.queue.lanes[i]
	wait := leastWait
	for ctx.Err() == nil {
		o := s.queue.take(l)
		if o == nil {
			select {
			case <-ctx.Done():
			case <-l.wake:
			}
			continue
		}
		era := s.connection()
		err := s.try(ctx, o)
		switch {
		case err == nil:
			s.count.writes.Add(1)
			s.queue.done(l)
			wait = leastWait
			continue
		case hopeless(err):
			s.count.refused.Add(1)
			bucket, _, _ := strings.Cut(o.key, "/") // the rest names a user
			s.log.Error("a write the store refuses is given up", "bucket", bucket, "code", code(err))
			s.log.Debug("given up", "key", o.key, "err", err)
			s.queue.done(l)
			continue
		}
		s.count.errors.Add(1)
		s.queue.again(l)
		select {
		case <-ctx.Done():
		case <-era.Done(): // the connection is back
			wait = leastWait
		case <-time.After(wait):
			wait = min(2*wait, mostWait)
		}
	}
}

func (s *Store) try(ctx context.Context, o *op) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	return s.judge(o.run(ctx))
}

// enqueue has o written as soon as the store can. Entries of the history take half of the
// room at most: state goes before history.
func (s *Store) enqueue(o *op, share float64) error {
	err := s.queue.put(o, share)
	if err != nil {
		s.count.dropped.Add(1)
	}
	return err
}
