package main

import (
	"math"
	"sync"
	"testing"
	"time"

	"scas/internal/command"
	"scas/internal/lab"
	"scas/session"
)

// viewer is a user with two terminals who moves a film.
type viewer struct {
	aor, from, to string // names of the terminals
	origin        lab.PlayerConfig
	start         time.Duration

	first, second *lab.Player
	transfer      session.Transfer
}

// TestTwoUsers: two users watch the same film of one server at the same time and move it at the
// same time. Each goes on in their own place, and neither can touch the other's.
func TestTwoUsers(t *testing.T) {
	t.Parallel()
	gw := newSite(t, siteConfig{alice: true})
	for ns, name := range map[string]string{phone: "pad", tv: "screen"} {
		cmd := gw.Command(t.Context(), ns, "ip", "address", "add", gw.address(name).String()+"/32", "dev", lab.UEIface)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("ip address add: %v: %s", err, out)
		}
	}
	film := gw.film(t, lab.GstServer(), false)
	gw.serve(t)
	users := []*viewer{
		{aor: "sip:bob@ims.example", from: "phone", to: "tv", origin: udp(), start: 20 * time.Second},
		{aor: "sip:alice@ims.example", from: "pad", to: "screen", origin: tcp(), start: 90 * time.Second},
	}
	for _, u := range users {
		u.origin.Start = u.start
		u.first = gw.playAt(t, phone, u.from, u.origin, film.URL("film"))
	}
	for _, u := range users {
		reach(t, u.first, u.start+1500*time.Millisecond)
	}
	var of []session.Record // in the order of users
	await(t, 10*time.Second, "both sessions are shown to play", func() bool {
		of = make([]session.Record, len(users))
		found := 0
		for _, r := range gw.sessions(t, film.URL("film")) {
			for i, u := range users {
				if r.State == session.Playing && r.AoR != nil && *r.AoR == u.aor && r.Terminal.Name == u.from {
					of[i] = r
					found++
				}
			}
		}
		return found == len(users)
	})
	for i, u := range users {
		_, said, code := gw.command(t, "transfer", of[1-i].ID, "--to", gw.address(u.to).String())
		wantSaid(t, said, code, command.Failed, "not-allowed")
		gw.scas(t, &u.transfer, "transfer", of[i].ID, "--to", u.to)
	}
	var both sync.WaitGroup
	for _, u := range users {
		u.second = gw.playAt(t, tv, u.to, udp(), u.transfer.URL)
		both.Go(func() { u.transfer = gw.outcome(t, u.transfer.ID) })
	}
	both.Wait()
	for i, u := range users {
		u.check(t, of[i])
	}
	if held := film.Sessions(); len(held) != 2 {
		t.Errorf("the server holds %d sessions, want 2: %+v", len(held), held)
	}
}

// playAt is play from the address of a terminal.
func (s *site) playAt(t testing.TB, ns, terminal string, cfg lab.PlayerConfig, url string) *lab.Player {
	t.Helper()
	return s.playOn(t, s.Host(ns).From(s.address(terminal)), cfg, url)
}

// check looks at where the film of one user went.
func (u *viewer) check(t *testing.T, origin session.Record) {
	t.Helper()
	x := u.transfer
	if x.State != session.Done || x.Session != origin.ID || x.AoR == nil || *x.AoR != u.aor || x.From.Name != u.from || x.To.Name != u.to || x.Position == nil {
		t.Fatalf("%s: %+v", u.aor, x)
	}
	left, first := over(t, u.first), reach(t, u.second, 0)
	if missed := first.NPT - left.LastShown.NPT - picture; missed > 0 || first.NPT < u.start-2*time.Second { // a transfer goes back to a key picture
		t.Errorf("%s: the origin was left at %v, the target began at %v", u.aor, left.LastShown.NPT, first.NPT)
	}
	if off := first.NPT.Seconds() - *x.StartedAt; math.Abs(off) > 0.1 {
		t.Errorf("%s: started at %.3f, first picture %v", u.aor, *x.StartedAt, first.NPT)
	}
	goesOn(t, u.second, x.Times.Ended.Add(time.Second))
	whole(t, u.aor, u.second.Result())
}
