package lab

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func serveMMS(t *testing.T, cfg MMSConfig) *MMSServer {
	t.Helper()
	s, err := ServeMMS(cfg)
	return serving(t, s, err)
}

func playMMS(t *testing.T, cfg MMSPlayerConfig) *MMSPlayer {
	t.Helper()
	p, err := PlayMMS(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	quits(t, p.Player)
	return p
}

func mmsPresets() map[string]MMSPlayerConfig {
	return map[string]MMSPlayerConfig{
		"vlc": MMSVLC(), "libmms": MMSLibmms(), "ffmpeg": MMSFFmpeg(), "mplayer": MMSMPlayer(), "windows": MMSWindows(),
	}
}

// Every player plays a short film to its end over both protocols and misses nothing, whatever
// the form of the server's packets. All play at once.
func TestMMSPlayToTheEnd(t *testing.T) {
	t.Parallel()
	forms := map[string]MMSConfig{
		"plain":  {},
		"pieces": {HeaderPiece: 100, KeepPadding: true, SpecChunkCount: true, Burst: true},
	}
	checks := map[string]func(t *testing.T){}
	for form, cfg := range forms {
		cfg.Film, cfg.Linger = Film{Duration: 1200 * time.Millisecond}, 50*time.Millisecond
		for name, pc := range mmsPresets() {
			for _, scheme := range []string{"mmst", "mmsh"} {
				s := serveMMS(t, cfg)
				pc.URL, pc.Depth = s.URL(scheme, "film.asf"), 200*time.Millisecond
				p := playMMS(t, pc)
				checks[form+"-"+name+"-"+scheme] = func(t *testing.T) { checkMMSEnd(t, s, p) }
			}
		}
	}
	for name, check := range checks {
		t.Run(name, check)
	}
}

func checkMMSEnd(t *testing.T, s *MMSServer, p *MMSPlayer) {
	r := ended(t, p.Player)
	whole(t, r)
	if !r.Clean || r.Err != nil || r.Reason != EndedEOS {
		t.Errorf("ended by %q clean %v err %v", r.Reason, r.Clean, r.Err)
	}
	if len(r.Segments) != 1 || len(r.Segments[0].Pictures) != 30 {
		t.Fatalf("%d segments, %d pictures", len(r.Segments), len(p.Pictures()))
	}
	i := p.Info()
	if i.Duration != 1200*time.Millisecond || i.Preroll != 3*time.Second || i.Gaps > 0 || i.Unknown > 0 {
		t.Errorf("%+v", i)
	}
	if i.Protocol == "mmsh" {
		return
	}
	if _, err := s.Await(testContext(t), func(e ServerEvent) bool { return e.Kind == ServerGone }); err != nil {
		t.Error(err)
	}
	if closed := len(s.Requests("CloseFile")) > 0; closed != p.mms.CloseFile {
		t.Errorf("CloseFile %v", closed)
	}
}

// A seek lands on the key picture before it, or where the file is as far; nothing is missed on
// either side; and the server saw what the player is known to ask.
func TestMMSSeek(t *testing.T) {
	t.Parallel()
	for name, pc := range mmsPresets() {
		for _, scheme := range []string{"mmst", "mmsh"} {
			t.Run(name+"-"+scheme, func(t *testing.T) {
				t.Parallel()
				pc := pc
				s := serveMMS(t, MMSConfig{Film: Film{Duration: 60 * time.Second}})
				pc.URL = s.URL(scheme, "film.asf")
				p := playMMS(t, pc)
				reach(t, p.Player, 0)
				const to = 20 * time.Second
				err := p.Seek(testContext(t), to)
				if pc.Seek == MMSSeekNone || pc.Seek == MMSSeekHTTP && scheme == "mmst" {
					if !errors.Is(err, ErrNoSeek) {
						t.Errorf("seek: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				reach(t, p.Player, to+2*time.Second)
				want := to
				if pc.AddPreroll {
					want += 3 * time.Second
				}
				r := p.Result()
				whole(t, r)
				first, _ := r.Segments[1].First()
				if d := first.NPT - want; d < -1100*time.Millisecond || d > 1100*time.Millisecond || !first.Key {
					t.Errorf("landed at %v, want %v", first.NPT, want)
				}
				if x := s.Sessions(); len(x) == 0 || x[len(x)-1].NPT < 20 || len(x[len(x)-1].Log) == 0 {
					t.Errorf("sessions %+v", len(x))
				}
				if scheme == "mmst" {
					if stops := len(s.Requests("StopPlaying")); stops > 0 != pc.StopToPause {
						t.Errorf("%d StopPlaying", stops)
					}
				}
			})
		}
	}
}

func TestMMSPause(t *testing.T) {
	t.Parallel()
	for name, pc := range mmsPresets() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveMMS(t, MMSConfig{Film: Film{Duration: 30 * time.Second}, Lead: 200 * time.Millisecond})
			pc.URL, pc.Depth = s.URL("mmst", "film.asf"), 300*time.Millisecond
			pc.PausedPong = min(pc.PausedPong, 100*time.Millisecond)
			p := playMMS(t, pc)
			reach(t, p.Player, 200*time.Millisecond)
			ctx := testContext(t)
			if err := p.Pause(ctx); err != nil {
				t.Fatal(err)
			}
			if pc.PausedPong > 0 {
				if _, err := s.Await(ctx, func(e ServerEvent) bool { return e.Method == "Pong" }); err != nil {
					t.Error(err)
				}
			}
			last, _ := p.Newest()
			if err := p.Resume(ctx); err != nil {
				t.Fatal(err)
			}
			reach(t, p.Player, last.NPT+300*time.Millisecond)
			whole(t, p.Result())
			if r := p.Result(); len(r.Segments) != 1 || r.State != PlayerPlaying {
				t.Errorf("%d segments, %s", len(r.Segments), r.State)
			}
		})
	}
}

// The user's own start is asked for after the first start from the beginning (--start-time).
func TestMMSStart(t *testing.T) {
	t.Parallel()
	s := serveMMS(t, MMSConfig{Film: Film{Duration: 60 * time.Second}})
	pc := MMSVLC()
	pc.URL, pc.Start = s.URL("mms", "film.asf"), 30*time.Second
	p := playMMS(t, pc)
	reach(t, p.Player, 31*time.Second)
	plays := s.Requests("StartPlaying")
	if len(plays) != 2 || plays[0].Header("Packet") != "0" || plays[1].Header("LocationID") == "4294967295" {
		t.Errorf("starts %+v", plays)
	}
}

// What the end of a stream does to each player (mms.md 6.5).
func TestMMSEnds(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		eos, fin PlayerState
		reason   EndReason
	}{
		"vlc":     {PlayerEnded, PlayerEnded, EndedFIN},
		"libmms":  {PlayerEnded, PlayerEnded, EndedFIN},
		"ffmpeg":  {PlayerFrozen, PlayerFrozen, EndedFIN},
		"mplayer": {PlayerFrozen, PlayerEnded, EndedFIN},
	} {
		for _, how := range []string{"eos", "fin"} {
			t.Run(name+"-"+how, func(t *testing.T) {
				t.Parallel()
				s := serveMMS(t, MMSConfig{Film: Film{Duration: 30 * time.Second}, Lead: 300 * time.Millisecond})
				pc := mmsPresets()[name]
				pc.URL, pc.Depth = s.URL("mmst", "film.asf"), 100*time.Millisecond
				p := playMMS(t, pc)
				reach(t, p.Player, 300*time.Millisecond)
				state, reason := want.eos, EndedEOS
				if how == "eos" {
					s.EndStreams(0)
				} else {
					s.DropConnections(false)
					state, reason = want.fin, want.reason
				}
				if err := p.AwaitState(testContext(t), state); err != nil {
					t.Fatal(err)
				}
				if r := p.Result(); r.Reason != reason {
					t.Errorf("%s by %s, want %s", r.State, r.Reason, reason)
				}
				if name == "mplayer" && how == "eos" {
					s.DropConnections(false)
					if r := ended(t, p.Player); !r.Clean {
						t.Errorf("%+v", r)
					}
				}
			})
		}
	}
}

func TestMMSServerModes(t *testing.T) {
	t.Parallel()
	film := Film{Duration: 20 * time.Second}
	t.Run("errors", func(t *testing.T) {
		s := serveMMS(t, MMSConfig{Film: film, Missing: []string{"/gone.asf"}})
		for url, want := range map[string]int{s.URL("mmst", "gone.asf"): fileNotFound, s.URL("mmsh", "gone.asf"): 404} {
			pc := MMSFFmpeg()
			pc.URL = url
			_, err := PlayMMS(testContext(t), pc)
			var refused *StatusError
			if !errors.As(err, &refused) || refused.Status != want {
				t.Errorf("%s: %v", url, err)
			}
		}
		for _, method := range []string{"Connect", "ConnectFunnel", "OpenFile", "ReadBlock", "StreamSwitch"} {
			s.Refuse(method, accessDenied, 1)
			pc := MMSVLC()
			pc.URL = s.URL("mmst", "film.asf")
			_, err := PlayMMS(testContext(t), pc)
			var refused *StatusError
			if !errors.As(err, &refused) || refused.Status != accessDenied || refused.Method != method {
				t.Errorf("%s: %v", method, err)
			}
		}
	})
	t.Run("udp", func(t *testing.T) {
		s := serveMMS(t, MMSConfig{Film: film})
		pc := MMSVLC()
		pc.URL = s.URL("mmsu", "film.asf")
		if _, err := PlayMMS(testContext(t), pc); err == nil {
			t.Error("played over UDP")
		}
		pc.TCPAfter = true
		reach(t, playMMS(t, pc).Player, 0)
		if names := s.Requests("ConnectFunnel"); len(names) != 3 || !strings.Contains(names[0].Header("FunnelName"), `\UDP\`) {
			t.Errorf("%+v", names)
		}
	})
	t.Run("split", func(t *testing.T) {
		s := serveMMS(t, MMSConfig{Film: film, SplitReplies: true})
		for name, pc := range mmsPresets() {
			pc.URL = s.URL("mmst", "film.asf")
			p, err := PlayMMS(testContext(t), pc)
			if pc.OneRead != errors.Is(err, errPieces) {
				t.Errorf("%s: %v", name, err)
			}
			if p != nil {
				p.Quit()
				<-p.Done()
			}
		}
	})
	t.Run("ignore position", func(t *testing.T) {
		s := serveMMS(t, MMSConfig{Film: film, IgnorePosition: true})
		pc := MMSLibmms()
		pc.URL = s.URL("mms", "film.asf")
		p := playMMS(t, pc)
		if err := p.Seek(testContext(t), 10*time.Second); err != nil {
			t.Fatal(err)
		}
		reach(t, p.Player, 0)
		if first, _ := p.Result().Segments[1].First(); first.Number != 0 {
			t.Errorf("started with picture %d", first.Number)
		}
	})
	t.Run("broadcast", func(t *testing.T) {
		s := serveMMS(t, MMSConfig{Film: film, Broadcast: true, Lead: time.Millisecond, Ping: 50 * time.Millisecond})
		for _, scheme := range []string{"mmst", "mmsh"} {
			pc := MMSLibmms()
			pc.URL = s.URL(scheme, "film.asf")
			p := playMMS(t, pc)
			first := reach(t, p.Player, 0)
			if d := first.At.Sub(s.born) - first.NPT; d < -200*time.Millisecond || d > 3*time.Second || p.Info().Duration != 0 {
				t.Errorf("%s joined %v behind; %+v", scheme, d, p.Info())
			}
		}
		if _, err := s.Await(testContext(t), func(e ServerEvent) bool { return e.Method == "Pong" }); err != nil {
			t.Error(err)
		}
	})
}

// The server's log and sessions tell what the viewer sees.
func TestMMSServerBooks(t *testing.T) {
	t.Parallel()
	s := serveMMS(t, MMSConfig{Film: Film{Duration: 20 * time.Second}})
	pc := MMSFFmpeg()
	pc.URL = s.URL("mmst", "dir/film.asf")
	p := playMMS(t, pc)
	reach(t, p.Player, time.Second)
	var names []string
	for _, e := range s.Requests("") {
		names = append(names, e.Method)
	}
	if want := []string{"Connect", "FunnelInfo", "ConnectFunnel", "OpenFile", "ReadBlock", "StreamSwitch", "StartPlaying"}; !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
	x := s.Sessions()
	if len(x) != 1 || !x[0].Playing || x[0].Remote != p.LocalAddr() || p.RemoteAddr() != s.Addr() ||
		!strings.HasSuffix(x[0].URL, "/dir/film.asf") || !strings.HasPrefix(x[0].UserAgent, "NSPlayer/7.0.0.1956; {") {
		t.Fatalf("%+v", x)
	}
	for i, l := range x[0].Log {
		if int(l.Number) != i || int(l.Seq) != i%256 || l.NPT != s.Film().Delivered(i) {
			t.Fatalf("packet %d: %+v", i, l)
		}
	}
	p.Quit()
	if _, err := s.Await(testContext(t), func(e ServerEvent) bool { return e.Kind == ServerGone }); err != nil {
		t.Error(err)
	}
	if len(s.Requests("CloseFile")) != 1 || len(s.Sessions()) != 0 {
		t.Error("the session is not over")
	}
}

// Over the router of the lab, both protocols at once.
func TestMMSLab(t *testing.T) {
	Root(t)
	l, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	serveMMS(t, MMSConfig{
		Film: Film{Duration: 20 * time.Second}, Host: l.Host(MS), Addr: netip.AddrPortFrom(l.Addr(MS), 1755),
		HTTP: netip.AddrPortFrom(l.Addr(MS), 80),
	})
	ctx, cancel := context.WithTimeout(testContext(t), 20*time.Second)
	defer cancel()
	for scheme, ns := range map[string]string{"mms": UE1, "mmsh": UE2} {
		pc := MMSWindows()
		pc.Host, pc.URL = l.Host(ns), scheme+"://"+l.Addr(MS).String()+"/film.asf"
		p := playMMS(t, pc)
		if _, err := p.Await(ctx, func(pic Picture) bool { return pic.NPT >= 2*time.Second }); err != nil {
			t.Errorf("%s: %v", scheme, err)
		}
		whole(t, p.Result())
	}
}
