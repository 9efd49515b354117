package kv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Store is a connection to the store. Make one with Open. Safe for concurrent use.
//
//	PutX, DeleteX, AppendLog -> queue (by key) -> lanes (one write at a time each) -> JetStream
//	Bindings, Users, Taken, Log -> JetStream
//
// A key is always written by the same lane, so the writes of a key keep their order.
type Store struct {
	cfg Config
	log *slog.Logger
	nc  *nats.Conn
	js  jetstream.JetStream
	srv *embedded // nil with external servers

	queue *queue
	known known
	count counters

	setup sync.Mutex // held while the buckets are opened
	open  atomic.Pointer[handles]

	clocks clocks       // of the other processes
	rival  atomic.Int64 // when another application server was heard last, Unix nanoseconds

	mu    sync.Mutex
	era   context.Context // ends when the connection was lost and is back
	renew context.CancelFunc

	stop context.CancelFunc
	wg   sync.WaitGroup
}

type counters struct {
	writes, errors, conflicts, dropped, refused, skipped atomic.Uint64
	reads, follows, logged, served, sent, reconnects     atomic.Uint64
}

// Open starts or reaches the store. An embedded one that cannot be opened is an error; an
// external one that does not answer yet is not: it is tried again for ever.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, log: log, known: known{of: map[string]knownValue{}}}
	s.era, s.renew = context.WithCancel(context.Background())
	if err := s.connect(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	wait := cfg.Timeout
	if s.srv != nil {
		wait = startTimeout
	}
	setup, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if _, err := s.handles(setup); err != nil {
		if s.srv != nil {
			return nil, errors.Join(fmt.Errorf("store in %s: %w", cfg.Dir, err), s.Close())
		}
		log.Warn("the store does not answer yet; what is to be written waits", "servers", bare(cfg.Servers), "err", err)
	}
	work, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.queue = newQueue(cfg.Queue, lanes)
	for i := range lanes {
		s.wg.Go(func() { s.runLane(work, i) })
	}
	return s, nil
}

// bare returns URLs without users and passwords.
func bare(servers []string) []string {
	out := make([]string, 0, len(servers))
	for _, s := range servers {
		u, err := url.Parse(s)
		if err != nil {
			s = "a URL that cannot be read"
		} else {
			u.User = nil
			s = u.String()
		}
		out = append(out, s)
	}
	return out
}

func (s *Store) connect(ctx context.Context) (err error) {
	opts := []nats.Option{
		nats.Name("scas " + s.cfg.Node), nats.MaxReconnects(-1), nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 250*time.Millisecond), nats.ReconnectBufSize(-1), // the queue is ours
		nats.PingInterval(5 * time.Second), nats.MaxPingsOutstanding(2), nats.Timeout(s.cfg.Timeout),
		nats.RetryOnFailedConnect(true),
		nats.ConnectHandler(func(*nats.Conn) { s.back() }),
		nats.ReconnectHandler(func(*nats.Conn) { s.count.reconnects.Add(1); s.back() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				s.log.Warn("the store is away", "err", err)
			}
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.log.Debug("store connection", "err", err) }),
	}
	servers := ""
	if len(s.cfg.Servers) == 0 {
		if s.srv, err = startEmbedded(ctx, s.cfg, s.log); err != nil {
			return err
		}
		opts = append(opts, nats.InProcessServer(s.srv))
	} else {
		servers = strings.Join(s.cfg.Servers, ",")
		opts = append(opts, external(s.cfg)...)
	}
	if s.nc, err = nats.Connect(servers, opts...); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.js, err = jetstream.New(s.nc)
	return err
}

// external returns what servers of others want to know of us, and we of them.
func external(cfg Config) (opts []nats.Option) {
	if cfg.Credentials != "" {
		opts = append(opts, nats.UserCredentials(cfg.Credentials))
	}
	if cfg.CA != "" {
		opts = append(opts, nats.RootCAs(cfg.CA))
	}
	return opts
}

// back begins a new era: whoever follows a bucket reads it again, whoever waits tries now. What
// is known of the keys may be wrong now: the store may have come back with less.
func (s *Store) back() {
	s.known.clear()
	s.mu.Lock()
	s.renew()
	s.era, s.renew = context.WithCancel(context.Background())
	s.mu.Unlock()
}

// connection returns a context that ends when the connection was lost and is back.
func (s *Store) connection() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.era
}

// Returned tells each time that the store was away and is back, until ctx ends. Who wants it to
// hold something should look whether it still does.
func (s *Store) Returned(ctx context.Context) <-chan struct{} {
	told := make(chan struct{}, 1)
	era := s.connection()
	s.wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-era.Done():
			}
			if ctx.Err() != nil || s.nc.IsClosed() {
				return
			}
			era = s.connection()
			select {
			case told <- struct{}{}:
			default: // not looked at yet: once is enough
			}
		}
	})
	return told
}

// handles returns the open buckets, and opens them first where that is needed.
func (s *Store) handles(ctx context.Context) (*handles, error) {
	if h := s.open.Load(); h != nil {
		return h, nil
	}
	s.setup.Lock()
	defer s.setup.Unlock()
	if h := s.open.Load(); h != nil {
		return h, nil
	}
	if !s.nc.IsConnected() {
		return nil, ErrDown
	}
	h, err := s.openAll(ctx)
	if err != nil {
		return nil, err
	}
	s.open.Store(h)
	return h, nil
}

// judge looks at the error of a request: buckets that may be gone are opened again before
// the next one. It returns the error as callers may test for it.
func (s *Store) judge(err error) error {
	if err == nil {
		return nil
	}
	if vanished(err) {
		s.open.Store(nil)
	}
	if !s.nc.IsConnected() || errors.Is(err, context.DeadlineExceeded) || vanished(err) {
		return fmt.Errorf("%w: %w", ErrDown, err)
	}
	return err
}

// Ready returns nil when the store answered its newest requests and can be asked.
func (s *Store) Ready() error {
	switch {
	case !s.nc.IsConnected():
		return ErrDown
	case s.open.Load() == nil:
		return fmt.Errorf("%w: buckets are not open", ErrDown)
	}
	return nil
}

// Flush waits until nothing waits to be written, at most until ctx ends.
func (s *Store) Flush(ctx context.Context) error { return s.queue.flush(ctx) }

// Close writes what waits, for at most Config.Timeout, and ends the connection and the
// embedded server. Whoever uses the store has to be ended before.
func (s *Store) Close() error {
	var err error
	if s.queue != nil {
		ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeout)
		defer cancel()
		if err = s.queue.flush(ctx); err != nil {
			err = fmt.Errorf("store: %d writes are lost: %w", s.queue.waiting(), err)
		}
		s.stop()
		s.wg.Wait()
	}
	if s.nc != nil {
		s.nc.Close()
	}
	s.renew()
	if s.srv != nil {
		s.srv.stop()
	}
	return err
}

// Stats returns the counters by name. queued, known, connected, clock_apart_seconds (of the process
// whose clock is furthest off) and rivals (other application servers: 0 or 1) go up and down.
func (s *Store) Stats() map[string]uint64 {
	c := &s.count
	m := map[string]uint64{
		"writes": c.writes.Load(), "write_errors": c.errors.Load(), "write_conflicts": c.conflicts.Load(),
		"writes_dropped": c.dropped.Load(), "writes_refused": c.refused.Load(), "writes_outdated": c.skipped.Load(),
		"reads": c.reads.Load(), "follows": c.follows.Load(), "log_entries": c.logged.Load(),
		"orders_served": c.served.Load(), "orders_sent": c.sent.Load(), "reconnects": c.reconnects.Load(),
		"queued": uint64(s.queue.waiting()), "known": uint64(s.known.len()), "connected": 0,
		"clock_apart_seconds": uint64(s.clocks.apart().Round(time.Second) / time.Second), "rivals": 0,
	}
	if time.Since(time.Unix(0, s.rival.Load())) < deadAfter {
		m["rivals"] = 1
	}
	if s.Ready() == nil {
		m["connected"] = 1
	}
	return m
}
