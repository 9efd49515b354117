package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"scas/session"
)

// deadAfter is how long a gateway may be silent before it counts as dead.
const deadAfter = 4 * aliveEvery

// lostAfter is how long a gateway may be silent before its transfers count as failed.
const lostAfter = 30 * time.Second

// listTimeout is how long List waits for a gateway.
const listTimeout = time.Second

// Remote is how an application server in a process of its own sees and asks the gateways:
// its methods are those of a splicer (Move, Answer, Cancel) and of a list of sessions, and
// Run keeps a table filled with what the gateways publish. Safe for concurrent use.
type Remote struct {
	s     *Store
	table *session.Table
	start string      // tells two application servers apart
	twin  atomic.Bool // there are two; told once
	own   string      // the gateway in this very process, which is not one of them; "": there is none

	full   atomic.Int32  // parts that were read to their end
	filled chan struct{} // closed with the last

	mu        sync.Mutex
	hearing   time.Time            // since when gateways can be heard
	nodes     map[string]time.Time // gateways -> when they were last heard
	heardOf   map[string]time.Time // the same of those that are gone as well
	transfers map[string]string    // transfer -> gateway
	keys      map[string]string    // key in its bucket -> session or transfer
}

// Remote returns the gateways that share this store, but for the one called own. table is filled
// by Run alone.
func (s *Store) Remote(table *session.Table, own string) *Remote {
	return &Remote{
		s: s, table: table, start: nats.NewInbox(), own: own, filled: make(chan struct{}),
		nodes: map[string]time.Time{}, heardOf: map[string]time.Time{}, transfers: map[string]string{}, keys: map[string]string{},
	}
}

// Table returns what Run fills.
func (r *Remote) Table() *session.Table { return r.table }

// Filled is closed when Run has read what the gateways had published before it began.
func (r *Remote) Filled() <-chan struct{} { return r.filled }

// part returns what counts the first complete reading of a bucket.
func (r *Remote) part() func(bool) {
	var once sync.Once
	return func(yes bool) {
		if yes {
			once.Do(func() {
				if r.full.Add(1) == 2 {
					close(r.filled)
				}
			})
		}
	}
}

// began takes a transfer that was just ordered.
func (r *Remote) began(node string, t session.Transfer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step(node, t)
}

// Move asks the gateway that has the session; without a session, each until one has
// something to move. Errors as of the splicer; ErrNoGateway when none answers, in which case the
// order may have been carried out nevertheless: the table tells.
func (r *Remote) Move(ctx context.Context, o session.Order) (session.Transfer, error) {
	nodes := r.Nodes()
	if o.Session != "" {
		node := r.nodeOf(ctx, o.Session)
		if node == "" {
			return session.Transfer{}, &session.OrderError{Reason: session.NoSession, Text: "no gateway has session " + o.Session}
		}
		nodes = []string{node}
	}
	why := ErrNoGateway
	for _, node := range nodes {
		out, err := r.ask(ctx, node, "move", order{
			Session: o.Session, To: o.To, Trigger: o.Trigger, Confirm: o.Confirm, RequirePosition: o.RequirePosition,
		})
		if err == nil && out.Transfer != nil {
			r.began(node, *out.Transfer)
			return *out.Transfer, nil
		}
		if !Elsewhere(err) {
			return session.Transfer{}, err
		}
		if errors.Is(why, ErrNoGateway) || reasonOf(why) == session.NoSession {
			why = err // what says more
		}
	}
	return session.Transfer{}, why
}

// Elsewhere reports whether another gateway may do what one did not, an order without a session:
// none of them knows what plays behind the others.
func Elsewhere(err error) bool {
	switch reasonOf(err) {
	case session.NoSession, session.Offline, session.SameTerminal, session.NotAllowed:
		return true
	}
	return errors.Is(err, ErrNoGateway)
}

func reasonOf(err error) session.Reason {
	var refused *session.OrderError
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return ""
}

// nodeOf returns the gateway that has a session, "" when none has.
func (r *Remote) nodeOf(ctx context.Context, id string) string {
	if x, ok := r.table.Get(id); ok {
		return x.Gateway
	}
	for _, x := range r.list(ctx, id) {
		if x.ID == id {
			return x.Gateway
		}
	}
	return ""
}

// Answer passes on what the target's user said. Errors as for Move.
func (r *Remote) Answer(id string, yes bool) error {
	_, err := r.askOf(id, "answer", order{Transfer: id, Yes: yes})
	return err
}

// Cancel ends a transfer that has not been committed, and returns it. Errors as for Move.
func (r *Remote) Cancel(id string) (session.Transfer, error) {
	out, err := r.askOf(id, "cancel", order{Transfer: id})
	if err != nil || out.Transfer == nil {
		return session.Transfer{}, err
	}
	return *out.Transfer, nil
}

// askOf asks the gateway that has a transfer.
func (r *Remote) askOf(id, verb string, o order) (outcome, error) {
	r.mu.Lock()
	node, ok := r.transfers[id]
	r.mu.Unlock()
	if !ok {
		return outcome{}, &session.OrderError{Reason: session.NoSession, Text: "no transfer " + id}
	}
	return r.ask(context.Background(), node, verb, o)
}

func (r *Remote) ask(ctx context.Context, node, verb string, o order) (outcome, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return outcome{}, err
	}
	if !r.s.nc.IsConnected() {
		return outcome{}, &awayError{node, ErrDown}
	}
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	r.s.count.sent.Add(1)
	m, err := r.s.nc.RequestWithContext(ctx, r.s.orderSubject(node, verb), text)
	if err != nil {
		return outcome{}, &awayError{node, err}
	}
	var out outcome
	if err := json.Unmarshal(m.Data, &out); err != nil {
		return outcome{}, fmt.Errorf("gateway %s: %w", node, err)
	}
	return out, out.err(node)
}

// List returns the sessions of all gateways, positions as of now, the oldest first. Of a
// gateway that does not answer within a second, what it last published, unless it is dead.
func (r *Remote) List() []session.Record {
	return r.list(context.Background(), "")
}

// Get returns one session, with its position as of now when its gateway answers within a second.
func (r *Remote) Get(id string) (session.Record, bool) {
	known, ok := r.table.Get(id)
	var all []session.Record
	if ok {
		all, _ = r.sessionsOf(context.Background(), known.Gateway, id) // else as published
	} else {
		all = r.list(context.Background(), id)
	}
	for _, x := range all {
		if x.ID == id {
			return x, true
		}
	}
	return known, ok
}

// Published returns the sessions of the gateways that are there as they were last published,
// which costs no request.
func (r *Remote) Published() []session.Record {
	there := r.Nodes()
	return slices.DeleteFunc(r.table.List(), func(x session.Record) bool { return !slices.Contains(there, x.Gateway) })
}

// list asks all gateways for their sessions, or for the one with this id.
func (r *Remote) list(ctx context.Context, id string) []session.Record {
	nodes := r.Nodes()
	answers := make([][]session.Record, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() {
			var err error
			if answers[i], err = r.sessionsOf(ctx, node, id); err != nil {
				r.s.log.Debug("sessions of a gateway as published", "gateway", node, "err", err)
				answers[i] = slices.DeleteFunc(r.table.List(), func(x session.Record) bool { return x.Gateway != node })
			}
		})
	}
	wg.Wait()
	all := slices.Concat(answers...)
	slices.SortFunc(all, func(a, b session.Record) int { return a.Started.Compare(b.Started) })
	return all
}

// sessionsOf asks one gateway; the answer comes in several pieces, each within listTimeout.
func (r *Remote) sessionsOf(ctx context.Context, node, id string) ([]session.Record, error) {
	text, err := json.Marshal(order{Session: id})
	if err != nil {
		return nil, err
	}
	inbox := r.s.nc.NewRespInbox()
	sub, err := r.s.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer r.s.unsubscribe(sub)
	if err := r.s.nc.PublishRequest(r.s.orderSubject(node, "sessions"), inbox, text); err != nil {
		return nil, err
	}
	var all []session.Record
	for more := true; more; {
		out, err := nextPiece(ctx, sub)
		if err == nil {
			err = out.err(node)
		}
		if err != nil {
			return nil, err
		}
		for _, text := range out.Records {
			if x, ok := parse[session.Record](text); ok {
				all = append(all, *x)
			}
		}
		more = out.More
	}
	return all, nil
}

func nextPiece(ctx context.Context, sub *nats.Subscription) (out outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	m, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(m.Data, &out)
}
