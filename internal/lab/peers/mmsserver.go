package peers

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"
)

//go:embed mms_server.py
var mmsServerScript string

// MMSServerConfig says where and how an MMS server runs.
type MMSServerConfig struct {
	Start Starter       // nil: Host
	NS    string        // namespace, for Start
	Media string        // directory of the films
	Addr  string        // to listen on; "" is every IPv4 address
	MMST  int           // port; 0: a free one
	MMSH  int           // port; 0: a free one
	Burst time.Duration // sent ahead of its time, default 3 s
	Piece int           // largest piece of the ASF header over MMST; 0: the packet size
	Full  bool          // packets keep their padding
	Log   string        // file for what else it says; "" discards it
}

// MMSServer is a running server of MMST and MMSH, independent of this project: a Python program.
// Its events are those of a GstServer: Method is the MMST message, such as StartPlaying, or
// Describe and Play; Range says what start was asked for and the packet it led to; Agent is the
// subscriberName; a session is a connection of MMST, or a Play of MMSH.
type MMSServer struct {
	*GstServer
	MMST, MMSH int // ports
}

// StartMMSServer starts the server and returns when it listens. Close ends it; ctx bounds only
// the start.
func StartMMSServer(ctx context.Context, cfg MMSServerConfig) (*MMSServer, error) {
	if cfg.Start == nil {
		cfg.Start = Host
	}
	if cfg.Addr == "" {
		cfg.Addr = "0.0.0.0"
	}
	if cfg.Burst == 0 {
		cfg.Burst = 3 * time.Second
	}
	args := []string{"-c", mmsServerScript, "--root", cfg.Media, "--addr", cfg.Addr, "--mmst", strconv.Itoa(cfg.MMST),
		"--mmsh", strconv.Itoa(cfg.MMSH), "--burst", strconv.FormatFloat(cfg.Burst.Seconds(), 'f', 3, 64), "--piece", strconv.Itoa(cfg.Piece)}
	if cfg.Full {
		args = append(args, "--full")
	}
	cmd := cfg.Start(context.WithoutCancel(ctx), cfg.NS, "python3", args...)
	s := &MMSServer{GstServer: &GstServer{news: newNews(), sessions: make(map[string]*ServerSession)}}
	out, err := launch(cmd, cfg.Log, &s.proc)
	if err != nil {
		return nil, fmt.Errorf("mms server: %w", err)
	}
	go s.read(out)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	e, err := s.Wait(ctx, func(e ServerEvent) bool { return e.Kind == EventListening })
	if err == nil {
		_, err = fmt.Sscan(e.URI, &s.MMST, &s.MMSH)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("mms server: not listening: %w%s", err, tail(cfg.Log))
	}
	return s, nil
}

// URL is the address of a film over a scheme, mms, mmst, mmsu or mmsh, for a client that reaches
// the server at host.
func (s *MMSServer) URL(scheme, host, film string) string {
	port := s.MMST
	if scheme == "mmsh" {
		port = s.MMSH
	}
	return scheme + "://" + host + ":" + strconv.Itoa(port) + "/vod/" + film
}
