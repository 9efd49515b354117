package admin

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"scas/session"
)

const bob, alice = "sip:bob@ims.example", "sip:alice@ims.example"

// world is everything a Server asks, in memory.
type world struct {
	history History
	*session.Table
	terminals []Terminal
	ready     error

	mu      sync.Mutex
	orders  []session.Order
	moveErr error
	cancErr error
}

func newWorld() *world {
	w := &world{Table: session.NewTable()}
	for _, t := range []struct{ aor, name, ip string }{
		{bob, "phone", "10.10.1.2"}, {bob, "tv", "10.10.1.3"}, {alice, "tablet", "10.10.1.4"}, {alice, "tv", "10.10.1.5"},
		{bob, "desk", "fd00:1::2"},
	} {
		w.terminals = append(w.terminals, Terminal{AoR: &t.aor, Name: t.name, IP: netip.MustParseAddr(t.ip), Source: "static"})
	}
	return w
}

func (w *world) Terminals() []Terminal { return w.terminals }

func (w *world) Lookup(a netip.Addr) (Terminal, bool) {
	for _, t := range w.terminals {
		if t.IP == a || a.Is6() && t.IP.Is6() && netip.PrefixFrom(t.IP, 64).Contains(a) {
			return t, true
		}
	}
	return Terminal{}, false
}

func (w *world) Move(_ context.Context, o session.Order) (session.Transfer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orders = append(w.orders, o)
	if w.moveErr != nil {
		return session.Transfer{}, w.moveErr
	}
	t := session.Transfer{ID: "t1", Session: o.Session, To: o.To, Trigger: o.Trigger, State: session.Armed, URL: "rtsp://m/film"}
	w.PutTransfer(t)
	return t, nil
}

func (w *world) Cancel(id string) (session.Transfer, error) {
	t, _ := w.Transfer(id)
	if w.cancErr != nil {
		return t, w.cancErr
	}
	t.State = session.Cancelled
	w.PutTransfer(t)
	return t, nil
}

func (w *world) sources() Sources {
	return Sources{
		History:  w.history,
		Sessions: w, Table: w, Terminals: w, Mover: w,
		Counters: func() map[string]Counters {
			return map[string]Counters{"bpf": {
				Total: map[string]uint64{"ring_overflow": 3, "map-full.Flows": 1}, Now: map[string]uint64{"subscribers": 2},
			}}
		},
		Ready: func() error { return w.ready },
	}
}

// put adds a session of one of bob's or alice's terminals.
func (w *world) put(id, terminal string, state session.State, started int) {
	ip := netip.MustParseAddr(terminal)
	t, _ := w.Lookup(ip)
	r := session.Record{
		ID: id, Gateway: "gw1", AoR: t.AoR, Terminal: session.Terminal{Name: t.Name, IP: ip},
		Protocol: session.RTSP, Transport: session.UDP, URL: session.Ptr("rtsp://m/" + id), State: state,
		Started: time.Unix(int64(started), 0).UTC(), Updated: time.Unix(int64(started), 0).UTC(),
	}
	w.Put(r)
}

// serve runs a server of w's on loopback until the test ends.
func serve(t *testing.T, w *world, cfg Config, trusted bool) (*Server, *httptest.Server) {
	t.Helper()
	s := build(cfg, w.sources(), slog.New(slog.DiscardHandler))
	hs := httptest.NewServer(s.handler(trusted))
	t.Cleanup(func() { s.cancel(); hs.Close() })
	return s, hs
}

// answer is a response whose body was read.
type answer struct {
	StatusCode int
	Status     string
	Header     http.Header
	Body       io.Reader
}

// do sends a request with headers "Name: value"; a Host header sets the request's host.
func do(t *testing.T, method, url, body string, headers ...string) answer {
	t.Helper()
	resp := open(t, method, url, body, headers...)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Status, resp.Header, bytes.NewReader(raw)}
}

// open is do without reading the body, which the caller closes.
func open(t *testing.T, method, url, body string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}
