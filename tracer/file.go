package tracer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

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

// reader is what both capture formats offer.
type reader interface {
	ReadPacketData() ([]byte, gopacket.CaptureInfo, error)
}

// ReadFile reads a pcap or pcapng file and reports its sessions, and their positions each
// interval of capture time. A file that ends in the middle of a packet is read up to there;
// io.ErrUnexpectedEOF is returned with the statistics then.
func ReadFile(path string, cfg Config, every time.Duration, r Report) (Stats, error) {
	f, err := os.Open(path)
	if err != nil {
		return Stats{}, err
	}
	defer f.Close()
	src, link, err := openCapture(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return Stats{}, fmt.Errorf("read %s: %w", path, err)
	}
	first, err := firstLayer(link)
	if err != nil {
		return Stats{}, fmt.Errorf("read %s: %w", path, err)
	}
	t := newTrace(cfg, every, r)
	in := newFrames(t.d, first)
	var last time.Time
	for {
		b, info, err := src.ReadPacketData()
		if err != nil {
			t.d.finish(last)
		}
		if errors.Is(err, io.EOF) {
			return t.d.Stats(), nil
		}
		if err != nil {
			return t.d.Stats(), fmt.Errorf("read %s: %w", path, err)
		}
		last = info.Timestamp
		t.to(last)
		in.frame(b, last)
	}
}

func openCapture(b *bufio.Reader) (reader, layers.LinkType, error) {
	magic, err := b.Peek(4)
	if err != nil {
		return nil, 0, fmt.Errorf("not a capture: %w", err)
	}
	if string(magic) == "\x0a\x0d\x0d\x0a" {
		r, err := pcapgo.NewNgReader(b, pcapgo.DefaultNgReaderOptions)
		if err != nil {
			return nil, 0, err
		}
		return r, r.LinkType(), nil
	}
	r, err := pcapgo.NewReader(b)
	if err != nil {
		return nil, 0, fmt.Errorf("neither pcap nor pcapng: %w", err)
	}
	return r, r.LinkType(), nil
}

func firstLayer(l layers.LinkType) (gopacket.LayerType, error) {
	switch l {
	case layers.LinkTypeEthernet:
		return layers.LayerTypeEthernet, nil
	case layers.LinkTypeLinuxSLL:
		return layers.LayerTypeLinuxSLL, nil
	case layers.LinkTypeIPv4, layers.LinkTypeRaw:
		return layers.LayerTypeIPv4, nil
	case layers.LinkTypeIPv6:
		return layers.LayerTypeIPv6, nil
	}
	return 0, fmt.Errorf("link type %v is not supported", l)
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

// to lets time pass up to at, before the packet that came then.
func (t *trace) to(at time.Time) {
	t.d.Tick(at)
	if t.every <= 0 {
		return
	}
	if t.next.IsZero() {
		t.next = at
	}
	for ; !t.next.After(at); t.next = t.next.Add(t.every) {
		t.d.Positions(t.next, t.r.Position)
	}
}
