package bpf

import (
	"errors"
	"testing"
)

// entry returns the flags of a terminal in the kernel, 0 when it has no entry.
func (b *bench) entry() uint32 {
	b.tb.Helper()
	k, err := subscriberKey(benchUE, b.cfg.IPv6Prefix)
	must(b.tb, err)
	var s scasSubscriber
	if b.kernel.m("subscribers").Lookup(k, &s) != nil {
		return 0
	}
	return s.Flags
}

// TestUnsubscribeDisarms: who comes back is not steered before somebody says so again.
func TestUnsubscribeDisarms(t *testing.T) {
	b := newBench(t)
	armed := func() bool { return b.entry()&uint32(scasSubscriberFlagSUB_ARMED) != 0 }
	must(t, b.Subscribe(benchUE))
	must(t, b.change("arm", benchUE, func(x *terminal) error { x.armed = true; return nil })) // without a host to steer
	if !armed() {
		t.Fatal("not armed")
	}
	must(t, b.WatchFlow(MediaFlow{Flow: benchFlow(5000)})) // which is forgotten later than the terminal
	must(t, b.Unsubscribe(benchUE))
	if e := b.entry(); e != 0 {
		t.Errorf("entry %b of nobody", e)
	}
	must(t, b.Subscribe(benchUE))
	if armed() {
		t.Error("armed again")
	}
}

// TestFailedChange: what failed has changed nothing, and what the kernel has is written anew with
// the next change: nobody knows how far the failed one came.
func TestFailedChange(t *testing.T) {
	b := newBench(t)
	no := errors.New("no")
	try := func() error {
		return b.change("try", benchUE, func(x *terminal) error { x.armed, x.media = true, 3; return no })
	}
	if err := try(); !errors.Is(err, no) || len(b.terminals) != 0 {
		t.Errorf("%v, kept %v", err, b.terminals)
	}
	must(t, b.Subscribe(benchUE))
	before := b.entry()
	if err := try(); !errors.Is(err, no) {
		t.Error(err)
	}
	k, err := subscriberKey(benchUE, b.cfg.IPv6Prefix)
	must(t, err)
	if x := b.terminals[k]; x == nil || !x.on || x.armed || x.media != 0 {
		t.Errorf("terminal %+v", x)
	}
	must(t, b.kernel.m("subscribers").Delete(k)) // as a write that went half the way
	must(t, b.Subscribe(benchUE))
	if e := b.entry(); e != before {
		t.Errorf("entry %b, it was %b", e, before)
	}
}
