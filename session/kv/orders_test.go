package kv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"scas/session"
)

// mover is a splicer that does what a test says.
type mover struct {
	table *session.Table
	mu    sync.Mutex
	moves []session.Order
	err   error
	yes   map[string]bool
	wait  chan struct{} // closed: Move goes on; nil: at once
}

func (m *mover) Move(ctx context.Context, o session.Order) (session.Transfer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moves = append(m.moves, o)
	if m.wait != nil {
		select {
		case <-m.wait:
		case <-ctx.Done():
			return session.Transfer{}, ctx.Err()
		}
	}
	if m.err != nil {
		return session.Transfer{}, m.err
	}
	t := transfer(fmt.Sprintf("%s-t%d", o.Session, len(m.moves)), session.Offered)
	t.Session, t.To = o.Session, o.To
	m.table.PutTransfer(t)
	return t, nil
}

func (m *mover) Answer(id string, yes bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.yes[id] = yes
	return m.err
}

func (m *mover) Cancel(id string) (session.Transfer, error) {
	t, ok := m.table.Transfer(id)
	if !ok {
		return t, &session.OrderError{Reason: session.NoSession, Text: "no transfer " + id}
	}
	t, _ = t.Next(session.Cancel, "", time.Now())
	m.table.PutTransfer(t)
	return t, nil
}

// fakeGateway is a gateway process: a table, a mover, both joined to the store.
type fakeGateway struct {
	*Store
	table *session.Table
	mover *mover
	stop  func()
}

func startGateway(t testing.TB, node string, urls ...string) *fakeGateway {
	t.Helper()
	table := session.NewTable()
	g := &fakeGateway{Store: member(t, node, urls...), table: table, mover: &mover{table: table, yes: map[string]bool{}}}
	halt := publish(t, g.Store, table, table)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.ServeOrders(ctx, g.mover, table) }()
	var once sync.Once
	g.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			halt()
		})
	}
	t.Cleanup(g.stop)
	return g
}

func (g *fakeGateway) put(id string) {
	r := record(id)
	r.Gateway = g.cfg.Node
	g.table.Put(r)
}

type fakeAS struct {
	*Remote
	table *session.Table
}

func startAS(t testing.TB, node string, urls ...string) *fakeAS {
	t.Helper()
	return runAS(t, member(t, node, urls...))
}

func runAS(t testing.TB, s *Store) *fakeAS {
	table := session.NewTable()
	as := &fakeAS{s.Remote(table, ""), table}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- as.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return as
}

func (as *fakeAS) sees(nodes, sessions int) func() bool {
	return func() bool { return len(as.Nodes()) == nodes && len(as.table.List()) == sessions }
}

func TestOrdersAcrossProcesses(t *testing.T) {
	d := startServer(t)
	gw1, gw2, as := startGateway(t, "gw1", d.url()), startGateway(t, "gw.2", d.url()), startAS(t, "as1", d.url())
	gw1.put("a")
	gw2.put("b")
	await(t, "both gateways", as.sees(2, 2))

	order := session.Order{Session: "b", To: session.Terminal{Name: "tv", IP: binding(1).IP}, Trigger: session.Pull, Confirm: true, RequirePosition: true}
	x, err := as.Move(t.Context(), order)
	if err != nil || x.State != session.Offered || x.To != order.To {
		t.Fatalf("%+v, %v", x, err)
	}
	if _, ok := as.table.Transfer(x.ID); !ok {
		t.Error("the transfer is not in the table")
	}
	if len(gw1.mover.moves) != 0 || len(gw2.mover.moves) != 1 || gw2.mover.moves[0] != order {
		t.Errorf("orders %+v, %+v", gw1.mover.moves, gw2.mover.moves)
	}
	if err := as.Answer(x.ID, true); err != nil || !gw2.mover.yes[x.ID] {
		t.Errorf("answer: %v", err)
	}
	if x, err = as.Cancel(x.ID); err != nil || x.State != session.Cancelled {
		t.Errorf("cancel: %+v, %v", x, err)
	}
	await(t, "the end is told", func() bool { got, _ := as.table.Transfer(x.ID); return got.State == session.Cancelled })

	gw2.put("c")
	r := record("c")
	r.Gateway, r.State = "gw.2", session.Ended
	gw2.table.Put(r)
	await(t, "an ended session leaves", as.sees(2, 2))
}

func TestOrderErrors(t *testing.T) {
	d := startServer(t)
	as := startAS(t, "as1", d.url())
	if _, err := as.Move(t.Context(), session.Order{}); !errors.Is(err, ErrNoGateway) {
		t.Errorf("without a gateway: %v", err)
	}
	gw := startGateway(t, "gw1", d.url())
	gw.put("a")
	await(t, "gateway", as.sees(1, 1))
	if _, err := as.Move(t.Context(), session.Order{Session: "zz"}); reasonOf(err) != session.NoSession {
		t.Errorf("unknown session: %v", err)
	}
	if err := as.Answer("zz", true); reasonOf(err) != session.NoSession {
		t.Errorf("unknown transfer: %v", err)
	}
	if _, err := as.Cancel("zz"); reasonOf(err) != session.NoSession {
		t.Errorf("unknown transfer: %v", err)
	}
	gw.mover.err = &session.OrderError{Reason: session.SameTerminal, Text: "it is there already"}
	if _, err := as.Move(t.Context(), session.Order{Session: "a"}); reasonOf(err) != session.SameTerminal || err.Error() != "it is there already" {
		t.Errorf("refused: %v", err)
	}
	gw.mover.err = errors.New("arm target: broken")
	if _, err := as.Move(t.Context(), session.Order{Session: "a"}); reasonOf(err) != "" || err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("fault: %v", err)
	}
	gw.mover.err, gw.mover.wait = nil, make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := as.Move(ctx, session.Order{Session: "a"}); !errors.Is(err, ErrNoGateway) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("too slow: %v", err)
	}
	close(gw.mover.wait)
	gw.stop()
	await(t, "it has left", func() bool { return len(as.Nodes()) == 0 })
	if _, err := as.Move(t.Context(), session.Order{Session: "a"}); !errors.Is(err, ErrNoGateway) {
		t.Errorf("gateway has left: %v", err)
	}
}

func TestMoveWithoutSession(t *testing.T) {
	d := startServer(t)
	as, gw1, gw2 := startAS(t, "as1", d.url()), startGateway(t, "gw1", d.url()), startGateway(t, "gw2", d.url())
	await(t, "gateways", as.sees(2, 0))
	gw1.mover.err = &session.OrderError{Reason: session.NoSession, Text: "nothing plays"}
	if _, err := as.Move(t.Context(), session.Order{To: session.Terminal{IP: binding(1).IP}}); err != nil {
		t.Fatal(err)
	}
	if len(gw2.mover.moves) != 1 {
		t.Error("the second gateway was not asked")
	}
	for _, c := range []struct{ one, two, want session.Reason }{
		{session.Offline, session.NoSession, session.Offline}, {session.NoSession, session.SameTerminal, session.SameTerminal},
		{session.Busy, session.NoSession, session.Busy},
	} {
		gw1.mover.err, gw2.mover.err = &session.OrderError{Reason: c.one}, &session.OrderError{Reason: c.two}
		if _, err := as.Move(t.Context(), session.Order{}); reasonOf(err) != c.want {
			t.Errorf("%s and %s: %v", c.one, c.two, err)
		}
	}
}

// livePositions gives positions that are in no table.
type livePositions struct{ *session.Table }

func (l livePositions) List() []session.Record {
	all := l.Table.List()
	for i := range all {
		all[i].Position = &session.Position{NPT: session.Ptr(77.0)}
	}
	return all
}

// TestListIsFreshAndWhole lists more sessions than one message holds.
func TestListIsFreshAndWhole(t *testing.T) {
	d := startServer(t)
	s, as := member(t, "gw1", d.url()), startAS(t, "as1", d.url())
	table := session.NewTable()
	for i := range 3000 {
		table.Put(record(fmt.Sprint("s", i)))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.ServeOrders(ctx, &mover{}, livePositions{table}) }()
	defer func() { cancel(); <-done }()
	await(t, "gateway", as.sees(1, 0))
	var all []session.Record
	await(t, "list", func() bool { all = as.List(); return len(all) == 3000 })
	for _, r := range all {
		if r.Position == nil || *r.Position.NPT != 77 {
			t.Fatalf("%+v", r)
		}
	}
	if _, ok := as.Get("s2999"); !ok {
		t.Error("one is not found")
	}
}

// TestTwoProcessesDie: an application server and a gateway go away and come back.
func TestTwoProcessesDie(t *testing.T) {
	d := startServer(t)
	gw := startGateway(t, "gw1", d.url())
	gw.put("a")
	first := startAS(t, "as1", d.url())
	await(t, "gateway", first.sees(1, 1))
	x, err := first.Move(t.Context(), session.Order{Session: "a"})
	if err != nil {
		t.Fatal(err)
	}
	first.s.nc.Close() // killed: it says nothing

	second := startAS(t, "as1", d.url())
	await(t, "its start", func() bool {
		select {
		case <-second.Filled():
			return true
		default:
			return false
		}
	})
	if len(second.Published()) != 1 {
		t.Error("a gateway that nobody has heard yet counts as dead")
	}
	await(t, "all of it", second.sees(1, 1))
	await(t, "the open transfer", func() bool { got, ok := second.table.Transfer(x.ID); return ok && got.State == session.Offered })
	if err := second.Answer(x.ID, false); err != nil {
		t.Error(err)
	}

	gw.nc.Close()
	await(t, "the gateway counts as dead", func() bool { return len(second.Nodes()) == 0 })
	again := startGateway(t, "gw1", d.url())
	await(t, "its open transfer failed", func() bool {
		got, _ := second.table.Transfer(x.ID)
		return got.State == session.Failed && *got.Reason == session.DaemonRestart
	})
	again.put("b")
	await(t, "it is back", func() bool { _, ok := second.table.Get("b"); return ok && len(second.Nodes()) == 1 })
}

func TestTwoGatewaysOfOneName(t *testing.T) {
	d := startServer(t)
	s := member(t, "gw1", d.url())
	o := &orderService{s: s, start: "x"}
	for text, twin := range map[string]bool{
		`{"node":"gw2","start":"y"}`: false, `{"node":"gw1","start":"x"}`: false, `{"node":"gw1","start":"y","gone":true}`: false,
		`{"node":"gw1","start":"y"}`: true, `broken`: false,
	} {
		o.twin = false
		o.compare([]byte(text))
		if o.twin != twin {
			t.Errorf("%s: %v", text, o.twin)
		}
	}
}

func TestTwoApplicationServers(t *testing.T) {
	d := startServer(t)
	two := startAS(t, "as2", d.url())
	two.compare([]byte(`broken`))
	two.compare([]byte(`{"node":"as2","start":"` + two.start + `"}`))
	if two.twin.Load() {
		t.Error("it takes itself for another")
	}
	startAS(t, "as1", d.url())
	await(t, "the other one is noticed", two.twin.Load)
}

// TestTransferStepsForward tells the steps of a transfer twice and out of order.
func TestTransferStepsForward(t *testing.T) {
	table := session.NewTable()
	r := embeddedStore(t, t.TempDir()).Remote(table, "")
	changes := table.Watch(t.Context())
	tell := []session.TransferState{session.Armed, session.Offered, session.Attached, session.Armed, session.Attached, session.Done, session.Committed, session.Done}
	for _, state := range tell {
		r.putTransfer("k", storedTransfer{"gw1", transfer("t1", state)})
	}
	for _, want := range []session.TransferState{session.Armed, session.Attached, session.Done} {
		if c := <-changes; c.Transfer.State != want {
			t.Errorf("%s, want %s", c.Transfer.State, want)
		}
	}
	if len(changes) != 0 {
		t.Errorf("%d more changes", len(changes))
	}
	r.goneTransfer("k")
	if _, ok := table.Transfer("t1"); ok {
		t.Error("it stays for ever")
	}
}
