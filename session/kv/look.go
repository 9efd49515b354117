package kv

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The roles of a Neighbour.
const (
	RoleGateway = "gateway"
	RoleAS      = "as"
)

// Neighbour is a process that uses a store.
type Neighbour struct {
	Node, Role string
	Timed      bool          // it tells its time; an older scas does not
	Ahead      time.Duration // its clock, of the one here
	Twins      int           // other processes of the same name and role
}

// Look connects to the external store of cfg as Open would, and returns who says within two
// seconds that he is there. It writes nothing. An error is why the store cannot be used: it does
// not answer, does not let us in, or has no JetStream.
func Look(ctx context.Context, cfg Config) ([]Neighbour, error) {
	opts := append(external(cfg), nats.Name("scas "+cfg.Node+" looks"), nats.Timeout(cfg.Timeout))
	nc, err := nats.Connect(strings.Join(cfg.Servers, ","), opts...)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	asked, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	if _, err := js.AccountInfo(asked); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("JetStream does not answer")
		}
		return nil, err
	}
	return listen(ctx, nc, cfg)
}

// listen waits a little longer than it takes everybody to say that he is there.
func listen(ctx context.Context, nc *nats.Conn, cfg Config) ([]Neighbour, error) {
	heard := make(chan *nats.Msg, 1024)
	for _, subject := range []string{".alive", ".as"} {
		if _, err := nc.ChanSubscribe(cfg.Prefix+subject, heard); err != nil { // it ends with the connection
			return nil, fmt.Errorf("listen: %w", err)
		}
	}
	if err := nc.Publish(cfg.Prefix+".probe", nil); err != nil {
		return nil, fmt.Errorf("ask who is there: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, aliveEvery+aliveEvery/4)
	defer cancel()
	found := map[[3]string]Neighbour{} // by node, role and process
	for {
		select {
		case <-ctx.Done():
			return merge(found), nil
		case m := <-heard:
			var a alive
			if json.Unmarshal(m.Data, &a) != nil || a.Node == "" || a.Gone {
				continue
			}
			n := Neighbour{Node: a.Node, Role: RoleGateway, Timed: !a.At.IsZero()}
			if m.Subject == cfg.Prefix+".as" {
				n.Role = RoleAS
			}
			key := [3]string{n.Node, n.Role, a.Start}
			if n.Timed {
				n.Ahead = a.At.Sub(cfg.Now())
			}
			if before, ok := found[key]; ok && before.Timed {
				n.Ahead = max(n.Ahead, before.Ahead) // the least delayed counts
			}
			found[key] = n
		}
	}
}

// merge counts processes of one name and role as one with twins, sorted.
func merge(found map[[3]string]Neighbour) []Neighbour {
	byName := map[[2]string]Neighbour{}
	for key, n := range found {
		name := [2]string{key[0], key[1]}
		if before, ok := byName[name]; ok {
			n.Twins = before.Twins + 1
		}
		byName[name] = n
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b Neighbour) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Node, b.Node))
	})
}
