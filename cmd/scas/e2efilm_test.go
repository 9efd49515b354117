package main

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/session"
)

// picture is the time between two pictures of the films of the tests.
const picture = time.Second / 25

// film runs a server in ms, on port 554 of the address of a family.
func (s *site) film(t testing.TB, cfg lab.ServerConfig, six bool) *lab.Server {
	t.Helper()
	addr := s.Addr(lab.MS)
	if six {
		addr = s.Addr6(lab.MS)
	}
	cfg.Host, cfg.Addr = s.Host(lab.MS), netip.AddrPortFrom(addr, 554)
	server, err := lab.Serve(cfg)
	return serving(t, server, err)
}

// serving has a server end with the test.
func serving[S interface{ Close() error }](t testing.TB, server S, err error) S {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// play starts a player in ns; it is ended with the test.
func (s *site) play(t testing.TB, ns string, cfg lab.PlayerConfig, url string) *lab.Player {
	t.Helper()
	return s.playOn(t, s.Host(ns), cfg, url)
}

func (s *site) playOn(t testing.TB, host lab.Host, cfg lab.PlayerConfig, url string) *lab.Player {
	t.Helper()
	cfg.Host, cfg.URL = host, url
	p, err := lab.Play(t.Context(), cfg)
	return viewing(t, p, err)
}

// viewing has the user of a player end it with the test.
func viewing[P interface {
	Quit()
	Done() <-chan struct{}
}](t testing.TB, p P, err error) P {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Quit()
		<-p.Done()
	})
	return p
}

// wait returns the first picture that matches.
func wait(t testing.TB, p *lab.Player, what string, match func(lab.Picture) bool) lab.Picture {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	pic, err := p.Await(ctx, match)
	if err != nil {
		t.Fatalf("no picture %s: %v; %+v", what, err, summary(p.Result()))
	}
	return pic
}

// reach returns when a player has received the film up to npt.
func reach(t testing.TB, p *lab.Player, npt time.Duration) lab.Picture {
	t.Helper()
	return wait(t, p, "at "+npt.String(), func(pic lab.Picture) bool { return pic.NPT >= npt })
}

// goesOn returns when a player has received a picture after a moment.
func goesOn(t testing.TB, p *lab.Player, after time.Time) {
	t.Helper()
	wait(t, p, "after "+after.Format(time.StampMilli), func(pic lab.Picture) bool { return pic.At.After(after) })
}

// ended waits half a minute for a player to end or to freeze.
func ended(ctx context.Context, p *lab.Player) bool {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return p.AwaitState(ctx, lab.PlayerFrozen) == nil || p.State() == lab.PlayerEnded
}

// over returns what came of a player once it has ended or froze.
func over(t testing.TB, p *lab.Player) lab.Result {
	t.Helper()
	if !ended(t.Context(), p) {
		t.Fatalf("the player does not end: %+v", summary(p.Result()))
	}
	return p.Result()
}

// summary is a result without its long parts.
func summary(r lab.Result) lab.Result {
	r.Segments = nil
	return r
}

// delivered returns the newest picture a player had at a moment.
func delivered(p *lab.Player, at time.Time) (newest lab.Picture, ok bool) {
	for _, pic := range p.Pictures() {
		if !pic.At.After(at) {
			newest, ok = pic, true
		}
	}
	return newest, ok
}

// whole fails the test when something of what a player should have received is missing or
// wrong, picture by picture and packet by packet.
func whole(t testing.TB, who string, r lab.Result) {
	t.Helper()
	sound := 0
	for _, s := range r.Segments {
		sound += s.SoundMissed
	}
	if r.Missing() > 0 || sound > 0 || r.Lost != 0 || r.Corrupt+r.Duplicates+r.Foreign > 0 {
		t.Errorf("%s: %d pictures and %d sound frames missing: %+v", who, r.Missing(), sound, summary(r))
	}
}

// stall is a time in which this process got no processor.
type stall struct{ from, to time.Time }

// stallLog notes stalls, so that a busy machine is not taken for a slow gateway.
type stallLog struct {
	mu  sync.Mutex
	all []stall
}

// stalls starts to take notes with the first test that asks.
var stalls = sync.OnceValue(func() *stallLog {
	l := &stallLog{}
	go l.run()
	return l
})

func (l *stallLog) run() {
	const nap, hiccup = 10 * time.Millisecond, 20 * time.Millisecond
	for {
		due := time.Now().Add(nap)
		time.Sleep(nap) // how much longer it takes is what is measured
		if now := time.Now(); now.Sub(due) > hiccup {
			l.mu.Lock()
			l.all = append(l.all, stall{due, now})
			l.mu.Unlock()
		}
	}
}

// stalled returns how long this process had to wait for a processor between two moments.
func stalled(from, to time.Time) (d time.Duration) {
	l := stalls()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.all {
		begin, end := s.from, s.to
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		d += max(0, end.Sub(begin))
	}
	return d
}

// lateMost is the longest way of a picture from the server to a player that is no stall.
const lateMost = 500 * time.Millisecond

// untouched fails the test when a film that plays suffered since it began: not one packet may
// be missing, and every picture must have come when the server sent it. (That it was sent in
// time is the machine's affair, and that the player got a processor when it came.)
func untouched(t testing.TB, who string, server *lab.Server, p *lab.Player) {
	t.Helper()
	r, pics := p.Result(), p.Pictures()
	if r.State != lab.PlayerPlaying {
		t.Errorf("%s does not play: %+v", who, summary(r))
	}
	whole(t, who, r)
	sent := map[uint32]time.Time{}
	for _, x := range server.Sessions() {
		for _, packet := range x.Log {
			if x.ID == p.Session() && packet.Track == lab.VideoTrack {
				sent[packet.Number] = packet.At
			}
		}
	}
	// the newest one may have come before the server noted that it was sent
	worst, at, known := time.Duration(0), lab.Picture{}, 0
	for _, pic := range pics {
		if left, ok := sent[pic.Number]; ok {
			known++
			if late := pic.At.Sub(left); late > worst && late-stalled(left, pic.At) > worst {
				worst, at = late-stalled(left, pic.At), pic
			}
		}
	}
	if known == 0 || known < len(pics)-1 || worst >= lateMost {
		t.Errorf("%s: %d of %d pictures compared, picture %d came %v late", who, known, len(pics), at.Number, worst)
	}
}

// one returns the only running session of a film.
func (s *site) one(t testing.TB, url string) session.Record {
	t.Helper()
	found := s.sessions(t, url)
	if len(found) != 1 {
		t.Fatalf("%d sessions play %s, want 1: %+v", len(found), url, found)
	}
	return found[0]
}

// shown returns when the session of a film is known to play, and its record.
func (s *site) shown(t testing.TB, url string) (r session.Record) {
	t.Helper()
	await(t, 10*time.Second, url+" is shown to play", func() bool {
		all := s.sessions(t, url)
		i := slices.IndexFunc(all, func(r session.Record) bool { return r.State == session.Playing })
		if i >= 0 {
			r = all[i]
		}
		return i >= 0
	})
	return r
}
