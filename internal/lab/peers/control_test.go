package peers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"scas/internal/lab"
)

// Every player obeys pause, resume and seek, ends at the end of the film in its own way, asks
// with digest authentication, and leaves nothing behind. All play at the same time.
func TestPlayerControl(t *testing.T) {
	l, film := theatre(t, 14)
	server := serve(t, l, film.Dir, ServerConfig{User: "alice", Pass: "wonder", Port: 8554, Timeout: 20 * time.Second})
	tests := []struct {
		kind  Kind
		stays bool // at the end of the film the player stays on its last picture
	}{{FFplay, true}, {MPV, false}, {MPlayer, false}, {Gst, false}, {FFmpeg, false}}
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, tt := range tests {
		need(t, tt.kind.Programs()...)
		wg.Go(func() {
			log := filepath.Join(t.TempDir(), string(tt.kind))
			p, err := StartPlayer(t.Context(), PlayerConfig{
				Kind: tt.kind, URL: server.URL(l.Addr(lab.MS).String(), film.MKV), Transport: []string{UDP, TCP}[i%2],
				Start: l.Command, NS: lab.UE1, Log: log,
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer p.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := steer(ctx, p); err != nil {
				t.Errorf("%s: %v%s", tt.kind, err, tail(log))
			}
			if err := toEnd(ctx, p, film, tt.stays); err != nil {
				t.Errorf("%s: %v%s", tt.kind, err, tail(log))
			}
			p.Close()
			if err := gone(p); err != nil {
				t.Errorf("%s: %v", tt.kind, err)
			}
		})
	}
}

// steer pauses, resumes and seeks.
func steer(ctx context.Context, p *Player) error {
	if _, err := p.WaitPicture(ctx, 2*Rate); err != nil {
		return err
	}
	switch err := p.Pause(); {
	case errors.Is(err, ErrUnsupported):
		return nil
	case err != nil:
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
	if err != nil {
		return err
	}
	if d := next.At.Sub(held); d < 900*time.Millisecond || next.N > last.N+Rate {
		return fmt.Errorf("pause: %v, from picture %d to %d", d, last.N, next.N)
	}
	if _, err := p.WaitPicture(ctx, last.N+Rate); err != nil {
		return err
	}
	const to = 9
	switch err := p.Seek(to * time.Second); {
	case errors.Is(err, ErrUnsupported):
		return nil
	case err != nil:
		return err
	}
	landed, err := p.WaitPicture(ctx, (to-2)*Rate)
	if err == nil && landed.N > (to+2)*Rate {
		err = fmt.Errorf("seek to %d s: picture %d", to, landed.N)
	}
	return err
}

// toEnd waits for the end of the film.
func toEnd(ctx context.Context, p *Player, film Film, stays bool) error {
	freeze := 4 * time.Second
	_, exited, err := p.WaitEnd(ctx, freeze)
	if err != nil {
		return err
	}
	last, _ := p.Last()
	if want := int(film.Duration.Seconds())*Rate - 1; last.N < want-3 || last.N > want {
		return fmt.Errorf("last picture %d, want %d", last.N, want)
	}
	if exited == stays {
		return fmt.Errorf("exited %v, want %v", exited, !stays)
	}
	if e, ok := p.Exit(); ok && (!e.Clean() || e.EOS != (p.cfg.Kind == Gst)) {
		return fmt.Errorf("exit %+v", e)
	}
	return nil
}

// gone checks that a closed player and its screen left no process and no file.
func gone(p *Player) error {
	paths := []string{p.dir, fmt.Sprintf("/proc/%d", p.Pid())}
	if s := p.screen; s != nil {
		paths = append(paths, s.dir, fmt.Sprintf("/proc/%d", s.proc.Pid()),
			"/tmp/.X11-unix/X"+s.display[1:], "/tmp/.X"+s.display[1:]+"-lock")
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return fmt.Errorf("%s is left", path)
		}
	}
	return nil
}
