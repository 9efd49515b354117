package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"scas/internal/lab"
)

func TestASFMedia(t *testing.T) {
	need(t, "ffmpeg", "ffprobe")
	film, err := ASFMedia(t.Context(), t.TempDir(), 3)
	if err != nil {
		t.Fatal(err)
	}
	checkFilm(t.Context(), t, filepath.Join(film.Dir, film.Name), 3*Rate)
	again, err := ASFMedia(t.Context(), filepath.Dir(film.Dir), 3)
	if err != nil || again != film {
		t.Errorf("%v, %v", again, err)
	}
	a := readASF(t, film)
	out, err := exec.CommandContext(t.Context(), "ffprobe", "-loglevel", "error", "-show_entries", "format=duration", "-of", "csv=p=0",
		filepath.Join(film.Dir, film.Name)).Output()
	if seconds, _ := strconv.ParseFloat(strings.TrimSpace(string(out)), 64); err != nil || abs(a.Duration.Seconds()-seconds) > 0.1 {
		t.Errorf("%v, ffprobe says %s", a.Duration, out)
	}
	if n, key := a.At(2500 * time.Millisecond); key != 2*time.Second+StartOffset || a.Key(n) != key {
		t.Errorf("2.5 s starts with packet %d, key picture %v", n, key)
	}
}

// mmsStage is a server in ms of a lab, for players in ue1.
type mmsStage struct {
	l      *lab.Lab
	server *lab.MMSServer
	film   ASFFilm
	logs   string
}

func newMMSStage(t *testing.T, seconds int, cfg lab.MMSConfig) *mmsStage {
	t.Helper()
	lab.Root(t)
	need(t, "ffmpeg")
	film, err := ASFMedia(t.Context(), CacheDir(), seconds)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ASF = readASF(t, film)
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	cfg.Host, cfg.Addr, cfg.HTTP = l.Host(lab.MS), netip.AddrPortFrom(l.Addr(lab.MS), 1755), netip.AddrPortFrom(l.Addr(lab.MS), 80)
	server, err := lab.ServeMMS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return &mmsStage{l, server, film, t.TempDir()}
}

// all runs fn for a player of each kind, all at once.
func (s *mmsStage) all(t *testing.T, scheme string, fn func(ctx context.Context, p *MMSPlayer) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, kind := range MMSKinds() {
		need(t, kind.MMSPrograms()...)
		wg.Go(func() {
			log := filepath.Join(s.logs, string(kind)+scheme)
			p, err := StartMMSPlayer(ctx, PlayerConfig{
				Kind: kind, URL: s.server.URL(scheme, s.film.Name), Start: s.l.Command, NS: lab.UE1, Log: log,
			})
			if err != nil {
				t.Errorf("%s: %v", kind, err)
				return
			}
			defer p.Close()
			if err := fn(ctx, p); err != nil {
				t.Errorf("%s-%s: %v%s", kind, scheme, err, tail(log))
			}
			p.Close()
			if err := gone(p.Player); err != nil {
				t.Error(err)
			}
		})
	}
}

// Every player shows the film to its last picture and exits by itself.
func TestMMSToTheEnd(t *testing.T) {
	s := newMMSStage(t, 6, lab.MMSConfig{})
	for _, scheme := range []string{"mmst", "mmsh"} {
		s.all(t, scheme, func(ctx context.Context, p *MMSPlayer) error {
			_, exited, err := p.WaitEnd(ctx, 0)
			if err != nil {
				return err
			}
			last, _ := p.Last()
			if e, _ := p.Exit(); !exited || !e.Clean() || last.N < 6*Rate-5 {
				return fmt.Errorf("exit %+v after picture %d", e, last.N)
			}
			return nil
		})
	}
}

// EndOfStream in the middle and the end of the connection ends every player but ffmpeg, which
// has to be killed (mms.md 6.5).
func TestMMSCutShort(t *testing.T) {
	s := newMMSStage(t, 30, lab.MMSConfig{Lead: time.Second})
	var playing sync.WaitGroup
	playing.Add(len(MMSKinds()))
	go func() {
		playing.Wait()
		s.server.EndStreams(0)
		s.server.DropConnections(false)
	}()
	s.all(t, "mmst", func(ctx context.Context, p *MMSPlayer) error {
		_, err := p.WaitPicture(ctx, Rate)
		playing.Done()
		if err != nil {
			return err
		}
		freeze := 4 * time.Second
		_, exited, err := p.WaitEnd(ctx, freeze)
		if err == nil && exited == (p.cfg.Kind == FFmpeg) {
			err = fmt.Errorf("exited %v", exited)
		}
		return err
	})
}

// What a server may do: replies in two segments, which MPlayer alone cannot take; the header in
// pieces, padding, chunkCount as specified, Pings.
func TestMMSForms(t *testing.T) {
	s := newMMSStage(t, 30, lab.MMSConfig{HeaderPiece: 250, KeepPadding: true, SpecChunkCount: true, SplitReplies: true, Ping: 500 * time.Millisecond})
	s.all(t, "mmst", func(ctx context.Context, p *MMSPlayer) error {
		_, err := p.WaitPicture(ctx, 2*Rate)
		if p.cfg.Kind == MPlayer {
			if !errors.Is(err, io.EOF) {
				return fmt.Errorf("played replies in pieces: %w", err)
			}
			return nil
		}
		return err
	})
	if len(s.server.Requests("Pong")) == 0 {
		t.Error("no Pong")
	}
}

// A broadcast is joined where it is.
func TestMMSBroadcast(t *testing.T) {
	s := newMMSStage(t, 30, lab.MMSConfig{Broadcast: true})
	born := time.Now()
	if err := waitUntil(t.Context(), born.Add(2*time.Second)); err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"mmst", "mmsh"} {
		s.all(t, scheme, func(ctx context.Context, p *MMSPlayer) error {
			first, err := p.WaitPicture(ctx, 0)
			if err == nil {
				_, err = p.WaitPicture(ctx, first.N+Rate)
			}
			if d := first.At.Sub(born).Seconds() - first.Pos; err == nil && (first.N < Rate || d < -3 || d > 4) {
				err = fmt.Errorf("joined with picture %d, %.1f s behind", first.N, d)
			}
			return err
		})
	}
}

func waitUntil(ctx context.Context, at time.Time) error {
	select {
	case <-time.After(time.Until(at)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// UDP is refused as VLC accepts it: it gives up and says goodbye.
func TestMMSURefused(t *testing.T) {
	_, ours, _ := mmsTheatre(t, 30)
	need(t, VLC.MMSPrograms()...)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	p, err := StartMMSPlayer(ctx, PlayerConfig{Kind: VLC, URL: ours.URL("mmsu", "pos.asf")})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := ours.Await(ctx, func(e lab.ServerEvent) bool { return e.Method == "CloseFile" }); err != nil {
		t.Error(err)
	}
	if _, ok := p.Last(); ok || !strings.Contains(ours.Requests("ConnectFunnel")[0].Header("FunnelName"), `\UDP\`) {
		t.Errorf("%+v", ours.Requests("ConnectFunnel"))
	}
}
