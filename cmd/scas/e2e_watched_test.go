package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"scas/internal/command"
	"scas/internal/lab"
	"scas/session"
)

// positionMost is how far npt may be from the newest picture of the player.
const positionMost = 0.25

// TestLivePositions compares the npt of running films with what their players have.
func TestLivePositions(t *testing.T) {
	t.Parallel()
	gw := newSite(t, siteConfig{ipv6: true})
	gst := gw.film(t, lab.GstServer(), false)
	live555 := gw.film(t, lab.Live555Server(), true)
	gw.serve(t)
	films := []*watchedFilm{
		{name: "udp4", ns: phone, cfg: udp(), server: gst},
		{name: "tcp4", ns: tv, cfg: tcp(), server: gst},
		{name: "udp6", ns: tv, cfg: udp(), server: live555},
		{name: "tcp6", ns: phone, cfg: tcp(), server: live555},
	}
	for _, w := range films {
		w.cfg.Start = 30 * time.Second
		w.player = gw.play(t, w.ns, w.cfg, w.url())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	each := func(do func(*lab.Player) error) {
		t.Helper()
		for _, w := range films {
			if err := do(w.player); err != nil {
				t.Fatalf("%s: %v", w.name, err)
			}
		}
	}
	sample(t, gw, films, "from the middle", session.Playing)
	each(func(p *lab.Player) error { return p.Pause(ctx) })
	sample(t, gw, films, "paused", session.Paused)
	each(func(p *lab.Player) error { return p.Resume(ctx) })
	sample(t, gw, films, "resumed", session.Playing)
	each(func(p *lab.Player) error { return p.Seek(ctx, 90*time.Second) })
	sample(t, gw, films, "after a seek", session.Playing)
	each(func(p *lab.Player) error { return p.Seek(ctx, 5*time.Second) })
	sample(t, gw, films, "after a seek back", session.Playing)
	for _, w := range films {
		w.last(t, gw)
	}
}

// last ends a film and checks what stays known of it.
func (w *watchedFilm) last(t *testing.T, gw *site) {
	t.Helper()
	id := gw.one(t, w.url()).ID
	w.player.Quit()
	got := over(t, w.player)
	newest, _ := w.player.Newest()
	var r session.Record
	await(t, 10*time.Second, w.name+" is shown to have ended", func() bool {
		_, err := gw.api.get(t.Context(), "/v1/sessions/"+id, &r)
		return err == nil && r.State == session.Ended
	})
	packets := uint64(0)
	for _, track := range r.Tracks {
		packets += track.Packets
		if track.Lost != 0 && strings.HasPrefix(w.name, "tcp") {
			t.Errorf("%s: %d packets of %s lost over TCP", w.name, track.Lost, track.Media)
		}
	}
	// Counting begins when the gateway has read the reply to SETUP; on a busy machine media may
	// be quicker, by less than a second's packets.
	if packets > got.Packets || packets+40 < got.Packets || r.Lossy {
		t.Errorf("%s: %d packets counted, the player had %d: %+v", w.name, packets, got.Packets, r)
	}
	if r.Position == nil || r.Position.NPT == nil || math.Abs(*r.Position.NPT-newest.NPT.Seconds()) > positionMost {
		t.Errorf("%s: ended at %+v, the player had %v", w.name, r.Position, newest.NPT)
	}
}

// sample compares positions for a while, once the players have media and the state is known.
func sample(t *testing.T, gw *site, films []*watchedFilm, when string, state session.State) {
	t.Helper()
	now := time.Now()
	for _, w := range films {
		if state == session.Playing {
			goesOn(t, w.player, now)
		}
		await(t, 10*time.Second, w.name+" is shown "+string(state), func() bool {
			all := gw.sessions(t, w.url())
			return len(all) == 1 && all[0].State == state
		})
	}
	worst := map[*watchedFilm]float64{}
	tick := time.NewTicker(70 * time.Millisecond) // no multiple of a picture or a sample
	defer tick.Stop()
	for range 15 {
		<-tick.C
		for _, w := range films {
			r := gw.one(t, w.url())
			if r.Position == nil || r.Position.NPT == nil {
				t.Fatalf("%s, %s: no position: %+v", w.name, when, r.Position)
			}
			newest, _ := delivered(w.player, r.Position.At)
			off := *r.Position.NPT - newest.NPT.Seconds()
			if math.Abs(off) > math.Abs(worst[w]) {
				worst[w] = off
			}
			slack := stalled(r.Position.At.Add(-time.Second), time.Now()).Seconds()
			if math.Abs(off) > positionMost+slack || math.Abs(off) > r.Position.Error+picture.Seconds()+slack {
				t.Errorf("%s, %s: npt %.2f ± %.2f by %s, the player has %.2f", w.name, when, *r.Position.NPT, r.Position.Error, r.Position.Source, newest.NPT.Seconds())
			}
		}
	}
	var b strings.Builder
	for _, w := range films {
		fmt.Fprintf(&b, "  %s %+.2f", w.name, worst[w])
	}
	t.Logf("npt minus newest picture, worst of 15, %s:%s", when, b.String())
}

// TestStranger: a terminal nobody enrolled plays as if there were no gateway, even where every
// enrolled one is steered.
func TestStranger(t *testing.T) {
	t.Parallel()
	gw := newSite(t, siteConfig{ipv6: true, steer: "always", only: []string{"phone", "phone6"}})
	four := gw.film(t, lab.GstServer(), false)
	six := gw.film(t, lab.GstServer(), true)
	gw.serve(t)
	members := []*watchedFilm{
		{name: "bob4", ns: phone, cfg: udp(), server: four},
		{name: "bob6", ns: phone, cfg: tcp(), server: six},
	}
	strangers := []*watchedFilm{
		{name: "udp4", ns: tv, cfg: udp(), server: four},
		{name: "tcp4", ns: tv, cfg: tcp(), server: four},
		{name: "udp6", ns: tv, cfg: udp(), server: six},
		{name: "tcp6", ns: tv, cfg: tcp(), server: six},
	}
	all := append(append([]*watchedFilm(nil), members...), strangers...)
	for _, w := range all {
		w.player = gw.play(t, w.ns, w.cfg, w.url())
	}
	for _, w := range members {
		if r := gw.shown(t, w.url()); !r.Steered || r.Terminal.IP.Is4() != (w.server == four) {
			t.Errorf("%s is shown as %+v", w.name, r)
		}
	}
	for _, w := range strangers {
		reach(t, w.player, 2*time.Second)
		if found := gw.sessions(t, w.url()); len(found) > 0 {
			t.Errorf("a stranger's film is shown: %+v", found)
		}
	}
	if got := gw.counter(t, "scas_splice_connections_accepted_total"); got != len(members) {
		t.Errorf("%d connections were steered, want %d", got, len(members))
	}
	if got := len(gw.sessions(t, "")); got != len(members) {
		t.Errorf("%d sessions are shown, want %d", got, len(members))
	}
	for _, to := range []string{"tv", gw.Addr(tv).String(), gw.Addr6(tv).String()} {
		_, said, code := gw.command(t, "transfer", "--to", to)
		wantSaid(t, said, code, command.Failed, to)
	}
	allUntouched(t, all)
}

// counter returns a counter of /metrics.
func (s *site) counter(t testing.TB, name string) int {
	t.Helper()
	text, err := s.api.call(t.Context(), http.MethodGet, "/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("no counter %s", name)
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
