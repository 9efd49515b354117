package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/internal/lab/peers"
	"scas/session"
)

// mmsFilm runs an MMS server in ms, on the usual ports.
func (s *site) mmsFilm(t testing.TB, cfg lab.MMSConfig) *lab.MMSServer {
	t.Helper()
	addr := s.Addr(lab.MS)
	cfg.Host, cfg.Addr, cfg.HTTP = s.Host(lab.MS), netip.AddrPortFrom(addr, 1755), netip.AddrPortFrom(addr, 80)
	server, err := lab.ServeMMS(cfg)
	return serving(t, server, err)
}

// playMMS starts a player in ns; it is ended with the test.
func (s *site) playMMS(t testing.TB, ns string, cfg lab.MMSPlayerConfig, url string) *lab.MMSPlayer {
	t.Helper()
	cfg.Host, cfg.URL = s.Host(ns), url
	p, err := lab.PlayMMS(t.Context(), cfg)
	return viewing(t, p, err)
}

// mmsURL returns how a film at ms is shown and opened: MMS over TCP is mms, and the usual ports
// are not named.
func (s *site) mmsURL(scheme, name string) string {
	return fmt.Sprintf("%s://%v/%s", scheme, s.Addr(lab.MS), name)
}

// packetMost is the longest stretch of a film that comes with one packet.
func packetMost(film *lab.ASF) (most time.Duration) {
	for n := range len(film.Packets) - 1 {
		most = max(most, film.Delivered(n+1)-film.Delivered(n))
	}
	return most
}

// mmsWatched is one film that is watched, and how well it is shown.
type mmsWatched struct {
	name, ns, scheme string
	protocol         session.Protocol
	vlc              bool

	url    string
	record session.Record
	worst  float64
	seen   int
}

// TestMMSWatched compares what is shown of films that are only watched with what their server
// sent: a synthetic player and VLC, over TCP and over HTTP, all at the same time.
func TestMMSWatched(t *testing.T) {
	t.Parallel()
	asf, _ := mmsMedia(t)
	gw := newSite(t, siteConfig{ipv6: true})
	server := gw.mmsFilm(t, lab.MMSConfig{ASF: asf})
	gw.serve(t)
	films := []*mmsWatched{
		{name: "synthetic over TCP", ns: phone, scheme: "mms", protocol: session.MMS},
		{name: "synthetic over HTTP", ns: tv, scheme: "mmsh", protocol: session.MMSH},
		{name: "VLC over TCP", ns: tv, scheme: "mms", protocol: session.MMS, vlc: true},
		{name: "VLC over HTTP", ns: phone, scheme: "mmsh", protocol: session.MMSH, vlc: true},
	}
	for i, w := range films {
		w.url = gw.mmsURL(w.scheme, fmt.Sprintf("film%d.asf", i))
		if w.vlc {
			gw.playReal(t, peers.VLC, w.ns, w.url)
		} else {
			gw.playMMS(t, w.ns, lab.MMSWindows(), w.url)
		}
	}
	gw.browse(t)
	for _, w := range films {
		w.record = gw.shown(t, w.url)
		await(t, 30*time.Second, w.name+" is past what came at once", func() bool {
			x, ok := w.sent(server)
			return ok && x.NPT >= 8
		})
	}
	most := packetMost(asf)
	tick := time.NewTicker(70 * time.Millisecond)
	defer tick.Stop()
	for range 15 {
		<-tick.C
		var all []session.Record
		gw.scas(t, &all, "sessions")
		for _, w := range films {
			w.compare(t, server, all, most)
		}
	}
	for _, w := range films {
		w.check(t, gw, asf)
	}
	if all := gw.sessions(t, ""); len(all) != len(films) {
		t.Errorf("%d sessions are shown, want %d: %+v", len(all), len(films), all)
	}
	if n := gw.counter(t, "scas_splice_connections_accepted_total"); n != 0 {
		t.Errorf("%d connections were steered", n)
	}
}

// sent returns the server's session of the film.
func (w *mmsWatched) sent(server *lab.MMSServer) (lab.ServerSession, bool) {
	for _, x := range server.Sessions() {
		if strings.HasSuffix(x.URL, w.url[strings.LastIndexByte(w.url, '/'):]) && x.Playing {
			return x, true
		}
	}
	return lab.ServerSession{}, false
}

// compare compares the npt of the film with what the server had sent then.
func (w *mmsWatched) compare(t *testing.T, server *lab.MMSServer, all []session.Record, packet time.Duration) {
	t.Helper()
	x, _ := w.sent(server)
	for _, r := range all {
		if r.ID != w.record.ID || r.Position == nil || r.Position.NPT == nil {
			continue
		}
		newest := time.Duration(0)
		for _, p := range x.Log {
			if !p.At.After(r.Position.At) {
				newest = max(newest, p.NPT)
			}
		}
		w.record = r
		w.seen++
		off := *r.Position.NPT - newest.Seconds()
		if math.Abs(off) > math.Abs(w.worst) {
			w.worst = off
		}
		slack := stalled(r.Position.At.Add(-time.Second), time.Now()).Seconds()
		if math.Abs(off) > 0.5+packet.Seconds()+slack {
			t.Errorf("%s: npt %.2f ± %.2f by %s, the server sent up to %.2f", w.name, *r.Position.NPT, r.Position.Error, r.Position.Source, newest.Seconds())
		}
	}
}

// check compares what else is shown.
func (w *mmsWatched) check(t *testing.T, gw *site, asf *lab.ASF) {
	t.Helper()
	r := w.record
	t.Logf("%-20s npt minus newest packet, worst of %d: %+.2f s, claimed ± %.2f, by %s", w.name, w.seen, w.worst, r.Position.Error, r.Position.Source)
	if w.seen < 15 {
		t.Errorf("%s: %d positions, want 15", w.name, w.seen)
	}
	if r.Protocol != w.protocol || r.State != session.Playing || r.Opaque || r.Live || !r.Seekable || r.Steered || r.Terminal.IP != gw.Addr(w.ns) ||
		r.UserAgent == nil || r.AoR == nil || *r.URL != w.url {
		t.Errorf("%s is shown as %+v", w.name, r)
	}
	if r.Duration == nil || math.Abs(*r.Duration-asf.Duration.Seconds()) > 0.1 {
		t.Errorf("%s: duration %v, want %v", w.name, orNaN(r.Duration), asf.Duration)
	}
}

// browse loads pages from a web server on a port of mmsh.
func (s *site) browse(t *testing.T) {
	t.Helper()
	at := netip.AddrPortFrom(s.Addr6(lab.MS), 80)
	l, err := s.Host(lab.MS).ListenTCP(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	page := strings.Repeat("Windows Media ", 100_000)
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, page) })}
	go func() { _ = web.Serve(l) }()
	t.Cleanup(func() { _ = web.Close() })
	browser := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return s.Host(phone).DialTCP(ctx, at) },
	}}
	defer browser.CloseIdleConnections()
	for n := range 5 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%v/page%d", at, n), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", "Mozilla/5.0")
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(got) != len(page) {
			t.Errorf("a page of %d bytes came with %d: %v", len(page), len(got), err)
		}
	}
}

// mmsMove is one move between synthetic players of MMS, and what came of it.
type mmsMove struct {
	name           string
	steer          string
	origin, target lab.MMSPlayerConfig
	from, to       string // schemes

	gw       *site
	server   *lab.MMSServer
	transfer session.Transfer
	left     lab.Result // of the origin
	screen   lab.Picture
	player   *lab.MMSPlayer
	first    lab.Picture   // of the target
	ended    time.Duration // of the origin, after committed
	slack    float64
}

// TestMMSMoves moves films between synthetic players, whose media tell which picture is where.
func TestMMSMoves(t *testing.T) {
	t.Parallel()
	lab.Root(t)
	vlc := lab.MMSVLC()
	vlc.OnFIN = lab.EndFreeze // as over TCP: it has to be told that the film is over
	moves := []*mmsMove{
		{name: "TCP to TCP", steer: "transfer", origin: vlc, target: lab.MMSWindows(), from: "mms", to: "mms"},
		{name: "TCP to TCP, steered always", steer: "always", origin: lab.MMSWindows(), target: lab.MMSLibmms(), from: "mms", to: "mms"},
		{name: "HTTP to HTTP", steer: "transfer", origin: lab.MMSLibmms(), target: lab.MMSFFmpeg(), from: "mmsh", to: "mmsh"},
		{name: "HTTP to HTTP, steered always", steer: "always", origin: lab.MMSVLC(), target: lab.MMSMPlayer(), from: "mmsh", to: "mmsh"},
	}
	together(t, 4, moves, func(m *mmsMove) string { return m.name }, func(t *testing.T, m *mmsMove) {
		m.run(t)
		m.checkViewer(t)
		m.checkPosition(t)
	})
	var b strings.Builder
	fmt.Fprintf(&b, "%-30s %8s %8s %8s %8s %8s %8s %8s %7s\n", "move", "asked s", "given s", "first s", "screen s", "left s", "twice s", "silence", "end s")
	for _, m := range moves {
		first, left := m.first.NPT, m.left.LastShown.NPT
		fmt.Fprintf(&b, "%-30s %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f %8.2f %7.2f\n", m.name, orNaN(m.transfer.Position), orNaN(m.transfer.StartedAt),
			first.Seconds(), m.screen.NPT.Seconds(), left.Seconds(), (left + picture - first).Seconds(), orNaN(m.transfer.Silence), m.ended.Seconds())
	}
	t.Logf("\n%s", b.String())
}

// run carries the move out.
func (m *mmsMove) run(t *testing.T) {
	m.gw = newSite(t, siteConfig{steer: m.steer})
	began := time.Now()
	m.server = m.gw.mmsFilm(t, lab.MMSConfig{})
	m.gw.serve(t)
	url := m.gw.mmsURL(m.from, "film.asf")
	m.origin.Start = moveStart // a wrong 0 shows
	from := m.gw.playMMS(t, phone, m.origin, url)
	reach(t, from.Player, moveStart+8*time.Second) // 3 s of it come at once
	m.gw.shown(t, url)
	m.gw.scas(t, &m.transfer, "transfer", "--to", "tv")
	if x := m.transfer; x.State != session.Armed || x.URL != url || x.From.IP != m.gw.Addr(phone) {
		t.Fatalf("ordered: %+v", x)
	}
	gone := make(chan time.Time, 1)
	go func() {
		ended(t.Context(), from.Player)
		gone <- time.Now()
	}()
	m.screen, _ = from.Shown(time.Now())
	m.player = m.gw.playMMS(t, tv, m.target, strings.Replace(m.transfer.URL, m.from+":", m.to+":", 1))
	m.transfer = m.gw.outcome(t, m.transfer.ID)
	if m.transfer.State != session.Done || m.transfer.Reason != nil {
		t.Fatalf("transfer %s", transferState(m.transfer))
	}
	m.ended = (<-gone).Sub(*m.transfer.Times.Committed)
	m.left = from.Result()
	goesOn(t, m.player.Player, m.transfer.Times.Ended.Add(time.Second))
	m.first = wait(t, m.player.Player, "at all", func(lab.Picture) bool { return true })
	m.slack = stalled(began, time.Now()).Seconds()
}

// checkViewer looks at both screens and at what the server holds.
func (m *mmsMove) checkViewer(t *testing.T) {
	if missed := m.first.NPT - m.left.LastShown.NPT - picture; missed > 0 {
		t.Errorf("missed %v: origin up to picture %d, target from %d", missed, m.left.LastShown.Number, m.first.Number)
	}
	if !m.left.Clean || m.left.Frozen {
		t.Errorf("the origin did not end cleanly: %+v", summary(m.left))
	}
	// what it has is shown first: all that came at once, or as much as it reads ahead
	if most := max(m.origin.ReadAhead, mmsAhead).Seconds() + m.origin.Depth.Seconds() + 5 + m.slack; m.ended.Seconds() > most {
		t.Errorf("the origin ended %v after committed, want at most %.1f s", m.ended, most)
	}
	whole(t, "origin", m.left)
	whole(t, "target", m.player.Result())
	if r := m.player.Result(); r.State != lab.PlayerPlaying {
		t.Errorf("the target does not play: %+v", summary(r))
	}
	held := m.server.Sessions()
	if len(held) != 1 || held[0].Remote.Addr() != m.gw.Addr(tv) || !held[0].Playing {
		t.Errorf("the server holds %d sessions, want 1 of %v that plays: %+v", len(held), m.gw.Addr(tv), held)
	}
	url := m.gw.mmsURL(m.to, "film.asf")
	if r := m.gw.one(t, url); !r.Steered || r.State != session.Playing || r.Terminal.IP != m.gw.Addr(tv) {
		t.Errorf("shown after the move: %+v", r)
	}
}

// checkPosition compares the figures of the transfer with what the players saw.
func (m *mmsMove) checkPosition(t *testing.T) {
	x := m.transfer
	if x.Position == nil || x.StartedAt == nil || x.Repeated == nil || x.Silence == nil {
		t.Fatalf("position %v, started at %v, repeated %v, silence %v", orNaN(x.Position), orNaN(x.StartedAt), orNaN(x.Repeated), orNaN(x.Silence))
	}
	// A player that was not measured is taken for one that waits for 4.36 s of film, of which 3 s come at once.
	film := m.server.Film()
	least := m.screen.NPT - siteOverlap - 1400*time.Millisecond + m.origin.Depth
	if at := *x.Position; at < least.Seconds()-0.5-m.slack || at > m.screen.NPT.Seconds()+0.5+m.slack {
		t.Errorf("position %.2f, want %.2f to %.2f", at, least.Seconds(), m.screen.NPT.Seconds())
	}
	unit := (mmsGOP + packetMost(film)).Seconds()
	if early := *x.Position - m.first.NPT.Seconds(); early < -picture.Seconds() || early > unit {
		t.Errorf("asked for %.2f, first picture %.2f: want it 0 to %.2f s before", *x.Position, m.first.NPT.Seconds(), unit)
	}
	if off := math.Abs(m.first.NPT.Seconds() - *x.StartedAt); off > packetMost(film).Seconds()+0.1 {
		t.Errorf("started at %.2f, first picture %.2f", *x.StartedAt, m.first.NPT.Seconds())
	}
}
