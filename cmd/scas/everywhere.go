package main

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"scas/admin"
	"scas/session"
	"scas/session/kv"
	"scas/sip"
)

// everywhere is all that this process sees and can order: the sessions and transfers of the
// gateway that it is, those of the gateways in other processes, or both.
type everywhere struct {
	table   *session.Table   // of the gateway here; nil: it is none
	live    admin.Sessions   // the same with positions of the moment
	splicer sip.Mover        // carries out its orders
	remote  *kv.Remote       // the gateways in other processes; nil: none count
	tables  []*session.Table // of both
}

func (n *node) all() *everywhere {
	all := &everywhere{}
	if n.cfg.watches() {
		all.table, all.live, all.splicer = n.table, liveSessions{n.live, n.now}, n.splicer
		all.tables = append(all.tables, n.table)
	}
	if n.remote != nil {
		all.remote = n.remote
		all.tables = append(all.tables, n.remote.Table())
	}
	return all
}

// List returns all sessions as they were last written, the oldest first; those of a gateway
// that is silent are left out.
func (a *everywhere) List() []session.Record { return a.gather(a.table, (*kv.Remote).Published) }

func (a *everywhere) gather(here interface{ List() []session.Record }, there func(*kv.Remote) []session.Record) (all []session.Record) {
	if a.table != nil {
		all = here.List()
	}
	if a.remote == nil {
		return all
	}
	if all = append(all, there(a.remote)...); a.table != nil {
		slices.SortStableFunc(all, func(a, b session.Record) int {
			return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
		})
	}
	return all
}

// Get returns one session, with its position as of now.
func (a *everywhere) Get(id string) (session.Record, bool) {
	if a.table != nil {
		if r, ok := a.live.Get(id); ok || a.remote == nil {
			return r, ok
		}
	}
	return a.remote.Get(id)
}

// fresh is everywhere with the positions of the moment in lists as well.
type fresh struct{ *everywhere }

// List returns all sessions, the oldest first.
func (f fresh) List() []session.Record { return f.gather(f.live, (*kv.Remote).List) }

// Transfers returns all transfers, the oldest first.
func (a *everywhere) Transfers() (all []session.Transfer) {
	for _, t := range a.tables {
		all = append(all, t.Transfers()...)
	}
	slices.SortStableFunc(all, func(a, b session.Transfer) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Transfer returns one transfer.
func (a *everywhere) Transfer(id string) (x session.Transfer, ok bool) {
	for _, t := range a.tables {
		if x, ok = t.Transfer(id); ok {
			break
		}
	}
	return x, ok
}

// Watch returns every change of sessions and transfers, as session.Table does.
func (a *everywhere) Watch(ctx context.Context) <-chan session.Change {
	if len(a.tables) == 1 {
		return a.tables[0].Watch(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	first, second := a.tables[0].Watch(ctx), a.tables[1].Watch(ctx)
	out := make(chan session.Change)
	go func() {
		defer close(out)
		defer cancel() // a reader that one table has cut off has to read both again
		for {
			var c session.Change
			var ok bool
			select {
			case c, ok = <-first:
			case c, ok = <-second:
			}
			if !ok {
				return
			}
			select {
			case out <- c:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// Move starts a transfer at the gateway that has the session; without a session, at the one
// that has something to move. Errors as of the splicer; daemon-restart when the gateway that
// has the session does not answer.
func (a *everywhere) Move(ctx context.Context, o session.Order) (session.Transfer, error) {
	if a.table == nil {
		return said(a.remote.Move(ctx, o))
	}
	_, here := a.table.Get(o.Session)
	if a.remote == nil || here {
		return a.splicer.Move(ctx, o)
	}
	if o.Session != "" {
		return said(a.remote.Move(ctx, o))
	}
	t, err := a.splicer.Move(ctx, o)
	if err == nil || !kv.Elsewhere(err) {
		return t, err
	}
	if t, other := said(a.remote.Move(ctx, o)); other == nil {
		return t, nil
	}
	return t, err
}

// Answer takes the answer of the target's user to an offer. Errors as for Move.
func (a *everywhere) Answer(id string, yes bool) error {
	if a.has(id) {
		return a.splicer.Answer(id, yes)
	}
	_, err := said(session.Transfer{}, a.remote.Answer(id, yes))
	return err
}

// Cancel ends a transfer that has not been committed, and returns it. Errors as for Move.
func (a *everywhere) Cancel(id string) (session.Transfer, error) {
	if a.has(id) {
		return a.splicer.Cancel(id)
	}
	return said(a.remote.Cancel(id))
}

// has reports whether a transfer is the affair of the gateway here.
func (a *everywhere) has(id string) bool {
	if a.remote == nil || a.table == nil {
		return a.remote == nil
	}
	_, ok := a.table.Transfer(id)
	return ok
}

// said makes a gateway that does not answer a reason of the contract.
func said(t session.Transfer, err error) (session.Transfer, error) {
	if errors.Is(err, kv.ErrNoGateway) {
		err = &session.OrderError{Reason: session.DaemonRestart, Text: err.Error()}
	}
	return t, err
}
