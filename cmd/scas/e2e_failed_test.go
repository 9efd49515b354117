package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"scas/internal/command"
	"scas/internal/lab"
	"scas/session"
)

// failedMove is a move that comes to nothing. The film on the phone must not notice.
type failedMove struct {
	name   string
	site   siteConfig
	server lab.ServerConfig // default GstServer
	origin lab.PlayerConfig
	target func(*testing.T, *failedMove) // what happens on the tv, between order and end
	deaf   bool                          // the tv closes its media ports
	state  session.TransferState
	reason session.Reason
	after  func(*testing.T, *failedMove) // once the transfer has ended

	gw       *site
	film     *lab.Server
	from, to *lab.Player
	transfer session.Transfer
}

func failedMoves() []*failedMove {
	short := siteConfig{attach: 2 * time.Second}
	muted := lab.GstServer()
	muted.MuteUDP = true
	return []*failedMove{
		{name: "never opened, udp", site: short, origin: udp(), state: session.Expired, after: playsFromStart},
		{name: "never opened, tcp", site: short, origin: tcp(), state: session.Expired, after: playsFromStart},
		{name: "another film, udp", site: short, origin: udp(), target: otherFilm(udp()), state: session.Expired, reason: session.URLMismatch, after: otherGoesOn},
		{name: "another film, tcp", site: short, origin: tcp(), target: otherFilm(tcp()), state: session.Expired, reason: session.URLMismatch, after: otherGoesOn},
		{name: "453 to PLAY, udp", origin: udp(), target: refusedWith("PLAY", 453, udp()), state: session.Failed, reason: "server-refused:453", after: playsFromStart},
		{name: "453 to PLAY, tcp", origin: tcp(), target: refusedWith("PLAY", 453, tcp()), state: session.Failed, reason: "server-refused:453", after: playsFromStart},
		{name: "503 to SETUP, udp", origin: udp(), target: refusedWith("SETUP", 503, udp()), state: session.Failed, reason: "server-refused:503"},
		{name: "503 to SETUP, tcp", origin: tcp(), target: refusedWith("SETUP", 503, tcp()), state: session.Failed, reason: "server-refused:503"},
		{name: "the target leaves, udp", origin: udp(), target: leaves(udp()), state: session.Failed, reason: session.TargetLeft, after: playsFromStart},
		{name: "the target leaves, no TEARDOWN", origin: tcp(), target: leaves(lab.FFplay()), state: session.Failed, reason: session.TargetLeft},
		{name: "the target is switched off", site: siteConfig{settle: 5 * time.Second}, origin: udp(), target: switchedOff, state: session.Failed, reason: session.TargetLeft},
		{name: "no media come", server: muted, origin: tcp(), target: waitsInVain, state: session.Failed, reason: session.NoMedia},
		{name: "media are refused by ICMP", origin: udp(), target: waitsInVain, deaf: true, state: session.Failed, reason: session.NoMedia},
		{name: "udp through the router", site: siteConfig{upstream: "router"}, origin: udp(), target: waitsInVain, state: session.Failed, reason: session.NoMedia},
		{name: "the server cannot be reached", site: siteConfig{upstream: "terminal"}, origin: udp(), target: cutOff, state: session.Failed, reason: session.UpstreamUnreachable, after: reachableAgain},
		{name: "cancelled", origin: udp(), target: cancelled, state: session.Cancelled, after: playsFromStart},
	}
}

// TestFailedMoves lets moves fail in each way they can before the target plays.
func TestFailedMoves(t *testing.T) {
	t.Parallel()
	lab.Root(t)
	together(t, 10, failedMoves(), func(m *failedMove) string { return m.name }, func(t *testing.T, m *failedMove) {
		m.gw = newSite(t, m.site)
		if m.server.Name == "" {
			m.server = lab.GstServer()
		}
		m.film = m.gw.film(t, m.server, false)
		m.gw.serve(t)
		m.from = m.gw.play(t, phone, m.origin, m.film.URL("film"))
		reach(t, m.from, 1500*time.Millisecond)
		before := m.gw.shown(t, m.film.URL("film"))
		m.gw.scas(t, &m.transfer, "transfer", "--to", "tv")
		if m.target != nil {
			m.target(t, m)
		}
		m.transfer = m.gw.outcome(t, m.transfer.ID)
		m.check(t)
		if m.after != nil {
			m.after(t, m)
		}
		goesOn(t, m.from, time.Now().Add(time.Second))
		untouched(t, "the origin", m.film, m.from)
		var r session.Record
		m.gw.scas(t, &r, "sessions", before.ID)
		if r.State != session.Playing || r.Steered || r.Lossy || r.Tracks[0].Lost != 0 || r.Tracks[1].Lost != 0 {
			t.Errorf("the session is shown as %+v", r)
		}
	})
}

// check looks at how the transfer is told to have ended (DESIGN 5.1).
func (m *failedMove) check(t *testing.T) {
	t.Helper()
	x := m.transfer
	reason := session.Reason("")
	if x.Reason != nil {
		reason = *x.Reason
	}
	if x.State != m.state || reason != m.reason {
		t.Errorf("transfer %s, want %s %s", transferState(x), m.state, m.reason)
	}
	answered := m.reason == session.TargetLeft || m.reason == session.NoMedia
	attached := answered || m.reason == "server-refused:453"
	if x.Times.Armed == nil || x.Times.Ended == nil || x.Times.Committed != nil || (x.Times.Attached != nil) != attached {
		t.Errorf("times %+v", x.Times)
	}
	if (x.StartedAt != nil) != answered || x.Repeated != nil || x.Silence != nil || (x.Position != nil) != attached {
		t.Errorf("figures of a move that came to nothing: %+v", x)
	}
	_, said, code := m.gw.command(t, "transfer", "--cancel", x.ID)
	wantSaid(t, said, code, command.Failed, string(x.State))
}

// playsFromStart: the target is not steered any more and plays the same film as it asks.
func playsFromStart(t *testing.T, m *failedMove) {
	t.Helper()
	p := m.gw.play(t, tv, m.origin, m.transfer.URL)
	if pic := reach(t, p, 0); pic.Number != 0 {
		t.Errorf("the target's own start was changed: picture %d", pic.Number)
	}
	await(t, 10*time.Second, "both sessions are shown", func() bool { return len(m.gw.sessions(t, m.transfer.URL)) == 2 })
	for _, r := range m.gw.sessions(t, m.transfer.URL) {
		if r.Steered {
			t.Errorf("steered after the transfer %s: %+v", m.transfer.State, r)
		}
	}
	goesOn(t, p, time.Now().Add(time.Second))
	untouched(t, "the target", m.film, p)
}

// otherFilm opens another film than the one that was moved.
func otherFilm(cfg lab.PlayerConfig) func(*testing.T, *failedMove) {
	return func(t *testing.T, m *failedMove) {
		m.to = m.gw.play(t, tv, cfg, m.film.URL("another"))
	}
}

// otherGoesOn: that film plays from its own start, through the gateway, and goes on.
func otherGoesOn(t *testing.T, m *failedMove) {
	t.Helper()
	if r := m.gw.one(t, m.film.URL("another")); !r.Steered || r.State != session.Playing || r.Terminal.Name != "tv" {
		t.Errorf("the other film is shown as %+v", r)
	}
	if pic := reach(t, m.to, 0); pic.Number != 0 {
		t.Errorf("the other film's start was changed: picture %d", pic.Number)
	}
	goesOn(t, m.to, time.Now().Add(time.Second))
	untouched(t, "the other film", m.film, m.to)
}

// refusedWith has the server refuse a request of the target.
func refusedWith(method string, status int, cfg lab.PlayerConfig) func(*testing.T, *failedMove) {
	return func(t *testing.T, m *failedMove) {
		m.film.Refuse(method, status, 1)
		cfg.Host, cfg.URL = m.gw.Host(tv), m.transfer.URL
		_, err := lab.Play(t.Context(), cfg)
		var refused *lab.StatusError
		if !errors.As(err, &refused) || refused.Method != method || refused.Status != status {
			t.Errorf("the target's player: %v, want %d to %s", err, status, method)
		}
	}
}

// waitsInVain opens the film over UDP; nothing ever comes, and the player waits.
func waitsInVain(t *testing.T, m *failedMove) {
	cfg := udp()
	cfg.Deaf = m.deaf
	p := m.gw.play(t, tv, cfg, m.transfer.URL)
	m.gw.outcome(t, m.transfer.ID)
	if pics := p.Pictures(); len(pics) > 0 {
		t.Errorf("%d pictures came", len(pics))
	}
}

// cutOff opens the film while the server's answers to the tv get lost.
func cutOff(t *testing.T, m *failedMove) {
	m.toTV(t, "add")
	cfg := udp()
	cfg.Host, cfg.URL = m.gw.Host(tv), m.transfer.URL
	if p, err := lab.Play(t.Context(), cfg); err == nil {
		t.Error("the target plays")
		p.Quit()
	}
}

func reachableAgain(t *testing.T, m *failedMove) {
	m.toTV(t, "del")
	playsFromStart(t, m)
}

// toTV adds or deletes a route that drops what the server sends to the tv.
func (m *failedMove) toTV(t *testing.T, verb string) { m.blackhole(t, verb, lab.MS, tv) }

// fromTV does so with what the tv sends to the server.
func (m *failedMove) fromTV(t *testing.T, verb string) { m.blackhole(t, verb, tv, lab.MS) }

func (m *failedMove) blackhole(t *testing.T, verb, from, to string) {
	t.Helper()
	cmd := m.gw.Command(context.WithoutCancel(t.Context()), from, "ip", "route", verb, "blackhole", m.gw.Addr(to).String()+"/32")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ip route %s: %v: %s", verb, err, out)
	}
}

// leaves closes the film before it counts as playing.
func leaves(cfg lab.PlayerConfig) func(*testing.T, *failedMove) {
	return func(t *testing.T, m *failedMove) {
		p := m.gw.play(t, tv, cfg, m.transfer.URL)
		reach(t, p, 0)
		p.Quit()
		over(t, p)
	}
}

// switchedOff: the tv plays and is gone, without a word. What is sent to it vanishes.
func switchedOff(t *testing.T, m *failedMove) {
	p := m.gw.play(t, tv, udp(), m.transfer.URL)
	reach(t, p, 0)
	m.fromTV(t, "add")
	t.Cleanup(func() { m.fromTV(t, "del") }) // so that the player can end
}

// cancelled calls the order off, which works once.
func cancelled(t *testing.T, m *failedMove) {
	var x session.Transfer
	m.gw.scas(t, &x, "transfer", "--cancel", m.transfer.ID)
	if x.ID != m.transfer.ID || x.State != session.Cancelled {
		t.Errorf("cancelled: %+v", x)
	}
}

// refusedOrder is an order that cannot be carried out.
type refusedOrder struct {
	name   string
	words  []string // SESSION --to TARGET
	code   int
	said   string
	status int // of the API
}

func (c refusedOrder) try(t *testing.T, gw *site) {
	t.Helper()
	_, said, code := gw.command(t, append([]string{"transfer"}, c.words...)...)
	if code != c.code || !strings.Contains(said, c.said) {
		t.Errorf("%s: exit code %d, want %d and %q: %s", c.name, code, c.code, c.said, said)
	}
	body := map[string]string{"session": c.words[0]}
	if len(c.words) == 3 {
		body["to"] = c.words[2]
	}
	_, err := gw.api.call(t.Context(), http.MethodPost, "/v1/transfers", body)
	var refused *apiError
	if !errors.As(err, &refused) || refused.status != c.status {
		t.Errorf("%s: the API said %v, want status %d", c.name, err, c.status)
	}
}

// TestOrderRefused gives orders that cannot be carried out. The films do not notice.
func TestOrderRefused(t *testing.T) {
	t.Parallel()
	gw := newSite(t, siteConfig{})
	film := gw.film(t, lab.ServerConfig{}, false)
	_, said, code := gw.command(t, "transfer", "--to", "tv")
	wantSaid(t, said, code, command.Unreachable, gw.socket())
	gw.serve(t)
	_, said, code = gw.command(t, "transfer", "--to", "tv")
	wantSaid(t, said, code, command.Failed, "no-session")

	p := gw.play(t, phone, udp(), film.URL("film"))
	other := gw.play(t, phone, tcp(), film.URL("other"))
	first, second := gw.shown(t, film.URL("film")), gw.shown(t, film.URL("other"))
	for _, c := range []refusedOrder{
		{"no target", []string{first.ID}, command.Usage, "--to", http.StatusBadRequest},
		{"unknown target", []string{first.ID, "--to", "radio"}, command.Failed, "radio", http.StatusNotFound},
		{"unknown address", []string{first.ID, "--to", "192.0.2.7"}, command.Failed, "192.0.2.7", http.StatusNotFound},
		{"unknown session", []string{"nosuch", "--to", "tv"}, command.Failed, "no-session", http.StatusNotFound},
		{"same terminal", []string{first.ID, "--to", "phone"}, command.Failed, "same-terminal", http.StatusConflict},
	} {
		c.try(t, gw)
	}
	_, said, code = gw.command(t, "transfer", "--cancel", "nosuch")
	wantSaid(t, said, code, command.Failed, "not-found")

	var x session.Transfer
	gw.scas(t, &x, "transfer", first.ID, "--to", "tv")
	for _, c := range []refusedOrder{
		{"the same session again", []string{first.ID, "--to", "tv"}, command.Failed, "busy", http.StatusConflict},
		{"the same target again", []string{second.ID, "--to", "tv"}, command.Failed, x.ID, http.StatusConflict},
	} {
		c.try(t, gw)
	}
	untouched(t, "the first film", film, p)
	untouched(t, "the second film", film, other)
}
