package tracer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"scas/bpf"
	"scas/session"
)

// Report is what a Trace tells as capture time goes by.
type Report interface {
	// Session is called on every change of a session, at the capture time of the change.
	Session(session.Record)
	// Position is called every interval for each playing session.
	Position(id string, p session.Position)
}

// ReadFile reads a pcap or pcapng file, packed by gzip or not, and reports its sessions, and their positions each
// interval of capture time. A file that ends in the middle of a packet is read up to there;
// io.ErrUnexpectedEOF is returned with the statistics then.
func ReadFile(path string, cfg Config, every time.Duration, r Report) (Stats, error) {
	f, err := os.Open(path)
	if err != nil {
		return Stats{}, err
	}
	defer f.Close()
	src, err := openCapture(f)
	if err != nil {
		return Stats{}, fmt.Errorf("read %s: %w", path, err)
	}
	t := newTrace(cfg, every, r)
	in := newFrames(t.d, src.link)
	for last := (time.Time{}); ; {
		b, at, err := src.next()
		if err != nil {
			t.d.finish(last)
		}
		st := t.d.Stats()
		switch {
		case errors.Is(err, io.EOF) && st.Packets > 0 && st.NotIP == st.Packets && !readable(src.link):
			return st, fmt.Errorf("read %s: %w", path, unreadable(src.link))
		case errors.Is(err, io.EOF):
			return st, nil
		case err != nil:
			return st, fmt.Errorf("read %s: %w", path, err)
		}
		last, in.link = at, src.link
		t.to(at)
		in.frame(b, at)
	}
}

// trace reports what a Decoder knows as time goes by.
type trace struct {
	d     *Decoder
	every time.Duration
	next  time.Time
	r     Report
}

// sessionSink is the Sink of sources that have no kernel to tell.
type sessionSink struct{ report Report }

func (s sessionSink) Session(r session.Record)       { s.report.Session(r) }
func (sessionSink) Media(bpf.MediaFlow)              {}
func (sessionSink) MediaGone(bpf.Flow)               {}
func (sessionSink) Channels(bpf.Flow, []bpf.Channel) {}
func (sessionSink) Playing(bpf.Flow)                 {}
func (sessionSink) Replied(bpf.Flow)                 {}
func (sessionSink) Foreign(bpf.Flow)                 {}

func newTrace(cfg Config, every time.Duration, r Report) *trace {
	t := &trace{every: every, r: r}
	t.d = NewDecoder(cfg, sessionSink{report: r})
	t.d.whole = true
	return t
}

// backStep is how far time goes back when a clock was set: packets out of order are not so late.
const backStep = 2 * time.Second

// to lets time pass up to at, before the packet that came then.
func (t *trace) to(at time.Time) {
	t.d.Tick(at)
	if t.every <= 0 {
		return
	}
	if gap := at.Sub(t.next); gap < -backStep || gap > t.every && len(t.d.sessions) == 0 {
		t.next = at // the first one, or nobody was there, or the recorder's clock was set
	}
	for ; !t.next.After(at); t.next = t.next.Add(t.every) {
		t.d.Positions(t.next, t.r.Position)
	}
}
