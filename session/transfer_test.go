package session

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	all := []TransferState{Offered, Armed, Attached, Committed, Done, Failed, Declined, Expired, Cancelled}
	want := map[string]TransferState{
		"offered/0": Armed, "offered/1": Attached, "armed/1": Attached, "attached/2": Committed,
		"committed/3": Done, "offered/4": Declined, "offered/5": Expired, "armed/5": Expired,
		"offered/6": Cancelled, "armed/6": Cancelled, "attached/6": Cancelled,
		"offered/7": Failed, "armed/7": Failed, "attached/7": Failed, "committed/7": Failed,
	}
	for _, s := range all {
		for ev := Confirmed; ev <= Fail+1; ev++ {
			next, ok := s.Next(ev)
			w, legal := want[fmt.Sprintf("%s/%d", s, ev)]
			if ok != legal || legal && next != w || !legal && next != s {
				t.Errorf("%s on %d = %s, %v; want %s, %v", s, ev, next, ok, w, legal)
			}
			if legal && !s.Open() {
				t.Errorf("end state %s has a successor", s)
			}
		}
	}
}

func TestTransferNextSetsTimes(t *testing.T) {
	now := time.Unix(1000, 0)
	x := Transfer{State: Armed}
	x, ok := x.Next(StartRequest, "", now)
	if !ok || x.Times.Attached == nil || !x.Times.Attached.Equal(now) || x.Reason != nil {
		t.Fatalf("attached: %+v", x)
	}
	later := now.Add(time.Second)
	if y, ok := x.Next(TargetPlays, "", later); !ok || y.Times.Committed == nil || !y.Times.Committed.Equal(later) || !y.Times.Attached.Equal(now) || y.Times.Ended != nil {
		t.Fatalf("committed: %+v", y)
	}
	if y, ok := (Transfer{State: Offered}).Next(Confirmed, "", later); !ok || y.Times.Armed == nil || !y.Times.Armed.Equal(later) {
		t.Fatalf("armed: %+v", y)
	}
	x, ok = x.Next(Fail, ServerRefused("453"), now)
	if !ok || *x.Reason != "server-refused:453" || x.Times.Ended == nil {
		t.Fatalf("failed: %+v", x)
	}
	if _, ok := x.Next(TargetPlays, "", now); ok {
		t.Fatal("a failed transfer went on")
	}
}

func TestTableWatch(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	tab := NewTable()
	ch := tab.Watch(ctx)
	tab.Put(Record{ID: "a", Tracks: []Track{{ID: 1}}})
	c := <-ch
	c.Record.Tracks[0].ID = 9
	if r, ok := tab.Get("a"); !ok || r.Tracks[0].ID != 1 {
		t.Error("a watcher changed the table")
	}
	slow := tab.Watch(ctx)
	for i := range watchBuffer + 1 {
		<-drain(ch)
		tab.PutTransfer(Transfer{ID: fmt.Sprint(i)})
	}
	n := 0
	for range slow {
		n++
	}
	if n != watchBuffer {
		t.Errorf("the slow watcher got %d changes before it was cut off, want %d", n, watchBuffer)
	}
	cancel()
	for range ch {
	}
	if got := len(tab.Transfers()); got != watchBuffer+1 {
		t.Errorf("%d transfers", got)
	}
}

// drain empties what is buffered in ch and returns a channel that is ready.
func drain(ch <-chan Change) <-chan struct{} {
	for len(ch) > 0 {
		<-ch
	}
	done := make(chan struct{})
	close(done)
	return done
}

func TestFigure(t *testing.T) {
	for in, want := range map[float64]float64{59.2512345: 59.251, 3.4999999999999: 3.5, -0.0004: 0, 1e9: 1e9} {
		if got := *Figure(in); got != want || math.Signbit(got) {
			t.Errorf("%v is shown as %v", in, got)
		}
	}
}
