package kv

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"scas/session"
)

// The kinds of entries of the history.
const (
	Played = "play"     // a session plays for the first time
	Over   = "end"      // it ended
	Moved  = "transfer" // a transfer ended, however it did
)

// Entry is one line of the history: who played what when, and what was moved where.
type Entry struct {
	At       time.Time         `json:"at"`
	Event    string            `json:"event"`
	Gateway  string            `json:"gateway"`
	AoR      *string           `json:"aor"`
	Session  *session.Record   `json:"session"`  // of Played and Over: as it was then
	Transfer *session.Transfer `json:"transfer"` // of Moved
}

// Filter says which entries are wanted; zero fields do not matter.
type Filter struct {
	Since, Until time.Time // Until is not included
	AoR          string    // as stored
	Gateway      string
	Event        string
	Terminal     string // name or address; of a transfer either end
	Limit        int    // the newest so many
}

// AppendLog has e written to the history, soon. id names it: the same one within two
// minutes is written once. ErrFull: it will not be.
func (s *Store) AppendLog(id string, e Entry) error {
	user := ""
	if e.AoR != nil {
		user = *e.AoR
	}
	subject := strings.Join([]string{s.cfg.Prefix, "log", token(e.Event), token(e.Gateway), token(user)}, ".")
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return s.enqueue(&op{key: "log/" + id, run: func(ctx context.Context) error {
		if _, err := s.handles(ctx); err != nil {
			return err
		}
		if _, err := s.js.Publish(ctx, subject, text, jetstream.WithMsgID(id), jetstream.WithExpectStream(s.streamName())); err != nil {
			return err
		}
		s.count.logged.Add(1)
		return nil
	}}, 0.5)
}

// skew is how far clocks of nodes may be apart without entries getting lost of a reading.
const skew = time.Minute

// Log returns the entries that f wants, in the order they were stored, which is that of time
// as far as the store was there. ErrDown when the store does not answer.
func (s *Store) Log(ctx context.Context, f Filter) ([]Entry, error) {
	if _, err := s.handles(ctx); err != nil {
		return nil, s.judge(err)
	}
	s.count.reads.Add(1)
	sc := scanner{stream: s.streamName(), from: jetstream.ConsumerConfig{FilterSubjects: []string{s.logSubject(f)}}}
	if !f.Since.IsZero() {
		since := f.Since.Add(-skew) // what is stored was stored after it happened
		sc.from.DeliverPolicy, sc.from.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	var all []Entry
	sc.each = func(m jetstream.Msg, _ *jetstream.MsgMetadata) error {
		if e, ok := parse[Entry](m.Data()); ok && f.wants(*e) {
			all = append(all, *e)
		}
		if f.Limit > 0 && len(all) >= 2*f.Limit {
			all = append([]Entry(nil), all[len(all)-f.Limit:]...)
		}
		return nil
	}
	sc.caughtUp = func() error { return errEnough }
	if err := s.scan(ctx, sc); err != nil {
		return nil, s.judge(err)
	}
	if f.Limit > 0 && len(all) > f.Limit {
		all = all[len(all)-f.Limit:]
	}
	return all, nil
}

func (s *Store) logSubject(f Filter) string {
	tokens := []string{s.cfg.Prefix, "log"}
	for _, v := range []string{f.Event, f.Gateway, f.AoR} {
		if v == "" {
			tokens = append(tokens, "*")
		} else {
			tokens = append(tokens, token(v))
		}
	}
	return strings.Join(tokens, ".")
}

func (f Filter) wants(e Entry) bool {
	if !f.Since.IsZero() && e.At.Before(f.Since) || !f.Until.IsZero() && !e.At.Before(f.Until) {
		return false
	}
	if f.Terminal == "" {
		return true
	}
	is := func(t session.Terminal) bool {
		return t.Name == f.Terminal || t.IP.IsValid() && t.IP.String() == f.Terminal
	}
	return e.Session != nil && is(e.Session.Terminal) || e.Transfer != nil && (is(e.Transfer.From) || is(e.Transfer.To))
}
