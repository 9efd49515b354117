package kv

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"scas/session"
)

// deadAfter is how long a gateway may be silent before it counts as dead.
const deadAfter = 4 * aliveEvery

// listTimeout is how long List waits for a gateway.
const listTimeout = time.Second

// Remote is how an application server in a process of its own sees and asks the gateways:
// its methods are those of a splicer (Move, Answer, Cancel) and of a list of sessions, and
// Run keeps a table filled with what the gateways publish. Safe for concurrent use.
type Remote struct {
	s     *Store
	table *session.Table

	mu        sync.Mutex
	nodes     map[string]time.Time // gateways -> when they were last heard
	transfers map[string]string    // transfer -> gateway
	keys      map[string]string    // key in its bucket -> session or transfer
}

// Remote returns the gateways that share this store. table is filled by Run alone.
func (s *Store) Remote(table *session.Table) *Remote {
	return &Remote{s: s, table: table, nodes: map[string]time.Time{}, transfers: map[string]string{}, keys: map[string]string{}}
}

// Run follows the gateways until ctx ends: sessions (as of their last change of state),
// transfers, and who is there.
func (r *Remote) Run(ctx context.Context) error {
	messages := make(chan *nats.Msg, 1024)
	for _, subject := range []string{".alive", ".transfer"} {
		sub, err := r.s.nc.ChanSubscribe(r.s.cfg.Prefix+subject, messages)
		if err != nil {
			return fmt.Errorf("follow gateways: %w", err)
		}
		defer r.s.unsubscribe(sub)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		follow(ctx, r.s, sessionsBucket, follower[session.Record]{r.putRecord, r.goneRecord, func(bool) {}})
	})
	wg.Go(func() {
		follow(ctx, r.s, transfersBucket, follower[storedTransfer]{r.putTransfer, r.goneTransfer, func(bool) {}})
	})
	defer wg.Wait()
	r.probe()
	for {
		era := r.s.connection()
		select {
		case <-ctx.Done():
			return nil
		case <-era.Done():
			r.probe()
		case m := <-messages:
			if m.Subject == r.s.cfg.Prefix+".alive" {
				r.heard(m.Data)
			} else if x, ok := parse[storedTransfer](m.Data); ok {
				r.putTransfer(at(transfersBucket, x.Gateway, x.Transfer.ID).key, *x)
			}
		}
	}
}

func (r *Remote) probe() {
	if err := r.s.nc.Publish(r.s.cfg.Prefix+".probe", nil); err != nil {
		r.s.log.Debug("gateways not asked", "err", err)
	}
}

func (r *Remote) heard(text []byte) {
	var a alive
	if json.Unmarshal(text, &a) != nil || a.Node == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.Gone {
		delete(r.nodes, a.Node)
		return
	}
	r.nodes[a.Node] = time.Now()
}

// Nodes returns the gateways that are there, sorted.
func (r *Remote) Nodes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.nodes, func(_ string, at time.Time) bool { return time.Since(at) > deadAfter })
	return slices.Sorted(maps.Keys(r.nodes))
}

func (r *Remote) putRecord(key string, x session.Record) {
	r.mu.Lock()
	r.keys[key] = x.ID
	r.mu.Unlock()
	r.table.Put(x)
}

// goneRecord ends a session: its gateway deleted it, or nobody wrote it for an hour.
func (r *Remote) goneRecord(key string) {
	r.mu.Lock()
	id := r.keys[key]
	delete(r.keys, key)
	r.mu.Unlock()
	if x, ok := r.table.Get(id); ok {
		x.State = session.Ended
		r.table.Put(x)
		r.table.Forget(id)
	}
}

func (r *Remote) putTransfer(key string, x storedTransfer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[key] = x.Transfer.ID
	r.step(x.Gateway, x.Transfer)
}

// step puts t into the table unless that would be a step back: a transfer is told over two
// ways, and by the reply to its order. Called with the mutex held.
func (r *Remote) step(node string, t session.Transfer) {
	r.transfers[t.ID] = node
	there, ok := r.table.Transfer(t.ID)
	if !ok || stage(t.State) >= stage(there.State) && !reflect.DeepEqual(there, t) {
		r.table.PutTransfer(t)
	}
}

// stage orders the states of a transfer by time.
func stage(s session.TransferState) int {
	open := []session.TransferState{session.Offered, session.Armed, session.Attached, session.Committed}
	if i := slices.Index(open, s); i >= 0 {
		return i
	}
	return len(open)
}

func (r *Remote) goneTransfer(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.keys[key]
	delete(r.keys, key)
	delete(r.transfers, id)
	r.table.ForgetTransfer(id)
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
	err := ErrNoGateway
	for _, node := range nodes {
		var out outcome
		out, err = r.ask(ctx, node, "move", order{
			Session: o.Session, To: o.To, Trigger: o.Trigger, Confirm: o.Confirm, RequirePosition: o.RequirePosition,
		})
		if err == nil && out.Transfer != nil {
			r.began(node, *out.Transfer)
			return *out.Transfer, nil
		}
		var refused *session.OrderError
		if !errors.As(err, &refused) || refused.Reason != session.NoSession {
			break
		}
	}
	return session.Transfer{}, err
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
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	r.s.count.sent.Add(1)
	m, err := r.s.nc.RequestWithContext(ctx, r.s.orderSubject(node, verb), text)
	if err != nil {
		return outcome{}, fmt.Errorf("%w: %s: %w", ErrNoGateway, node, err)
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

// Get returns one session, with its position as of now.
func (r *Remote) Get(id string) (session.Record, bool) {
	for _, x := range r.list(context.Background(), id) {
		if x.ID == id {
			return x, true
		}
	}
	return session.Record{}, false
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
