package peers

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed gst_server.py
var gstServerScript string

// What a server event says.
const (
	EventListening = "listening"
	EventConnect   = "connect" // a control connection
	EventRequest   = "request"
	EventClose     = "close" // of a control connection
	EventOpen      = "open"  // of a session of the server
	EventEnd       = "end"   // of a session of the server
	eventMedia     = "media" // kept as a figure of the session only
)

// ServerEvent is something the server saw. Fields that do not apply are zero.
type ServerEvent struct {
	At       time.Time
	Kind     string
	Client   netip.Addr
	Session  string // RTSP session id
	Sessions int    // open sessions after the event
	Method   string
	URI      string
	CSeq     string
	Range    string
	Agent    string // User-Agent
	packets  uint64
}

// ServerSession is an open session of the server.
type ServerSession struct {
	ID       string
	Client   netip.Addr
	Opened   time.Time
	Packets  uint64    // RTP packets sent
	LastSent time.Time // when Packets last grew, within 0.1 s; zero before the first
}

// ServerConfig says where and how a server runs.
type ServerConfig struct {
	Start   Starter       // nil: Host
	NS      string        // namespace, for Start
	Media   string        // directory of the films
	Addr    string        // to listen on; "" is every IPv4 address
	Port    int           // 0: 554
	Timeout time.Duration // of sessions, whole seconds; 0: 60 s, which the server does not announce
	User    string        // with it, digest authentication is asked for
	Pass    string
	Log     string // file for what else it says; "" discards it
}

// GstServer is a running GStreamer RTSP server. It is safe for concurrent use.
type GstServer struct {
	cfg  ServerConfig
	proc *Process

	news     *news
	mu       sync.Mutex
	events   []ServerEvent
	sessions map[string]*ServerSession
}

// StartGstServer starts the server and returns when it listens. Close ends it; ctx bounds only
// the start.
func StartGstServer(ctx context.Context, cfg ServerConfig) (*GstServer, error) {
	if cfg.Start == nil {
		cfg.Start = Host
	}
	if cfg.Addr == "" {
		cfg.Addr = "0.0.0.0"
	}
	if cfg.Port == 0 {
		cfg.Port = 554
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = time.Minute
	}
	python, err := Python(ctx)
	if err != nil {
		return nil, err
	}
	cmd := cfg.Start(context.WithoutCancel(ctx), cfg.NS, python, "-c", gstServerScript,
		"--media", cfg.Media, "--addr", cfg.Addr, "--port", strconv.Itoa(cfg.Port),
		"--timeout", strconv.Itoa(int(cfg.Timeout/time.Second)), "--user", cfg.User, "--password", cfg.Pass)
	s := &GstServer{cfg: cfg, news: newNews(), sessions: make(map[string]*ServerSession)}
	out, err := launch(cmd, cfg.Log, &s.proc)
	if err != nil {
		return nil, fmt.Errorf("gst server: %w", err)
	}
	go s.read(out)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := s.Wait(ctx, func(e ServerEvent) bool { return e.Kind == EventListening }); err != nil {
		s.Close()
		return nil, fmt.Errorf("gst server: not listening: %w%s", err, tail(cfg.Log))
	}
	return s, nil
}

// launch starts cmd with stderr in the file log, and returns its stdout. The caller of launch
// closes what it returns after reading it to its end.
func launch(cmd *exec.Cmd, log string, p **Process) (io.ReadCloser, error) {
	if log != "" {
		f, err := os.Create(log)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		cmd.Stderr = f
	}
	// Not StdoutPipe: Wait, which runs all the time, would close it under the reader.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	cmd.Stdout = w
	*p, err = StartProcess(cmd)
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (s *GstServer) read(out io.ReadCloser) {
	defer s.news.end()
	defer out.Close()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var l struct {
			T                                                    float64
			Ev, Client, Session, Method, URI, CSeq, Range, Agent string
			Sessions                                             int
			Packets                                              uint64
		}
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue // something a library printed
		}
		client, _ := netip.ParseAddr(l.Client)
		session, _, _ := strings.Cut(l.Session, ";")
		s.note(ServerEvent{
			At: time.UnixMicro(int64(l.T * 1e6)), Kind: l.Ev, Client: client.Unmap(), Session: session, Sessions: l.Sessions,
			Method: l.Method, URI: l.URI, CSeq: l.CSeq, Range: l.Range, Agent: l.Agent, packets: l.Packets,
		})
	}
}

func (s *GstServer) note(e ServerEvent) {
	s.mu.Lock()
	switch e.Kind {
	case EventOpen:
		s.sessions[e.Session] = &ServerSession{ID: e.Session, Client: e.Client, Opened: e.At}
	case EventEnd:
		delete(s.sessions, e.Session)
	case eventMedia:
		if x := s.sessions[e.Session]; x != nil {
			x.Packets, x.LastSent = e.packets, e.At
		}
	}
	if e.Kind != eventMedia {
		s.events = append(s.events, e)
	}
	s.mu.Unlock()
	s.news.tell()
}

// Events returns what happened so far, oldest first.
func (s *GstServer) Events() []ServerEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]ServerEvent(nil), s.events...)
}

// Requests returns the requests of one method from one client; "" and the zero address mean
// any.
func (s *GstServer) Requests(method string, client netip.Addr) []ServerEvent {
	var found []ServerEvent
	for _, e := range s.Events() {
		if e.Kind == EventRequest && (method == "" || e.Method == method) && (!client.IsValid() || e.Client == client) {
			found = append(found, e)
		}
	}
	return found
}

// Sessions returns the open sessions.
func (s *GstServer) Sessions() []ServerSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := make([]ServerSession, 0, len(s.sessions))
	for _, x := range s.sessions {
		open = append(open, *x)
	}
	return open
}

// Sending returns the open sessions to client that sent media within the last second.
func (s *GstServer) Sending(client netip.Addr) []ServerSession {
	var sending []ServerSession
	for _, x := range s.Sessions() {
		if x.Client == client && time.Since(x.LastSent) < time.Second {
			sending = append(sending, x)
		}
	}
	return sending
}

// Wait returns the first event, old or new, for which want holds. The error is the context's,
// or io.EOF when the server ended.
func (s *GstServer) Wait(ctx context.Context, want func(ServerEvent) bool) (ServerEvent, error) {
	seen := 0
	var found ServerEvent
	err := s.news.wait(ctx, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for ; seen < len(s.events); seen++ {
			if want(s.events[seen]) {
				found = s.events[seen]
				return true
			}
		}
		return false
	})
	return found, err
}

// WaitSilent returns when nothing was sent to client for a second. A player that leaves without
// TEARDOWN leaves a session behind that sends nothing and ends by its timeout.
func (s *GstServer) WaitSilent(ctx context.Context, client netip.Addr) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for len(s.Sending(client)) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// URL is the address of a film for a client that reaches the server at host; with the user and
// password when the server asks for them.
func (s *GstServer) URL(host, film string) string {
	u := "rtsp://" + host
	if s.cfg.User != "" {
		u = "rtsp://" + s.cfg.User + ":" + s.cfg.Pass + "@" + host
	}
	if s.cfg.Port != 554 {
		u += ":" + strconv.Itoa(s.cfg.Port)
	}
	return u + "/vod/" + film
}

// Pid is the server's process: /proc/<pid>/net shows its namespace.
func (s *GstServer) Pid() int { return s.proc.Pid() }

// Close kills the server. It may be called twice.
func (s *GstServer) Close() { s.proc.Stop(2 * time.Second) }

// CPU is the processor time the server took, known after Close.
func (s *GstServer) CPU() time.Duration { return s.proc.cpu() }

// Python returns a Python that has GStreamer's bindings. Debian's has; one that a user's PATH
// puts before it may not have.
func Python(ctx context.Context) (string, error) {
	const check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
	var last []byte
	for _, p := range []string{"/usr/bin/python3", "python3"} {
		out, err := exec.CommandContext(ctx, p, "-c", check).CombinedOutput()
		if err == nil {
			return p, nil
		}
		last = out
	}
	return "", fmt.Errorf("no python3 with gi and GstRtspServer (python3-gi, gir1.2-gst-rtsp-server-1.0): %s", last)
}

// tail returns the end of a log for an error message.
func tail(log string) string {
	b, err := os.ReadFile(log)
	if err != nil || len(b) == 0 {
		return ""
	}
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return fmt.Sprintf("\n%s: %s", filepath.Base(log), b)
}
