package kv

import (
	"maps"
	"sync"
	"time"
)

// ClockSlack is how far the clocks of two processes may be apart before it is told. Registrations
// end, and positions are counted on, by the time their writer wrote down.
const ClockSlack = time.Second

// clockTells is over how many messages of a process the least delayed one counts: a message can
// be late, and then looks like a clock that is behind; it cannot be early.
const clockTells = 5

// clocks compares the clocks of the processes that share a store with this one's. Safe for
// concurrent use.
type clocks struct {
	mu sync.Mutex
	of map[string]*clock
}

type clock struct {
	ahead [clockTells]time.Duration // of the newest messages, as heard
	n     int                       // messages heard
	apart bool                      // told to be
	last  time.Time                 // heard last
}

// heard takes the time that a process wrote into a message, less the time here. turned is true
// when its clock has begun, or ceased, to be apart from this one's, ahead then says how far.
func (c *clocks) heard(node string, by time.Duration) (ahead time.Duration, turned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
	k := c.of[node]
	if k == nil {
		if c.of == nil {
			c.of = map[string]*clock{}
		}
		k = &clock{}
		c.of[node] = k
	}
	k.ahead[k.n%clockTells], k.last = by, time.Now()
	k.n++
	ahead = k.is()
	if k.n < clockTells || k.apart == (ahead.Abs() > ClockSlack) {
		return ahead, false
	}
	k.apart = !k.apart
	return ahead, true
}

// is returns how far the clock is ahead, as far as its newest messages tell.
func (k *clock) is() time.Duration {
	best := k.ahead[0]
	for _, by := range k.ahead[1:min(k.n, clockTells)] {
		best = max(best, by)
	}
	return best
}

// forget drops the processes that are gone. Called with the mutex held.
func (c *clocks) forget() {
	maps.DeleteFunc(c.of, func(_ string, k *clock) bool { return time.Since(k.last) > lostAfter })
}

// apart returns how far the clock that is furthest off is from this one's.
func (c *clocks) apart() (most time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget()
	for _, k := range c.of {
		if k.n >= clockTells {
			most = max(most, k.is().Abs())
		}
	}
	return most
}

// hearClock compares the clock of a process that said that it is there.
func (s *Store) hearClock(a alive) {
	if a.At.IsZero() || a.Node == s.cfg.Node || a.Gone {
		return // an older scas tells no time
	}
	switch ahead, turned := s.clocks.heard(a.Node, a.At.Sub(s.cfg.Now())); {
	case turned && ahead.Abs() > ClockSlack:
		s.log.Warn("clocks are apart, registrations end early or late: let both machines keep time by NTP",
			"node", a.Node, "ahead", ahead.Round(time.Millisecond))
	case turned:
		s.log.Info("clocks agree again", "node", a.Node)
	}
}
