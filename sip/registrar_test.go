package sip

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gosip "github.com/emiago/sipgo/sip"
	"github.com/icholy/digest"
)

// ownRegistrar is a server without IMS: terminals register with it by UDP, TCP and TLS.
func ownRegistrar(t *testing.T, change func(cfg *Config)) *regBed {
	t.Helper()
	cert, key := selfSigned(t)
	core := newWirePeer(t, loopback())
	ip := loopback()
	return newRegBedAt(t, core, &flakyStore{Memory: NewMemory()}, &fakeClock{}, func(cfg *Config) {
		cfg.Listen = []string{"udp://" + ip + ":0", "tcp://" + ip + ":0", "tls://" + ip + ":0"}
		cfg.URI = "sip:scas@hotel.test"
		cfg.Trusted, cfg.Subscribers = nil, nil
		cfg.Registrar = true
		cfg.Users = []Credential{
			{AoR: "sip:room1@hotel.test", Password: "one"},
			{AoR: "sip:room2@hotel.test", User: "second", Password: "two"},
		}
		cfg.Terminals = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		cfg.TLS = TLS{Certificate: cert, Key: key, ServerCA: cert}
		if change != nil {
			change(cfg)
		}
	})
}

// selfSigned makes a certificate for hotel.test and 127.0.0.1; it returns its files.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hotel.test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"hotel.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// guest is one terminal at one transport.
type guest struct {
	t    *testing.T
	conn net.Conn
	user string // sip:room1@hotel.test
	name string // in the digest
	pass string
	alg  string
	seq  int
	id   string

	nonce string
	nc    int
}

func newGuest(t *testing.T, b *regBed, network string) *guest {
	t.Helper()
	g := &guest{t: t, user: "sip:room1@hotel.test", name: "room1", pass: "one", alg: "SHA-256", id: newToken(6)}
	var err error
	for _, l := range b.s.stack.listeners {
		if l.network != network {
			continue
		}
		switch network {
		case "tls":
			g.conn, err = tls.Dial("tcp", l.local.String(), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a test's own certificate
		default:
			g.conn, err = net.Dial(network, l.local.String())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.conn.Close() })
	return g
}

// register writes a REGISTER; auth is the value of Authorization or empty.
func (g *guest) register(contact string, expires int, auth string) string {
	g.seq++
	if auth != "" {
		auth = "Authorization: " + auth + "\r\n"
	}
	network := "UDP"
	if _, ok := g.conn.(*net.TCPConn); ok {
		network = "TCP"
	} else if _, ok := g.conn.(*tls.Conn); ok {
		network = "TLS"
	}
	return fmt.Sprintf("REGISTER sip:hotel.test SIP/2.0\r\nVia: SIP/2.0/%s %s;branch=z9hG4bK%s%d;rport\r\nMax-Forwards: 70\r\n"+
		"From: <%s>;tag=a\r\nTo: <%s>\r\nCall-ID: %s\r\nCSeq: %d REGISTER\r\nContact: %s\r\nExpires: %d\r\n%sContent-Length: 0\r\n\r\n",
		network, g.conn.LocalAddr(), g.id, g.seq, g.user, g.user, g.id, g.seq, contact, expires, auth)
}

func (g *guest) contact() string { return "<sip:room1@" + g.conn.LocalAddr().String() + ">" }

func (g *guest) ask(raw string) *gosip.Response {
	g.t.Helper()
	if _, err := g.conn.Write([]byte(raw)); err != nil {
		g.t.Fatal(err)
	}
	if err := g.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		g.t.Fatal(err)
	}
	buf := make([]byte, 65536)
	n, err := g.conn.Read(buf)
	if err != nil {
		g.t.Fatalf("no answer: %v", err)
	}
	m, err := gosip.NewParser(gosip.WithHeadersParsers(lenientParsers())).ParseSIP(buf[:n])
	if err != nil {
		g.t.Fatal(err)
	}
	res, ok := m.(*gosip.Response)
	if !ok {
		g.t.Fatalf("no response: %s", m)
	}
	return res
}

// credentials answers a challenge.
func (g *guest) credentials(res *gosip.Response, method, uri string) string {
	g.t.Helper()
	for _, h := range res.GetHeaders("WWW-Authenticate") {
		c, err := digest.ParseChallenge(h.Value())
		if err != nil || c.Algorithm != g.alg {
			continue
		}
		if c.Nonce != g.nonce {
			g.nonce, g.nc = c.Nonce, 0
		}
		g.nc++
		cred, err := digest.Digest(c, digest.Options{Method: method, URI: uri, Username: g.name, Password: g.pass, Count: g.nc, Cnonce: "c"})
		if err != nil {
			g.t.Fatal(err)
		}
		return cred.String()
	}
	g.t.Fatalf("no %s challenge in %v", g.alg, res)
	return ""
}

// enter registers with a challenge and returns the last answer.
func (g *guest) enter(expires int) *gosip.Response {
	g.t.Helper()
	res := g.ask(g.register(g.contact(), expires, ""))
	if res.StatusCode != 401 {
		g.t.Fatalf("answered %d %s", res.StatusCode, res.Reason)
	}
	return g.ask(g.register(g.contact(), expires, g.credentials(res, "REGISTER", "sip:hotel.test")))
}

// TestRegistrar registers by each transport and algorithm, is reached the same way, and leaves.
func TestRegistrar(t *testing.T) {
	for _, network := range []string{"udp", "tcp", "tls"} {
		for _, alg := range []string{"SHA-256", "MD5"} {
			t.Run(network+" "+alg, func(t *testing.T) {
				b := ownRegistrar(t, nil)
				g := newGuest(t, b, network)
				g.alg = alg
				res := g.enter(600)
				if res.StatusCode != 200 || !strings.Contains(headerText(res, "Contact"), ";expires=600") {
					t.Fatalf("%s", res)
				}
				host, _, _ := net.SplitHostPort(g.conn.LocalAddr().String())
				b.openIs(host)
				g.reached(b)
				if res := g.enter(0); res.StatusCode != 200 || res.GetHeader("Contact") != nil {
					t.Fatalf("%s", res)
				}
				b.openIs("")
			})
		}
	}
}

// reached: a request of ours comes by the flow of the REGISTER.
func (g *guest) reached(b *regBed) {
	g.t.Helper()
	to, ok := b.s.registry.targetOf(b.s.Terminals()[0])
	if !ok {
		g.t.Fatal("no target")
	}
	req := b.s.stack.newRequest("MESSAGE", to)
	req.SetBody([]byte("hello"))
	done := make(chan error, 1)
	go func() {
		res, err := b.s.stack.sendFrom(g.t.Context(), req, to.Listener)
		if err == nil && res.StatusCode != 200 {
			err = fmt.Errorf("answered %d", res.StatusCode)
		}
		done <- err
	}()
	buf := make([]byte, 65536)
	_ = g.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := g.conn.Read(buf)
	if err != nil {
		g.t.Fatalf("no request: %v", err)
	}
	m, err := gosip.ParseMessage(buf[:n])
	if err != nil {
		g.t.Fatal(err)
	}
	got, ok := m.(*gosip.Request)
	if !ok || string(got.Body()) != "hello" {
		g.t.Fatalf("got %s", m)
	}
	if _, err := g.conn.Write([]byte(gosip.NewResponseFromRequest(got, 200, "OK", nil).String())); err != nil {
		g.t.Fatal(err)
	}
	if err := <-done; err != nil {
		g.t.Error(err)
	}
}

// TestRegistrarRefusals: what must not get in.
func TestRegistrarRefusals(t *testing.T) {
	b := ownRegistrar(t, func(cfg *Config) { cfg.Limits.SourceRate, cfg.Limits.SourceBurst = 1000, 1000 })
	fresh := func() *guest { return newGuest(t, b, "udp") }

	g := fresh()
	g.user = "sip:room2@hotel.test" // proven room1
	if res := g.enter(600); res.StatusCode != 403 {
		t.Errorf("another's identity: %d", res.StatusCode)
	}
	g = fresh()
	raw := strings.Replace(g.register(g.contact(), 600, ""), "Contact", "P-Asserted-Identity: <sip:room1@hotel.test>\r\nContact", 1)
	if res := g.ask(raw); res.StatusCode != 401 {
		t.Errorf("asserted by a terminal: %d", res.StatusCode)
	}
	g = fresh()
	res := g.ask(g.register(g.contact(), 600, ""))
	auth := g.credentials(res, "REGISTER", "sip:hotel.test")
	if res := g.ask(g.register(g.contact(), 600, auth)); res.StatusCode != 200 {
		t.Fatalf("%d", res.StatusCode)
	}
	if res := g.ask(g.register(g.contact(), 600, auth)); res.StatusCode != 401 {
		t.Errorf("replayed: %d", res.StatusCode)
	}
	res = g.ask(g.register(g.contact(), 600, ""))
	b.clock.forward(nonceLife + time.Second)
	res = g.ask(g.register(g.contact(), 600, g.credentials(res, "REGISTER", "sip:hotel.test")))
	if res.StatusCode != 401 || !strings.Contains(headerText(res, "WWW-Authenticate"), "stale=true") {
		t.Errorf("old nonce: %d %s", res.StatusCode, headerText(res, "WWW-Authenticate"))
	}
	if res := g.enter(5); res.StatusCode != 423 || headerText(res, "Min-Expires") != "60" {
		t.Errorf("short: %d", res.StatusCode)
	}
	message := strings.NewReplacer("REGISTER", "MESSAGE", "sip:hotel.test SIP", "sip:scas@hotel.test SIP").Replace(g.register(g.contact(), 600, ""))
	if res := g.ask(message); res.StatusCode != 401 {
		t.Errorf("MESSAGE without credentials: %d", res.StatusCode)
	}

	bad := fresh()
	bad.user, bad.name, bad.pass = "sip:room2@hotel.test", "second", "wrong"
	for range failLimit {
		if res := bad.enter(600); res.StatusCode != 401 {
			t.Errorf("wrong password: %d", res.StatusCode)
		}
	}
	bad.pass = "two"
	if res := bad.enter(600); res.StatusCode != 403 {
		t.Errorf("after %d failures: %d", failLimit, res.StatusCode)
	}
	b.clock.forward(failTime + time.Second)
	if res := bad.enter(600); res.StatusCode != 200 {
		t.Errorf("after the lock: %d", res.StatusCode)
	}
	for _, secret := range []string{"wrong", "response=", auth} {
		if strings.Contains(b.logs.String(), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// TestRegistrarFlood: one source gets its rate and no more; the core side has none.
func TestRegistrarFlood(t *testing.T) {
	b := ownRegistrar(t, func(cfg *Config) { cfg.Limits.SourceRate, cfg.Limits.SourceBurst = 0.001, 5 })
	g := newGuest(t, b, "udp")
	for range 5 {
		g.ask(g.register(g.contact(), 600, ""))
	}
	if _, err := g.conn.Write([]byte(g.register(g.contact(), 600, ""))); err != nil {
		t.Fatal(err)
	}
	until(t, "limited", func() bool { return b.s.Stats()["rate_limited"] == 1 })
}
