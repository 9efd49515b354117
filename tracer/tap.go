package tracer

import "scas/bpf"

// Tap has fn called with what comes up of the server's bytes on connection f, which is watched:
// all that is copied, and the end of every segment that is not. seq is the TCP sequence number of
// b, which is not kept. What the datapath drops comes up too. fn must not call back. It is not called
// any more once stop has returned.
func (l *Live) Tap(f bpf.Flow, fn func(seq uint32, b []byte)) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taps[f] = fn
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.taps, f)
	}
}

// tapped hands an event to the tap on its connection, if there is one.
func (l *Live) tapped(ev *bpf.Event) {
	if len(l.taps) == 0 || ev.Dir != bpf.ToTerminal || len(ev.Payload) == 0 || ev.Kind != bpf.EventTCP && ev.Kind != bpf.EventTail {
		return
	}
	if fn := l.taps[ev.Flow]; fn != nil {
		fn(ev.Seq, ev.Payload)
	}
}
