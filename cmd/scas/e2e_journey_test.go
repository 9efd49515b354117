package main

import (
	"math"
	"slices"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/session"
)

// follows checks that a film went on where it was left, by a player that has ended cleanly.
func follows(t *testing.T, leg string, left lab.Result, next *lab.Player) {
	t.Helper()
	first := reach(t, next, 0)
	if missed := first.NPT - left.LastShown.NPT - picture; missed > 0 || missed < -6*time.Second {
		t.Errorf("%s: left at %v, goes on at %v", leg, left.LastShown.NPT, first.NPT)
	}
	if !left.Clean || left.Reason == lab.EndedRST {
		t.Errorf("%s: the player that was left did not end cleanly: %+v", leg, summary(left))
	}
	whole(t, leg, left)
}

// TestJourney moves one film there and back while others play on the same terminals, and opens
// it again where it arrived.
func TestJourney(t *testing.T) {
	t.Parallel()
	gw := newSite(t, siteConfig{})
	film := gw.film(t, lab.GstServer(), false)
	gw.serve(t)
	bystanders := []*watchedFilm{
		{name: "phone-udp", ns: phone, cfg: udp(), server: film},
		{name: "phone-tcp", ns: phone, cfg: tcp(), server: film},
		{name: "tv-udp", ns: tv, cfg: udp(), server: film},
		{name: "tv-tcp", ns: tv, cfg: tcp(), server: film},
	}
	for _, w := range bystanders {
		w.player = gw.play(t, w.ns, w.cfg, w.url())
	}
	url := film.URL("film")
	cfg := udp()
	cfg.Start = moveStart
	first := gw.play(t, phone, cfg, url)
	reach(t, first, moveOrder)

	var x session.Transfer
	gw.scas(t, &x, "transfer", gw.shown(t, url).ID, "--to", "tv")
	second := gw.play(t, tv, tcp(), x.URL)
	if x = gw.outcome(t, x.ID); x.State != session.Done {
		t.Fatalf("there: transfer %s", transferState(x))
	}
	follows(t, "there", over(t, first), second)
	wait(t, second, "a second later", func(pic lab.Picture) bool { return pic.At.After(x.Times.Ended.Add(time.Second)) })

	gw.scas(t, &x, "transfer", gw.shown(t, url).ID, "--to", "phone")
	third := gw.play(t, phone, udp(), x.URL)
	if x = gw.outcome(t, x.ID); x.State != session.Done {
		t.Fatalf("and back: transfer %s", transferState(x))
	}
	follows(t, "and back", over(t, second), third)

	// A viewer who closes the film by mistake and opens it again is still where it went on.
	third.Quit()
	over(t, third)
	fourth := gw.play(t, phone, udp(), url)
	if pic := reach(t, fourth, 0); pic.NPT < moveStart {
		t.Errorf("opened again it starts at %v", pic.NPT)
	}
	await(t, 10*time.Second, "one session of each film is left", func() bool {
		return len(film.Sessions()) == 1+len(bystanders)
	})
	allUntouched(t, bystanders)
}

// TestOriginEnds: the film is closed on the phone while it waits for the tv. There is nothing
// to move any more, and the tv opens it as it likes.
func TestOriginEnds(t *testing.T) {
	t.Parallel()
	gw := newSite(t, siteConfig{})
	film := gw.film(t, lab.GstServer(), false)
	gw.serve(t)
	cfg := udp()
	cfg.Start = moveStart
	p := gw.play(t, phone, cfg, film.URL("film"))
	reach(t, p, moveStart+time.Second)
	var x session.Transfer
	gw.scas(t, &x, "transfer", gw.shown(t, film.URL("film")).ID, "--to", "tv")
	p.Quit()
	x = gw.outcome(t, x.ID)
	if x.State != session.Failed || x.Reason == nil || *x.Reason != session.OriginEnded {
		t.Errorf("transfer %s", transferState(x))
	}
	next := gw.play(t, tv, udp(), x.URL)
	if pic := reach(t, next, time.Second); pic.NPT > moveStart {
		t.Errorf("the tv starts at %v", pic.NPT)
	}
	if r := gw.shown(t, x.URL); r.Steered || r.Terminal.Name != "tv" {
		t.Errorf("shown as %+v", r)
	}
	untouched(t, "the tv", film, next)
}

// TestOriginHasItAll: a server sends ahead of time, and the phone holds a minute of film that
// nobody can take back. The film goes on on the tv where the phone's screen is, and the
// transfer tells.
func TestOriginHasItAll(t *testing.T) {
	t.Parallel()
	gw := newSite(t, siteConfig{})
	film := gw.film(t, lab.ServerConfig{Burst: true}, false)
	gw.serve(t)
	cfg := tcp()
	cfg.Start, cfg.ReadAhead = moveStart, 30*time.Second
	cfg.UserAgent = "" // it waits for so long, mpv for so much
	p := gw.play(t, phone, cfg, film.URL("film"))
	await(t, 30*time.Second, "two seconds are shown", func() bool {
		pic, ok := p.Shown(time.Now())
		return ok && pic.NPT > moveStart+2*time.Second
	})
	var x session.Transfer
	gw.scas(t, &x, "transfer", gw.shown(t, film.URL("film")).ID, "--to", "tv")
	next := gw.play(t, tv, cfg, x.URL)
	x = gw.outcome(t, x.ID)
	if x.State != session.Done || !x.OriginBuffered {
		t.Errorf("transfer %s, origin buffered %v", transferState(x), x.OriginBuffered)
	}
	plays := slices.DeleteFunc(film.Requests("PLAY"), func(e lab.ServerEvent) bool { return e.Remote.Addr() != gw.Addr(tv) })
	screen, _ := p.Shown(plays[0].At)
	if x.Position == nil || math.Abs(*x.Position+siteOverlap.Seconds()-screen.NPT.Seconds()) > 0.5 {
		t.Errorf("position %.2f, but %.2f was on the screen", orNaN(x.Position), screen.NPT.Seconds())
	}
	if pic := reach(t, next, 0); pic.NPT > screen.NPT {
		t.Errorf("goes on at %v, %v was on the screen", pic.NPT, screen.NPT)
	}
}
