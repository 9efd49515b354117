package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"scas/session"
	"scas/session/kv"
)

// testMover is the splicer of a gateway that moves what is in its table.
type testMover struct {
	name  string
	table *session.Table
}

func (m testMover) Move(_ context.Context, o session.Order) (session.Transfer, error) {
	if o.Session == "" && len(m.table.List()) == 0 {
		return session.Transfer{}, &session.OrderError{Reason: session.NoSession, Text: "nothing plays at " + m.name}
	}
	x := session.Transfer{ID: "t-" + m.name, State: session.Armed, To: o.To}
	m.table.PutTransfer(x)
	return x, nil
}

func (m testMover) Answer(id string, _ bool) error {
	return errors.New(m.name + " has the answer to " + id)
}

func (m testMover) Cancel(id string) (session.Transfer, error) {
	return session.Transfer{ID: id, State: session.Cancelled, URL: m.name}, nil
}

// where gives sessions whose URL says which way they came.
type where struct {
	*session.Table
	way string
}

func (w where) List() []session.Record {
	all := w.Table.List()
	for i := range all {
		all[i].URL = &w.way
	}
	return all
}

func (w where) Get(id string) (session.Record, bool) {
	r, ok := w.Table.Get(id)
	r.URL = &w.way
	return r, ok
}

// testGateway is a gateway in another process, as the store shows it.
func testGateway(t *testing.T, url, name string) (*session.Table, func()) {
	t.Helper()
	table, store := session.NewTable(), testStore(t, url, name)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = store.Publish(ctx, table, table) })
	all.Go(func() { _ = store.ServeOrders(ctx, testMover{name, table}, where{table, "asked"}) })
	stop := sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(stop)
	return table, stop
}

func testStore(t *testing.T, url, name string) *kv.Store {
	t.Helper()
	cfg := kv.DefaultConfig()
	cfg.Node, cfg.Servers = name, []string{url}
	store, err := kv.Open(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// TestEverywhere: a process that is gateway and application server sees and orders what is here
// before what is elsewhere, and one that is no gateway the rest.
func TestEverywhere(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("no store")
	}
	there, leave := testGateway(t, s.ClientURL(), "gw2")
	here, _ := testGateway(t, s.ClientURL(), "gw1")
	film := func(gateway, id string, began int64) session.Record {
		return session.Record{ID: id, Gateway: gateway, State: session.Playing, Started: time.Unix(began, 0).UTC(), Terminal: session.Terminal{IP: netip.MustParseAddr("10.0.0.1")}}
	}
	remote := testStore(t, s.ClientURL(), "gw1-as").Remote(session.NewTable(), "gw1")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- remote.Run(ctx) }()
	defer func() { cancel(); <-done }()
	both := &everywhere{table: here, live: where{here, "live"}, splicer: testMover{"gw1", here}, remote: remote, tables: []*session.Table{here, remote.Table()}}
	alone := &everywhere{remote: remote, tables: both.tables[1:]}
	changes := both.Watch(ctx)

	there.Put(film("gw2", "a", 1))
	list := func(from interface{ List() []session.Record }) string {
		var words []string
		for _, r := range from.List() {
			words = append(words, r.ID)
			if r.URL != nil {
				words = append(words, *r.URL)
			}
		}
		return strings.Join(words, " ")
	}
	await(t, opening, "the other gateway", func() bool { return list(both) == "a" })
	if x, err := both.Move(ctx, session.Order{}); err != nil || x.ID != "t-gw2" {
		t.Errorf("nothing plays here: %+v, %v", x, err)
	}
	here.Put(film("gw1", "b", 2))
	for from, want := range map[interface{ List() []session.Record }]string{both: "a b", fresh{both}: "a asked b live", alone: "a", fresh{alone}: "a asked"} {
		if got := list(from); got != want {
			t.Errorf("listed %q, want %q", got, want)
		}
	}
	for id, want := range map[string]string{"a": "asked", "b": "live"} {
		if r, ok := both.Get(id); !ok || *r.URL != want {
			t.Errorf("%s: %v %+v", id, ok, r)
		}
		if x, err := both.Move(ctx, session.Order{Session: id}); err != nil || x.ID != map[string]string{"a": "t-gw2", "b": "t-gw1"}[id] {
			t.Errorf("%s: %+v, %v", id, x, err)
		}
	}
	if x, err := both.Move(ctx, session.Order{}); err != nil || x.ID != "t-gw1" {
		t.Errorf("%+v, %v", x, err)
	}
	for _, name := range []string{"gw1", "gw2"} {
		await(t, opening, "its transfer", func() bool { _, ok := both.Transfer("t-" + name); return ok })
		if err := both.Answer("t-"+name, true); err == nil || !strings.Contains(err.Error(), name+" has the answer") {
			t.Errorf("%s: %v", name, err)
		}
		if x, err := both.Cancel("t-" + name); err != nil || x.URL != name {
			t.Errorf("%s: %+v, %v", name, x, err)
		}
	}
	if all := both.Transfers(); len(all) != 2 || all[0].ID != "t-gw1" || len(alone.Transfers()) != 1 {
		t.Errorf("%+v", all)
	}
	seen := map[string]bool{}
	for !seen["a"] || !seen["b"] || !seen["t-gw1"] || !seen["t-gw2"] {
		select {
		case c := <-changes:
			if c.Record != nil {
				seen[c.Record.ID] = true
			} else {
				seen[c.Transfer.ID] = true
			}
		case <-time.After(opening):
			t.Fatalf("told %v", seen)
		}
	}

	leave()
	await(t, opening, "it has left", func() bool { return list(both) == "b" })
	var refused *session.OrderError
	if _, err := alone.Move(ctx, session.Order{Session: "a"}); !errors.As(err, &refused) || refused.Reason != session.DaemonRestart || !strings.Contains(err.Error(), "gateway gw2 does not answer") {
		t.Errorf("%v", err)
	}
	if err := alone.Answer("t-gw2", true); !errors.As(err, &refused) || refused.Reason != session.DaemonRestart {
		t.Errorf("%v", err)
	}
}
