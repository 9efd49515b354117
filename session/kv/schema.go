package kv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The buckets.
const (
	bindingsBucket  = "bindings"  // binding key -> session.Binding
	usersBucket     = "users"     // AoR -> session.User
	ordersBucket    = "orders"    // key of a request -> session.Taken
	sessionsBucket  = "sessions"  // node.id -> session.Record; purged when the session ends
	transfersBucket = "transfers" // node.id -> storedTransfer
)

// markerLife is how long the marker of a deleted key stays, for watchers that were away.
const markerLife = time.Hour

// layout is what a bucket may hold. A value that nobody writes again dies after life
// (0: never).
type layout struct {
	name  string
	life  time.Duration
	bytes int64
}

func layouts() []layout {
	return []layout{
		{bindingsBucket, 0, 256 << 20},
		{usersBucket, 0, 64 << 20},
		{ordersBucket, 10 * time.Minute, 32 << 20},
		{sessionsBucket, time.Hour, 128 << 20}, // written again every refreshRecord
		{transfersBucket, 24 * time.Hour, 64 << 20},
	}
}

// remembered reports whether the newest revision of a bucket's keys is kept in memory, which
// saves reading it before the next write. Its keys must be forgotten at some time.
func remembered(bucket string) bool {
	return bucket == bindingsBucket || bucket == usersBucket || bucket == sessionsBucket
}

// refreshRecord is how often a record that did not change is written again, so that it
// outlives its bucket's limit.
const refreshRecord = 15 * time.Minute

// storeBytes is what all buckets and the log may take on the disk.
func storeBytes(cfg Config) int64 {
	n := cfg.MaxLog
	for _, l := range layouts() {
		n += l.bytes
	}
	return n + 16<<20 // accounting of the server itself
}

// handles are the open buckets and the log.
type handles struct {
	kv  map[string]jetstream.KeyValue
	log jetstream.Stream
}

func (s *Store) bucketName(name string) string { return s.cfg.Prefix + "-" + name }
func (s *Store) streamName() string            { return s.cfg.Prefix + "-log" }

// openAll opens the buckets and the stream, and makes those that are missing.
func (s *Store) openAll(ctx context.Context) (*handles, error) {
	h := &handles{kv: map[string]jetstream.KeyValue{}}
	for _, l := range layouts() {
		b, err := s.openBucket(ctx, l)
		if err != nil {
			return nil, fmt.Errorf("bucket %s: %w", s.bucketName(l.name), err)
		}
		h.kv[l.name] = b
	}
	var err error
	if h.log, err = s.openLog(ctx); err != nil {
		return nil, fmt.Errorf("stream %s: %w", s.streamName(), err)
	}
	return h, nil
}

func (s *Store) openBucket(ctx context.Context, l layout) (jetstream.KeyValue, error) {
	name := s.bucketName(l.name)
	b, err := s.js.KeyValue(ctx, name)
	if !errors.Is(err, jetstream.ErrBucketNotFound) {
		return b, err
	}
	cfg := jetstream.KeyValueConfig{
		Bucket: name, TTL: l.life, MaxBytes: l.bytes, MaxValueSize: maxValue, History: 1, LimitMarkerTTL: markerLife,
	}
	err = s.replicated(func(n int) (err error) {
		cfg.Replicas = n
		b, err = s.js.CreateKeyValue(ctx, cfg)
		return err
	})
	if errors.Is(err, jetstream.ErrBucketExists) { // another process was faster
		return s.js.KeyValue(ctx, name)
	}
	return b, err
}

func (s *Store) openLog(ctx context.Context) (jetstream.Stream, error) {
	cfg := jetstream.StreamConfig{
		Name: s.streamName(), Subjects: []string{s.cfg.Prefix + ".log.>"}, MaxAge: s.cfg.Keep, MaxBytes: s.cfg.MaxLog,
		MaxMsgSize: maxValue, Discard: jetstream.DiscardOld, Compression: jetstream.S2Compression, AllowDirect: true,
	}
	st, err := s.js.Stream(ctx, cfg.Name)
	if err == nil {
		had := st.CachedInfo().Config
		if had.MaxAge == cfg.MaxAge && had.MaxBytes == cfg.MaxBytes {
			return st, nil
		}
		had.MaxAge, had.MaxBytes = cfg.MaxAge, cfg.MaxBytes
		return s.js.UpdateStream(ctx, had)
	}
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, err
	}
	err = s.replicated(func(n int) (err error) {
		cfg.Replicas = n
		st, err = s.js.CreateStream(ctx, cfg)
		return err
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return s.js.Stream(ctx, cfg.Name)
	}
	return st, err
}

// replicated makes something with the configured number of copies. Of its own accord it
// takes one copy only where the server has no cluster: in a cluster that is not whole yet a
// single copy would stay single.
func (s *Store) replicated(make func(n int) error) error {
	if s.cfg.Replicas > 0 {
		return make(s.cfg.Replicas)
	}
	err := make(3)
	if code(err) == errReplicasAlone {
		err = make(1)
	}
	return err
}

// maxValue is the largest value stored: a record with an absurd URL, not a film.
const maxValue = 64 << 10

// token returns s as one token of a subject or key: other characters than letters, digits, _
// and - become =XX, and what gets too long becomes a digest.
func token(s string) string {
	const most = 160 // NATS takes 4096 octets of subject; file names and tools less
	var b strings.Builder
	for _, c := range []byte(s) {
		if c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	switch {
	case s == "":
		return "="
	case b.Len() > most:
		sum := sha256.Sum256([]byte(s))
		return "==" + hex.EncodeToString(sum[:])
	}
	return b.String()
}
