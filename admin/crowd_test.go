package admin

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"scas/session"
)

// TestCrowd: a thousand readers want the events. Some are served, all others told so at once, and
// who asks for something else is answered.
func TestCrowd(t *testing.T) {
	t.Parallel()
	const crowd = 1000
	w := newWorld()
	cfg := DefaultConfig()
	cfg.Listen, cfg.Socket = "127.0.0.1:0", ""
	s, err := New(cfg, w.sources(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	addr := s.Addr().String()

	type reader struct {
		c      net.Conn
		in     *bufio.Reader
		status string
	}
	readers := make(chan reader, crowd)
	var wg sync.WaitGroup
	for range crowd {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			c.SetDeadline(time.Now().Add(2 * time.Minute))
			r := reader{c: c, in: bufio.NewReader(c)}
			if _, err = c.Write([]byte("GET /v1/events HTTP/1.1\r\nHost: " + addr + "\r\n\r\n")); err == nil {
				r.status, err = r.in.ReadString('\n')
			}
			if err != nil {
				t.Error(err)
			}
			readers <- r
		})
	}
	wg.Wait()
	close(readers)
	served := []reader{}
	for r := range readers {
		t.Cleanup(func() { r.c.Close() })
		if strings.Contains(r.status, " 200 ") {
			served = append(served, r)
		} else if !strings.Contains(r.status, " 503 ") {
			t.Errorf("answered %q", r.status)
		}
	}
	if len(served) != cfg.MaxStreams {
		t.Errorf("%d are served, %d may be", len(served), cfg.MaxStreams)
	}
	resp, err := http.Get("http://" + addr + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	w.put("a", "10.10.1.2", session.Playing, 1)
	for _, r := range served {
		for line := ""; !strings.HasPrefix(line, "data: "); {
			if line, err = r.in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
}
