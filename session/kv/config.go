package kv

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Config says where the store is and how much it may hold.
type Config struct {
	Node        string        // this process, unique among those that share the store
	Dir         string        // embedded: directory of the files, made when missing
	Servers     []string      // URLs of an external store (nats://, tls://); empty: embedded
	Credentials string        // external: file with JWT and key (nsc); empty: what the URLs say
	CA          string        // external: file with the certificates to trust; empty: the system's
	Prefix      string        // of every bucket, stream and subject; default scas
	Keep        time.Duration // how long the history is kept; default 720 h
	MaxLog      int64         // bytes of history, the oldest go first; default 1 GiB
	Replicas    int           // copies in a cluster; 0: 3, or 1 when the server is alone
	Queue       int           // writes that may wait; default 32768
	Timeout     time.Duration // of one request to the store; default 2 s
	Every       time.Duration // between writes of a running session's position; default 10 s
	Now         func() time.Time
}

// DefaultConfig returns the defaults; Node, and Dir or Servers, are left to set.
func DefaultConfig() Config {
	return Config{
		Prefix: "scas", Keep: 720 * time.Hour, MaxLog: 1 << 30, Queue: 32768, Timeout: 2 * time.Second,
		Every: 10 * time.Second, Now: time.Now,
	}
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	switch {
	case c.Node == "":
		return errors.New("store: no node name")
	case c.Dir == "" && len(c.Servers) == 0:
		return errors.New("store: neither a directory nor servers")
	case !regexp.MustCompile(`^[a-zA-Z0-9_-]{1,32}$`).MatchString(c.Prefix):
		return fmt.Errorf("store: prefix %q: want letters, digits, - and _", c.Prefix)
	case c.Keep < time.Hour:
		return fmt.Errorf("store: keep %v: want an hour at least", c.Keep)
	case c.MaxLog < 1<<20:
		return fmt.Errorf("store: %d bytes of history: want 1 MiB at least", c.MaxLog)
	case c.Replicas < 0 || c.Replicas > 5:
		return fmt.Errorf("store: %d replicas: want 0 to 5", c.Replicas)
	case c.Queue < 16:
		return fmt.Errorf("store: queue of %d: want 16 at least", c.Queue)
	case c.Timeout <= 0 || c.Every <= 0:
		return errors.New("store: timeout and every must be above 0")
	case c.Now == nil:
		return errors.New("store: no clock")
	}
	return nil
}
