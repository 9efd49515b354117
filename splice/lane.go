package splice

import (
	"time"

	"scas/bpf"
)

// upward is what the lanes from a terminal to its server have in common.
type upward struct {
	r *relay
	d *direction
}

func (u *upward) received(b []byte) { u.r.s.count.fromTerminal.Add(uint64(len(b))) }

// output hands the bytes to the tracer before they are written: the request must be known
// before its reply is.
func (u *upward) output(b []byte) error {
	u.r.s.t.Stream(u.r.flow, bpf.ToServer, b, u.r.s.now())
	return u.d.write(b)
}

func (u *upward) wrote(n int) { u.r.s.count.toServer.Add(uint64(n)) }

func (u *upward) deadline() time.Time  { return time.Time{} }
func (u *upward) tick(time.Time) error { return nil }
func (u *upward) over(bool)            {}

// downward is what the lanes from a server to its terminal have in common.
type downward struct {
	r    *relay
	d    *direction
	came bool // the first media behind the start reply are in what is written next
}

func (w *downward) received(b []byte) {
	w.r.s.count.fromServer.Add(uint64(len(b)))
	w.r.s.t.Stream(w.r.flow, bpf.ToTerminal, b, w.r.s.now())
}

func (w *downward) output(b []byte) error { return w.d.write(b) }

func (w *downward) wrote(n int) {
	total := w.r.written.Add(uint64(n))
	w.r.s.count.toTerminal.Add(uint64(n))
	if w.came && n > 0 {
		w.came = false
		w.r.media.Store(total)
	}
}

func (w *downward) deadline() time.Time  { return time.Time{} }
func (w *downward) tick(time.Time) error { return nil }

func (w *downward) over(reset bool) {
	if reset {
		flush(w.r.terminal) // what the server sent before its RST was on its way already
	}
}
