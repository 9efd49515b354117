package splice

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer"
)

// fakeKernel takes orders and answers with what a test put in.
type fakeKernel struct {
	mu    sync.Mutex
	armed map[netip.Addr]bool
	legs  map[bpf.Flow]bool
	cuts  []string
	media map[bpf.Flow]bpf.MediaStats
	tcp   map[bpf.Flow]bpf.TCPStats
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{
		armed: map[netip.Addr]bool{}, legs: map[bpf.Flow]bool{},
		media: map[bpf.Flow]bpf.MediaStats{}, tcp: map[bpf.Flow]bpf.TCPStats{},
	}
}

func (k *fakeKernel) do(fn func()) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	fn()
	return nil
}

func (k *fakeKernel) Arm(a netip.Addr) error                { return k.do(func() { k.armed[a] = true }) }
func (k *fakeKernel) Disarm(a netip.Addr) error             { return k.do(func() { delete(k.armed, a) }) }
func (k *fakeKernel) AddLeg(f bpf.Flow) error               { return k.do(func() { k.legs[f] = true }) }
func (k *fakeKernel) RemoveLeg(f bpf.Flow) error            { return k.do(func() { delete(k.legs, f) }) }
func (k *fakeKernel) setMedia(f bpf.Flow, m bpf.MediaStats) { k.do(func() { k.media[f] = m }) }

func (k *fakeKernel) CutFlow(p bpf.Proto, f bpf.Flow, d bpf.CutDir, long time.Duration) error {
	return k.do(func() { k.cuts = append(k.cuts, fmt.Sprintf("%v %v %d", p, f, d)) })
}

func (k *fakeKernel) TrimCut(p bpf.Proto, f bpf.Flow, long time.Duration) error {
	return k.do(func() { k.cuts = append(k.cuts, fmt.Sprintf("trim %v %v", p, f)) })
}
func (k *fakeKernel) Copy(bpf.Flow) error { return nil }

// takesFIN notes what a player answers to a forged FIN, when it has the server's bytes up to has.
func (k *fakeKernel) takesFIN(s segment, has uint32) {
	f := bpf.Flow{Terminal: s.to, Server: s.from}
	k.do(func() {
		st, ok := k.tcp[f]
		if !ok || s.flags&flagFIN == 0 {
			return
		}
		if s.seq == has {
			has++
		}
		st.ToServer.NewestAck, st.ToServer.HaveAck = has, true
		k.tcp[f] = st
	})
}

func (k *fakeKernel) MediaStats(f bpf.Flow) (bpf.MediaStats, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.media[f]
	return m, ok
}

func (k *fakeKernel) TCPStats(f bpf.Flow) (bpf.TCPStats, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m, ok := k.tcp[f]
	return m, ok
}

func (k *fakeKernel) isArmed(a netip.Addr) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.armed[a]
}

func (k *fakeKernel) cutList() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.cuts)
}

// fakeTracer knows the sessions a test put in, and keeps what was streamed.
type fakeTracer struct {
	mu      sync.Mutex
	details map[string]tracer.Detail
	flows   map[bpf.Flow][]string
	streams map[bpf.Flow]*[2][]byte
	closed  map[bpf.Flow]*[2]int
	moved   []string
	asked   map[string]time.Time // the newest moment a session's detail was wanted for
	tap     func(seq uint32, b []byte)
	// adopt makes a session of every new flow, from a template; nil: none.
	adopt func(f bpf.Flow) (id string, d tracer.Detail)
}

func newFakeTracer() *fakeTracer {
	return &fakeTracer{
		details: map[string]tracer.Detail{}, flows: map[bpf.Flow][]string{},
		streams: map[bpf.Flow]*[2][]byte{}, closed: map[bpf.Flow]*[2]int{}, asked: map[string]time.Time{},
	}
}

func (t *fakeTracer) Stream(f bpf.Flow, dir bpf.Dir, b []byte, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.streams[f] == nil {
		t.streams[f] = &[2][]byte{}
		if t.adopt != nil {
			if id, d := t.adopt(f); id != "" {
				t.details[id], t.flows[f] = d, []string{id}
			}
		}
	}
	t.streams[f][dir] = append(t.streams[f][dir], b...)
}

func (t *fakeTracer) StreamClosed(f bpf.Flow, dir bpf.Dir, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed[f] == nil {
		t.closed[f] = &[2]int{}
	}
	t.closed[f][dir]++
	for id, d := range t.details {
		if d.Control == f {
			d.Record.State, d.Terminated = session.Ended, true
			t.details[id] = d
		}
	}
}

func (t *fakeTracer) Detail(id string, now time.Time) (tracer.Detail, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.details[id]
	t.asked[id] = now
	return d, ok
}

// askedAfter waits until a session's detail is wanted for a moment after at, and returns that.
func (t *fakeTracer) askedAfter(tb testing.TB, id string, at time.Time) (asked time.Time) {
	tb.Helper()
	eventually(tb, id+" is looked at", func() bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		asked = t.asked[id]
		return asked.After(at)
	})
	return asked
}

func (t *fakeTracer) ByFlow(f bpf.Flow) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.flows[f]
}

func (t *fakeTracer) Moved(id string, f bpf.Flow, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.moved = append(t.moved, id)
}

func (t *fakeTracer) Tap(f bpf.Flow, fn func(seq uint32, b []byte)) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tap = fn
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.tap = nil
	}
}

func (t *fakeTracer) set(id string, change func(*tracer.Detail)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.details[id]
	change(&d)
	t.details[id] = d
}

func (t *fakeTracer) streamed(f bpf.Flow, dir bpf.Dir) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.streams[f] == nil {
		return ""
	}
	return string(t.streams[f][dir])
}

// fakeWire notes what would leave the gateway.
type fakeWire struct {
	mu        sync.Mutex
	datagrams []string
	segments  []segment
	forged    func(segment) // is called with each
}

func (w *fakeWire) datagram(from, to netip.AddrPort, b []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.datagrams = append(w.datagrams, fmt.Sprintf("%v>%v %x", from, to, b))
	return nil
}

func (w *fakeWire) forge(s segment) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.segments = append(w.segments, s)
	w.forged(s)
	return nil
}
