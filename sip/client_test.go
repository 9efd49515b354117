package sip

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

// hotel is a whole server that is its own registrar.
type hotel struct {
	server *Server
	stage  *stage
	ca     *x509.CertPool
}

func newHotel(t *testing.T, network string, edit func(*Config)) *hotel {
	t.Helper()
	h := &hotel{stage: &stage{Table: session.NewTable()}, ca: x509.NewCertPool()}
	cfg := DefaultConfig()
	cfg.Access, cfg.URI, cfg.Registrar = []string{network + "://127.0.0.1:0"}, "sip:scas@hotel.example", true
	cfg.Terminals = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.Users = []Credential{{AoR: "sip:bob@hotel.example", Password: "secret"}}
	if network == "tls" {
		cfg.TLS.Certificate, cfg.TLS.Key = selfSigned(t)
		var err error
		if h.ca, err = loadCA(cfg.TLS.Certificate); err != nil {
			t.Fatal(err)
		}
	}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	h.server, err = New(cfg, Deps{Mover: h.stage, Sessions: h.stage, Transfers: h.stage}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := h.server.Serve(ctx); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return h
}

// client is a handset of bob.
func (h *hotel) client(t *testing.T, instance, agent, password string) (*Client, chan Incoming) {
	t.Helper()
	network, addr, _ := strings.Cut(h.server.Addrs()[0], "://")
	got := make(chan Incoming, 16)
	c, err := NewClient(ClientConfig{
		AoR: "sip:bob@hotel.example", Password: password, Proxy: "sip:" + addr + ";transport=" + network,
		Instance: instance, UserAgent: agent, Received: func(in Incoming) { got <- in },
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: h.ca},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, got
}

func receive(t *testing.T, ch chan Incoming) Incoming {
	t.Helper()
	select {
	case in := <-ch:
		return in
	case <-time.After(patience):
		t.Fatal("nothing received")
	}
	return Incoming{}
}

func TestClientMovesAFilm(t *testing.T) {
	for _, network := range []string{"udp", "tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			h := newHotel(t, network, nil)
			ctx := t.Context()
			phone, toPhone := h.client(t, phoneInstance, "a phone", "secret")
			tv, toTV := h.client(t, tvInstance, "a tv", "secret")
			for _, c := range []*Client{phone, tv} {
				if err := c.Register(ctx); err != nil {
					t.Fatal(err)
				}
			}
			if ts := h.server.Terminals(); len(ts) != 2 || ts[0].Name != "phone" || ts[1].Name != "tv" || ts[0].Source != session.FromRegistrar {
				t.Fatalf("terminals %+v", ts)
			}
			npt := 5.0
			h.stage.Put(session.Record{
				ID: "f1", AoR: session.Ptr("sip:bob@hotel.example"), Terminal: session.Terminal{IP: netip.MustParseAddr("127.0.0.9")},
				Protocol: session.RTSP, URL: session.Ptr(filmURL), State: session.Playing,
				Position: &session.Position{NPT: &npt, Rendered: &npt},
			})
			ref, err := phone.Send(ctx, Order{Op: "push", To: "tv"})
			if err != nil {
				t.Fatal(err)
			}
			offer := receive(t, toTV)
			if offer.Text == "" || !strings.Contains(offer.Text, "\n"+filmURL+"\n") { // it never said it speaks JSON
				t.Fatalf("offer %+v", offer)
			}
			if err := tv.SendText(ctx, "no"); err != nil {
				t.Fatal(err)
			}
			if r := receive(t, toPhone).Result; r == nil || r.Ref != ref || r.State != "declined" || r.Code != codeNo {
				t.Fatalf("result %+v", r)
			}
			receive(t, toTV) // the result in words
			if _, err := tv.Send(ctx, Order{Op: "list"}); err != nil {
				t.Fatal(err)
			}
			l := receive(t, toTV).Sessions
			if l == nil || len(l.Items) != 1 || len(l.Terminals) != 2 || !l.Terminals[1].Me {
				t.Fatalf("list %+v", l)
			}
			ref, err = tv.Send(ctx, Order{Op: "pull", Session: l.Items[0].Session})
			if err != nil {
				t.Fatal(err)
			}
			if o := receive(t, toTV).Offer; o == nil || o.Ref != ref || o.URL[0] != filmURL {
				t.Fatalf("offer %+v", o)
			}
			for _, c := range []*Client{phone, tv} {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
			if ts := h.server.Terminals(); len(ts) != 0 {
				t.Errorf("still there: %+v", ts)
			}
		})
	}
}

func TestClientRefused(t *testing.T) {
	h := newHotel(t, "udp", nil)
	c, _ := h.client(t, phoneInstance, "a phone", "wrong")
	defer c.Close()
	var refused *StatusError
	if err := c.Register(t.Context()); !errors.As(err, &refused) || refused.Code != 401 {
		t.Fatalf("%v", err)
	}
	if n := h.server.Stats()["digest_failed"]; n > 2 {
		t.Errorf("the wrong password was sent %d times", n)
	}
	for name, bad := range map[string]ClientConfig{
		"no AoR":      {Instance: "urn:uuid:1"},
		"no user":     {AoR: "sip:hotel.example", Instance: "urn:uuid:1"},
		"no instance": {AoR: "sip:bob@127.0.0.1"},
		"transport":   {AoR: "sip:bob@127.0.0.1", Instance: "urn:uuid:1", Proxy: "sip:127.0.0.1;transport=sctp"},
		"no proxy":    {AoR: "sip:bob@127.0.0.1", Instance: "urn:uuid:1", Proxy: "http://x"},
	} {
		if c, err := NewClient(bad); err == nil {
			t.Errorf("%s: taken", name)
			c.Close()
		}
	}
}

// TestClientHearsItsProxyOnly: an offer from anybody else, or in another name, is refused.
func TestClientHearsItsProxyOnly(t *testing.T) {
	h := newHotel(t, "udp", nil)
	c, got := h.client(t, phoneInstance, "a phone", "secret")
	defer c.Close()
	offer := func(from string) string {
		return "MESSAGE " + c.Contact() + " SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2:1;rport;branch=z9hG4bK" + newToken(5) +
			"\r\nMax-Forwards: 70\r\nFrom: <" + from + ">;tag=1\r\nTo: <sip:bob@hotel.example>\r\nCall-ID: " + newToken(5) +
			"\r\nCSeq: 1 MESSAGE\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nhey"
	}
	for _, x := range []struct {
		local, from, want string
	}{
		{"127.0.0.2", "sip:scas@hotel.example", "SIP/2.0 403"},
		{"127.0.0.1", "sip:mallory@hotel.example", "SIP/2.0 403"},
		{"127.0.0.1", "sip:scas@hotel.example", "SIP/2.0 200"},
	} {
		conn, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(x.local)}, net.UDPAddrFromAddrPort(c.local))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(offer(x.from))); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 2000)
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		n, err := conn.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), x.want) {
			t.Errorf("%s as %s: %v %q", x.local, x.from, err, buf[:n])
		}
		conn.Close()
	}
	if in := receive(t, got); in.Text != "hey" {
		t.Errorf("%+v", in)
	}
}

// presenceServer takes PUBLISHes as RFC 3903 says.
type presenceServer struct {
	mu   sync.Mutex
	etag string
	log  []string
	doc  presenceDoc
}

func (p *presenceServer) publish(_ context.Context, r *request) reply {
	p.mu.Lock()
	defer p.mu.Unlock()
	match, body := headerText(r, "SIP-If-Match"), r.Body()
	p.log = append(p.log, match+" "+headerText(r, "Expires")+" "+map[bool]string{true: "doc", false: "-"}[len(body) > 0])
	if match != p.etag {
		return reply{code: 412}
	}
	if len(body) > 0 {
		doc, err := parsePIDF(body)
		if err != nil {
			return reply{code: 400}
		}
		p.doc = doc
	}
	p.etag = newToken(4)
	return reply{code: 200, headers: []gosip.Header{
		gosip.NewHeader("SIP-ETag", p.etag), gosip.NewHeader("Expires", headerText(r, "Expires")),
	}}
}

// TestClientQuickerThanCore: a core that sees the answer to its challenge before it has noted the
// challenge is answered again, with time to note it.
func TestClientQuickerThanCore(t *testing.T) {
	var mu sync.Mutex
	nonces := map[string]time.Time{}
	cfg := DefaultConfig()
	cfg.Access, cfg.URI, cfg.Registrar = []string{"udp://127.0.0.1:0"}, "sip:scscf@hotel.example", true
	st, err := newStack(cfg, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	st.auth = func(*request) *reply { return nil }
	st.handle("REGISTER", func(_ context.Context, r *request) reply {
		mu.Lock()
		defer mu.Unlock()
		for nonce, challenged := range nonces {
			if strings.Contains(headerText(r, "Authorization"), nonce) && time.Since(challenged) >= afterTwo/2 {
				return reply{code: 200}
			}
		}
		nonce := newToken(12)
		nonces[nonce] = time.Now()
		return reply{code: 401, headers: []gosip.Header{gosip.NewHeader("WWW-Authenticate", `Digest realm="hotel.example", nonce="`+nonce+`", algorithm=MD5, qop="auth"`)}}
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = st.serveAll(ctx) })
	defer wg.Wait()
	defer cancel()
	c, err := NewClient(ClientConfig{AoR: "sip:bob@hotel.example", Password: "x", Instance: phoneInstance, Proxy: "sip:" + st.listeners[0].local.String()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Register(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestClientPublishes(t *testing.T) {
	p := &presenceServer{}
	cfg := DefaultConfig()
	cfg.Access, cfg.URI, cfg.Registrar = []string{"udp://127.0.0.1:0"}, "sip:pres@hotel.example", true
	st, err := newStack(cfg, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	st.auth = func(*request) *reply { return nil }
	st.handle("PUBLISH", p.publish)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = st.serveAll(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	c, err := NewClient(ClientConfig{
		AoR: "sip:bob@hotel.example", Instance: tvInstance, Proxy: "sip:" + st.listeners[0].local.String(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Publish(ctx, Presence{Active: true, Activity: "tv"}); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	first := p.etag
	if x := p.doc.tuples; len(x) != 1 || !x[0].input.active || x[0].deviceID != tvInstance || x[0].contact != c.Contact() {
		t.Errorf("published %+v", x)
	}
	p.mu.Unlock()
	if err := c.Publish(ctx, Presence{LastInput: time.Now()}); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	second := p.etag
	p.etag = "" // restarted
	p.mu.Unlock()
	c.pubMu.Lock()
	_, err = c.publish(ctx, nil) // what the refresh does
	c.pubMu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	third := p.etag
	p.mu.Unlock()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	want := []string{" 120 doc", first + " 120 doc", second + " 120 -", " 120 doc", third + " 0 -"}
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := strings.Join(p.log, "|"); got != strings.Join(want, "|") {
		t.Errorf("got %q\nwant %q", got, strings.Join(want, "|"))
	}
}
