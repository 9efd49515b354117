package admin

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"scas/session"
)

func TestGuards(t *testing.T) {
	const asJSON = "Content-Type: application/json"
	order := `{"session":"a","to":"tv"}`
	tests := map[string]struct {
		cfg          Config
		trusted      bool
		method, path string
		headers      []string
		status       int
	}{
		"loopback address":            {Config{}, false, "GET", "/v1/sessions", nil, 200},
		"localhost":                   {Config{}, false, "GET", "/v1/sessions", []string{"Host: localhost:8470"}, 200},
		"IPv6 loopback":               {Config{}, false, "GET", "/v1/sessions", []string{"Host: [::1]:8470"}, 200},
		"rebound name":                {Config{}, false, "GET", "/v1/sessions", []string{"Host: evil.example:8470"}, 403},
		"rebound name, health":        {Config{}, false, "GET", "/healthz", []string{"Host: evil.example"}, 403},
		"name with the token's guard": {Config{Token: "t0"}, false, "GET", "/v1/sessions", []string{"Host: gw.example", "Authorization: Bearer t0"}, 200},
		"socket, any name":            {Config{}, true, "GET", "/v1/sessions", []string{"Host: scas"}, 200},
		"no token":                    {Config{Token: "t0"}, false, "GET", "/v1/sessions", nil, 401},
		"wrong token":                 {Config{Token: "t0"}, false, "GET", "/v1/sessions", []string{"Authorization: Bearer t00"}, 401},
		"empty token":                 {Config{Token: "t0"}, false, "GET", "/v1/sessions", []string{"Authorization: Bearer "}, 401},
		"other scheme":                {Config{Token: "t0"}, false, "GET", "/v1/sessions", []string{"Authorization: Digest t0"}, 401},
		"token":                       {Config{Token: "t0"}, false, "GET", "/v1/sessions", []string{"Authorization: bearer t0"}, 200},
		"token of a browser":          {Config{Token: "t0"}, false, "GET", "/", []string{"Authorization: Basic eDp0MA=="}, 200},
		"metrics want the token":      {Config{Token: "t0"}, false, "GET", "/metrics", nil, 401},
		"events want the token":       {Config{Token: "t0"}, false, "GET", "/v1/events", nil, 401},
		"the page wants the token":    {Config{Token: "t0"}, false, "GET", "/", nil, 401},
		"orders want the token":       {Config{Token: "t0"}, false, "POST", "/v1/transfers", []string{asJSON}, 401},
		"health needs none":           {Config{Token: "t0"}, false, "GET", "/healthz", nil, 200},
		"the socket needs none":       {Config{Token: "t0"}, true, "GET", "/v1/sessions", nil, 200},
		"own page":                    {Config{}, false, "POST", "/v1/transfers", []string{asJSON, "Sec-Fetch-Site: same-origin"}, 201},
		"page of another site":        {Config{}, false, "POST", "/v1/transfers", []string{asJSON, "Sec-Fetch-Site: cross-site"}, 403},
		"page of another origin":      {Config{}, false, "POST", "/v1/transfers", []string{asJSON, "Origin: http://evil.example"}, 403},
		"form of another site":        {Config{}, false, "POST", "/v1/transfers", []string{"Content-Type: application/x-www-form-urlencoded"}, 415},
		"delete by another site":      {Config{}, false, "DELETE", "/v1/transfers/t", []string{"Sec-Fetch-Site: cross-site"}, 403},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.put("a", "10.10.1.2", session.Playing, 1)
			_, hs := serve(t, w, tt.cfg, tt.trusted)
			body := ""
			if tt.method == "POST" {
				body = order
			}
			resp := do(t, tt.method, hs.URL+tt.path, body, tt.headers...)
			if resp.StatusCode != tt.status {
				t.Fatal(resp.Status)
			}
			if tt.status == 401 && resp.Header.Get("WWW-Authenticate") == "" {
				t.Error("no challenge")
			}
			if tt.status >= 400 && len(w.orders) != 0 {
				t.Error("ordered")
			}
			if resp.Header.Get("Access-Control-Allow-Origin") != "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Error(resp.Header)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  Config
		want string
	}{
		"default":           {DefaultConfig(), ""},
		"socket only":       {Config{Socket: "/s"}, ""},
		"nowhere":           {Config{}, "neither"},
		"everywhere":        {Config{Listen: ":8470"}, "token is needed"},
		"LAN":               {Config{Listen: "192.0.2.1:8470"}, "token is needed"},
		"LAN with a token":  {Config{Listen: "192.0.2.1:8470", Token: "x"}, ""},
		"name of localhost": {Config{Listen: "localhost:0"}, ""},
		"IPv6":              {Config{Listen: "[::1]:8470"}, ""},
		"no port":           {Config{Listen: "127.0.0.1"}, "HOST:PORT"},
	} {
		err := tt.cfg.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The whole server: both listeners, the socket's mode, a stale socket replaced, one in use
// respected, everything gone afterwards.
func TestServe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "scas.sock")
	w, log := newWorld(), slog.New(slog.DiscardHandler)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()

	s, err := New(Config{Listen: "127.0.0.1:0", Socket: path, Version: "test"}, w.sources(), log)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o660 {
		t.Error(err, fi.Mode())
	}
	addr := s.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()

	unix := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	for c, url := range map[*http.Client]string{unix: "http://scas", {}: "http://" + addr} {
		resp, err := c.Get(url + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Error(resp.Status, string(b))
		}
	}
	if _, err := New(Config{Socket: path}, w.sources(), log); err == nil || !strings.Contains(err.Error(), "another scas") {
		t.Errorf("second server: %v", err)
	}
	// An event stream that stays open does not hold up the end.
	resp, err := unix.Get("http://scas/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("the socket is still there")
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("still listening")
	}
}

func TestSocketInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Socket: path}, newWorld().sources(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("took the place of a file")
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("file is gone")
	}
}

func TestLimit(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newLimit(inner, 1)
	accepted := make(chan net.Conn, 4)
	end := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				end <- err
				return
			}
			accepted <- c
		}
	}()
	for range 2 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Fatal("a second one was accepted")
	default:
	}
	first.Close()
	first.Close() // twice frees one slot only
	(<-accepted).Close()
	l.Close()
	<-end
}
