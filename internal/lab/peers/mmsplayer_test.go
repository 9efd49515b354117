package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"scas/internal/lab"
)

const mmsWatched = 4 * time.Second // how long each player is watched after its first picture

// mmsRun is one player of one server over one protocol, and what was seen.
type mmsRun struct {
	kind           Kind
	server, scheme string
	url, log       string

	started      time.Time
	first, last  Shown
	rate         float64
	missed, back int
	exit         Exit
	err          error
}

func (r *mmsRun) name() string { return string(r.kind) + "-" + r.server + "-" + r.scheme }

// mmsTheatre returns a film, the servers of it on loopback, and their URLs by name and scheme.
func mmsTheatre(t *testing.T, seconds int) (ASFFilm, *lab.MMSServer, *MMSServer) {
	t.Helper()
	need(t, "ffmpeg", "python3")
	film, err := ASFMedia(t.Context(), CacheDir(), seconds)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := lab.ServeMMS(lab.MMSConfig{ASF: readASF(t, film)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() })
	theirs, err := StartMMSServer(t.Context(), MMSServerConfig{Media: film.Dir, Addr: "127.0.0.1", Piece: 300, Log: filepath.Join(t.TempDir(), "server")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(theirs.Close)
	return film, ours, theirs
}

// readASF returns a film as a server reads it.
func readASF(t *testing.T, film ASFFilm) *lab.ASF {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(film.Dir, film.Name))
	if err != nil {
		t.Fatal(err)
	}
	asf, err := lab.ParseASF(file)
	if err != nil {
		t.Fatal(err)
	}
	return asf
}

// Every player plays the film of both servers, over MMST and over MMSH: its first pictures, then
// 25 a second, at a known place.
func TestMMSPlayers(t *testing.T) {
	film, ours, theirs := mmsTheatre(t, 30)
	logs := t.TempDir()
	for _, server := range []string{"lab", "python"} {
		var runs []*mmsRun
		for _, kind := range MMSKinds() {
			need(t, kind.MMSPrograms()...)
			for _, scheme := range []string{"mmst", "mmsh"} {
				r := &mmsRun{kind: kind, server: server, scheme: scheme, log: filepath.Join(logs, string(kind)+server+scheme)}
				if r.url = ours.URL(scheme, film.Name); server == "python" {
					r.url = theirs.URL(scheme, "127.0.0.1", film.Name)
				}
				runs = append(runs, r)
			}
		}
		var wg sync.WaitGroup
		for _, r := range runs {
			wg.Go(func() { r.err = r.watch(t.Context()) })
		}
		wg.Wait()
		for _, r := range runs {
			t.Run(r.name(), r.check)
		}
		t.Logf("\n%s", mmsTable(runs))
	}
}

func mmsTable(runs []*mmsRun) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %-7s %-5s %5s %7s %5s %7s %6s %4s %s\n", "player", "server", "over", "first", "after s", "last", "rate /s", "missed", "back", "exit")
	for _, r := range runs {
		fmt.Fprintf(&b, "%-8s %-7s %-5s %5d %7.2f %5d %7.2f %6d %4d %d\n", r.kind, r.server, r.scheme,
			r.first.N, r.first.At.Sub(r.started).Seconds(), r.last.N, r.rate, r.missed, r.back, r.exit.Code)
	}
	return b.String()
}

func (r *mmsRun) watch(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startup+4*mmsWatched)
	defer cancel()
	p, err := StartMMSPlayer(ctx, PlayerConfig{Kind: r.kind, URL: r.url, Log: r.log})
	if err != nil {
		return err
	}
	defer p.Close()
	r.started = p.Begun()
	if r.first, err = p.WaitPicture(ctx, 0); err != nil {
		return err
	}
	if _, err := p.WaitPicture(ctx, r.first.N+int(mmsWatched.Seconds()*Rate)); err != nil {
		return err
	}
	// A server sends three seconds at once, and decoders do not wait.
	l := p.Timeline()
	r.last = l[len(l)-1]
	if r.kind == VLC || r.kind == MPlayer {
		l = l.Between(r.first.At.Add(time.Second), r.last.At)
	}
	r.rate = l.Rate()
	r.missed, r.back = l.Missed()
	r.exit, err = p.Quit(5 * time.Second)
	return err
}

func (r *mmsRun) check(t *testing.T) {
	if r.err != nil {
		t.Fatalf("%v%s", r.err, tail(r.log))
	}
	if paced := r.kind == VLC || r.kind == MPlayer; paced && (r.rate < 24 || r.rate > 26) {
		t.Errorf("%.2f pictures a second", r.rate)
	}
	if r.first.N > 2 {
		t.Errorf("first picture %d", r.first.N)
	}
	if r.back != 0 || r.missed > Rate {
		t.Errorf("went back %d times, never showed %d pictures", r.back, r.missed)
	}
	if r.exit.Forced {
		t.Errorf("quit: %+v", r.exit)
	}
}

// What viewers do: VLC and libmms seek and pause, ffmpeg starts where it is told over MMSH; and
// the server sees it as protocols/mms.md §6.4 says.
func TestMMSControl(t *testing.T) {
	film, ours, theirs := mmsTheatre(t, 30)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tests := map[string]struct {
		kind Kind
		url  string
		args []string
		run  func(ctx context.Context, p *MMSPlayer) error
	}{
		"vlc":         {VLC, ours.URL("mms", film.Name), nil, steerVLC},
		"vlc-start":   {VLC, theirs.URL("mms", "127.0.0.1", film.Name), []string{"--start-time=10"}, from(10)},
		"vlc-http":    {VLC, theirs.URL("mmsh", "127.0.0.1", film.Name), nil, seekTo(15, 0)},
		"libmms":      {Libmms, ours.URL("mmst", film.Name), nil, seekTo(15, 3.1)},
		"libmms-http": {Libmms, ours.URL("mmsh", film.Name), nil, seekTo(15, 3.1)},
		"ffmpeg-http": {FFmpeg, ours.URL("mmsh", film.Name), []string{"-ss", "10"}, from(10)},
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for name, tt := range tests {
		need(t, tt.kind.MMSPrograms()...)
		wg.Go(func() {
			log := filepath.Join(t.TempDir(), name)
			p, err := StartMMSPlayer(ctx, PlayerConfig{Kind: tt.kind, URL: tt.url, Args: tt.args, Log: log})
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			defer p.Close()
			if err := tt.run(ctx, p); err != nil {
				t.Errorf("%s: %v%s", name, err, tail(log))
			}
		})
	}
	wg.Wait()
	seeks := 0
	for _, e := range ours.Requests("StartPlaying") {
		if strings.HasPrefix(e.Header("Position"), "18.1") || e.Header("LocationID") != "4294967295" && e.Header("Position") == "0" {
			seeks++
		}
	}
	if seeks != 3 || len(ours.Requests("StopPlaying")) != 3 {
		t.Errorf("%d seeks, %d StopPlaying; want libmms's and two of VLC's; three of VLC's", seeks, len(ours.Requests("StopPlaying")))
	}
}

// from waits for pictures from about a second of the film on.
func from(second float64) func(context.Context, *MMSPlayer) error {
	return func(ctx context.Context, p *MMSPlayer) error { return arrive(ctx, p, second) }
}

// arrive waits until the player shows a second of the film, or one up to 3 s after it.
func arrive(ctx context.Context, p *MMSPlayer, second float64) error {
	s, err := p.WaitPicture(ctx, int((second-2)*Rate))
	if err == nil && s.Pos > second+3 {
		err = fmt.Errorf("at %.1f s, want %.1f", s.Pos, second)
	}
	return err
}

func seekTo(second, late float64) func(context.Context, *MMSPlayer) error {
	return func(ctx context.Context, p *MMSPlayer) error {
		if _, err := p.WaitPicture(ctx, Rate); err != nil {
			return err
		}
		if err := p.Seek(time.Duration(second * float64(time.Second))); err != nil {
			return err
		}
		return arrive(ctx, p, second+late)
	}
}

func steerVLC(ctx context.Context, p *MMSPlayer) error {
	if err := seekTo(15, 0)(ctx, p); err != nil {
		return err
	}
	s, err := p.WaitPicture(ctx, 17*Rate)
	if err != nil {
		return err
	}
	clock, err := p.Clock(ctx)
	if d := clock.Seconds() - s.Pos; err != nil || d < -1.5 || d > 1.5 {
		return fmt.Errorf("the clock says %v at %.1f s: %w", clock, s.Pos, err)
	}
	if err := p.Pause(); err != nil {
		return err
	}
	held, exited, err := p.WaitEnd(ctx, time.Second)
	if err != nil || exited {
		return fmt.Errorf("pause: exited %v, %w", exited, err)
	}
	last, _ := p.Last()
	if err := p.Resume(); err != nil {
		return err
	}
	next, err := p.WaitPicture(ctx, last.N+1)
	if d := next.At.Sub(held); err == nil && (d < 900*time.Millisecond || next.N > last.N+2*Rate) {
		err = fmt.Errorf("pause: %v, from picture %d to %d", d, last.N, next.N)
	}
	return err
}
