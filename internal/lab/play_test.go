package lab

import (
	"context"
	"errors"
	"testing"
	"time"
)

func serve(t *testing.T, cfg ServerConfig) *Server {
	t.Helper()
	s, err := Serve(cfg)
	return serving(t, s, err)
}

// serving has a server end with the test.
func serving[S interface{ Close() error }](t *testing.T, s S, err error) S {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func play(t *testing.T, cfg PlayerConfig) *Player {
	t.Helper()
	p, err := Play(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	quits(t, p)
	return p
}

// quits has the user of a player end it with the test.
func quits(t *testing.T, p *Player) {
	t.Helper()
	ctx := testContext(t)
	t.Cleanup(func() {
		p.Quit()
		if _, err := p.Wait(ctx); err != nil {
			t.Error(err)
		}
	})
}

// reach waits until a player has received the picture at npt or a later one.
func reach(t *testing.T, p *Player, npt time.Duration) Picture {
	t.Helper()
	pic, err := p.Await(testContext(t), func(pic Picture) bool { return pic.NPT >= npt })
	if err != nil {
		t.Fatalf("picture at %v: %v", npt, err)
	}
	return pic
}

func ended(t *testing.T, p *Player) Result {
	t.Helper()
	r, err := p.Wait(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// whole fails the test when anything of what was played is missing or wrong.
func whole(t *testing.T, r Result) {
	t.Helper()
	if r.Missing() > 0 || r.Corrupt > 0 || r.Foreign > 0 || r.Lost != 0 || r.Duplicates > 0 {
		t.Errorf("missing %d corrupt %d foreign %d lost %d duplicates %d", r.Missing(), r.Corrupt, r.Foreign, r.Lost, r.Duplicates)
	}
	for i, s := range r.Segments {
		if s.SoundMissed > 0 {
			t.Errorf("segment %d misses %d sound frames", i, s.SoundMissed)
		}
	}
}

func transports(t *testing.T, fn func(t *testing.T, tcp bool)) {
	t.Run("udp", func(t *testing.T) { t.Parallel(); fn(t, false) })
	t.Run("tcp", func(t *testing.T) { t.Parallel(); fn(t, true) })
}

func TestPlayToTheEnd(t *testing.T) {
	t.Parallel()
	transports(t, func(t *testing.T, tcp bool) {
		s := serve(t, ServerConfig{Film: Film{Duration: 1200 * time.Millisecond}})
		p := play(t, PlayerConfig{URL: s.URL("film"), TCP: tcp, Depth: 300 * time.Millisecond})
		r := ended(t, p)
		whole(t, r)
		if r.Reason != EndedBYE || !r.Clean || r.TeardownStatus != 200 || r.Err != nil {
			t.Errorf("ended by %q clean %v teardown %d err %v", r.Reason, r.Clean, r.TeardownStatus, r.Err)
		}
		if len(r.Segments) != 1 || len(r.Segments[0].Pictures) != 30 {
			t.Fatalf("segments %d pictures %d", len(r.Segments), len(p.Pictures()))
		}
		first, _ := r.Segments[0].First()
		if first.Number != 0 || !first.Key || first.Shown.Before(r.Segments[0].FirstPacket.Add(300*time.Millisecond)) {
			t.Errorf("first picture %+v", first)
		}
		if r.LastShown.Number != 29 {
			t.Errorf("last shown %+v", r.LastShown)
		}
		if n := len(s.Sessions()); n != 0 {
			t.Errorf("%d sessions left", n)
		}
		for track, e := range r.Segments[0].ClockError {
			if e != 0 {
				t.Errorf("track %d: clock error %v", track, e)
			}
		}
	})
}

func TestSeekAndPause(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]ServerConfig{"plain": {}, "gst": GstServer(), "live555": Live555Server(), "no rtp-info": {RTPInfo: RTPInfoNone}} {
		t.Run(name, func(t *testing.T) {
			transports(t, func(t *testing.T, tcp bool) {
				ctx := testContext(t)
				s := serve(t, cfg)
				p := play(t, PlayerConfig{URL: s.URL("film"), TCP: tcp})
				reach(t, p, 200*time.Millisecond)
				if err := p.Pause(ctx); err != nil {
					t.Fatal(err)
				}
				if st := p.State(); st != PlayerPaused {
					t.Errorf("state %s", st)
				}
				if err := p.Resume(ctx); err != nil {
					t.Fatal(err)
				}
				reach(t, p, 500*time.Millisecond)
				if err := p.Seek(ctx, 45500*time.Millisecond); err != nil {
					t.Fatal(err)
				}
				reach(t, p, 45400*time.Millisecond)
				p.Quit()
				r := ended(t, p)
				whole := r
				if len(r.Segments) != 2 || r.Missing() > 0 || r.Corrupt > 0 || r.Foreign > 0 || r.Duplicates > 0 {
					t.Fatalf("segments %d missing %d corrupt %d foreign %d dup %d", len(r.Segments), r.Missing(), r.Corrupt, r.Foreign, r.Duplicates)
				}
				first, _ := whole.Segments[1].First()
				if first.NPT != 45*time.Second || !first.Key || *r.Segments[1].Replied != first.NPT {
					t.Errorf("seek went to %+v, reply %v", first, r.Segments[1].Replied)
				}
				for i, seg := range r.Segments {
					for track, e := range seg.ClockError {
						if e != 0 {
							t.Errorf("segment %d track %d: clock error %v", i, track, e)
						}
					}
				}
				if got := len(s.Requests("PAUSE")); got != 2 {
					t.Errorf("%d PAUSE", got)
				}
			})
		})
	}
}

func TestStartPosition(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		cfg     ServerConfig
		first   time.Duration
		replied time.Duration
		video   time.Duration // clock error
	}{
		{"snaps back", ServerConfig{}, 45 * time.Second, 45 * time.Second, 0},
		{"exact", ServerConfig{Exact: true}, 45400 * time.Millisecond, 45400 * time.Millisecond, 0},
		{"gst lies", GstServer(), 45 * time.Second, 45 * time.Second, 45 * time.Second},
		{"ignores", ServerConfig{IgnorePosition: true}, 0, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, tc.cfg)
			p := play(t, PlayerConfig{URL: s.URL("film"), Start: 45400 * time.Millisecond})
			pic, err := p.First(testContext(t))
			if err != nil || pic.NPT != tc.first {
				t.Fatalf("first %+v %v, want npt %v", pic, err, tc.first)
			}
			seg := p.Result().Segments[0]
			if *seg.Replied != tc.replied || seg.ClockError[VideoTrack] != tc.video || seg.ClockError[AudioTrack] != 0 {
				t.Errorf("replied %v clock error %v", *seg.Replied, seg.ClockError)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, method string
		status       int
	}{
		{"no bandwidth", "PLAY", 453}, {"unavailable", "PLAY", 503}, {"not found", "DESCRIBE", 404}, {"setup", "SETUP", 500},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := serve(t, GstServer())
			s.Refuse(tc.method, tc.status, 1)
			_, err := Play(testContext(t), PlayerConfig{URL: s.URL("film")})
			var refused *StatusError
			if !errors.As(err, &refused) || refused.Status != tc.status || refused.Method != tc.method {
				t.Fatalf("error %v", err)
			}
			play(t, PlayerConfig{URL: s.URL("film")}) // once only
		})
	}
	t.Run("missing", func(t *testing.T) {
		s := serve(t, ServerConfig{Missing: []string{"other"}})
		var refused *StatusError
		if _, err := Play(testContext(t), PlayerConfig{URL: s.URL("other")}); !errors.As(err, &refused) || refused.Status != 404 {
			t.Errorf("error %v", err)
		}
	})
	t.Run("461 to tcp", func(t *testing.T) {
		s := serve(t, VLCServer())
		var refused *StatusError
		if _, err := Play(testContext(t), PlayerConfig{URL: s.URL("film"), TCP: true}); !errors.As(err, &refused) || refused.Status != 461 {
			t.Errorf("error %v", err)
		}
	})
	t.Run("461 to udp", func(t *testing.T) {
		s := serve(t, ServerConfig{NoUDP: true})
		p := play(t, PlayerConfig{URL: s.URL("film")})
		reach(t, p, 0)
		if !p.Result().FellBack {
			t.Error("did not go over to TCP")
		}
	})
	t.Run("no media over udp", func(t *testing.T) {
		s := serve(t, ServerConfig{MuteUDP: true})
		p := play(t, PlayerConfig{URL: s.URL("film"), FallbackTCP: 300 * time.Millisecond})
		reach(t, p, 0)
		if r := p.Result(); !r.FellBack || len(s.Requests("TEARDOWN")) != 1 {
			t.Errorf("fell back: %v, requests %d", r.FellBack, len(s.Requests("TEARDOWN")))
		}
	})
}

func TestConnectionEnds(t *testing.T) {
	t.Parallel()
	const depth = 200 * time.Millisecond
	for _, tc := range []struct {
		name   string
		cfg    PlayerConfig
		reset  bool
		reason EndReason
		state  PlayerState // reached without help
		clean  bool
	}{
		{"mpv fin", MPV(), false, EndedFIN, PlayerEnded, true},
		{"mpv rst", MPV(), true, EndedRST, PlayerEnded, true},
		{"ffplay fin", FFplay(), false, EndedFIN, PlayerFrozen, false},
		{"gst fin udp", Gst(), false, EndedFIN, PlayerFrozen, false},
		{"gst rst", Gst(), true, EndedRST, PlayerEnded, false},
		{"vlc fin", VLC(), false, EndedFIN, PlayerFrozen, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, GstServer())
			tc.cfg.URL, tc.cfg.Depth = s.URL("film"), depth
			p := play(t, tc.cfg)
			reach(t, p, 0)
			s.DropConnections(tc.reset)
			if err := p.AwaitState(testContext(t), tc.state); err != nil {
				t.Fatal(err)
			}
			p.Quit()
			if r := ended(t, p); r.Reason != tc.reason || r.Clean != tc.clean || (r.Err != nil) != (tc.cfg.OnRST == EndError && tc.reset) {
				t.Errorf("reason %q clean %v err %v", r.Reason, r.Clean, r.Err)
			}
			if _, err := s.Await(testContext(t), func(e ServerEvent) bool { return e.Kind == ServerGone }); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEndOfFilm(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		cfg      PlayerConfig
		state    PlayerState
		teardown bool
		shown    bool // the whole buffer
	}{
		{"mpv", MPV(), PlayerEnded, true, true},
		{"ffplay", FFplay(), PlayerFrozen, false, true},
		{"gst", Gst(), PlayerEnded, true, true},
		{"vlc", VLC(), PlayerEnded, true, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, ServerConfig{Film: Film{Duration: 300 * time.Millisecond}})
			tc.cfg.URL, tc.cfg.Depth = s.URL("film"), 700*time.Millisecond
			p := play(t, tc.cfg)
			if err := p.AwaitState(testContext(t), tc.state); err != nil {
				t.Fatal(err)
			}
			p.Quit()
			r := ended(t, p)
			if r.Teardown != tc.teardown || (len(s.Requests("TEARDOWN")) == 1) != tc.teardown {
				t.Errorf("teardown %v, server saw %d", r.Teardown, len(s.Requests("TEARDOWN")))
			}
			if r.Reason != EndedBYE || (r.LastShown.Number == 7) != tc.shown {
				t.Errorf("reason %q last shown %+v", r.Reason, r.LastShown)
			}
			if pauses := len(s.Requests("PAUSE")); (pauses == 1) != tc.cfg.PauseFirst {
				t.Errorf("%d PAUSE", pauses)
			}
		})
	}
}

func TestQuitAndContext(t *testing.T) {
	t.Parallel()
	s := serve(t, GstServer())
	ctx, cancel := context.WithCancel(testContext(t))
	p, err := Play(ctx, PlayerConfig{URL: s.URL("film")})
	if err != nil {
		t.Fatal(err)
	}
	reach(t, p, 0)
	cancel()
	if r := ended(t, p); r.Reason != EndedQuit || r.TeardownStatus != 200 || r.Clean {
		t.Errorf("result %+v", r)
	}
	if err := p.Pause(testContext(t)); !errors.Is(err, ErrEnded) {
		t.Errorf("pause after the end: %v", err)
	}
	if _, err := p.Await(testContext(t), func(Picture) bool { return false }); !errors.Is(err, ErrEnded) {
		t.Errorf("await after the end: %v", err)
	}
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	s := serve(t, ServerConfig{Timeout: 3 * time.Second, AnnounceTimeout: true})
	p := play(t, PlayerConfig{URL: s.URL("film")}) // asks in half the time
	reach(t, p, 4*time.Second)
	if n := len(s.Requests("GET_PARAMETER")); n < 2 {
		t.Errorf("%d keep-alives", n)
	}
	if n := len(s.Sessions()); n != 1 {
		t.Errorf("%d sessions: it timed out", n)
	}
	whole(t, p.Result())
}
