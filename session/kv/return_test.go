package kv

import (
	"context"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"scas/session"
)

// TestStoreReturnsEmpty: the server lost its files. What gateways have open stays so until the
// application server has written it again; sessions and transfers are written again.
func TestStoreReturnsEmpty(t *testing.T) {
	d := startServer(t)
	as, table := member(t, "as1", d.url()), session.NewTable()
	var ahead atomic.Int64
	c := testConfig("gw1")
	c.Servers, c.Now = []string{d.url()}, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	gw := open(t, c)
	for i := range 3 {
		if err := as.PutBinding(t.Context(), binding(i)); err != nil {
			t.Fatal(err)
		}
	}
	table.Put(record("s1"))
	table.PutTransfer(transfer("t1", session.Armed))
	publish(t, gw, table, table)
	flush(t, as)
	await(t, "all of it", func() bool { return len(stored(t, as)) == 1 })
	g, returned := watch(t, gw), as.Returned(t.Context())
	await(t, "bindings", g.has(0, 1, 2))

	d.stop()
	if err := os.RemoveAll(d.opts.StoreDir); err != nil {
		t.Fatal(err)
	}
	d.start()
	select {
	case <-returned:
	case <-time.After(patience):
		t.Fatal("nobody is told")
	}
	await(t, "it is empty", func() bool { all, err := as.Bindings(t.Context()); return err == nil && len(all) == 0 })
	for i := range 2 { // the third one is gone
		if err := as.PutBinding(t.Context(), binding(i)); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, as)
	await(t, "the session", func() bool { // its bucket may be the last to be there again
		all, err := list[session.Record](t.Context(), as, sessionsBucket)
		return err == nil && len(all) == 1
	})
	await(t, "the transfer", func() bool {
		all, err := list[storedTransfer](t.Context(), as, transfersBucket)
		return err == nil && len(all) == 1
	})
	if !g.has(0, 1, 2)() {
		t.Error("closed at once")
	}
	await(t, "told again", func() bool { g.mu.Lock(); defer g.mu.Unlock(); return g.puts >= 5 })
	ahead.Store(int64(2 * refillAll))
	await(t, "what nobody wrote again is gone", g.has(0, 1))
}

// TestFollowAnotherStore: a store that counts from the beginning again has other values under the
// same revisions.
func TestFollowAnotherStore(t *testing.T) {
	told, names := map[string]revision{}, []string{}
	for i := range 2 {
		s, b := embeddedStore(t, t.TempDir()), binding(0)
		b.Name = strconv.Itoa(i)
		if err := s.PutBinding(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		flush(t, s)
		for range 2 { // the second time it is known
			ctx, cancel := context.WithCancel(t.Context())
			_ = followOnce(ctx, s.connection(), s, bindingsBucket, told, follower[session.Binding]{
				put:     func(_ string, b session.Binding) { names = append(names, b.Name) },
				gone:    func(string) { t.Error("gone") },
				current: func(bool) { cancel() },
			})
			cancel()
		}
	}
	if !slices.Equal(names, []string{"0", "1"}) {
		t.Errorf("told %q", names)
	}
}

// TestSilentGateway: its open transfers fail, unless nobody can be heard.
func TestSilentGateway(t *testing.T) {
	table := session.NewTable()
	r := embeddedStore(t, t.TempDir()).Remote(table, "gw9")
	for _, id := range []string{"t1", "t2"} {
		r.putTransfer(id, storedTransfer{"gw-" + id, transfer(id, session.Attached)})
	}
	r.putTransfer("t3", storedTransfer{"gw9", transfer("t3", session.Attached)}) // of this process
	r.putRecord("s9", session.Record{ID: "s9", Gateway: "gw9"})
	r.heard([]byte(`{"node":"gw-t2"}`))
	r.heard([]byte(`{"node":"gw9"}`))
	states := func() (all []session.TransferState) {
		for _, x := range table.Transfers() {
			all = append(all, x.State)
		}
		return all
	}
	r.hear(time.Now().Add(-lostAfter / 2))
	if r.bury(); !slices.Equal(states(), []session.TransferState{session.Attached, session.Attached}) {
		t.Errorf("too soon: %v", states())
	}
	r.hear(time.Now().Add(-2 * lostAfter))
	if r.bury(); !slices.Equal(states(), []session.TransferState{session.Failed, session.Attached}) {
		t.Errorf("%v", states())
	}
	if !slices.Equal(r.Nodes(), []string{"gw-t2"}) || len(table.List()) != 0 {
		t.Errorf("%v %v", r.Nodes(), table.List())
	}
	r.putTransfer("t1", storedTransfer{"gw-t1", transfer("t1", session.Done)}) // it was only cut off
	if states()[0] != session.Done {
		t.Errorf("%v", states())
	}
}

func TestBare(t *testing.T) {
	if got := bare([]string{"nats://scas:secret@192.0.2.1:4222", "tls://x", "nats://token@y", "%"}); !slices.Equal(got,
		[]string{"nats://192.0.2.1:4222", "tls://x", "nats://y", "a URL that cannot be read"}) {
		t.Error(got)
	}
}
