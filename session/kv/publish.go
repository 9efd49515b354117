package kv

import (
	"context"
	"log/slog"
	"reflect"
	"time"

	"scas/session"
)

// storedTransfer is what the transfers bucket holds.
type storedTransfer struct {
	Gateway  string           `json:"gateway"`
	Transfer session.Transfer `json:"transfer"`
}

// Sessions gives records whose positions are those of the moment of the call.
type Sessions interface {
	List() []session.Record
}

// orphanage is how long a session that ran when the last process ended may stay unseen
// before it counts as ended.
const orphanage = 5 * time.Minute

// Publish writes into the store what table tells until ctx ends: running sessions at each
// change of what they do, and every Config.Every with the position that live gives;
// transfers at every step; the history. What the last process of this node left is taken up
// first: its open transfers have failed (daemon-restart), its sessions end unless they are seen again.
func (s *Store) Publish(ctx context.Context, table *session.Table, live Sessions) error {
	p := &publisher{s: s, table: table, live: live, log: s.log, told: map[string]told{}, over: map[string]bool{}}
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		changes := table.Watch(ctx)
		p.takeUp(ctx)
		p.all()
		p.follow(ctx, changes, tick.C)
	}
	return nil
}

// publisher is Publish's memory. One goroutine owns it.
type publisher struct {
	s     *Store
	table *session.Table
	live  Sessions
	log   *slog.Logger
	taken bool
	stale bool            // the store may have come back with less
	told  map[string]told // running sessions, by id
	over  map[string]bool // transfers that ended and are in the history, by id; bounded by the table
}

// told is what the store knows of a session.
type told struct {
	record session.Record
	at     time.Time // written
	played bool      // in the history
	orphan time.Time // left by the last process and not seen since: when it counts as ended
}

// follow handles changes until the channel is closed: ctx ended, or it lagged behind.
func (p *publisher) follow(ctx context.Context, changes <-chan session.Change, tick <-chan time.Time) {
	for {
		era := p.s.connection()
		select {
		case <-era.Done():
			for _, t := range p.table.Transfers() { // steps may have got lost
				p.tell(t)
			}
			p.stale = true
			p.fill(ctx)
		case c, ok := <-changes:
			switch {
			case !ok:
				return
			case c.Record != nil:
				p.record(*c.Record)
			case c.Transfer != nil:
				p.transfer(*c.Transfer)
			}
		case <-tick:
			p.takeUp(ctx)
			p.fill(ctx)
			p.refresh()
		}
	}
}

// all reads the whole table, at the beginning and after it was too fast.
func (p *publisher) all() {
	for _, r := range p.table.List() {
		p.record(r)
	}
	there := map[string]bool{}
	for _, t := range p.table.Transfers() {
		there[t.ID] = true
		p.transfer(t)
	}
	for id := range p.over {
		if !there[id] {
			delete(p.over, id)
		}
	}
}

// record writes r when something but its position changed.
func (p *publisher) record(r session.Record) {
	t, known := p.told[r.ID]
	if r.State == session.Ended {
		if known || p.recent(r) {
			p.end(r, t)
		}
		return
	}
	if known && t.orphan.IsZero() && same(t.record, r) {
		return
	}
	t.orphan = time.Time{}
	p.write(r, t)
}

// recent reports whether a session that was never seen running may have ended just now:
// ended ones stay in the table for a while.
func (p *publisher) recent(r session.Record) bool {
	return p.taken && r.URL != nil && p.s.cfg.Now().Sub(r.Updated) < p.s.cfg.Every
}

// same reports whether a and b differ in nothing that is written at once.
func same(a, b session.Record) bool {
	steady := func(r session.Record) session.Record {
		r.Position, r.Updated, r.Lossy = nil, time.Time{}, false
		r.Tracks = append([]session.Track(nil), r.Tracks...)
		for i := range r.Tracks {
			r.Tracks[i].Packets, r.Tracks[i].Lost, r.Tracks[i].Jitter = 0, 0, 0
		}
		return r
	}
	return reflect.DeepEqual(steady(a), steady(b))
}

func (p *publisher) place(id string) place { return at(sessionsBucket, p.s.cfg.Node, id) }

// write writes a running session, and the history when it plays for the first time.
func (p *publisher) write(r session.Record, t told) {
	now := p.s.cfg.Now()
	if r.State == session.Playing && !t.played {
		t.played = true
		p.history(r.ID+"/"+Played, Entry{At: now, Event: Played, AoR: r.AoR, Session: &r})
	}
	t.record, t.at = r, now
	p.told[r.ID] = t
	p.check(put(p.s, p.place(r.ID), r, func(*session.Record) *session.Record { return &r }), "session", r.ID)
}

func (p *publisher) end(r session.Record, t told) {
	if t.played || r.URL != nil {
		p.history(r.ID+"/"+Over, Entry{At: r.Updated, Event: Over, AoR: r.AoR, Session: &r})
	}
	delete(p.told, r.ID)
	p.check(put(p.s, p.place(r.ID), nil, func(*session.Record) *session.Record { return nil }), "session", r.ID)
}

// refresh writes what moved on, what is old, and ends what nobody has seen again.
func (p *publisher) refresh() {
	now := p.s.cfg.Now()
	for _, r := range p.live.List() {
		t, ok := p.told[r.ID]
		if ok && t.orphan.IsZero() && r.State != session.Ended && (!reflect.DeepEqual(t.record, r) && r.State == session.Playing || now.Sub(t.at) > refreshRecord) {
			p.write(r, t)
		}
	}
	for id, t := range p.told {
		_, there := p.table.Get(id)
		if there || t.orphan.IsZero() || now.Before(t.orphan) {
			continue
		}
		r := t.record
		r.State = session.Ended
		p.end(r, t)
	}
}

// transfer tells t to the application servers, writes it, and the history when it has ended.
func (p *publisher) transfer(t session.Transfer) {
	p.tell(t)
	p.check(put(p.s, at(transfersBucket, p.s.cfg.Node, t.ID), t, func(there *storedTransfer) *storedTransfer {
		if there != nil && !there.Transfer.State.Open() && t.State.Open() {
			return there
		}
		return &storedTransfer{p.s.cfg.Node, t}
	}), "transfer", t.ID)
	if !t.State.Open() && !p.over[t.ID] {
		p.over[t.ID] = true
		e := Entry{At: p.s.cfg.Now(), Event: Moved, AoR: t.AoR, Transfer: &t}
		if t.Times.Ended != nil {
			e.At = *t.Times.Ended
		}
		p.history(t.ID+"/"+Moved, e)
	}
}

func (p *publisher) tell(t session.Transfer) {
	p.check(p.s.publishJSON(p.s.cfg.Prefix+".transfer", storedTransfer{p.s.cfg.Node, t}), "transfer", t.ID)
}

func (p *publisher) history(id string, e Entry) {
	e.Gateway = p.s.cfg.Node
	p.check(p.s.AppendLog(token(e.Gateway)+"/"+id, e), "entry", id)
}

func (p *publisher) check(err error, kind, id string) {
	if err != nil {
		p.log.Debug("not stored", "kind", kind, "id", id, "err", err)
	}
}

// fill writes again what a store that came back has lost.
func (p *publisher) fill(ctx context.Context) {
	if !p.stale || !p.taken {
		return
	}
	records, transfers, err := p.stored(ctx)
	if err != nil {
		return // next time
	}
	p.stale = false
	there := map[string]bool{}
	for _, r := range records {
		there[r.ID] = true
	}
	for _, x := range transfers {
		there[x.Transfer.ID] = true
	}
	for id, t := range p.told {
		if !there[id] {
			p.write(t.record, t)
		}
	}
	for _, t := range p.table.Transfers() {
		if !there[t.ID] {
			p.transfer(t)
		}
	}
}

// stored reads what the store has of this node.
func (p *publisher) stored(ctx context.Context) ([]session.Record, []storedTransfer, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*p.s.cfg.Timeout)
	defer cancel()
	records, err := list[session.Record](ctx, p.s, sessionsBucket, p.s.cfg.Node)
	if err != nil {
		return nil, nil, err
	}
	transfers, err := list[storedTransfer](ctx, p.s, transfersBucket, p.s.cfg.Node)
	return records, transfers, err
}

// takeUp takes up, once, what the last process of this node left.
func (p *publisher) takeUp(ctx context.Context) {
	if p.taken {
		return
	}
	records, transfers, err := p.stored(ctx)
	if err != nil {
		return // next time
	}
	p.taken = true
	now := p.s.cfg.Now()
	for _, r := range records {
		if _, ok := p.told[r.ID]; !ok {
			p.told[r.ID] = told{record: r, at: now, played: r.State == session.Playing || r.State == session.Paused, orphan: now.Add(orphanage)}
		}
	}
	for _, x := range transfers {
		if _, here := p.table.Transfer(x.Transfer.ID); here {
			continue
		}
		if t, ok := x.Transfer.Next(session.Fail, session.DaemonRestart, now); ok {
			p.transfer(t)
		}
	}
}
