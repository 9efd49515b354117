package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"scas/admin"
	"scas/internal/lab"
	"scas/session"
	"scas/sip"
)

// hotel is the configuration of a gateway with a registrar of its own.
const hotel = `
sip:
  listen: ["udp://10.78.9.1:5060"]
  access: ["udp://10.78.1.1:5060", "udp://10.78.2.1:5060"]
  uri: "sip:scas@ims.example"
  trusted: [10.78.9.2/32]
  terminals: [10.78.1.0/24, 10.78.2.0/24]
  registrar: true
  reg_event: false
  users: [{aor: "sip:bob@ims.example", password: "bob's secret"}, {aor: "sip:ann@ims.example", password: "ann's secret"}]
`

const (
	bob     = "sip:bob@ims.example"
	ann     = "sip:ann@ims.example"
	secret  = "bob's secret"
	secret2 = "ann's secret"
	soon    = time.Second // what a registration or its end may take to show
	opening = 20 * time.Second
)

// terminalClient is the SIP half of a terminal, with all that it was sent.
type terminalClient struct {
	*sip.Client
	there func(func() error) error // runs something where its sockets live
	mu    sync.Mutex
	got   []sip.Incoming
}

// client opens the SIP half of a terminal, over UDP; it is not registered yet.
func (s *site) client(t *testing.T, ns, aor, password string) *terminalClient {
	t.Helper()
	return s.clientOver(t, ns, sip.ClientConfig{AoR: aor, Password: password, Proxy: "sip:" + s.registrar(ns)})
}

// registrar is where the terminals of a namespace register.
func (s *site) registrar(ns string) string {
	gw := s.Addr(ns).As4()
	gw[3] = 1
	return net.JoinHostPort(netip.AddrFrom4(gw).String(), "5060")
}

// clientOver is client with a proxy of its own.
func (s *site) clientOver(t *testing.T, ns string, cfg sip.ClientConfig) *terminalClient {
	t.Helper()
	c := &terminalClient{there: s.Host(ns).Do}
	cfg.Local, cfg.Instance = netip.AddrPortFrom(s.Addr(ns), 0), "urn:uuid:00000000-0000-4000-8000-00000000000"+ns[len(ns)-1:]
	cfg.UserAgent, cfg.Service = map[string]string{phone: "lab phone", tv: "lab tv"}[ns], "sip:scas@ims.example"
	cfg.Received = func(in sip.Incoming) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.got = append(c.got, in)
	}
	err := s.Do(ns, func() (err error) {
		c.Client, err = sip.NewClient(cfg)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// registers registers a terminal and returns what the registrar says against it.
func (c *terminalClient) registers(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opening)
	defer cancel()
	err := c.there(func() error { return c.Register(ctx) }) // it connects, over TCP and TLS
	if err != nil && !errors.As(err, new(*sip.StatusError)) {
		t.Fatal(err)
	}
	return err
}

// register registers a terminal and returns when it is admitted.
func (s *site) register(t *testing.T, c *terminalClient, ns string) {
	t.Helper()
	if err := c.registers(t); err != nil {
		t.Fatal(err)
	}
	await(t, soon, ns+" is admitted", func() bool { return s.admits(t, ns) })
}

// admits reports whether a terminal is listed; the kernel half has to have admitted as many.
func (s *site) admits(t *testing.T, ns string) bool {
	t.Helper()
	all := s.enrolled(t)
	return slices.ContainsFunc(all, func(x admin.Terminal) bool { return x.IP == s.Addr(ns) }) && s.opened(t) == len(all)
}

// enrolled returns the terminals without a process of its own: it is asked often.
func (s *site) enrolled(t *testing.T) (all []admin.Terminal) {
	t.Helper()
	if _, err := s.api.get(t.Context(), "/v1/terminals", &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// opened returns how many addresses the gateway has admitted; kernelAdmits asks the kernel itself.
func (s *site) opened(t *testing.T) int {
	t.Helper()
	return s.metric(t, "scas_bpf_subscribers")
}

// metric returns a value of /metrics; those that never were anything but 0 are not there.
func (s *site) metric(t *testing.T, name string) (n int) {
	t.Helper()
	text, err := s.api.call(t.Context(), http.MethodGet, "/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	if found := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindSubmatch(text); found != nil {
		n, err = strconv.Atoi(string(found[1]))
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// incoming returns the first message that fits, of those that a terminal has not looked at.
func (c *terminalClient) incoming(t *testing.T, what string, fits func(sip.Incoming) bool) (found sip.Incoming) {
	t.Helper()
	await(t, opening, what, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.IndexFunc(c.got, fits)
		if i >= 0 {
			found = c.got[i]
			c.got = c.got[i+1:]
		}
		return i >= 0
	})
	return found
}

// order sends an order of the machine form.
func (c *terminalClient) order(t *testing.T, o sip.Order) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), opening)
	defer cancel()
	if _, err := c.Send(ctx, o); err != nil {
		t.Fatal(err)
	}
}

func offered(in sip.Incoming) bool { return in.Offer != nil }

func result(state string) func(sip.Incoming) bool {
	return func(in sip.Incoming) bool { return in.Result != nil && in.Result.State == state }
}

// registration is what a core tells of a terminal that registered.
type registration struct {
	of, about string     // To of the REGISTER, and of the terminal's own REGISTER inside
	terminal  netip.Addr // where it came from
	expires   int        // seconds
}

// thirdParty writes a REGISTER as a core that is at from sends it.
func thirdParty(x registration, from netip.Addr) string {
	inner := fmt.Sprintf("REGISTER sip:ims.example SIP/2.0\r\nVia: SIP/2.0/UDP %[1]v:5060;branch=z9hG4bKi\r\nFrom: <%[2]s>;tag=i\r\nTo: <%[2]s>\r\n"+
		"Call-ID: inner-%[1]v\r\nCSeq: 1 REGISTER\r\nContact: <sip:x@%[1]v:5060>\r\nExpires: %[3]d\r\nContent-Length: 0\r\n\r\n", x.terminal, x.about, x.expires)
	return fmt.Sprintf("REGISTER sip:scas@ims.example SIP/2.0\r\nVia: SIP/2.0/UDP %[1]v:5060;rport;branch=z9hG4bK%[6]x\r\nMax-Forwards: 70\r\n"+
		"From: <sip:scscf.ims.example>;tag=o\r\nTo: <%[2]s>\r\nCall-ID: outer-%[6]x\r\nCSeq: 1 REGISTER\r\nContact: <sip:%[1]v:5060>\r\nExpires: %[3]d\r\n"+
		"Content-Type: message/sip\r\nContent-Length: %[4]d\r\n\r\n%[5]s", from, x.of, x.expires, len(inner), inner, rand.Uint64())
}

// asserted writes a request as a core that is at from passes it on for a user who is at bottom.
func asserted(method, user string, bottom, from netip.Addr, more, body string) string {
	return fmt.Sprintf("%[1]s sip:scas@ims.example SIP/2.0\r\nVia: SIP/2.0/UDP %[4]v:5060;rport;branch=z9hG4bK%[7]x\r\n"+
		"Via: SIP/2.0/UDP %[3]v:5060;received=%[3]v;branch=z9hG4bKb%[7]x\r\nMax-Forwards: 68\r\nFrom: <%[2]s>;tag=f\r\nTo: <sip:scas@ims.example>\r\n"+
		"Call-ID: c-%[7]x\r\nCSeq: 1 %[1]s\r\nContact: <sip:x@%[3]v:5060>\r\nP-Asserted-Identity: <%[2]s>\r\n%[5]sContent-Length: %[8]d\r\n\r\n%[6]s",
		method, user, bottom, from, more, body, rand.Uint64(), len(body))
}

// tells sends a message from a namespace by UDP; with answered it returns the first line of the answer.
func (s *site) tells(t *testing.T, ns, to, text string, answered bool) string {
	t.Helper()
	c, err := s.Host(ns).ListenUDP(netip.AddrPortFrom(s.Addr(ns), 5060))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteToUDPAddrPort([]byte(text), netip.MustParseAddrPort(to)); err != nil {
		t.Fatal(err)
	}
	if !answered {
		return ""
	}
	if err := c.SetReadDeadline(time.Now().Add(opening)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 64<<10)
	n, err := c.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(answer[:n]), "\r\n")
	return line
}

// core is where the core speaks to the application server.
const core = "10.78.9.1:5060"

// registered tells, as the core, that a user's terminal registered; it returns the answer.
func (s *site) registered(t *testing.T, x registration) string {
	t.Helper()
	if x.about == "" {
		x.about = x.of
	}
	return s.tells(t, lab.MS, core, thirdParty(x, s.Addr(lab.MS)), true)
}

// newHotel builds a network whose terminals are known by registration only, and a film.
func newHotel(t *testing.T) (*site, *lab.Server) {
	t.Helper()
	s := newSite(t, siteConfig{only: []string{}, sip: hotel})
	server := s.film(t, lab.GstServer(), false)
	s.serve(t)
	return s, server
}

// discreet fails the test when the log tells at info level who the users are or what they play.
func (s *site) discreet(t *testing.T) {
	t.Helper()
	said, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(said)) {
		if !strings.Contains(line, "level=DEBUG") && (strings.Contains(line, bob) || strings.Contains(line, "rtsp://") || strings.Contains(line, s.Addr(phone).String())) {
			t.Errorf("the log tells: %s", line)
		}
	}
}

// newest returns the transfer that was ordered last.
func (s *site) newest(t *testing.T) session.Transfer {
	t.Helper()
	var all []session.Transfer
	s.scas(t, &all, "transfers")
	if len(all) == 0 {
		t.Fatal("no transfer")
	}
	return slices.MaxFunc(all, func(a, b session.Transfer) int { return orderedAt(a).Compare(orderedAt(b)) })
}

func orderedAt(x session.Transfer) time.Time {
	if x.Times.Offered != nil {
		return *x.Times.Offered
	}
	return *x.Times.Armed
}
