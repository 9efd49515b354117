package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/session"
	"scas/sip"
)

// TestSIPWays: the phone registers over TCP, the TV over TLS. The phone gets another name while it
// plays, the TV pulls the film, and when its user is active on the phone again it is offered there.
func TestSIPWays(t *testing.T) {
	t.Parallel()
	onPhone, onTV, s, server := wayfarers(t)
	cfg := udp()
	cfg.Start = moveStart
	origin := s.play(t, phone, cfg, server.URL("film"))
	reach(t, origin, moveOrder)
	s.renamed(t, onPhone, server.URL("film"))
	onPhone.order(t, sip.Order{Op: "auto", Mode: "on"})
	onPhone.incoming(t, "that auto is on", result("done"))

	onTV.order(t, sip.Order{Op: "pull", Ref: "pulled"})
	offer := onTV.incoming(t, "the URL", offered).Offer
	if x := s.newest(t); offer.Ref != "pulled" || offer.From != "handy" || len(offer.URL) != 1 || x.Trigger != session.Pull || x.State != session.Armed {
		t.Fatalf("offered %+v: %+v", offer, x)
	}
	target := s.play(t, tv, udp(), offer.URL[0])
	x := s.outcome(t, s.newest(t).ID)
	if x.State != session.Done || x.From.Name != "handy" || x.To.Name != "tv" {
		t.Fatalf("transfer %s", transferState(x))
	}
	if r := onTV.incoming(t, "the result", result("done")).Result; r.Ref != "pulled" || r.On != "tv" {
		t.Errorf("%+v", r)
	}
	onPhone.incoming(t, "the same", result("done"))
	first, ok := target.Result().Segments[0].First()
	if shown := over(t, origin).LastShown.NPT; !ok || first.NPT < moveStart-2*time.Second || first.NPT > shown+picture {
		t.Errorf("the TV began at %v, the phone ended at %v", first.NPT, shown)
	}
	s.follows(t, onPhone, onTV, target)
	s.stop(t)
	s.discreet(t)
}

// wayfarers builds a hotel in which both terminals are registered over connections.
func wayfarers(t *testing.T) (onPhone, onTV *terminalClient, s *site, server *lab.Server) {
	t.Helper()
	cert, key, pool := selfSigned(t, "10.78.2.1")
	s = newSite(t, siteConfig{only: []string{}, sip: strings.Replace(hotel, `access: ["udp://10.78.1.1:5060", "udp://10.78.2.1:5060"]`,
		`access: ["tcp://10.78.1.1:5060", "tls://10.78.2.1:5061"]`+"\n  tls: {certificate: "+cert+", key: "+key+"}", 1)})
	server = s.film(t, lab.GstServer(), false)
	s.serve(t)
	onPhone = s.clientOver(t, phone, sip.ClientConfig{AoR: bob, Password: secret, Proxy: "sip:" + s.registrar(phone) + ";transport=tcp"})
	onTV = s.clientOver(t, tv, sip.ClientConfig{
		AoR: bob, Password: secret, Proxy: "sips:10.78.2.1:5061", TLS: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	})
	s.register(t, onPhone, phone)
	s.register(t, onTV, tv)
	return onPhone, onTV, s, server
}

// renamed gives the phone another name; the film that it plays is shown under it.
func (s *site) renamed(t *testing.T, onPhone *terminalClient, url string) {
	t.Helper()
	if r := s.shown(t, url); r.Terminal.Name != "phone" {
		t.Errorf("%+v", r.Terminal)
	}
	onPhone.order(t, sip.Order{Op: "name", Name: "handy"})
	onPhone.incoming(t, "the name", result("done"))
	await(t, opening, "the film is shown on handy", func() bool { return s.shown(t, url).Terminal.Name == "handy" })
	for _, x := range s.terminals(t) {
		if want := map[netip.Addr]string{s.Addr(phone): "handy", s.Addr(tv): "tv"}[x.IP]; x.Name != want {
			t.Errorf("%+v is not called %s", x, want)
		}
	}
}

// follows makes the user active on the phone: the film is offered there, declined, and goes on.
func (s *site) follows(t *testing.T, onPhone, onTV *terminalClient, plays *lab.Player) {
	t.Helper()
	var offer *sip.Offer
	var asked time.Time
	await(t, time.Minute, "the film is offered where its user is", func() bool {
		if time.Since(asked) < 2*time.Second { // nobody asks more often
			return false
		}
		asked = time.Now()
		onPhone.order(t, sip.Order{Op: "list"})
		onPhone.incoming(t, "the list", func(in sip.Incoming) bool {
			if in.Offer != nil {
				offer = in.Offer
			}
			return in.Sessions != nil || in.Offer != nil
		})
		return offer != nil
	})
	if x := s.newest(t); !offer.Auto || offer.From != "tv" || x.Trigger != session.Auto || x.State != session.Offered || x.To.Name != "handy" {
		t.Fatalf("offered %+v: %+v", offer, x)
	}
	onPhone.order(t, sip.Order{Op: "decline", Offer: offer.Offer})
	onPhone.incoming(t, "that it was declined", result("declined"))
	onTV.incoming(t, "the same", result("declined"))
	goesOn(t, plays, time.Now().Add(time.Second))
	whole(t, "the TV", plays.Result())
}

// selfSigned makes a certificate for an address; it returns its files and who believes it.
func selfSigned(t *testing.T, ip string) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.ParseIP(ip)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key, pool = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), x509.NewCertPool()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool.AppendCertsFromPEM(text)
	for file, b := range map[string][]byte{cert: text, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, pool
}
