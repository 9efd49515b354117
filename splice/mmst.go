package splice

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"scas/session"
	"scas/tracer"
	"scas/tracer/mms"
	"scas/tracer/rtsp"

	"time"
)

// mmst is MMS over TCP.
type mmst struct{}

func (mmst) moves(p session.Protocol) bool { return p == session.MMS || p == session.MMSU }

func (mmst) looks(b []byte) verdict {
	_, _, err := mms.Next(b, mms.ToServer)
	switch {
	case err != nil && !errors.Is(err, mms.ErrShort), len(b) > 0 && b[0] != 1:
		return no
	case len(b) < 16:
		return perhaps
	}
	return yes
}

func (mmst) open(r *relay) talk {
	t := &mmstTalk{r: r, stopped: make(chan struct{}, 1)}
	t.header.Store(noHeader)
	t.viewer = &mmstUp{upward: upward{r: r, d: r.up}, t: t}
	t.server = &mmstDown{downward: downward{r: r, d: r.down}, t: t}
	t.up = &pieces{rules: t.viewer, d: r.up}
	t.down = &pieces{rules: t.server, d: r.down}
	return t
}

// mmstTalk is a connection of MMS over TCP: control and media.
type mmstTalk struct {
	r        *relay
	up, down *pieces
	viewer   *mmstUp   // of up
	server   *mmstDown // of down

	wait    atomic.Pointer[filmWait] // for the first media of a start request; nil: none is awaited
	header  atomic.Int32             // incarnation of the ASF header's packets; noHeader: it is not read
	stopped chan struct{}            // gets a value when the server answers a StopPlaying

	mu   sync.Mutex // guards what follows
	said mmstSaid
}

const noHeader = -1

// mmstSaid is what the viewer said so far.
type mmstSaid struct {
	product, host string
	file          string
	tcp           bool // media come on the connection
	openFile      uint32
	incarnation   uint32 // of the newest start
	closed        bool   // CloseFile
}

func (t *mmstTalk) lanes() (up, down lane) { return t.up, t.down }

func (t *mmstTalk) now() mmstSaid {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.said
}

func (t *mmstTalk) hear(fn func(s *mmstSaid)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fn(&t.said)
}

// filmWait is a start request whose first media have not come. It is not changed.
type filmWait struct {
	attempt     int
	incarnation uint8
	cure        bool // their number becomes 0
}

// libmmsProduct is what libmms calls itself, and others. It takes the number of the first media
// packet for the zero of the file: a later seek to a byte would end up that much further.
const libmmsProduct = "NSPlayer/7.0.0.1956"

// mmstStart is a StartPlaying.
type mmstStart struct {
	r *relay
	m mms.Message
	s mmstSaid
}

func (p mmstStart) names(m *move, _ tracer.Detail, _ bool) bool {
	return m.opens(p.r.flow, p.s.host, p.s.file)
}

func (p mmstStart) key(r *relay) (startKey, uint32) { return startKey{r: r}, 0 }
func (p mmstStart) session() string                 { return "" }
func (p mmstStart) agent() string                   { return p.s.product }

// rewrite leaves a start elsewhere as it is: the viewer asked for it.
func (p mmstStart) rewrite(_ rtsp.Scale, at time.Duration) (time.Duration, bool) {
	return at, p.m.AsksForBeginning() && p.m.SetStart(at.Seconds())
}

// serial numbers the messages of one direction that has units of ours among them.
type serial struct {
	shift uint16 // what is added to the sender's numbers
	last  uint16
	any   bool
}

// pass renumbers a message that goes on.
func (n *serial) pass(m *mms.Message) {
	if n.shift != 0 {
		m.SetSeq(m.Seq + n.shift)
	}
	n.last, n.any = m.Seq, true
}

// own returns the number of a message of ours.
func (n *serial) own() uint16 {
	n.shift++
	if n.any {
		n.last++
	}
	n.any = true
	return n.last
}

// swallow takes a message out.
func (n *serial) swallow() { n.shift-- }

// isTCP reports whether a funnel brings media on the connection itself.
func isTCP(name string) bool {
	parts := strings.Split(name, `\`)
	return len(parts) >= 2 && strings.EqualFold(parts[len(parts)-2], "TCP")
}
