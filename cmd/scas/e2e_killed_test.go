package main

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/session"
)

// watchedFilm is a film that plays while the gateway comes and goes.
type watchedFilm struct {
	name   string
	ns     string
	cfg    lab.PlayerConfig
	server *lab.Server
	player *lab.Player
}

func (w *watchedFilm) url() string { return w.server.URL(w.name) }

// movedFilm is a film that was moved, and plays through the gateway.
type movedFilm struct {
	name     string
	from, to lab.PlayerConfig
	watched  *watchedFilm // it plays already
	target   string
	server   *lab.Server
	origin   *lab.Player
	player   *lab.Player
	transfer session.Transfer
	told     chan time.Time // when the player on the tv learned that its connection is gone
}

func (m *movedFilm) url() string { return m.server.URL(m.name) }

// closedMost is the longest time a steered connection may outlive the gateway.
const closedMost = time.Second

// TestKilled kills the gateway while films play, starts it again and ends it in order: what is
// watched goes on, what was moved ends at once, and nothing is left behind.
func TestKilled(t *testing.T) {
	t.Parallel()
	gw := newSite(t, siteConfig{ipv6: true})
	four := gw.film(t, lab.GstServer(), false)
	six := gw.film(t, lab.GstServer(), true)
	clean := snapshot(t, gw)
	gw.serve(t)

	watched := []*watchedFilm{
		{name: "udp4", ns: phone, cfg: udp(), server: four},
		{name: "tcp4", ns: tv, cfg: tcp(), server: four},
		{name: "udp6", ns: tv, cfg: udp(), server: six},
		{name: "tcp6", ns: phone, cfg: tcp(), server: six},
	}
	last := []*movedFilm{ // watched over the restart, and moved then
		{name: "last4", from: udp(), to: tcp(), target: "tv", server: four},
		{name: "last6", from: tcp(), to: udp(), target: "tv6", server: six},
	}
	for _, m := range last {
		w := &watchedFilm{name: m.name, ns: phone, cfg: m.from, server: m.server}
		m.watched = w
		watched = append(watched, w)
	}
	for _, w := range watched {
		w.cfg.Start = 10 * time.Second
		w.player = gw.play(t, w.ns, w.cfg, w.url())
	}
	moved := []*movedFilm{
		{name: "moved4", from: udp(), to: tcp(), target: "tv", server: four},
		{name: "moved6", from: tcp(), to: udp(), target: "tv6", server: six},
	}
	moveAll(t, gw, moved)
	before := gw.kept(t, watched)
	dead := gw.kill(t)
	for _, m := range moved {
		m.closed(t, gw, dead)
	}
	fresh := gw.play(t, phone, udp(), four.URL("new"))
	goesOn(t, fresh, dead.Add(2*time.Second))
	allUntouched(t, watched)

	gw.serve(t)
	for _, w := range watched {
		w.shownAgain(t, gw, before[w])
	}
	allUntouched(t, watched)
	moveAll(t, gw, last)
	watched = watched[:len(watched)-len(last)]
	asked := time.Now()
	gw.stop(t)
	for _, m := range last {
		m.closed(t, gw, asked)
	}
	if now := snapshot(t, gw); !slices.Equal(now, clean) {
		t.Errorf("left behind: %q, gone: %q", without(now, clean), without(clean, now))
	}
	goesOn(t, fresh, time.Now().Add(500*time.Millisecond))
	allUntouched(t, watched)
	untouched(t, "the film begun without a gateway", four, fresh)
}

func snapshot(t *testing.T, gw *site) []string {
	t.Helper()
	lines, err := gw.Snapshot(lab.GW)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(line string) bool { return slices.Contains(b, line) })
}

func allUntouched(t *testing.T, watched []*watchedFilm) {
	t.Helper()
	for _, w := range watched {
		goesOn(t, w.player, time.Now())
		untouched(t, w.name, w.server, w.player)
	}
}

// kept returns what the gateway knows of the films, once it has stored it for its next start.
func (s *site) kept(t *testing.T, watched []*watchedFilm) map[*watchedFilm]session.Record {
	t.Helper()
	known := map[*watchedFilm]session.Record{}
	for _, w := range watched {
		known[w] = s.shown(t, w.url())
	}
	await(t, 20*time.Second, "the sessions are stored", func() bool {
		text, err := os.ReadFile(filepath.Join(s.dir, "state", stateName))
		return err == nil && !slices.ContainsFunc(watched, func(w *watchedFilm) bool { return !strings.Contains(string(text), w.url()) })
	})
	return known
}

// moveAll moves films from the phone to the tv and returns when they play there.
func moveAll(t *testing.T, gw *site, moved []*movedFilm) {
	t.Helper()
	for _, m := range moved {
		if m.watched != nil {
			m.origin = m.watched.player
		} else {
			m.origin = gw.play(t, phone, m.from, m.url())
		}
	}
	for _, m := range moved {
		reach(t, m.origin, time.Second)
		gw.scas(t, &m.transfer, "transfer", gw.shown(t, m.url()).ID, "--to", m.target)
		m.player = gw.play(t, tv, m.to, m.transfer.URL)
	}
	for _, m := range moved {
		if m.transfer = gw.outcome(t, m.transfer.ID); m.transfer.State != session.Done {
			t.Fatalf("%s: transfer %s", m.name, transferState(m.transfer))
		}
		if r := gw.shown(t, m.url()); !r.Steered {
			t.Errorf("%s is shown as %+v", m.name, r)
		}
		follows(t, m.name, over(t, m.origin), m.player)
		whole(t, m.name, m.player.Result())
		m.told = make(chan time.Time, 1)
		go func() {
			_ = m.player.AwaitState(t.Context(), lab.PlayerDraining) // or it has ended
			m.told <- time.Now()
		}()
	}
}

// closed checks that both sides of a moved film were told soon after the gateway died, and
// that the film can be opened again at once.
func (m *movedFilm) closed(t *testing.T, gw *site, dead time.Time) {
	t.Helper()
	var ended time.Time
	select {
	case ended = <-m.told:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s goes on on the tv", m.name)
	}
	most := closedMost + stalled(dead, ended)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	gone, err := m.server.Await(ctx, func(e lab.ServerEvent) bool { return e.Kind == lab.ServerGone && e.URL == m.url() && e.At.After(dead) })
	if err != nil || gone.At.Sub(dead) > most {
		t.Errorf("%s: the server's session ended %v after the gateway: %v", m.name, gone.At.Sub(dead), err)
	}
	again := gw.play(t, tv, m.to, m.url())
	if pic := reach(t, again, 0); pic.Number != 0 {
		t.Errorf("%s: opened again, it starts at picture %d", m.name, pic.Number)
	}
	if r := over(t, m.player); ended.Sub(dead) > most || r.Reason != lab.EndedRST && r.Reason != lab.EndedFIN {
		t.Errorf("%s: ended %v after the gateway: %+v", m.name, ended.Sub(dead), summary(r))
	}
	t.Logf("%s: player told after %v, server after %v", m.name, ended.Sub(dead), gone.At.Sub(dead))
}

// shownAgain checks what a new gateway says of a film that went on without one.
func (w *watchedFilm) shownAgain(t *testing.T, gw *site, before session.Record) {
	t.Helper()
	r := gw.shown(t, w.url())
	if r.ID != before.ID || r.Terminal != before.Terminal || r.Transport != before.Transport || r.Steered {
		t.Errorf("%s: shown as %+v after a restart, was %+v", w.name, r, before)
	}
	if r.Position == nil || r.Position.NPT == nil {
		t.Logf("%s: no position after a restart", w.name)
		return
	}
	newest, _ := delivered(w.player, r.Position.At)
	off := *r.Position.NPT - newest.NPT.Seconds()
	if math.Abs(off) > 0.5 {
		t.Errorf("%s: npt %.2f after a restart, the player had %.2f", w.name, *r.Position.NPT, newest.NPT.Seconds())
	}
	t.Logf("%s: npt %+.3f s off after a restart, ± %.2f by %s", w.name, off, r.Position.Error, r.Position.Source)
}
