package kv

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func nothing(context.Context) error { return nil }

func TestQueueReplaces(t *testing.T) {
	q := newQueue(3, 1)
	l := q.lanes[0]
	for i, key := range []string{"a", "b", "a"} {
		if err := q.put(&op{key: key, value: i, run: nothing}, 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := q.waiting(); n != 2 {
		t.Errorf("%d wait", n)
	}
	o := q.take(l)
	if o.key != "a" || o.value != 2 {
		t.Errorf("took %+v", o)
	}
	if v, ok := q.peek("a"); !ok || v != 2 {
		t.Errorf("on its way: %v, %v", v, ok)
	}
	q.done(l)
	if _, ok := q.peek("a"); ok {
		t.Error("done and still there")
	}
	if o := q.take(l); o.key != "b" {
		t.Errorf("took %+v", o)
	}
}

func TestQueueBounds(t *testing.T) {
	q := newQueue(10, 4)
	for i := range 12 {
		err := q.put(&op{key: fmt.Sprint("log/", i), run: nothing}, 0.5)
		if full := errors.Is(err, ErrFull); full != (i >= 5) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	for i := range 6 {
		err := q.put(&op{key: fmt.Sprint("b/", i), run: nothing}, 1)
		if full := errors.Is(err, ErrFull); full != (i >= 5) {
			t.Errorf("write %d: %v", i, err)
		}
	}
	if err := q.put(&op{key: "b/0", run: nothing}, 1); err != nil {
		t.Errorf("newer value of a key that waits: %v", err)
	}
}

func TestQueueAgain(t *testing.T) {
	for name, c := range map[string]struct {
		newer bool
		want  any
		n     int
	}{
		"same value": {false, 1, 2},
		"a newer":    {true, 3, 2},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQueue(10, 1)
			l := q.lanes[0]
			q.put(&op{key: "a", value: 1, run: nothing}, 1)
			q.put(&op{key: "b", value: 2, run: nothing}, 1)
			q.take(l)
			if c.newer {
				q.put(&op{key: "a", value: 3, run: nothing}, 1)
			}
			q.again(l)
			if n := q.waiting(); n != c.n {
				t.Errorf("%d wait", n)
			}
			if v, ok := q.peek("a"); !ok || v != c.want {
				t.Errorf("a is %v, %v", v, ok)
			}
		})
	}
}

func TestQueueFlush(t *testing.T) {
	q := newQueue(10, 1)
	if err := q.flush(t.Context()); err != nil {
		t.Errorf("empty: %v", err)
	}
	q.put(&op{key: "a", run: nothing}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.flush(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("not empty: %v", err)
	}
	flushed := make(chan error)
	go func() { flushed <- q.flush(t.Context()) }()
	q.take(q.lanes[0])
	q.done(q.lanes[0])
	if err := <-flushed; err != nil {
		t.Error(err)
	}
}

func TestFullQueueIsCounted(t *testing.T) {
	d := startServer(t)
	c := testConfig("as1")
	c.Servers, c.Queue = []string{d.url()}, 16
	s := open(t, c)
	d.stop()
	await(t, "loss seen", func() bool { return s.Ready() != nil })
	full := 0
	for i := range 40 {
		if err := s.PutBinding(t.Context(), binding(i)); errors.Is(err, ErrFull) {
			full++
		}
	}
	if st := s.Stats(); full != 24 || st["writes_dropped"] != 24 || st["queued"] != 16 {
		t.Errorf("%d refused, %v", full, st)
	}
	d.start()
	flush(t, s)
	if got, err := s.Bindings(t.Context()); err != nil || len(got) != 16 {
		t.Errorf("%d bindings, %v", len(got), err)
	}
}
