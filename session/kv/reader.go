package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// errEnough ends a scan from inside.
var errEnough = errors.New("enough")

// heartbeat is how often the store tells a reader that it is there; twice without one ends
// the reading.
const heartbeat = time.Second

// scanner reads a stream. each is called for every message; caughtUp, when every message
// that was there at the beginning was read.
type scanner struct {
	stream   string
	from     jetstream.ConsumerConfig // filters and where to begin
	each     func(m jetstream.Msg, meta *jetstream.MsgMetadata) error
	caughtUp func() error
}

// scan reads until ctx ends, the connection is lost, a message is missing, or a function of
// sc returns an error; errEnough is no error. Nothing is left at the server.
func (s *Store) scan(ctx context.Context, sc scanner) error {
	cfg := sc.from
	cfg.AckPolicy, cfg.MemoryStorage, cfg.Replicas, cfg.InactiveThreshold = jetstream.AckNonePolicy, true, 1, 30*time.Second
	asked, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	c, err := s.js.CreateConsumer(asked, sc.stream, cfg)
	cancel()
	if err != nil {
		return fmt.Errorf("read %s: %w", sc.stream, err)
	}
	defer s.dropConsumer(sc.stream, c.CachedInfo().Name)
	if c.CachedInfo().NumPending == 0 {
		if err := sc.caughtUp(); err != nil {
			return over(err)
		}
	}
	it, err := c.Messages(jetstream.PullMaxMessages(512), jetstream.PullExpiry(5*heartbeat), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return fmt.Errorf("read %s: %w", sc.stream, err)
	}
	defer it.Stop()
	return over(s.pull(ctx, sc, it, c.CachedInfo().NumPending == 0))
}

func (s *Store) pull(ctx context.Context, sc scanner, it jetstream.MessagesContext, caughtUp bool) error {
	for next := uint64(1); ; next++ {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("read %s: %w", sc.stream, err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("read %s: %w", sc.stream, err)
		}
		if meta.Sequence.Consumer != next {
			return fmt.Errorf("read %s: %d messages missed", sc.stream, meta.Sequence.Consumer-next)
		}
		if err := sc.each(m, meta); err != nil {
			return err
		}
		if !caughtUp && meta.NumPending == 0 {
			caughtUp = true
			if err := sc.caughtUp(); err != nil {
				return err
			}
		}
	}
}

// over turns errEnough into success.
func over(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func (s *Store) dropConsumer(stream, name string) {
	if !s.nc.IsConnected() {
		return // the server drops it by itself
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.js.DeleteConsumer(ctx, stream, name); err != nil {
		s.log.Debug("consumer left behind", "stream", stream, "err", err)
	}
}

// deleted reports whether a message of a bucket marks the end of its key (ADR-8, ADR-43).
func deleted(m jetstream.Msg) bool {
	h := m.Headers()
	return h.Get("KV-Operation") != "" || h.Get(jetstream.MarkerReasonHeader) != ""
}

// value returns what a message of a bucket holds; false when its key ended, and when the
// value is none of ours.
func value[T any](m jetstream.Msg) (*T, bool) {
	if deleted(m) {
		return nil, false
	}
	return parse[T](m.Data())
}

func parse[T any](text []byte) (*T, bool) {
	v := new(T)
	return v, json.Unmarshal(text, v) == nil
}

// bucketScan is the scanner of the keys of a bucket that begin with the tokens of prefix.
func (s *Store) bucketScan(bucket string, prefix ...string) (sc scanner, subject string) {
	name := s.bucketName(bucket)
	subject = "$KV." + name + "."
	filter := subject + ">"
	if p := at(bucket, prefix...).key; p != "" {
		filter = subject + p + ".>"
	}
	return scanner{
		stream: "KV_" + name,
		from:   jetstream.ConsumerConfig{FilterSubjects: []string{filter}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy},
	}, subject
}

// list returns the values of a bucket whose keys begin with prefix. Those that cannot be read are left out.
func list[T any](ctx context.Context, s *Store, bucket string, prefix ...string) ([]T, error) {
	if _, err := s.handles(ctx); err != nil {
		return nil, s.judge(err)
	}
	s.count.reads.Add(1)
	var all []T
	sc, subject := s.bucketScan(bucket, prefix...)
	sc.each = func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		v, ok := value[T](m)
		if !ok {
			return nil
		}
		all = append(all, *v)
		if own, _ := value[T](m); remembered(bucket) { // the caller may change its copy
			s.known.set(place{bucket, m.Subject()[len(subject):]}.String(), knownValue{meta.Sequence.Stream, own})
		}
		return nil
	}
	sc.caughtUp = func() error { return errEnough }
	if err := s.scan(ctx, sc); err != nil {
		return nil, s.judge(err)
	}
	return all, nil
}

// follower is told what is under the keys of a bucket. Its functions are called one at a time.
type follower[T any] struct {
	put     func(key string, v T) // a new value
	gone    func(key string)      // a key that ceased
	missing func(key string)      // a key that is not there any more, and nobody says why: gone when nil
	current func(yes bool)        // whether all is told that there is; false while the store is away
}

// revision tells one value of a key from every other: a store that lost its files counts from the
// beginning again.
type revision struct {
	sequence uint64
	written  int64 // Unix nanoseconds
}

// follow tells f until ctx ends. What happened while the store was away is told when it is
// back, as the difference.
func follow[T any](ctx context.Context, s *Store, bucket string, f follower[T]) {
	told := map[string]revision{}
	wait := leastWait
	for ctx.Err() == nil {
		era := s.connection()
		began := time.Now()
		err := followOnce(ctx, era, s, bucket, told, f)
		if ctx.Err() != nil {
			return
		}
		f.current(false)
		s.log.Debug("reading a bucket again", "bucket", bucket, "err", s.judge(err))
		if era.Err() != nil || time.Since(began) > mostWait {
			wait = leastWait
		}
		select {
		case <-ctx.Done():
		case <-s.connection().Done():
		case <-time.After(wait):
			wait = min(2*wait, mostWait/2)
		}
	}
}

func followOnce[T any](ctx, era context.Context, s *Store, bucket string, told map[string]revision, f follower[T]) error {
	if _, err := s.handles(ctx); err != nil {
		return err
	}
	s.count.follows.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(era, cancel)()
	seen := map[string]bool{} // in this reading; nil after the first round
	sc, subject := s.bucketScan(bucket)
	end := func(key string) {
		if _, ok := told[key]; ok {
			delete(told, key)
			f.gone(key)
		}
	}
	sc.each = func(m jetstream.Msg, meta *jetstream.MsgMetadata) error {
		key := m.Subject()[len(subject):]
		v, ok := value[T](m)
		if !ok {
			end(key)
			return nil
		}
		if seen != nil {
			seen[key] = true
		}
		if r := (revision{meta.Sequence.Stream, meta.Timestamp.UnixNano()}); told[key] != r {
			told[key] = r
			f.put(key, *v)
		}
		return nil
	}
	sc.caughtUp = func() error {
		for key := range told {
			switch {
			case seen[key]:
			case f.missing == nil:
				end(key)
			default:
				delete(told, key)
				f.missing(key)
			}
		}
		seen = nil
		f.current(true)
		return nil
	}
	return s.scan(ctx, sc)
}
