package kv

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"scas/session"
)

// publish runs Publish until the returned function is called.
func publish(t testing.TB, s *Store, table *session.Table, live Sessions) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Publish(ctx, table, live)
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func stored(t testing.TB, s *Store) []session.Record {
	t.Helper()
	r, err := list[session.Record](t.Context(), s, sessionsBucket)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// history returns the entries of a session or transfer, as "event id".
func history(t testing.TB, s *Store) []string {
	t.Helper()
	entries, err := s.Log(t.Context(), Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		switch {
		case e.Session != nil:
			out = append(out, e.Event+" "+e.Session.ID)
		case e.Transfer != nil:
			out = append(out, fmt.Sprint(e.Event, " ", e.Transfer.ID, " ", e.Transfer.State))
		}
	}
	slices.Sort(out)
	return out
}

func TestPublishSession(t *testing.T) {
	s := embeddedStore(t, t.TempDir())
	table := session.NewTable()
	r := record("s1")
	r.State = session.Setup
	table.Put(r)
	publish(t, s, table, table)
	await(t, "what was there", func() bool { return len(stored(t, s)) == 1 })

	r.State = session.Playing
	table.Put(r)
	await(t, "change of state", func() bool { return stored(t, s)[0].State == session.Playing })
	r.Position = &session.Position{NPT: session.Ptr(12.5), Source: session.SourceRTP, At: time.Now()}
	table.Put(r)
	await(t, "position, by and by", func() bool {
		p := stored(t, s)[0].Position
		return p != nil && *p.NPT == 12.5
	})
	r.State = session.Ended
	table.Put(r)
	await(t, "end", func() bool { return len(stored(t, s)) == 0 })
	await(t, "history", func() bool { return slices.Equal(history(t, s), []string{"end s1", "play s1"}) })
}

// TestPublishWritesSeldom: a thousand new positions are few writes.
func TestPublishWritesSeldom(t *testing.T) {
	c := testConfig("gw1")
	c.Dir, c.Every = t.TempDir(), time.Hour
	s := open(t, c)
	table := session.NewTable()
	publish(t, s, table, table)
	r := record("s1")
	for i := range 1000 {
		r.Position = &session.Position{NPT: session.Ptr(float64(i))}
		r.Tracks[0].Packets++
		table.Put(r)
		if i%100 == 0 {
			await(t, "first", func() bool { return s.Stats()["writes"] >= 2 })
		}
	}
	r.State = session.Paused
	table.Put(r)
	await(t, "pause", func() bool { l := stored(t, s); return len(l) == 1 && l[0].State == session.Paused })
	flush(t, s)
	if n := s.Stats()["writes"]; n != 3 { // play, its entry, pause
		t.Errorf("%d writes, want 3", n)
	}
}

func TestPublishTransfer(t *testing.T) {
	s := embeddedStore(t, t.TempDir())
	table := session.NewTable()
	publish(t, s, table, table)
	for _, state := range []session.TransferState{session.Armed, session.Attached, session.Committed, session.Done} {
		table.PutTransfer(transfer("t1", state))
		await(t, string(state), func() bool {
			l, err := list[storedTransfer](t.Context(), s, transfersBucket)
			return err == nil && len(l) == 1 && l[0].Transfer.State == state && l[0].Gateway == "gw1"
		})
	}
	await(t, "history", func() bool { return slices.Equal(history(t, s), []string{"transfer t1 done"}) })
}

// TestPublishAfterRestart leaves two sessions and an open transfer behind. One session is
// seen again, the other is not.
func TestPublishAfterRestart(t *testing.T) {
	dir := t.TempDir()
	s := embeddedStore(t, dir)
	table := session.NewTable()
	stop := publish(t, s, table, table)
	r1, r2 := record("s1"), record("s2")
	table.Put(r1)
	table.Put(r2)
	table.PutTransfer(transfer("t1", session.Attached))
	table.PutTransfer(transfer("t2", session.Done))
	await(t, "all", func() bool { return len(stored(t, s)) == 2 && len(history(t, s)) == 3 })
	stop()
	s.Close()

	later := time.Duration(0)
	c := testConfig("gw1")
	c.Dir = dir
	c.Now = func() time.Time { return time.Now().Add(later) }
	s = open(t, c)
	table = session.NewTable()
	table.Put(r1)
	stop = publish(t, s, table, table)
	want := []string{"play s1", "play s2", "transfer t1 failed", "transfer t2 done"}
	await(t, "transfer has failed", func() bool { return slices.Equal(history(t, s), want) })
	l, err := list[storedTransfer](t.Context(), s, transfersBucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range l {
		if x.Transfer.ID == "t1" && (x.Transfer.Reason == nil || *x.Transfer.Reason != session.DaemonRestart) {
			t.Errorf("%+v", x.Transfer)
		}
	}
	if len(stored(t, s)) != 2 {
		t.Error("a session was given up at once")
	}
	stop()

	p := &publisher{s: s, table: table, live: table, log: s.log, told: map[string]told{}, over: map[string]bool{}}
	p.takeUp(t.Context())
	p.all()
	later = 2 * orphanage
	p.refresh()
	flush(t, s)
	if got := history(t, s); !slices.Equal(got, append([]string{"end s2"}, want...)) {
		t.Errorf("%q", got)
	}
	if l := stored(t, s); len(l) != 1 || l[0].ID != "s1" {
		t.Errorf("%+v", l)
	}
}

// TestPublishDeadStore: nothing waits for a store that is away, and its record is right again afterwards.
func TestPublishDeadStore(t *testing.T) {
	d := startServer(t)
	s := member(t, "gw1", d.url())
	table := session.NewTable()
	publish(t, s, table, table)
	table.Put(record("s1"))
	await(t, "first", func() bool { return len(stored(t, s)) == 1 })
	d.stop()
	await(t, "loss seen", func() bool { return s.Ready() != nil })
	r := record("s1")
	r.State = session.Ended
	table.Put(r)
	began := time.Now()
	for i := range 5000 { // more than the watch of a table holds
		table.Put(record(fmt.Sprint("x", i%10)))
		table.PutTransfer(transfer(fmt.Sprint("t", i%10), session.Done))
	}
	if took := time.Since(began); took > patience {
		t.Errorf("the table waited for the store: %v", took)
	}
	d.start()
	await(t, "record is right", func() bool {
		l, err := list[session.Record](t.Context(), s, sessionsBucket)
		return err == nil && len(l) == 10
	})
	flush(t, s)
	want := 1 + 1 + 10 + 10 // play and end of s1; play of the ten; their transfers
	await(t, "history", func() bool { return len(history(t, s)) == want })
}
