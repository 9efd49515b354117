package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"scas/internal/lab/peers"
)

// screenPlayer is the name under which the test binary is a player that somebody else starts:
// a handset. It plays with a real player and writes what its screen shows into a file.
const screenPlayer = "screen-player"

// playOnScreen is `screen-player KIND TRANSPORT FILE URL`. It ends as the player does.
func playOnScreen() {
	code, err := screenRun(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func screenRun(args []string) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	out, err := os.OpenFile(args[2], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	p, err := peers.StartPlayer(ctx, peers.PlayerConfig{Kind: peers.Kind(args[0]), Transport: args[1], URL: args[3], Log: args[2] + ".log"})
	if err != nil {
		return 0, err
	}
	defer p.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	written, to := 0, json.NewEncoder(out)
	for {
		over := false
		select {
		case <-p.Done():
			over = true
		case <-ctx.Done():
			_, _ = p.Quit(2 * time.Second) // how it ended does not matter any more
			over = true
		case <-tick.C:
		}
		for line := p.Timeline(); written < len(line); written++ {
			if err := to.Encode(line[written]); err != nil {
				return 0, err
			}
		}
		if over {
			e, _ := p.Exit()
			return e.Code, nil
		}
	}
}

// screen is what such a player has shown so far. Safe for concurrent use.
type screen struct {
	file string

	mu   sync.Mutex
	in   *bufio.Reader
	part []byte
	line peers.Timeline
}

// shown returns all pictures up to now.
func (s *screen) shown(t testing.TB) peers.Timeline {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.in == nil {
		f, err := os.Open(s.file)
		if err != nil {
			return nil // not started yet
		}
		t.Cleanup(func() { f.Close() })
		s.in = bufio.NewReader(f)
	}
	for {
		b, err := s.in.ReadBytes('\n')
		s.part = append(s.part, b...)
		if err != nil {
			return append(peers.Timeline(nil), s.line...)
		}
		var v peers.Shown
		if err := json.Unmarshal(s.part, &v); err != nil {
			t.Fatal(err)
		}
		s.line, s.part = append(s.line, v), nil
	}
}

// first returns the first picture after a time once there is one.
func (s *screen) first(t testing.TB, after time.Time) (first peers.Shown) {
	t.Helper()
	await(t, 30*time.Second, "the handset's player shows a picture", func() bool {
		line := s.shown(t)
		i := slices.IndexFunc(line, func(p peers.Shown) bool { return p.At.After(after) })
		if i >= 0 {
			first = line[i]
		}
		return i >= 0
	})
	return first
}

// moves returns when a later picture than those up to now is on the screen.
func (s *screen) moves(t testing.TB, seconds float64) {
	t.Helper()
	line := s.shown(t)
	if len(line) == 0 {
		t.Fatal("nothing was shown")
	}
	at := line[len(line)-1].Pos
	await(t, 30*time.Second, "the film goes on", func() bool {
		line := s.shown(t)
		return line[len(line)-1].Pos >= at+seconds
	})
}
