package kv

import (
	"slices"
	"testing"
	"time"

	"scas/session"
)

// TestClusterNodeStopped has three servers, a gateway and an application server on them, and
// stops, in the middle of a move, the server the gateway is connected to: the move goes on, nothing is lost.
func TestClusterNodeStopped(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	nodes := startCluster(t)
	gw := startGateway(t, "gw1", nodes[0].url(), nodes[1].url(), nodes[2].url())
	as := startAS(t, "as1", nodes[1].url(), nodes[2].url())
	for i := range 20 {
		gw.PutBinding(t.Context(), binding(i))
	}
	gw.put("a")
	await(t, "the gateway is seen", as.sees(1, 1))
	flush(t, gw.Store)
	numbers := make([]int, 20)
	for i := range numbers {
		numbers[i] = i
	}
	g := watch(t, as.s)
	await(t, "bindings", g.has(numbers...))

	x, err := as.Move(t.Context(), session.Order{Session: "a"})
	if err != nil {
		t.Fatal(err)
	}
	connected := slices.IndexFunc(nodes, func(n *natsd) bool { return n.url() == gw.nc.ConnectedUrl() })
	nodes[connected].stop()
	began := time.Now()
	state := func(want session.TransferState) func() bool {
		return func() bool { got, _ := as.table.Transfer(x.ID); return got.State == want }
	}
	for _, ev := range []session.Event{session.Confirmed, session.StartRequest, session.TargetPlays, session.OriginGone} {
		x, _ = x.Next(ev, "", time.Now())
		gw.table.PutTransfer(x)
	}
	await(t, "the end of the move", state(session.Done))
	t.Logf("server %d stopped; the end was seen after %v", connected+1, time.Since(began))

	gw.PutBinding(t.Context(), binding(20))
	await(t, "a binding after it", g.has(append(numbers, 20)...))
	await(t, "orders", func() bool {
		x, err = as.Move(t.Context(), session.Order{Session: "a"})
		return err == nil
	})

	nodes[connected].start()
	gw.PutBinding(t.Context(), binding(21))
	await(t, "a binding with all three", g.has(append(numbers, 20, 21)...))
	await(t, "history", func() bool {
		all, err := gw.Log(t.Context(), Filter{Event: Moved})
		return err == nil && len(all) == 1
	})
	h, err := gw.handles(t.Context())
	if err != nil || h.log.CachedInfo().Config.Replicas != 3 {
		t.Errorf("%d copies, %v", h.log.CachedInfo().Config.Replicas, err)
	}
}

// TestClusterWithoutQuorum stops two of three: writes wait, and happen when one is back.
func TestClusterWithoutQuorum(t *testing.T) {
	if testing.Short() {
		t.Skip("three servers")
	}
	nodes := startCluster(t)
	s := member(t, "gw1", nodes[0].url(), nodes[1].url(), nodes[2].url())
	s.PutBinding(t.Context(), binding(0))
	flush(t, s)
	nodes[1].stop()
	nodes[2].stop()
	for i := range 10 {
		began := time.Now()
		if err := s.PutBinding(t.Context(), binding(i+1)); err != nil || time.Since(began) > time.Second {
			t.Fatal(err, time.Since(began))
		}
	}
	if _, err := s.Bindings(t.Context()); err == nil {
		t.Log("a read was served without a quorum")
	}
	nodes[1].start()
	flush(t, s)
	await(t, "all eleven", func() bool {
		got, err := s.Bindings(t.Context())
		return err == nil && len(got) == 11
	})
}
