package lab

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"net"
	"strconv"
	"sync"
	"time"
)

// mmsConn is one connection of MMST. What the viewer asks is answered in one goroutine; packets
// of the film come from another, which StopPlaying waits for.
type mmsConn struct {
	s    *MMSServer
	conn *net.TCPConn
	x    *mmsSession
	born time.Time

	send sync.Mutex // one message or packet at a time; guards seq
	seq  uint16

	op      sync.Mutex // guards the fields below
	cancel  context.CancelFunc
	done    chan struct{} // closed when the sender has ended
	inc     uint8         // of the StartPlaying that is served
	sent    uint8         // AFFlags of the next packet; goes on after a seek
	header  bool          // was sent
	closing *time.Timer   // at the end of the film
}

const splitAt = 20 // SplitReplies: bytes of the first segment

// serveTCP answers one viewer until its connection ends.
func (s *MMSServer) serveTCP(conn *net.TCPConn) {
	c := &mmsConn{s: s, conn: conn, born: time.Now()}
	remote := conn.RemoteAddr().(*net.TCPAddr).AddrPort()
	x, gone := s.session(remote, c)
	c.x = x
	defer gone()
	ctx, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	wg.Go(func() { c.pings(ctx) })
	r := bufio.NewReader(conn)
	for {
		m, err := readMMS(r)
		if err != nil || !c.handle(m) {
			break
		}
	}
	cancel()
	conn.Close()
	c.op.Lock()
	c.stop()
	if c.closing != nil {
		c.closing.Stop()
	}
	c.op.Unlock()
	wg.Wait()
}

// reply sends one message in one write.
func (c *mmsConn) reply(mid uint32, fields ...any) {
	c.send.Lock()
	defer c.send.Unlock()
	b := buildMMS(mid, c.seq, uint64(time.Since(c.born).Milliseconds()), c.s.cfg.SpecChunkCount, fields...)
	c.seq++
	if c.s.cfg.SplitReplies {
		_, _ = c.conn.Write(b[:splitAt])
		time.Sleep(30 * time.Millisecond) // so that it is a segment of its own
		b = b[splitAt:]
	}
	_, _ = c.conn.Write(b) // who does not read is gone soon
}

func (c *mmsConn) pings(ctx context.Context) {
	tick := time.NewTicker(c.s.cfg.Ping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c.op.Lock()
		ready := c.header
		c.op.Unlock()
		if ready {
			c.reply(midPing, uint32(0), uint32(0))
		}
	}
}

// mmsRequest is one message of a viewer. It is noted before it is answered: who has the answer
// finds it in the log.
type mmsRequest struct {
	c    *mmsConn
	name string
	hr   uint32
	head []string
}

func (q *mmsRequest) note(field string, value any) {
	q.head = append(q.head, fmt.Sprintf("%s: %v", field, value))
}

// noted puts the request into the log.
func (q *mmsRequest) noted() {
	e := q.c.x.event(ServerRequest)
	e.Method, e.Head, e.Status = q.name, q.head, int(q.hr)
	q.c.s.books.log.add(e)
}

// answer notes the request and sends its result and what comes behind it.
func (q *mmsRequest) answer(mid uint32, fields ...any) {
	q.noted()
	q.c.reply(mid, append([]any{q.hr}, fields...)...)
}

// handle answers one message; false ends the connection.
func (c *mmsConn) handle(m mmsMessage) bool {
	name := requestName(m.mid)
	q := &mmsRequest{c: c, name: name, hr: uint32(c.s.books.refused(name))}
	switch m.mid {
	case midConnect:
		q.note("SubscriberName", m.text(52))
		c.x.change(func(st *ServerSession) { st.UserAgent = m.text(52) })
		const version = "9.01.01.3814"
		q.answer(midReportConnected, uint32(noPacketPair), uint32(macToViewerRevision), uint32(viewerToMacRevision), 1.0,
			uint32(1), uint32(1), uint32(0x8000), uint32(0x989680), uint32(len(version)+1), uint32(0), uint32(0), uint32(0), version)
	case midFunnelInfo:
		q.answer(midReportFunnelInfo, uint32(noPacketPair), uint32(8), uint32(1), uint32(0x10000),
			uint32(c.s.ids.Load()), uint32(0), uint32(1), uint32(0), uint32(0))
	case midConnectFunnel:
		q.note("FunnelName", m.text(60))
		if funnelUDP(m.text(60)) && q.hr == 0 {
			q.hr = accessDenied
		}
		if q.hr != 0 {
			q.answer(midReportNoFunnel, uint32(0))
		} else {
			q.answer(midReportFunnel, uint32(0), uint32(0), "Funnel Of The Gods")
		}
	case midOpenFile:
		file := m.text(56)
		q.note("FileName", file)
		if q.hr == 0 && c.s.missing(file) {
			q.hr = fileNotFound
		}
		c.x.change(func(st *ServerSession) { st.URL = "mms://" + c.s.Addr().String() + "/" + file })
		q.noted()
		c.openFile(m, q.hr)
	case midReadBlock:
		q.noted()
		c.readBlock(m, q.hr)
	case midStreamSwitch:
		q.answer(midReportSwitch, uint32(0))
	case midStartPlaying, midStriding:
		q.note("Position", strconv.FormatFloat(m.f64(48), 'f', -1, 64))
		q.note("ASFOffset", m.u32(56))
		q.note("LocationID", m.u32(60))
		q.note("PlayIncarnation", m.u32(68))
		start := c.s.start(startOf(m))
		if q.hr == 0 {
			q.head = append(q.head, startHead(start)...)
		}
		q.noted()
		c.play(m, q.hr, start)
	case midStopPlaying:
		c.op.Lock()
		c.stop()
		q.answer(midEndOfStream, m.u32(44))
		c.op.Unlock()
	default:
		q.noted()
	}
	return m.mid != midCloseFile
}

// openFile describes the film, or says that it is refused.
func (c *mmsConn) openFile(m mmsMessage, hr uint32) {
	a := c.s.film
	duration, packets, attributes := a.Duration.Seconds(), uint64(len(a.Packets)), uint32(attrSeek|attrStride)
	if c.s.cfg.Broadcast {
		duration, packets, attributes = 0, 0, attrBroadcast
	}
	if hr != 0 {
		c.reply(midReportOpenFile, hr, m.u32(40), make([]byte, 104))
		return
	}
	c.reply(midReportOpenFile, hr, m.u32(40), uint32(1), uint32(0), uint32(0), attributes, duration,
		uint32(math.Ceil(duration)), make([]byte, 16), uint32(a.PacketSize), packets, uint32(a.BitRate),
		uint32(len(c.s.header)), make([]byte, 36))
}

// readBlock sends the header of the film in data packets.
func (c *mmsConn) readBlock(m mmsMessage, hr uint32) {
	inc := m.u32(80)
	c.reply(midReportReadBlock, hr, inc, uint32(0))
	if hr != 0 {
		return
	}
	piece := c.s.cfg.HeaderPiece
	if piece <= 0 || piece > c.s.film.PacketSize {
		piece = c.s.film.PacketSize
	}
	rest := c.s.header
	for i := uint32(0); len(rest) > 0; i++ {
		n := min(piece, len(rest))
		flags := uint8(mmsHeaderMore)
		if n == len(rest) {
			flags = mmsHeaderLast
		}
		if c.put(appendMMSData(nil, i, uint8(inc), flags, rest[:n])) != nil {
			return
		}
		rest = rest[n:]
	}
	c.op.Lock()
	c.header = true
	c.op.Unlock()
}

// put sends a data packet.
func (c *mmsConn) put(b []byte) error {
	c.send.Lock()
	defer c.send.Unlock()
	_, err := c.conn.Write(b)
	return err
}

// play starts the film, also where it already plays: that is a seek.
func (c *mmsConn) play(m mmsMessage, hr uint32, start int) {
	c.op.Lock()
	defer c.op.Unlock()
	c.stop()
	reply := uint32(midReportStarted)
	if m.mid == midStriding {
		reply = midReportStriding
	}
	c.inc = uint8(m.u32(68))
	c.reply(reply, hr, m.u32(68), uint32(1), uint32(0), make([]byte, 12))
	if hr != 0 {
		return
	}
	if c.closing != nil {
		c.closing.Stop()
	}
	ctx, cancel := context.WithCancel(c.s.ctx)
	done, inc := make(chan struct{}), c.inc
	w := &mmsSender{
		s: c.s, x: c.x, ctx: ctx, start: start, count: c.sent, put: c.put,
		frame: func(n int, flags uint8, b []byte) []byte { return appendMMSData(nil, uint32(n), inc, flags, b) },
	}
	c.s.wg.Go(func() {
		ended := w.run()
		close(done)
		if ended {
			c.ended(done)
		}
	})
	c.done = done
	c.cancel = func() {
		cancel()
		<-done
		c.sent = w.count
	}
}

// stop ends the sender, if any, and waits for it. op is held.
func (c *mmsConn) stop() {
	if c.cancel != nil {
		c.cancel()
		c.cancel, c.done = nil, nil
	}
}

// ended says that the film is over, unless something else was started meanwhile.
func (c *mmsConn) ended(done chan struct{}) {
	c.op.Lock()
	defer c.op.Unlock()
	if c.done != done {
		return
	}
	c.s.books.log.add(c.x.event(ServerEnd))
	if !c.s.cfg.NoEOS {
		c.reply(midEndOfStream, uint32(0), uint32(c.inc))
	}
	if linger := c.s.cfg.Linger; linger > 0 {
		c.closing = time.AfterFunc(linger, func() { _ = c.conn.CloseWrite() })
	}
}

// interrupt stops the film and says EndOfStream.
func (c *mmsConn) interrupt(hr uint32) {
	c.op.Lock()
	defer c.op.Unlock()
	if c.done != nil {
		c.stop()
		c.reply(midEndOfStream, hr, uint32(c.inc))
	}
}
