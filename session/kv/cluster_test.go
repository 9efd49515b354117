package kv

import (
	"testing"
	"time"

	"scas/session"
)

// TestClusterNodeStopped has three servers, a gateway and an application server on them. In
// the middle of a move the server that the gateway is connected to and that leads the
// transfers is stopped, or killed: the move goes on, nothing is lost.
func TestClusterNodeStopped(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(map[bool]string{false: "stopped", true: "killed"}[killed], func(t *testing.T) { testClusterNodeStopped(t, killed) })
	}
}

func testClusterNodeStopped(t *testing.T, killed bool) {
	nodes := startCluster(t, killed)
	gw := startGateway(t, "gw1", nodes[2].url()) // it learns of the others
	as := startAS(t, "as1", nodes[0].url(), nodes[1].url())
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
	lead(t, as.s, bindingsBucket, "n3")
	lead(t, as.s, transfersBucket, "n3")

	x, err := as.Move(t.Context(), session.Order{Session: "a"})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if killed {
		nodes[2].kill()
	} else {
		nodes[2].stop()
	}
	for _, ev := range []session.Event{session.Confirmed, session.StartRequest, session.TargetPlays, session.OriginGone} {
		x, _ = x.Next(ev, "", time.Now())
		gw.table.PutTransfer(x)
	}
	await(t, "the end of the move", func() bool { got, _ := as.table.Transfer(x.ID); return got.State == session.Done })
	t.Logf("the end of the move was seen %v after the stop", time.Since(began))

	gw.PutBinding(t.Context(), binding(20))
	await(t, "a binding after it", g.has(append(numbers, 20)...))
	t.Logf("a binding was seen %v after the stop", time.Since(began))
	await(t, "orders", func() bool {
		_, err = as.Move(t.Context(), session.Order{Session: "a"})
		return err == nil
	})

	if killed {
		nodes[2].startApart()
	} else {
		nodes[2].start()
	}
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

// lead makes the server called name the leader of a bucket.
func lead(t *testing.T, s *Store, bucket, name string) {
	t.Helper()
	stream := "KV_" + s.bucketName(bucket)
	await(t, name+" leads "+bucket, func() bool {
		st, err := s.js.Stream(t.Context(), stream)
		if err != nil {
			return false
		}
		if c := st.CachedInfo().Cluster; c != nil && c.Leader == name {
			return true
		}
		s.nc.Request("$JS.API.STREAM.LEADER.STEPDOWN."+stream, []byte(`{"placement":{"preferred":"`+name+`"}}`), time.Second)
		return false
	})
}

// TestClusterWithoutQuorum stops two of three: writes wait, and happen when one is back.
func TestClusterWithoutQuorum(t *testing.T) {
	nodes := startCluster(t, false)
	s := member(t, "gw1", nodes[0].url(), nodes[1].url(), nodes[2].url())
	s.PutBinding(t.Context(), binding(0))
	flush(t, s)
	nodes[1].stop()
	nodes[2].stop()
	began := time.Now()
	for i := range 10 {
		if err := s.PutBinding(t.Context(), binding(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > patience { // each would wait for seconds
		t.Errorf("10 writes waited %v for the store", took)
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
