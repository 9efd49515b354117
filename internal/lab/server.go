package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// RTPInfo is what a server says in the RTP-Info of its PLAY replies.
type RTPInfo int

// The kinds of RTP-Info seen in the field (rtsp-in-the-wild.md §1.1).
const (
	RTPInfoRight RTPInfo = iota // seq and rtptime of the start of the Range
	RTPInfoLies                 // on a first PLAY with a start, the video's rtptime belongs to npt 0 (GstRtspServer)
	RTPInfoURL                  // url only, no seq and no rtptime (mediamtx)
	RTPInfoNone                 // no such header
)

// Clock is what RTP timestamps do when the viewer seeks or pauses.
type Clock int

// The ways servers go on (rtsp-in-the-wild.md §1.3).
const (
	ClockMedia   Clock = iota // always the same timestamp for the same media time
	ClockRestart              // a seek goes back to the first timestamp of the session (GstRtspServer)
	ClockWall                 // wall time: no jump at a seek, a jump of the pause after a pause (live555)
)

// ServerConfig says how a server behaves. The zero value is an honest VoD server on a free port
// of 127.0.0.1. Presets: GstServer, Live555Server, VLCServer, LiveServer.
type ServerConfig struct {
	Film
	Host Host           // where it listens
	Addr netip.AddrPort // default 127.0.0.1:0
	Name string         // of the Server header

	Missing []string // paths that are 404; every other path is the film

	Exact          bool // a seek starts at the very picture asked for, not at the key picture before
	RTPInfo        RTPInfo
	Clock          Clock
	Unit           Unit // of Range and SDP, default UnitNPT
	NoRange        bool // no Range in the reply to PLAY
	IgnorePosition bool // starts at 0 whatever is asked, and says so
	Live           bool // no duration, no Range, join at the next packet
	Burst          bool // sends as fast as the network takes it
	EarlyMedia     bool // media right before the 200 to PLAY
	NoBYE          bool // packets just stop at the end

	NoTCP, NoUDP bool // 461 to a SETUP of this kind
	MuteUDP      bool // sets UDP up and sends nothing, as behind a firewall

	Timeout         time.Duration // of a session nobody asks about, default 60 s
	AnnounceTimeout bool          // ;timeout= in the Session header
	BoundSession    bool          // the session ends with the last control connection that named it
	AbsoluteControl bool          // a=control with a whole URL, Content-Base without '/'
	ReportEvery     time.Duration // between sender reports, default 2 s; the first after half of it
	PacketLog       int           // newest packets kept of each session, default 8192; negative: none
}

func (c ServerConfig) withDefaults() ServerConfig {
	c.Film = c.Film.withDefaults()
	if !c.Addr.IsValid() {
		c.Addr = netip.MustParseAddrPort("127.0.0.1:0")
	}
	if c.Name == "" {
		c.Name = "scas-lab"
	}
	if c.Unit == "" {
		c.Unit = UnitNPT
	}
	if c.Timeout <= 0 {
		c.Timeout = 60 * time.Second
	}
	if c.ReportEvery <= 0 {
		c.ReportEvery = 2 * time.Second
	}
	if c.PacketLog == 0 {
		c.PacketLog = 8192
	}
	return c
}

// Bounds of what strangers can make a server hold.
const (
	maxSessions    = 20000
	maxConnections = 20000
)

// Server is a running synthetic RTSP server. Safe for concurrent use.
type Server struct {
	cfg    ServerConfig
	born   time.Time
	ln     *net.TCPListener
	cancel context.CancelFunc
	wg     sync.WaitGroup
	log    *eventLog
	open   atomic.Int64 // connections

	mu       sync.Mutex
	sessions map[string]*serverSession
	conns    map[*serverConn]struct{}
	refuse   map[string]refusal // by method
}

type refusal struct{ status, times int }

// Serve starts a server. It runs until Close.
func Serve(cfg ServerConfig) (*Server, error) {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithCancel(context.Background())
	ln, err := cfg.Host.ListenTCP(ctx, cfg.Addr)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("lab: server: %w", err)
	}
	s := &Server{
		cfg: cfg, born: time.Now(), ln: ln, cancel: cancel, log: newEventLog(),
		sessions: map[string]*serverSession{},
		conns:    map[*serverConn]struct{}{},
		refuse:   map[string]refusal{},
	}
	s.wg.Go(func() { s.accept(ctx) })
	s.wg.Go(func() { s.reap(ctx) })
	return s, nil
}

// Addr returns where the server listens.
func (s *Server) Addr() netip.AddrPort { return s.ln.Addr().(*net.TCPAddr).AddrPort() }

// URL returns the address of the film of that name.
func (s *Server) URL(name string) string {
	return "rtsp://" + s.Addr().String() + "/" + strings.TrimPrefix(name, "/")
}

// Close ends all sessions and connections without a word, as a killed server would, and waits
// until nothing of it runs.
func (s *Server) Close() error {
	s.cancel()
	err := s.ln.Close()
	for _, x := range s.take(func(*serverSession) bool { return true }) {
		x.close()
	}
	s.mu.Lock()
	for c := range s.conns {
		c.wire.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Refuse makes the server answer the next requests of a method with a status: 453 or 503 to
// PLAY, 401 to TEARDOWN and so on. times < 0 is for ever, 0 ends it.
func (s *Server) Refuse(method string, status, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse[method] = refusal{status, times}
}

// refused returns the status a request has to be refused with, or 0.
func (s *Server) refused(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.refuse[method]
	if r.times == 0 {
		return 0
	}
	if r.times > 0 {
		r.times--
		s.refuse[method] = r
	}
	return r.status
}

// DropConnections ends every control connection, with RST or FIN, and leaves the sessions to
// what the configuration says happens then.
func (s *Server) DropConnections(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if tcp, ok := c.wire.Conn.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		c.wire.Close()
	}
}

func (s *Server) accept(ctx context.Context) {
	for {
		c, err := s.ln.AcceptTCP()
		if err != nil {
			return
		}
		if s.open.Add(1) > maxConnections {
			s.open.Add(-1)
			c.Close()
			continue
		}
		sc := newServerConn(s, c)
		s.mu.Lock()
		s.conns[sc] = struct{}{}
		if ctx.Err() != nil {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Go(func() {
			defer s.open.Add(-1)
			sc.serve()
			s.mu.Lock()
			delete(s.conns, sc)
			s.mu.Unlock()
			s.connectionGone(sc)
		})
	}
}

// reap ends the sessions nobody has asked about for the timeout.
func (s *Server) reap(ctx context.Context) {
	tick := time.NewTicker(max(s.cfg.Timeout/20, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, x := range s.take(func(x *serverSession) bool { return x.idle(now) > s.cfg.Timeout }) {
				x.close()
				s.log.add(x.event(ServerTimeout))
			}
		}
	}
}

// take removes and returns the sessions that match.
func (s *Server) take(match func(*serverSession) bool) []*serverSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*serverSession
	for id, x := range s.sessions {
		if match(x) {
			delete(s.sessions, id)
			out = append(out, x)
		}
	}
	return out
}

// connectionGone ends what was bound to a control connection: interleaved sessions, and with
// BoundSession those it was the last to name.
func (s *Server) connectionGone(c *serverConn) {
	for _, x := range s.take(func(x *serverSession) bool {
		return x.carrier() == c || s.cfg.BoundSession && x.lastConn.Load() == c
	}) {
		x.close()
		s.log.add(x.event(ServerGone))
	}
}

func (s *Server) session(id string) *serverSession {
	id, _, _ = strings.Cut(id, ";")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[strings.TrimSpace(id)]
}

func (s *Server) add(x *serverSession) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) >= maxSessions {
		return false
	}
	s.sessions[x.id] = x
	return true
}

// sessionHeader returns the Session header of a session.
func (s *Server) sessionHeader(x *serverSession) string {
	if !s.cfg.AnnounceTimeout {
		return x.id
	}
	return x.id + ";timeout=" + strconv.Itoa(max(1, int(s.cfg.Timeout.Seconds())))
}
