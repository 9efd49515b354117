package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
)

// serverSession is one RTSP session. PLAY, PAUSE and SETUP hold op; while a stream runs, the
// tracks and the position are its own, and nobody touches them before it has ended. close needs
// no lock that a stream stuck in a write could hold.
type serverSession struct {
	srv      *Server
	id       string
	born     time.Time
	ctx      context.Context // of the session; ends with it
	cancel   context.CancelFunc
	lastConn atomic.Pointer[serverConn] // the last to name the session
	conn     atomic.Pointer[serverConn] // carries the interleaved frames
	asked    atomic.Int64               // wall clock of the last sign of life, ns

	op     sync.Mutex
	tracks [trackCount]*serverTrack
	played bool
	start  time.Duration // of the newest PLAY
	pos    time.Duration // next to be sent
	end    time.Duration
	stream *stream

	mu       sync.Mutex // guards the fields below
	socks    []*net.UDPConn
	channels []uint8 // interleaved
	stats    ServerSession
}

// serverTrack is one RTP stream. The timestamp of media time t is anchorTS + t - anchorNPT.
type serverTrack struct {
	id        int
	tcp       bool
	channel   uint8 // RTP; RTCP is on the next
	rtp, rtcp *net.UDPConn
	peer      [2]netip.AddrPort // RTP, RTCP
	ssrc      uint32
	seq       uint16 // of the next packet
	base      uint32 // first timestamp of the session
	anchorTS  uint32
	anchorNPT time.Duration
	next      uint32 // next picture or sound frame
	lastTS    uint32
	lastSent  time.Time
	packets   uint32
	octets    uint32
}

// stream is a running PLAY.
type stream struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func newServerSession(c *serverConn, url, agent string) *serverSession {
	ctx, cancel := context.WithCancel(context.Background())
	x := &serverSession{
		srv: c.srv, id: fmt.Sprintf("%016x", rand.Uint64()), born: time.Now(),
		ctx: ctx, cancel: cancel, end: c.srv.cfg.Duration,
	}
	x.stats = ServerSession{ID: x.id, URL: url, Remote: c.remote, UserAgent: agent, SSRC: make([]uint32, trackCount)}
	x.lastConn.Store(c)
	x.touch()
	return x
}

func (x *serverSession) touch() { x.asked.Store(time.Now().UnixNano()) }
func (x *serverSession) idle(now time.Time) time.Duration {
	return now.Sub(time.Unix(0, x.asked.Load()))
}
func (x *serverSession) carrier() *serverConn { return x.conn.Load() }
func (x *serverSession) event(k ServerEventKind) ServerEvent {
	return ServerEvent{Kind: k, Session: x.id, Remote: x.stats.Remote, URL: x.stats.URL, NPT: x.position().Seconds()}
}

// position returns the media time of the newest video packet sent.
func (x *serverSession) position() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	return time.Duration(x.stats.NPT * float64(time.Second))
}

func (x *serverSession) snapshot() ServerSession {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.stats
	s.SSRC = append([]uint32(nil), s.SSRC...)
	s.Starts = append([]float64(nil), s.Starts...)
	s.Log = append([]SentPacket(nil), s.Log...)
	return s
}

// close ends the session; it does not wait for a write in progress. Nothing of the session
// follows the next message on its control connection.
func (x *serverSession) close() {
	x.cancel()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.socks {
		c.Close()
	}
	x.socks = nil
}

// ownsChannel reports whether an interleaved channel is one of the session's.
func (x *serverSession) ownsChannel(ch uint8) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.Contains(x.channels, ch)
}

// setup adds track n; it returns the Transport header of the reply, and the status.
func (x *serverSession) setup(c *serverConn, n int, want transport) (string, int) {
	x.op.Lock()
	defer x.op.Unlock()
	if x.ctx.Err() != nil || x.tracks[n] != nil || x.played {
		return "", 455
	}
	t := &serverTrack{id: n, tcp: want.tcp, ssrc: rand.Uint32(), seq: uint16(rand.Uint32()), base: rand.Uint32()}
	var header string
	if want.tcp {
		if want.interleaved[0] < 0 {
			want.interleaved = [2]int{2 * n, 2*n + 1}
		}
		if want.interleaved[1] != want.interleaved[0]+1 {
			return "", 461
		}
		t.channel = uint8(want.interleaved[0])
		x.conn.Store(c)
		header = fmt.Sprintf("RTP/AVP/TCP;unicast;interleaved=%d-%d;ssrc=%08X;mode=\"PLAY\"",
			want.interleaved[0], want.interleaved[1], t.ssrc)
	} else {
		if err := x.openPorts(t, c.local.Addr()); err != nil {
			return "", 503
		}
		for i := range t.peer {
			t.peer[i] = netip.AddrPortFrom(c.remote.Addr(), uint16(want.client[i]))
		}
		port := t.rtp.LocalAddr().(*net.UDPAddr).Port
		header = fmt.Sprintf("RTP/AVP;unicast;client_port=%d-%d;server_port=%d-%d;ssrc=%08X;mode=\"PLAY\"",
			want.client[0], want.client[1], port, port+1, t.ssrc)
	}
	x.tracks[n] = t
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stats.SSRC[n] = t.ssrc
	x.stats.TCP = t.tcp
	if t.tcp {
		x.channels = append(x.channels, t.channel, t.channel+1)
	}
	return header, 200
}

// portTries bounds the search for an even port whose neighbour is free too (RFC 3550 §11).
const portTries = 64

func (x *serverSession) openPorts(t *serverTrack, local netip.Addr) error {
	host := x.srv.cfg.Host
	err := net.ErrClosed
	for range portTries {
		var a, b *net.UDPConn
		if a, err = host.ListenUDP(netip.AddrPortFrom(local, 0)); err != nil {
			return err
		}
		port := a.LocalAddr().(*net.UDPAddr).Port
		if port%2 == 0 {
			b, err = host.ListenUDP(netip.AddrPortFrom(local, uint16(port+1)))
		}
		if b == nil {
			a.Close()
			continue
		}
		t.rtp, t.rtcp = a, b
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.ctx.Err() != nil {
			a.Close()
			b.Close()
			return net.ErrClosed
		}
		x.socks = append(x.socks, a, b)
		x.srv.wg.Go(func() { x.readReports(b) })
		return nil
	}
	return err
}

func (x *serverSession) readReports(c *net.UDPConn) {
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		x.report(buf[:n])
	}
}

// report takes RTCP from the player; a receiver report is a sign of life.
func (x *serverSession) report(p []byte) {
	pkts, err := rtcp.Unmarshal(p)
	if err != nil {
		return // hole punching sends anything
	}
	for _, pkt := range pkts {
		rr, ok := pkt.(*rtcp.ReceiverReport)
		if !ok {
			continue
		}
		x.touch()
		for _, r := range rr.Reports {
			ev := x.event(ServerReport)
			ev.SSRC = r.SSRC
			x.srv.log.add(ev)
		}
	}
}

// pause stops the stream where it is.
func (x *serverSession) pause() *message {
	x.op.Lock()
	defer x.op.Unlock()
	if !x.played {
		return response(455)
	}
	x.stop()
	return response(200)
}

// stop ends the running stream and waits for it. op is held.
func (x *serverSession) stop() {
	if x.stream == nil {
		return
	}
	x.stream.cancel()
	<-x.stream.done
	x.stream = nil
}

// play answers a PLAY; the returned function starts the media once the reply is on its way.
func (x *serverSession) play(c *serverConn, m *message) (*message, func()) {
	x.op.Lock()
	defer x.op.Unlock()
	cfg := x.srv.cfg
	var want timeRange
	if h := m.get("Range"); h != "" {
		var err error
		if want, err = parseRange(h); err != nil || !cfg.Live && want.start >= cfg.Duration {
			return response(457), nil
		}
	}
	if x.stream != nil && (!want.given || cfg.Live) {
		select {
		case <-x.stream.done:
		default:
			return response(200), nil // plays already
		}
	}
	x.stop()
	x.seek(want.start, want.given)
	x.end = cfg.Duration
	if want.end > x.start {
		x.end = min(want.end, cfg.Duration)
	}
	reply := response(200)
	x.describeStart(reply, !x.played)
	x.played = true
	if cfg.EarlyMedia {
		x.begin()
		return reply, nil
	}
	return reply, func() {
		x.op.Lock()
		defer x.op.Unlock()
		x.begin()
	}
}

// seek puts the tracks where the next PLAY starts and gives their timestamps an anchor.
func (x *serverSession) seek(asked time.Duration, given bool) {
	cfg := x.srv.cfg
	jump := given && !cfg.IgnorePosition || !x.played
	x.start = x.pos
	switch {
	case cfg.Live:
		x.start, jump = time.Since(x.srv.born), true
	case !jump:
	case cfg.IgnorePosition:
		x.start = 0
	case cfg.Exact:
		x.start = cfg.npt(VideoTrack, cfg.firstAt(VideoTrack, asked))
	default:
		x.start = cfg.keyBefore(asked)
	}
	for _, t := range x.tracks {
		if t == nil {
			continue
		}
		if jump {
			t.next = cfg.firstAt(t.id, x.start)
		}
		t.anchor(cfg.Clock, x.start, jump, x.played)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stats.Starts = append(x.stats.Starts, x.start.Seconds())
}

// anchor decides which timestamps follow.
func (t *serverTrack) anchor(c Clock, start time.Duration, jump, again bool) {
	switch {
	case !again && c == ClockWall:
		t.anchorTS, t.anchorNPT = t.base, start
	case !again:
		t.anchorTS, t.anchorNPT = t.base, 0
	case c == ClockWall:
		t.anchorTS, t.anchorNPT = t.lastTS+ticks(t.id, time.Since(t.lastSent)), start
	case c == ClockRestart && jump:
		t.anchorTS, t.anchorNPT = t.base, start
		t.seq += 2 // GstRtspServer skips one to four
	}
}

// rtptime returns the timestamp of a media time.
func (t *serverTrack) rtptime(npt time.Duration) uint32 {
	return t.anchorTS + ticks(t.id, npt-t.anchorNPT)
}

// describeStart adds Range and RTP-Info to the reply to PLAY.
func (x *serverSession) describeStart(reply *message, first bool) {
	cfg := x.srv.cfg
	says := x.start
	if cfg.IgnorePosition {
		says = 0
	}
	if !cfg.NoRange && !cfg.Live {
		reply.add("Range", string(cfg.Unit)+"="+formatTime(cfg.Unit, says, 3)+"-"+formatTime(cfg.Unit, x.end, 3))
	}
	if cfg.RTPInfo == RTPInfoNone {
		return
	}
	var info []string
	for _, t := range x.tracks {
		if t == nil {
			continue
		}
		e := fmt.Sprintf("url=%s/stream=%d", x.stats.URL, t.id)
		if cfg.RTPInfo != RTPInfoURL {
			stamp := t.rtptime(x.start)
			if cfg.RTPInfo == RTPInfoLies && first && t.id == VideoTrack {
				stamp = t.rtptime(0)
			}
			e += fmt.Sprintf(";seq=%d;rtptime=%d", t.seq, stamp)
		}
		info = append(info, e)
	}
	reply.add("RTP-Info", strings.Join(info, ", "))
}
