package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// PlayerConfig says which player opens what, and where.
type PlayerConfig struct {
	Kind      Kind
	URL       string
	Transport string   // UDP, TCP, or "" for the player's own choice
	Start     Starter  // nil: Host
	NS        string   // namespace, for Start
	Args      []string // further arguments, before the URL
	Log       string   // file for what the player says; "" discards it
}

// Player is a running player whose picture is watched. It is safe for concurrent use.
type Player struct {
	cfg    PlayerConfig
	dir    string
	proc   *Process
	screen *screen // nil for Gst and FFmpeg
	stdin  *os.File
	begun  time.Time
	news   *news
	over   chan struct{} // closed when the process was reaped and its last picture read
	closed sync.Once

	mu     sync.Mutex
	shown  Timeline
	eos    bool
	fault  string
	asked  bool
	forced bool
}

// Exit is how a player ended.
type Exit struct {
	At     time.Time
	Code   int            // exit code; -1 when a signal ended it
	Signal syscall.Signal // 0 when it exited
	EOS    bool           // Gst: it played to the end of the stream
	Err    string         // Gst: the error it ended with
	Asked  bool           // Quit was called before
	Forced bool           // it did not obey Quit and was killed
}

// Clean reports whether the player ended by itself as at the end of a film.
func (e Exit) Clean() bool { return e.Code == 0 && e.Err == "" && !e.Forced }

// StartPlayer starts a player. Close ends it; ctx bounds only the start.
func StartPlayer(ctx context.Context, cfg PlayerConfig) (*Player, error) {
	if cfg.Start == nil {
		cfg.Start = Host
	}
	p := &Player{cfg: cfg, news: newNews(), over: make(chan struct{})}
	if err := p.start(ctx); err != nil {
		p.release()
		return nil, fmt.Errorf("player %s: %w", cfg.Kind, err)
	}
	return p, nil
}

func (p *Player) start(ctx context.Context) error {
	python := ""
	var err error
	if p.cfg.Kind == Gst {
		if python, err = Python(ctx); err != nil {
			return err
		}
	}
	if p.dir, err = os.MkdirTemp("", "peers-player-"); err != nil {
		return err
	}
	if p.cfg.Kind.hasScreen() {
		if p.screen, err = startScreen(p.note); err != nil {
			return err
		}
	}
	name, args, env := p.cfg.Kind.command(python, p.cfg, p.dir)
	cmd := p.cfg.Start(context.WithoutCancel(ctx), p.cfg.NS, name, args...)
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, env...)
	if p.screen != nil {
		cmd.Env = append(cmd.Env, p.screen.environ()...)
	}
	if p.cfg.Kind.hasInput() {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		defer r.Close()
		cmd.Stdin, p.stdin = r, w
	}
	log := p.cfg.Log
	if log == "" {
		log = filepath.Join(p.dir, "log")
	}
	if p.cfg.Kind == Gst {
		cmd.Stderr = &gstEvents{player: p, log: log}
		log = ""
	}
	p.begun = time.Now()
	out, err := launch(cmd, log, &p.proc)
	if err != nil {
		return err
	}
	go p.follow(out)
	return nil
}

// follow reads what the player writes to its end, then waits for the player's.
func (p *Player) follow(out io.ReadCloser) {
	hurry()
	defer p.news.end()
	defer close(p.over)
	defer out.Close()
	if p.screen == nil {
		frame := make([]byte, Width*Height)
		at := func(x, y int) byte { return frame[y*Width+x] }
		for {
			if _, err := io.ReadFull(out, frame); err != nil {
				break
			}
			if n, ok := FramePos(at); ok {
				p.note(time.Now(), n)
			}
		}
	}
	_, _ = io.Copy(io.Discard, out)
	<-p.proc.done
}

// note records that picture n is on the screen at time at.
func (p *Player) note(at time.Time, n int) {
	p.mu.Lock()
	if k := len(p.shown); k > 0 && p.shown[k-1].N == n {
		p.mu.Unlock()
		return
	}
	p.shown = append(p.shown, Shown{At: at, N: n, Pos: NPT(n)})
	p.mu.Unlock()
	p.news.tell()
}

// Begun is when the player was started.
func (p *Player) Begun() time.Time { return p.begun }

// Pid is the player's process: /proc/<pid>/net shows its namespace.
func (p *Player) Pid() int { return p.proc.Pid() }

// Timeline returns what was shown so far.
func (p *Player) Timeline() Timeline {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(Timeline(nil), p.shown...)
}

// Last returns the newest picture; ok is false before the first.
func (p *Player) Last() (s Shown, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.shown) == 0 {
		return Shown{}, false
	}
	return p.shown[len(p.shown)-1], true
}

// WaitPicture returns the first picture, already shown or still to come, whose number is at
// least n. The error is io.EOF when the player ended before it, or the context's.
func (p *Player) WaitPicture(ctx context.Context, n int) (Shown, error) {
	seen := 0
	var found Shown
	err := p.news.wait(ctx, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for ; seen < len(p.shown); seen++ {
			if p.shown[seen].N >= n {
				found = p.shown[seen]
				return true
			}
		}
		return false
	})
	if err != nil {
		last, _ := p.Last()
		return Shown{}, fmt.Errorf("%s: no picture %d, last %d: %w", p.cfg.Kind, n, last.N, err)
	}
	return found, nil
}

// WaitEnd waits until the player exited or, when freeze is positive, showed nothing new for
// that long after its first picture. It returns when the end was: the exit, or the last
// picture; exited tells which.
func (p *Player) WaitEnd(ctx context.Context, freeze time.Duration) (at time.Time, exited bool, err error) {
	for {
		var frozen <-chan time.Time
		last, ok := p.Last()
		if freeze > 0 && ok {
			frozen = time.After(time.Until(last.At.Add(freeze)))
		}
		select {
		case <-p.over:
			e, _ := p.Exit()
			return e.At, true, nil
		case <-frozen:
			if now, _ := p.Last(); now == last {
				return last.At, false, nil
			}
		case <-time.After(100 * time.Millisecond): // a first picture may have come
		case <-ctx.Done():
			return time.Time{}, false, context.Cause(ctx)
		}
	}
}

// Done is closed when the player has exited and its last picture is known.
func (p *Player) Done() <-chan struct{} { return p.over }

// Exit returns how the player ended; ok is false while it runs.
func (p *Player) Exit() (e Exit, ok bool) {
	select {
	case <-p.over:
	default:
		return Exit{}, false
	}
	p.proc.mu.Lock()
	e.At = p.proc.ended
	p.proc.mu.Unlock()
	if status, ok := p.proc.cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
		e.Code = status.ExitStatus()
		if status.Signaled() {
			e.Signal = status.Signal()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e.EOS, e.Err, e.Asked, e.Forced = p.eos, p.fault, p.asked, p.forced
	return e, true
}

// Pause holds the film. mpv and mplayer tell the server nothing.
func (p *Player) Pause() error { return p.cfg.Kind.do(p, pause, 0) }

// Resume undoes Pause.
func (p *Player) Resume() error { return p.cfg.Kind.do(p, resume, 0) }

// Seek goes to a media time, or the key picture before it. ffplay and ffmpeg cannot.
func (p *Player) Seek(to time.Duration) error { return p.cfg.Kind.do(p, seek, to) }

// Quit asks the player to end, as its user would, and kills it when it did not within grace.
func (p *Player) Quit(grace time.Duration) (Exit, error) {
	p.mu.Lock()
	p.asked = true
	p.mu.Unlock()
	err := p.cfg.Kind.do(p, quit, 0)
	if !p.proc.wait(grace) {
		p.mu.Lock()
		p.forced = true
		p.mu.Unlock()
		p.proc.Stop(time.Second)
		err = errors.Join(err, fmt.Errorf("%s did not obey", p.cfg.Kind))
	}
	<-p.over
	e, _ := p.Exit()
	return e, err
}

// Close kills the player and its screen. The timeline stays readable. It may be called twice.
func (p *Player) Close() {
	p.closed.Do(func() {
		p.proc.Stop(time.Second)
		<-p.over
		p.release()
	})
}

// release undoes start.
func (p *Player) release() {
	if p.screen != nil {
		p.screen.close()
	}
	if p.stdin != nil {
		p.stdin.Close()
	}
	_ = os.RemoveAll(p.dir)
}

// CPU is the processor time the player and its screen took, known after Close.
func (p *Player) CPU() (player, screen time.Duration) {
	if p.screen != nil {
		screen = p.screen.proc.cpu()
	}
	return p.proc.cpu(), screen
}

func (p *Player) input(line string) error {
	_, err := fmt.Fprintln(p.stdin, line)
	return err
}

// gstEvents is the stderr of gst_player.py: events become facts, the rest goes to a file.
type gstEvents struct {
	player *Player
	log    string
	rest   []byte
}

func (g *gstEvents) Write(b []byte) (int, error) {
	g.rest = append(g.rest, b...)
	for {
		line, rest, ok := bytes.Cut(g.rest, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		g.line(line)
		g.rest = rest
	}
}

func (g *gstEvents) line(line []byte) {
	var e struct{ Ev, Text string }
	if json.Unmarshal(line, &e) == nil {
		g.player.mu.Lock()
		switch e.Ev {
		case "eos":
			g.player.eos = true
		case "error":
			g.player.fault = e.Text
		}
		g.player.mu.Unlock()
	}
	if f, err := os.OpenFile(g.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err == nil {
		_, _ = f.Write(append(line, '\n'))
		f.Close()
	}
}
