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

// MMSConfig says how an MMS server behaves. The zero value is an honest VoD server of a
// synthetic film on free ports of 127.0.0.1, MMST and MMSH.
type MMSConfig struct {
	Film                // served unless ASF is given
	ASF  *ASF           // a real film
	Host Host           // where it listens
	Addr netip.AddrPort // of MMST, default 127.0.0.1:0
	HTTP netip.AddrPort // of MMSH, default a free port of Addr's address

	Missing []string // paths that are not found; every other path is the film

	HeaderPiece    int           // largest piece of the ASF header, bytes; default the packet size
	KeepPadding    bool          // packets as they are in the file, not stripped
	SplitReplies   bool          // each reply of MMST in two segments, as no server should
	SpecChunkCount bool          // chunkCount is total/8
	IgnorePosition bool          // starts at the beginning whatever is asked
	Broadcast      bool          // no duration, no seeking, joined at the live edge
	Burst          bool          // sends as fast as the network takes it
	Lead           time.Duration // sent at once at each start, default 3 s
	NoEOS          bool          // packets just stop at the end
	Linger         time.Duration // MMST: from the end of the film to the closing, default 1 s; negative: for ever
	Ping           time.Duration // MMST: between Pings once the header is out, default 10 s
	PacketLog      int           // newest packets kept of each session, default 8192; negative: none
}

func (c MMSConfig) withDefaults() MMSConfig {
	if !c.Addr.IsValid() {
		c.Addr = netip.MustParseAddrPort("127.0.0.1:0")
	}
	if !c.HTTP.IsValid() {
		c.HTTP = netip.AddrPortFrom(c.Addr.Addr(), 0)
	}
	if c.Lead <= 0 {
		c.Lead = 3 * time.Second
	}
	if c.Linger == 0 {
		c.Linger = time.Second
	}
	if c.Ping <= 0 {
		c.Ping = 10 * time.Second
	}
	if c.PacketLog == 0 {
		c.PacketLog = 8192
	}
	return c
}

// MMSServer is a running MMS server: MMS over TCP (MS-MMSP) and over HTTP (MS-WMSP). It refuses
// UDP in the way clients accept. Safe for concurrent use.
//
// Its log is that of Server. The Method of an event is the name of the MMST message without
// direction, such as StartPlaying, or Describe and Play for MMSH; Head has the fields of the
// message by their names in MS-MMSP (FunnelName, FileName, Position, ASFOffset, LocationID,
// PlayIncarnation, Packet: where the film starts then), or the header lines of MMSH; Status is
// the HRESULT, or the HTTP status.
type MMSServer struct {
	cfg    MMSConfig
	film   *ASF
	header []byte // as it is sent
	born   time.Time
	tcp    *net.TCPListener
	http   *net.TCPListener
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	books  Server // only its log and its refusals
	open   atomic.Int64
	ids    atomic.Int64

	mu       sync.Mutex
	sessions map[*mmsSession]struct{}
	conns    map[net.Conn]struct{}
}

// ServeMMS starts a server. It runs until Close.
func ServeMMS(cfg MMSConfig) (*MMSServer, error) {
	cfg = cfg.withDefaults()
	film := cfg.ASF
	if film == nil {
		var err error
		if film, err = cfg.Film.ASF(0); err != nil {
			return nil, err
		}
	}
	s := &MMSServer{
		cfg: cfg, film: film, header: film.Header, born: time.Now(),
		books:    Server{log: newEventLog(), refuse: map[string]refusal{}},
		sessions: map[*mmsSession]struct{}{}, conns: map[net.Conn]struct{}{},
	}
	if cfg.Broadcast {
		s.header = film.broadcast()
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	var err error
	if s.tcp, err = cfg.Host.ListenTCP(s.ctx, cfg.Addr); err == nil {
		if s.http, err = cfg.Host.ListenTCP(s.ctx, cfg.HTTP); err != nil {
			s.tcp.Close()
		}
	}
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("lab: mms server: %w", err)
	}
	s.wg.Go(func() { s.accept(s.tcp, s.serveTCP) })
	s.wg.Go(func() { s.accept(s.http, s.serveHTTP) })
	return s, nil
}

// Addr returns where the server listens for MMST.
func (s *MMSServer) Addr() netip.AddrPort { return s.tcp.Addr().(*net.TCPAddr).AddrPort() }

// HTTPAddr returns where the server listens for MMSH.
func (s *MMSServer) HTTPAddr() netip.AddrPort { return s.http.Addr().(*net.TCPAddr).AddrPort() }

// URL returns the address of the film of that name over a scheme: mms, mmst, mmsu or mmsh.
func (s *MMSServer) URL(scheme, name string) string {
	addr := s.Addr()
	if scheme == "mmsh" || scheme == "http" {
		addr = s.HTTPAddr()
	}
	return scheme + "://" + addr.String() + "/" + strings.TrimPrefix(name, "/")
}

// Film returns what the server serves.
func (s *MMSServer) Film() *ASF { return s.film }

// Close ends all connections without a word and waits until nothing of the server runs.
func (s *MMSServer) Close() error {
	s.cancel()
	err := errors.Join(s.tcp.Close(), s.http.Close())
	s.DropConnections(false)
	s.wg.Wait()
	return err
}

// DropConnections ends every connection, with RST or FIN.
func (s *MMSServer) DropConnections(reset bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if tcp, ok := c.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
}

// Refuse makes the server answer the next requests of a name with an HRESULT, or an HTTP status
// for Describe and Play. times < 0 is for ever, 0 ends it.
func (s *MMSServer) Refuse(method string, status, times int) { s.books.Refuse(method, status, times) }

// EndStreams sends EndOfStream with an HRESULT to every session that plays, as at the end of the
// film; MMST only. The connections stay open.
func (s *MMSServer) EndStreams(hr uint32) {
	s.mu.Lock()
	all := make([]*mmsSession, 0, len(s.sessions))
	for x := range s.sessions {
		all = append(all, x)
	}
	s.mu.Unlock()
	for _, x := range all {
		if x.conn != nil {
			x.conn.interrupt(hr)
		}
	}
}

// Log returns all that happened so far, the oldest first; at most the newest 65536 events.
func (s *MMSServer) Log() []ServerEvent { return s.books.Log() }

// Await returns the first event that matches, also one of the past.
func (s *MMSServer) Await(ctx context.Context, match func(ServerEvent) bool) (ServerEvent, error) {
	return s.books.Await(ctx, match)
}

// Events returns what happens from now on until ctx ends; then the channel is closed.
func (s *MMSServer) Events(ctx context.Context) <-chan ServerEvent { return s.books.Events(ctx) }

// Requests returns the requests of a method so far; an empty method is all.
func (s *MMSServer) Requests(method string) []ServerEvent { return s.books.Requests(method) }

func (s *MMSServer) accept(ln *net.TCPListener, serve func(*net.TCPConn)) {
	for {
		c, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		if s.open.Add(1) > maxConnections {
			s.open.Add(-1)
			c.Close()
			continue
		}
		s.mu.Lock()
		s.conns[c] = struct{}{}
		if s.ctx.Err() != nil {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Go(func() {
			serve(c)
			c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
			s.open.Add(-1)
		})
	}
}

// live returns the packet a broadcast has come to.
func (s *MMSServer) live() int {
	since := time.Since(s.born)
	n := 0
	for n < len(s.film.index) && s.film.index[n].send <= since {
		n++
	}
	return n
}

// start returns the packet a request starts with.
func (s *MMSServer) start(from mmsStart) int {
	switch {
	case s.cfg.Broadcast:
		return s.live()
	case s.cfg.IgnorePosition:
		return 0
	}
	return s.film.packetOf(from)
}

// missing reports whether a path is to be refused.
func (s *MMSServer) missing(path string) bool {
	for _, m := range s.cfg.Missing {
		if strings.Trim(m, "/") == strings.Trim(path, "/") {
			return true
		}
	}
	return false
}

// session makes the books of a session and returns what removes them.
func (s *MMSServer) session(remote netip.AddrPort, c *mmsConn) (*mmsSession, func()) {
	x := &mmsSession{conn: c, stats: ServerSession{
		ID: strconv.FormatInt(s.ids.Add(1), 10), Remote: unmapped(remote), TCP: true,
	}}
	s.mu.Lock()
	s.sessions[x] = struct{}{}
	s.mu.Unlock()
	return x, func() {
		s.mu.Lock()
		delete(s.sessions, x)
		s.mu.Unlock()
		s.books.log.add(x.event(ServerGone))
	}
}
