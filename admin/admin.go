// Package admin knows what the operator sees and may ask for over HTTP: the sessions, the
// terminals, the transfers, events as they happen, metrics, health, and one web page. It
// serves the same routes on TCP and on a unix socket. It refuses to know where facts come
// from and how a move is carried out: it asks the small interfaces below.
//
// Who may ask: whoever can open the unix socket (mode 0660); over TCP whoever has the token,
// or, when there is none, whoever is on this machine (New refuses to listen elsewhere then).
// A web page of somebody else in the operator's browser may not: the Host header is checked
// on a listener without a token (DNS rebinding), requests that change something must be
// application/json and of the same origin, and nothing allows cross-origin reads.
//
// Specifications: DESIGN §7; Server-Sent Events (WHATWG HTML §9.2); Prometheus text format.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"scas/session"
)

// Terminal is an address that may use the service, as the API shows it.
type Terminal struct {
	AoR       *string    `json:"aor"`
	Name      string     `json:"name"`
	IP        netip.Addr `json:"ip"`       // invalid: unknown
	Instance  *string    `json:"instance"` // +sip.instance; nil without SIP
	Source    string     `json:"source"`   // static, register, reg-event or registrar
	Expires   *time.Time `json:"expires"`  // nil for a static terminal
	Active    bool       `json:"active"`   // plays something now
	UserAgent *string    `json:"user_agent"`
}

// Sessions gives session records whose positions are those of the moment of the call.
type Sessions interface {
	List() []session.Record
	Get(id string) (session.Record, bool)
}

// Table gives records as they were last written, which is cheap, the transfers, and every
// change of both (session.Table).
type Table interface {
	List() []session.Record
	Transfers() []session.Transfer
	Transfer(id string) (session.Transfer, bool)
	Watch(ctx context.Context) <-chan session.Change
}

// Terminals gives the enrolled terminals. Lookup finds the one that a stands for, which for
// IPv6 may have been enrolled with another address of the same prefix.
type Terminals interface {
	Terminals() []Terminal
	Lookup(a netip.Addr) (Terminal, bool)
}

// Mover carries out orders. Both methods return a *session.OrderError for an order that
// cannot be carried out.
type Mover interface {
	Move(ctx context.Context, o session.Order) (session.Transfer, error)
	Cancel(id string) (session.Transfer, error)
}

// Sources are what a Server asks. All but History are required, and safe for concurrent use.
type Sources struct {
	Sessions  Sessions
	Table     Table
	Terminals Terminals
	Mover     Mover
	Counters  func() map[string]Counters // of the other rooms, by room, for /metrics
	Ready     func() error               // nil when the gateway watches
	History   History                    // nil: none is kept
}

// Counters is a snapshot of what a room counts, by name.
type Counters struct {
	Total map[string]uint64        // only grows: scas_<room>_<name>_total
	Now   map[string]uint64        // goes up and down: scas_<room>_<name>
	Help  func(name string) string // what it means; nil or "": its name has to do
}

// Config says where and how to serve.
type Config struct {
	Listen     string        // TCP address and port; empty: no TCP
	Socket     string        // path of the unix socket; empty: none
	Token      string        // Bearer token asked for over TCP; empty: only loopback is served
	Version    string        // shown by /metrics and the page
	Heartbeat  time.Duration // silence after which an event stream gets a comment; default 15 s
	Stall      time.Duration // how long an event stream's reader may not read; default 10 s
	MaxStreams int           // event streams open at a time; default 64
	MaxConns   int           // connections open at a time on each listener; default 256
}

// DefaultConfig returns the defaults of DESIGN §7.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:8470", Socket: "/run/scas/scas.sock",
		Heartbeat: 15 * time.Second, Stall: 10 * time.Second, MaxStreams: 64, MaxConns: 256,
	}
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	if c.Listen == "" && c.Socket == "" {
		return errors.New("neither a TCP address nor a socket to serve on")
	}
	if c.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen address %q: want HOST:PORT", c.Listen)
	}
	if c.Token == "" && !loopback(host) {
		return fmt.Errorf("listen address %q is not a loopback address: a token is needed", c.Listen)
	}
	return nil
}

// loopback reports whether host (an address or "localhost") is this machine only.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// Server serves the API. Make one with New. Safe for concurrent use.
type Server struct {
	cfg Config
	src Sources
	log *slog.Logger

	stop    context.Context // ends every event stream
	cancel  context.CancelFunc
	streams atomic.Int64

	stats stats
	lns   []listener
	http  []*http.Server
	wg    sync.WaitGroup
}

type stats struct {
	requests, refusedHost, refusedToken, refusedOrigin, refusedBody atomic.Uint64
	streams, streamsRefused, streamsDropped, unencodable            atomic.Uint64
}

// New opens the listeners of cfg and returns a server that is not serving yet. Whatever it
// opened is closed again when it fails.
func New(cfg Config, src Sources, log *slog.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := build(cfg, src, log)
	if err := s.listen(); err != nil {
		s.closeListeners()
		return nil, err
	}
	return s, nil
}

func build(cfg Config, src Sources, log *slog.Logger) *Server {
	def := DefaultConfig()
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = def.Heartbeat
	}
	if cfg.Stall <= 0 {
		cfg.Stall = def.Stall
	}
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = def.MaxStreams
	}
	if cfg.MaxConns <= 0 {
		cfg.MaxConns = def.MaxConns
	}
	s := &Server{cfg: cfg, src: src, log: log}
	s.stop, s.cancel = context.WithCancel(context.Background())
	return s
}

// Addr returns the TCP address served on, nil when there is none.
func (s *Server) Addr() net.Addr {
	for _, l := range s.lns {
		if !l.trusted {
			return l.Addr()
		}
	}
	return nil
}

// Serve answers requests until ctx ends, then waits for running ones for at most 2 s and
// closes everything. It returns nil after that, and an error when a listener broke. It can
// be called once.
func (s *Server) Serve(ctx context.Context) error {
	broken := make(chan error, len(s.lns))
	for _, l := range s.lns {
		srv := &http.Server{
			Handler:           s.handler(l.trusted),
			ReadHeaderTimeout: 5 * time.Second,
			ReadTimeout:       15 * time.Second,
			WriteTimeout:      60 * time.Second,
			IdleTimeout:       60 * time.Second,
			MaxHeaderBytes:    16 << 10,
			ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		s.http = append(s.http, srv)
		s.wg.Go(func() { broken <- srv.Serve(l) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-broken:
	}
	s.cancel()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	for _, srv := range s.http {
		if srv.Shutdown(grace) != nil {
			err = errors.Join(err, srv.Close())
		}
	}
	s.wg.Wait()
	s.closeListeners()
	if err != nil {
		return fmt.Errorf("serve API: %w", err)
	}
	return nil
}

// Close closes the listeners of a server whose Serve was never called.
func (s *Server) Close() {
	s.cancel()
	s.closeListeners()
}

// Stats returns the server's own counters by stable names.
func (s *Server) Stats() map[string]uint64 {
	return map[string]uint64{
		"requests":        s.stats.requests.Load(),
		"refused_host":    s.stats.refusedHost.Load(),
		"refused_token":   s.stats.refusedToken.Load(),
		"refused_origin":  s.stats.refusedOrigin.Load(),
		"refused_body":    s.stats.refusedBody.Load(),
		"streams":         s.stats.streams.Load(),
		"streams_refused": s.stats.streamsRefused.Load(),
		"streams_dropped": s.stats.streamsDropped.Load(),
		"unencodable":     s.stats.unencodable.Load(),
	}
}
