package sip

import "time"

// Limits of what one user may ask (ims-sip 5.4).
const (
	messagesBurst = 5                // orders of one user, and twice as many questions besides ...
	messagesEvery = 10 * time.Second // ... in this time
	retryAfter    = 10               // seconds, told to a user over the rate
	maxOffers     = 4                // open, of one user
	transactionT  = 32 * time.Second // 64*T1: the same request again is a retransmission
	refLife       = 5 * time.Minute  // the same ref again is the same order
	maxRecent     = 64               // requests and refs remembered of one user
	numberRest    = time.Hour        // before a number may mean something else
)

// bucket lets burst requests through in every period. The zero value is full. Not safe for
// concurrent use.
type bucket struct {
	used float64
	at   time.Time
}

// take reports whether one more request may pass now.
func (b *bucket) take(burst int, period time.Duration, now time.Time) bool {
	if !b.at.IsZero() && now.After(b.at) {
		b.used = max(0, b.used-float64(burst)*now.Sub(b.at).Seconds()/period.Seconds())
	}
	b.at = now
	if b.used+1 > float64(burst) {
		return false
	}
	b.used++
	return true
}

// memory remembers values for a while, a bounded number of them: the oldest goes first. Not
// safe for concurrent use.
type memory[T any] struct {
	life  time.Duration
	items map[string]*remembered[T]
}

type remembered[T any] struct {
	value T
	at    time.Time
}

func newMemory[T any](life time.Duration) memory[T] {
	return memory[T]{life: life, items: map[string]*remembered[T]{}}
}

// get returns what was put under key and has not been forgotten. What it points to may be
// changed.
func (m *memory[T]) get(key string, now time.Time) *T {
	r := m.items[key]
	if r == nil || now.Sub(r.at) > m.life {
		return nil
	}
	return &r.value
}

// put remembers value from now on.
func (m *memory[T]) put(key string, value T, now time.Time) {
	for k, r := range m.items {
		if now.Sub(r.at) > m.life {
			delete(m.items, k)
		}
	}
	if len(m.items) >= maxRecent && m.items[key] == nil {
		oldest := ""
		for k, r := range m.items {
			if oldest == "" || r.at.Before(m.items[oldest].at) {
				oldest = k
			}
		}
		delete(m.items, oldest)
	}
	m.items[key] = &remembered[T]{value: value, at: now}
}
