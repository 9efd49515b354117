package main

import (
	"context"
	"errors"
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
  users: [{aor: "sip:bob@ims.example", password: "bob's secret"}]
`

const (
	bob     = "sip:bob@ims.example"
	secret  = "bob's secret"
	soon    = time.Second // what a registration or its end may take to show
	opening = 20 * time.Second
)

// terminalClient is the SIP half of a terminal, with all that it was sent.
type terminalClient struct {
	*sip.Client
	mu  sync.Mutex
	got []sip.Incoming
}

// client opens the SIP half of a terminal; it is not registered yet.
func (s *site) client(t *testing.T, ns, aor, password string) *terminalClient {
	t.Helper()
	c := &terminalClient{}
	gw := s.Addr(ns).As4()
	gw[3] = 1
	err := s.Do(ns, func() (err error) {
		c.Client, err = sip.NewClient(sip.ClientConfig{
			AoR: aor, Password: password, Proxy: "sip:" + net.JoinHostPort(netip.AddrFrom4(gw).String(), "5060"),
			Local: netip.AddrPortFrom(s.Addr(ns), 0), Instance: "urn:uuid:00000000-0000-4000-8000-00000000000" + ns[len(ns)-1:],
			UserAgent: map[string]string{phone: "lab phone", tv: "lab tv"}[ns], Service: "sip:scas@ims.example",
			Received: func(in sip.Incoming) {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.got = append(c.got, in)
			},
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// registers registers a terminal; only what the registrar says is an error. (The first request may
// come before the client's socket is being read, and sipgo wants to open it again then.)
func (c *terminalClient) registers(t *testing.T) (refused error) {
	t.Helper()
	await(t, opening, "the registrar answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), opening)
		defer cancel()
		refused = c.Register(ctx)
		return refused == nil || errors.As(refused, new(*sip.StatusError))
	})
	return refused
}

// register registers a terminal and returns when it is admitted.
func (s *site) register(t *testing.T, c *terminalClient, ns string) {
	t.Helper()
	if err := c.registers(t); err != nil {
		t.Fatal(err)
	}
	await(t, soon, ns+" is admitted", func() bool { return s.admits(t, ns) })
}

// admits reports whether a terminal is listed; the kernel's own map has to hold as many.
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

// opened returns how many addresses the kernel half watches.
func (s *site) opened(t *testing.T) int {
	t.Helper()
	text, err := s.api.call(t.Context(), http.MethodGet, "/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0 // without any there is no such line
	if found := regexp.MustCompile(`(?m)^scas_bpf_subscribers (\d+)$`).FindSubmatch(text); found != nil {
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

// thirdParty sends a REGISTER as a core does, from ms, and returns the first line of the answer.
func (s *site) thirdParty(t *testing.T, aor string, terminal netip.Addr) string {
	t.Helper()
	c, err := s.Host(lab.MS).ListenUDP(netip.AddrPortFrom(s.Addr(lab.MS), 5060))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	inner := "REGISTER sip:ims.example SIP/2.0\r\nVia: SIP/2.0/UDP " + terminal.String() + ":5060;branch=z9hG4bKi\r\nFrom: <" + aor + ">;tag=i\r\nTo: <" + aor +
		">\r\nCall-ID: inner\r\nCSeq: 1 REGISTER\r\nContact: <sip:x@" + terminal.String() + ":5060>\r\nExpires: 600\r\nContent-Length: 0\r\n\r\n"
	text := "REGISTER sip:scas@ims.example SIP/2.0\r\nVia: SIP/2.0/UDP " + s.Addr(lab.MS).String() + ":5060;branch=z9hG4bKo" + aor[4:7] +
		"\r\nMax-Forwards: 70\r\nFrom: <sip:scscf.ims.example>;tag=o\r\nTo: <" + aor + ">\r\nCall-ID: outer" + aor[4:7] + "\r\nCSeq: 1 REGISTER\r\nContact: <sip:" +
		s.Addr(lab.MS).String() + ":5060>\r\nExpires: 600\r\nContent-Type: message/sip\r\nContent-Length: " + strconv.Itoa(len(inner)) + "\r\n\r\n" + inner
	to := netip.AddrPortFrom(s.Addr(lab.GW), 5060)
	if _, err := c.WriteToUDPAddrPort([]byte(text), to); err != nil {
		t.Fatal(err)
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

// newHotel builds a network whose terminals are known by registration only, and a film.
func newHotel(t *testing.T) (*site, *lab.Server) {
	t.Helper()
	s := newSite(t, siteConfig{only: []string{}, sip: hotel})
	server := s.film(t, lab.GstServer(), false)
	s.serve(t)
	return s, server
}

// TestSIPOutside: who is no user of the service, or cannot prove it, opens nothing.
func TestSIPOutside(t *testing.T) {
	t.Parallel()
	s, server := newHotel(t)
	p := s.play(t, phone, udp(), server.URL("film"))
	for _, who := range []struct{ aor, password string }{{bob, "guessed"}, {"sip:eve@ims.example", secret}} {
		var refused *sip.StatusError
		if err := s.client(t, phone, who.aor, who.password).registers(t); !errors.As(err, &refused) || refused.Code < 400 {
			t.Errorf("%s registers: %v", who.aor, err)
		}
	}
	if said := s.thirdParty(t, "sip:eve@ims.example", s.Addr(phone)); said != "SIP/2.0 200 OK" {
		t.Errorf("the core is told %q", said)
	}
	reach(t, p, 3*time.Second)
	if all := s.terminals(t); len(all) != 0 || s.opened(t) != 0 || len(s.sessions(t, "")) != 0 {
		t.Errorf("%d addresses are open, %+v, %+v", s.opened(t), all, s.sessions(t, ""))
	}
	// the same of a user of the service opens the address
	if said := s.thirdParty(t, bob, s.Addr(phone)); said != "SIP/2.0 200 OK" {
		t.Errorf("the core is told %q", said)
	}
	await(t, soon, "the phone is admitted", func() bool { return s.admits(t, phone) })
	if x := s.terminals(t)[0]; x.Source != session.FromRegister || x.AoR == nil || *x.AoR != bob || x.Expires == nil {
		t.Errorf("%+v", x)
	}
}

// TestSIP is an evening in a hotel without IMS: terminals register, a film is pushed from the
// phone to the TV, the way back is declined, and terminals leave.
func TestSIP(t *testing.T) {
	t.Parallel()
	s, server := newHotel(t)
	early := s.play(t, phone, udp(), server.URL("early"))
	reach(t, early, 2*time.Second)
	if seen := s.sessions(t, ""); len(seen) != 0 || s.opened(t) != 0 {
		t.Fatalf("seen before anybody registered: %+v", seen)
	}
	early.Quit()
	onPhone, onTV := s.client(t, phone, bob, secret), s.client(t, tv, bob, secret)
	s.register(t, onPhone, phone)
	s.register(t, onTV, tv)
	for _, x := range s.terminals(t) {
		if x.Source != session.FromRegistrar || *x.AoR != bob || x.Expires == nil || time.Until(*x.Expires) > 601*time.Second || x.Instance == nil ||
			x.UserAgent == nil || *x.UserAgent != "lab "+x.Name || x.IP != s.address(x.Name) {
			t.Errorf("%+v", x)
		}
	}

	from := udp()
	from.Start = moveStart
	origin := s.play(t, phone, from, server.URL("film"))
	reach(t, origin, moveOrder)
	if r := s.shown(t, server.URL("film")); r.Terminal.Name != "phone" || r.AoR == nil || *r.AoR != bob {
		t.Errorf("%+v", r)
	}
	target := s.pushed(t, onPhone, onTV, origin)
	s.declined(t, onPhone, onTV, target)

	// the TV leaves: it plays on, unwatched
	if err := onTV.Close(); err != nil {
		t.Error(err)
	}
	left := time.Now()
	await(t, soon, "the TV is not admitted any more", func() bool { return len(s.enrolled(t)) == 1 && s.opened(t) == 1 })
	await(t, soon, "its film is not shown any more", func() bool { return len(s.sessions(t, "")) == 0 })
	t.Logf("unwatched %v after the answer", time.Since(left))
	goesOn(t, target, time.Now().Add(3*time.Second))
	if seen := s.sessions(t, ""); len(seen) != 0 {
		t.Errorf("seen of a terminal that left: %+v", seen)
	}

	s.remembers(t)

	// a restart, unnoticed by the phone and what it plays
	again := s.play(t, phone, udp(), server.URL("again"))
	before := s.shown(t, server.URL("again"))
	s.stop(t)
	s.serve(t)
	await(t, soon, "the phone is admitted as before", func() bool { return s.admits(t, phone) })
	if r := s.shown(t, server.URL("again")); r.ID != before.ID || r.Terminal != before.Terminal || r.AoR == nil || *r.AoR != bob {
		t.Errorf("%+v", r)
	}
	untouched(t, "the phone", server, again)
	if err := onPhone.Close(); err != nil {
		t.Error(err)
	}
	await(t, soon, "nobody is admitted any more", func() bool { return len(s.enrolled(t)) == 0 && s.opened(t) == 0 && len(s.sessions(t, "")) == 0 })
	s.stop(t)
	s.discreet(t)
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

// pushed pushes a film from the phone; opening the URL on the TV accepts the offer.
func (s *site) pushed(t *testing.T, onPhone, onTV *terminalClient, origin *lab.Player) *lab.Player {
	t.Helper()
	onPhone.order(t, sip.Order{Op: "push", To: "tv"})
	said := onTV.incoming(t, "the offer", func(in sip.Incoming) bool { return in.Text != "" }).Text
	url := ""
	for line := range strings.SplitSeq(said, "\n") {
		if strings.HasPrefix(line, "rtsp://") {
			url = line
		}
	}
	x := s.newest(t)
	if x.State != session.Offered || x.Trigger != session.Push || x.To.Name != "tv" || x.URL != url {
		t.Fatalf("offered %q: %+v", said, x)
	}
	target := s.play(t, tv, udp(), url)
	if x = s.outcome(t, x.ID); x.State != session.Done {
		t.Fatalf("transfer %s", transferState(x))
	}
	if !over(t, origin).Clean {
		t.Errorf("the phone did not end cleanly: %+v", summary(origin.Result()))
	}
	goesOn(t, target, x.Times.Ended.Add(time.Second))
	first, ok := target.Result().Segments[0].First()
	if shown := origin.Result().LastShown.NPT; !ok || first.NPT < moveStart-2*time.Second || first.NPT > shown+picture {
		t.Errorf("the TV began at %v, the phone ended at %v", first.NPT, shown)
	}
	if r := onPhone.incoming(t, "the result", result("done")).Result; r.On != "tv" {
		t.Errorf("%+v", r)
	}
	if words := onTV.incoming(t, "the result in words", func(in sip.Incoming) bool { return in.Text != "" }).Text; !strings.HasPrefix(words, "Moved: ") {
		t.Errorf("the TV is told %q", words)
	}
	return target
}

// declined asks for the way back, which the phone declines.
func (s *site) declined(t *testing.T, onPhone, onTV *terminalClient, plays *lab.Player) {
	t.Helper()
	onTV.order(t, sip.Order{Op: "push", To: "phone"})
	offer := onPhone.incoming(t, "the offer", offered).Offer
	if offer.From != "tv" || len(offer.URL) != 1 || offer.Position == nil {
		t.Errorf("%+v", offer)
	}
	onPhone.order(t, sip.Order{Op: "decline", Offer: offer.Offer})
	onTV.incoming(t, "that it was declined", result("declined"))
	onPhone.incoming(t, "the same", result("declined"))
	if x := s.newest(t); x.State != session.Declined {
		t.Errorf("%+v", x)
	}
	goesOn(t, plays, time.Now().Add(time.Second))
	if r := s.one(t, offer.URL[0]); r.Terminal.IP != s.Addr(tv) || r.State != session.Playing {
		t.Errorf("%+v", r)
	}
	whole(t, "the TV", plays.Result())
}

// remembers checks the history: what played, and how both orders ended.
func (s *site) remembers(t *testing.T) {
	t.Helper()
	await(t, opening, "the history is complete", func() bool {
		var all []admin.Entry
		s.scas(t, &all, "log", "--since", "1h", "--user", bob)
		var said []string
		for _, x := range all {
			switch {
			case x.Transfer != nil:
				said = append(said, string(x.Transfer.State)+" "+x.Transfer.To.Name)
			case x.Session != nil:
				said = append(said, x.Event+" "+x.Session.Terminal.Name)
			}
		}
		slices.Sort(said)
		return slices.Equal(said, []string{"declined phone", "done tv", "end phone", "end tv", "play phone", "play tv"})
	})
	var moves []admin.Entry
	if s.scas(t, &moves, "log", "--event", "transfer", "--terminal", "tv", "--limit", "1"); len(moves) != 1 || moves[0].Transfer == nil {
		t.Errorf("%+v", moves)
	}
	if table, _, code := s.command(t, "log"); code != exitDone || !strings.Contains(table, "phone > tv") {
		t.Errorf("exit code %d: %s", code, table)
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
