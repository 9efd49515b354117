package sip

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"net/netip"
	"sync"
	"time"
)

// counters are named counts. Safe for concurrent use. Names come from the source, never from
// the network.
type counters struct {
	mu sync.Mutex
	n  map[string]uint64
}

func newCounters() *counters { return &counters{n: map[string]uint64{}} }

func (c *counters) add(name string) {
	c.mu.Lock()
	c.n[name]++
	c.mu.Unlock()
}

func (c *counters) get(name string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

func (c *counters) snapshot() map[string]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n)
}

// maxBuckets bounds how many sources have a rate of their own; when there are more, those
// that rest are forgotten.
const maxBuckets = 65536

// sourceBuckets are token sourceBuckets, one a source address. Safe for concurrent use.
type sourceBuckets struct {
	rate  float64
	burst float64
	now   func() time.Time

	mu sync.Mutex
	m  map[netip.Addr]sourceBucket
}

type sourceBucket struct {
	tokens float64
	at     time.Time
}

func newSourceBuckets(rate float64, burst int, now func() time.Time) *sourceBuckets {
	return &sourceBuckets{rate: rate, burst: float64(burst), now: now, m: map[netip.Addr]sourceBucket{}}
}

// take takes one token of a source; false: it has none left.
func (b *sourceBuckets) take(a netip.Addr) bool {
	if b.rate <= 0 {
		return true
	}
	if a.Is6() { // a whole /64 is one source
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	x, ok := b.m[a]
	if !ok {
		if len(b.m) >= maxBuckets {
			b.forget(now)
		}
		if len(b.m) >= maxBuckets {
			return false
		}
		x = sourceBucket{tokens: b.burst, at: now}
	}
	x.tokens = min(b.burst, x.tokens+now.Sub(x.at).Seconds()*b.rate)
	x.at = now
	if x.tokens < 1 {
		b.m[a] = x
		return false
	}
	x.tokens--
	b.m[a] = x
	return true
}

func (b *sourceBuckets) forget(now time.Time) {
	full := time.Duration(b.burst / b.rate * float64(time.Second))
	for a, x := range b.m {
		if now.Sub(x.at) > full {
			delete(b.m, a)
		}
	}
}

// newToken returns 2n random hexadecimal digits.
func newToken(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// reasonPhrase is the usual text of a status code (RFC 3261 §21).
func reasonPhrase(code int) string {
	switch code {
	case 200:
		return "OK"
	case 202:
		return "Accepted"
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 406:
		return "Not Acceptable"
	case 412:
		return "Conditional Request Failed"
	case 413:
		return "Request Entity Too Large"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Unsupported URI Scheme"
	case 420:
		return "Bad Extension"
	case 423:
		return "Interval Too Brief"
	case 480:
		return "Temporarily Unavailable"
	case 481:
		return "Call/Transaction Does Not Exist"
	case 483:
		return "Too Many Hops"
	case 488:
		return "Not Acceptable Here"
	case 489:
		return "Bad Event"
	case 500:
		return "Server Internal Error"
	case 501:
		return "Not Implemented"
	case 503:
		return "Service Unavailable"
	case 505:
		return "Version Not Supported"
	case 603:
		return "Decline"
	}
	return "Answer"
}
