package sip

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	gosip "github.com/emiago/sipgo/sip"
)

// plainServer starts a server whose stack a test may give handlers to before.
func plainServer(t *testing.T, core *wirePeer, change func(cfg *Config), handlers map[string]handlerFunc) *Server {
	t.Helper()
	cfg := baseConfig(core.ip)
	cfg.RegEvent = false
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg, Deps{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for m, h := range handlers {
		s.stack.handle(m, h)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func rawOf(method string, id int) string {
	return fmt.Sprintf("%s sip:scas@ims.test SIP/2.0\r\nVia: SIP/2.0/UDP h;rport;branch=z9hG4bK%s%d\r\nMax-Forwards: 70\r\n"+
		"From: <sip:a@ims.test>;tag=1\r\nTo: <sip:scas@ims.test>\r\nCall-ID: c%d\r\nCSeq: 1 %s\r\nContent-Length: 0\r\n\r\n", method, newToken(4), id, id, method)
}

// What is sent before the sockets are read, or while they begin anew, is sent when they are.
func TestSentEarly(t *testing.T) {
	peer := newWirePeer(t, loopback())
	peer.answers(func(r *gosip.Request) *gosip.Response { return gosip.NewResponseFromRequest(r, 200, "OK", nil) })
	cfg := baseConfig(peer.ip)
	cfg.RegEvent, cfg.Limits.Peers = false, 1 // a new round for every packet
	s, err := New(cfg, Deps{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var sent, serving sync.WaitGroup
	for i := range 20 {
		sent.Go(func() {
			if res, err := s.stack.send(ctx, s.stack.newRequest("OPTIONS", target{URI: "sip:x@" + peer.ip})); err != nil || res.StatusCode != 200 {
				t.Errorf("%d: %v, %v", i, res, err)
			}
		})
	}
	serving.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	sent.Wait()
	cancel()
	serving.Wait()
}

// TestHandlerPanics: a handler that panics costs its request, not the process.
func TestHandlerPanics(t *testing.T) {
	core := newWirePeer(t, loopback())
	s := plainServer(t, core, nil, map[string]handlerFunc{
		"INFO": func(context.Context, *request) reply { panic("oh") },
		"BYE":  func(context.Context, *request) reply { return reply{code: 200, after: func() { panic("later") }} },
	})
	to := s.stack.listeners[0].local
	if r := core.ask(to, rawOf("INFO", 1)); r.StatusCode != 500 {
		t.Errorf("answered %d", r.StatusCode)
	}
	if r := core.ask(to, rawOf("BYE", 2)); r.StatusCode != 200 {
		t.Errorf("answered %d", r.StatusCode)
	}
	if r := core.ask(to, rawOf("OPTIONS", 3)); r.StatusCode != 200 {
		t.Errorf("answered %d", r.StatusCode)
	}
	until(t, "counted", func() bool { return s.Stats()["panics"] == 2 })
}

// TestOverload: beyond the requests in work there is 503, but registrations are answered.
func TestOverload(t *testing.T) {
	core := newWirePeer(t, loopback())
	block, begun := make(chan struct{}), make(chan struct{})
	s := plainServer(t, core, func(cfg *Config) { cfg.Limits.Requests = 1 }, map[string]handlerFunc{
		"INFO": func(context.Context, *request) reply { close(begun); <-block; return reply{code: 200} },
	})
	to := s.stack.listeners[0].local
	core.send(to, rawOf("INFO", 1))
	<-begun
	if r := core.ask(to, rawOf("OPTIONS", 2)); r.StatusCode != 503 || headerText(r, "Retry-After") == "" {
		t.Errorf("answered %d", r.StatusCode)
	}
	if r := core.ask(to, third("sip:alice@ims.test", 600, "", "")); r.StatusCode != 200 {
		t.Errorf("answered %d", r.StatusCode)
	}
	close(block)
	if r := core.response(); r.StatusCode != 200 {
		t.Errorf("answered %d", r.StatusCode)
	}
}

// TestRepeatedRequest: repetitions are answered, and carried out once.
func TestRepeatedRequest(t *testing.T) {
	core := newWirePeer(t, loopback())
	runs := make(chan struct{}, 16)
	s := plainServer(t, core, nil, map[string]handlerFunc{
		"INFO": func(context.Context, *request) reply { runs <- struct{}{}; return reply{code: 200} },
	})
	raw := rawOf("INFO", 1)
	first := core.ask(s.stack.listeners[0].local, raw)
	for range 5 {
		if again := core.ask(s.stack.listeners[0].local, raw); again.To().Value() != first.To().Value() {
			t.Errorf("another answer: %s", again)
		}
	}
	if len(runs) != 1 {
		t.Errorf("%d runs", len(runs))
	}
}

// TestManyPeers: when too many addresses were heard they are forgotten, nothing else is.
func TestManyPeers(t *testing.T) {
	core := newWirePeer(t, loopback())
	s := plainServer(t, core, func(cfg *Config) {
		cfg.Limits.Peers = 3
		cfg.Trusted = []string{"127.0.0.0/8"}
	}, nil)
	for i := range 20 {
		c, err := net.Dial("udp", s.stack.listeners[0].local.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte(rawOf("OPTIONS", i))); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		if n, err := c.Read(buf); err != nil || !strings.HasPrefix(string(buf[:n]), "SIP/2.0 200") {
			t.Fatalf("%d: %v %q", i, err, buf[:n])
		}
	}
	if s.Stats()["peers_forgotten"] == 0 {
		t.Error("nothing was forgotten")
	}
}

// TestLongRequest: what is too long for UDP goes by TCP, and by UDP when nobody listens there.
func TestLongRequest(t *testing.T) {
	core := newWirePeer(t, loopback())
	ip := loopback()
	s := plainServer(t, core, func(cfg *Config) {
		cfg.Listen = []string{"udp://" + ip + ":0", "tcp://" + ip + ":0"}
	}, nil)
	core.answers(func(r *gosip.Request) *gosip.Response { return gosip.NewResponseFromRequest(r, 200, "OK", nil) })
	long := strings.Repeat("x", 9000)
	send := func(to string) error {
		req := s.stack.newRequest("MESSAGE", target{URI: "sip:bob@" + to})
		req.SetBody([]byte(long))
		res, err := s.stack.send(t.Context(), req)
		if err == nil && res.StatusCode != 200 {
			err = fmt.Errorf("answered %d", res.StatusCode)
		}
		return err
	}
	if err := send(core.ip + ":5060"); err != nil {
		t.Fatal(err)
	}
	if r := core.request("MESSAGE"); len(r.Body()) != 9000 || r.Via().Transport != "UDP" || r.Via().Host != ip {
		t.Errorf("%d bytes by %s from %s", len(r.Body()), r.Via().Transport, r.Via().Host)
	}
	ln, err := net.Listen("tcp", loopback()+":0") // a peer of its own: the port of the first may be taken
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() { done <- send(ln.Addr().String()) }()
	if err := ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	buf, n := make([]byte, 65536), 0
	for !strings.HasSuffix(string(buf[:n]), long) {
		m, err := c.Read(buf[n:])
		if err != nil {
			t.Fatal(err)
		}
		n += m
	}
	m, err := gosip.ParseMessage(buf[:n])
	if err != nil {
		t.Fatal(err)
	}
	req, ok := m.(*gosip.Request)
	if !ok || req.Via().Transport != "TCP" {
		t.Fatalf("%s", m)
	}
	if _, err := c.Write([]byte(gosip.NewResponseFromRequest(req, 200, "OK", nil).String())); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
