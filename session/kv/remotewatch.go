package kv

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"scas/session"
)

// Run follows the gateways until ctx ends: sessions (as of their last change of state),
// transfers, and who is there.
func (r *Remote) Run(ctx context.Context) error {
	messages := make(chan *nats.Msg, 1024)
	for _, subject := range []string{".alive", ".transfer", ".as", ".probe"} {
		sub, err := r.s.nc.ChanSubscribe(r.s.cfg.Prefix+subject, messages)
		if err != nil {
			return fmt.Errorf("follow gateways: %w", err)
		}
		defer r.s.unsubscribe(sub)
	}
	r.hear(time.Now())
	var wg sync.WaitGroup
	wg.Go(func() {
		follow(ctx, r.s, sessionsBucket, follower[session.Record]{put: r.putRecord, gone: r.goneRecord, current: r.part()})
	})
	wg.Go(func() {
		follow(ctx, r.s, transfersBucket, follower[storedTransfer]{put: r.putTransfer, gone: r.goneTransfer, current: r.part()})
	})
	defer wg.Wait()
	r.probe()
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		era := r.s.connection()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if !r.s.nc.IsConnected() {
				r.hear(time.Now())
			}
			r.bury()
			r.sayAlive()
		case <-era.Done():
			r.probe()
		case m := <-messages:
			r.take(m)
		}
	}
}

func (r *Remote) take(m *nats.Msg) {
	switch m.Subject {
	case r.s.cfg.Prefix + ".alive":
		r.heard(m.Data)
	case r.s.cfg.Prefix + ".as":
		r.compare(m.Data)
	case r.s.cfg.Prefix + ".probe":
		r.sayAlive()
	default:
		if x, ok := parse[storedTransfer](m.Data); ok {
			r.putTransfer(at(transfersBucket, x.Gateway, x.Transfer.ID).key, *x)
		}
	}
}

// sayAlive tells other application servers that this one is there.
func (r *Remote) sayAlive() {
	if err := r.s.publishJSON(r.s.cfg.Prefix+".as", alive{Node: r.s.cfg.Node, Start: r.start, At: r.s.cfg.Now()}); err != nil {
		r.s.log.Debug("not told to be alive", "err", err)
	}
}

// compare warns, once, of a second application server: each takes the registrations that the
// other does not know for ended.
func (r *Remote) compare(text []byte) {
	a, ok := parse[alive](text)
	if !ok || a.Start == r.start {
		return
	}
	r.s.hearClock(*a)
	r.s.rival.Store(time.Now().UnixNano())
	if r.twin.CompareAndSwap(false, true) {
		r.s.log.Error("another application server uses this store, each ends the registrations of the other: end one of them", "node", a.Node)
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
	if a.Node == r.own {
		return
	}
	r.s.hearClock(a)
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.Gone {
		delete(r.nodes, a.Node)
		return
	}
	r.nodes[a.Node] = time.Now()
	r.heardOf[a.Node] = time.Now()
}

// hear notes from when on gateways can be heard.
func (r *Remote) hear(from time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hearing = from
}

// silent returns how long a gateway was last heard ago, or could have been. Called with the
// mutex held.
func (r *Remote) silent(last time.Time) time.Duration {
	if last.Before(r.hearing) {
		last = r.hearing
	}
	return time.Since(last)
}

// bury fails the open transfers of gateways that were silent for long.
func (r *Remote) bury() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, node := range r.transfers {
		t, ok := r.table.Transfer(id)
		if !ok || !t.State.Open() || r.silent(r.heardOf[node]) < lostAfter {
			continue
		}
		if t, ok = t.Next(session.Fail, session.DaemonRestart, r.s.cfg.Now()); ok {
			r.s.log.Warn("a gateway is silent, its transfer counts as failed", "gateway", node, "transfer", id)
			r.table.PutTransfer(t)
		}
	}
}

// Nodes returns the gateways that are there, sorted; while the store is away, those that were.
func (r *Remote) Nodes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.nodes, func(_ string, at time.Time) bool { return r.silent(at) > deadAfter })
	return slices.Sorted(maps.Keys(r.nodes))
}

func (r *Remote) putRecord(key string, x session.Record) {
	if x.Gateway == r.own {
		return
	}
	r.mu.Lock()
	r.keys[key] = x.ID
	if r.heardOf[x.Gateway].IsZero() { // it is there unless it stays silent
		r.nodes[x.Gateway], r.heardOf[x.Gateway] = r.hearing, r.hearing
	}
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
	if x.Gateway == r.own {
		return
	}
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
