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

// newCounters returns counters of which the ones named are shown before anything was counted: an
// alert does not see the first step of one that comes out of nothing.
func newCounters(shown ...string) *counters {
	c := &counters{n: map[string]uint64{}}
	for _, name := range shown {
		c.n[name] = 0
	}
	return c
}

func (c *counters) add(name string) {
	c.mu.Lock()
	c.n[name]++
	c.mu.Unlock()
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

// sourceOf returns the address that stands for a source: a whole /64 is one.
func sourceOf(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

func newSourceBuckets(rate float64, burst int, now func() time.Time) *sourceBuckets {
	return &sourceBuckets{rate: rate, burst: float64(burst), now: now, m: map[netip.Addr]sourceBucket{}}
}

// take takes one token of a source; false: it has none left.
func (b *sourceBuckets) take(a netip.Addr) bool {
	if b.rate <= 0 {
		return true
	}
	a = sourceOf(a)
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
	for _, r := range []struct {
		code int
		text string
	}{
		{200, "OK"}, {202, "Accepted"}, {400, "Bad Request"}, {401, "Unauthorized"}, {403, "Forbidden"},
		{404, "Not Found"}, {405, "Method Not Allowed"}, {406, "Not Acceptable"}, {408, "Request Timeout"},
		{412, "Conditional Request Failed"}, {413, "Request Entity Too Large"}, {415, "Unsupported Media Type"},
		{416, "Unsupported URI Scheme"}, {420, "Bad Extension"}, {423, "Interval Too Brief"},
		{480, "Temporarily Unavailable"}, {481, "Call/Transaction Does Not Exist"}, {483, "Too Many Hops"},
		{488, "Not Acceptable Here"}, {489, "Bad Event"}, {500, "Server Internal Error"}, {501, "Not Implemented"},
		{503, "Service Unavailable"}, {505, "Version Not Supported"}, {603, "Decline"},
	} {
		if r.code == code {
			return r.text
		}
	}
	return "Answer"
}
