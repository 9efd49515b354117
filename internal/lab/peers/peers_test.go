package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scas/internal/lab"
)

const (
	watched  = 5 * time.Second // how long each player is watched after its first picture
	startup  = 30 * time.Second
	filmSecs = 60
)

// run is one player over one transport, and what was seen.
type run struct {
	kind                     Kind
	transport, ns, film, log string

	started, stopped time.Time
	first            Shown
	delay            time.Duration // PLAY to first picture
	depth            float64       // seconds the screen is behind a server that started at PLAY
	spread           float64       // greatest deviation from that, in pictures
	rate             float64
	missed, back     int
	exit             Exit
	exitErr          error
	cpu, screenCPU   time.Duration
	err              error
}

// Every player plays the film of the GStreamer server through the router: 25 pictures a second,
// at a known place in the film, over UDP (in ue1) and interleaved (in ue2), all at once.
func TestPlayers(t *testing.T) {
	l, film := theatre(t, filmSecs)
	logs, media := t.TempDir(), t.TempDir()
	var runs []*run
	for _, kind := range Kinds() {
		for _, transport := range []string{UDP, TCP} {
			name := string(kind) + "-" + transport
			// A name for each, so that the server's events tell them apart.
			if err := os.Symlink(filepath.Join(film.Dir, film.MP4), filepath.Join(media, name+".mp4")); err != nil {
				t.Fatal(err)
			}
			ns := map[string]string{UDP: lab.UE1, TCP: lab.UE2}[transport]
			runs = append(runs, &run{kind: kind, transport: transport, ns: ns, film: name + ".mp4", log: filepath.Join(logs, name)})
		}
	}
	server := serve(t, l, media, ServerConfig{Log: filepath.Join(logs, "server")})
	var wg sync.WaitGroup
	for _, r := range runs {
		need(t, r.kind.Programs()...)
		wg.Go(func() { r.err = r.watch(t.Context(), l, server) })
	}
	wg.Wait()
	for _, r := range runs {
		t.Run(string(r.kind)+"-"+r.transport, r.check)
	}
	t.Logf("\n%s", table(runs))
	ctx, cancel := context.WithTimeout(t.Context(), startup)
	defer cancel()
	for _, ns := range []string{lab.UE1, lab.UE2} {
		if err := server.WaitSilent(ctx, l.Addr(ns)); err != nil {
			t.Errorf("the server still sends to %s: %v", ns, err)
		}
	}
}

func table(runs []*run) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-8s %-4s %5s %7s %7s %7s %6s %6s %4s %6s %6s %s\n", "player", "over",
		"first", "start s", "depth s", "rate /s", "spread", "missed", "back", "cpu %", "scr %", "exit")
	for _, r := range runs {
		secs := r.stopped.Sub(r.started).Seconds()
		fmt.Fprintf(&b, "%-8s %-4s %5d %7.2f %7.2f %7.2f %6.1f %6d %4d %6.1f %6.1f %d\n", r.kind, r.transport,
			r.first.N, r.delay.Seconds(), r.depth, r.rate, r.spread, r.missed, r.back,
			100*r.cpu.Seconds()/secs, 100*r.screenCPU.Seconds()/secs, r.exit.Code)
	}
	return b.String()
}

// theatre returns a lab and a film; the test is skipped without root or GStreamer's bindings.
func theatre(t *testing.T, seconds int) (*lab.Lab, Film) {
	t.Helper()
	lab.Root(t)
	need(t, "ffmpeg")
	if _, err := Python(t.Context()); err != nil {
		unmet(t, err.Error())
	}
	film, err := Media(t.Context(), CacheDir(), seconds)
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, film
}

// serve starts a server in ms.
func serve(t *testing.T, l *lab.Lab, media string, cfg ServerConfig) *GstServer {
	t.Helper()
	cfg.Start, cfg.NS, cfg.Media = l.Command, lab.MS, media
	s, err := StartGstServer(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// watch runs the player for a while and fills r.
func (r *run) watch(ctx context.Context, l *lab.Lab, server *GstServer) error {
	ctx, cancel := context.WithTimeout(ctx, startup+4*watched)
	defer cancel()
	p, err := StartPlayer(ctx, PlayerConfig{
		Kind: r.kind, URL: server.URL(l.Addr(lab.MS).String(), r.film), Transport: r.transport,
		Start: l.Command, NS: r.ns, Log: r.log,
	})
	if err != nil {
		return err
	}
	defer func() {
		p.Close()
		r.cpu, r.screenCPU = p.CPU()
	}()
	r.started = time.Now()
	if r.first, err = p.WaitPicture(ctx, 0); err != nil {
		return err
	}
	play, err := server.Wait(ctx, func(e ServerEvent) bool { return e.Method == "PLAY" && strings.Contains(e.URI, r.film) })
	if err != nil {
		return err
	}
	r.delay = r.first.At.Sub(play.At)
	if _, err := p.WaitPicture(ctx, r.first.N+int(watched.Seconds()*Rate)); err != nil {
		return err
	}
	if len(server.Sending(l.Addr(r.ns))) == 0 {
		return fmt.Errorf("the server sends nothing to %s: %+v", r.ns, server.Sessions())
	}
	r.measure(p.Timeline(), play.At)
	r.exit, r.exitErr = p.Quit(10 * time.Second)
	r.stopped = time.Now()
	return nil
}

// measure reads the figures off the timeline, from one second after the first picture on: a
// player may show its first picture early and hold it.
func (r *run) measure(l Timeline, play time.Time) {
	l = l.Between(r.first.At.Add(time.Second), l[len(l)-1].At)
	r.rate = l.Rate()
	r.missed, r.back = l.Missed()
	var depths []float64
	for _, s := range l {
		depths = append(depths, s.At.Sub(play).Seconds()-s.Pos)
	}
	slices.Sort(depths)
	r.depth = depths[len(depths)/2] // the median: the machine may have stalled for a moment
	for _, s := range l {
		r.spread = max(r.spread, abs(s.At.Sub(play).Seconds()-s.Pos-r.depth)*Rate)
	}
}

func (r *run) check(t *testing.T) {
	if r.err != nil {
		t.Fatalf("%v%s", r.err, tail(r.log))
	}
	if r.rate < 24 || r.rate > 26 {
		t.Errorf("%.2f pictures a second", r.rate)
	}
	if r.first.N > 2 {
		t.Errorf("first picture %d", r.first.N)
	}
	if r.back != 0 || r.missed > Rate {
		t.Errorf("went back %d times, never showed %d pictures", r.back, r.missed)
	}
	if d := r.depth - r.kind.Buffer().Seconds(); r.kind != FFmpeg && (d < -0.5 || d > 0.5) {
		t.Errorf("the screen is %.2f s behind, want about %v", r.depth, r.kind.Buffer())
	}
	if r.exitErr != nil || r.exit.Forced {
		t.Errorf("quit: %+v, %v", r.exit, r.exitErr)
	}
}

func abs(x float64) float64 { return max(x, -x) }
