package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"scas/admin"
	"scas/session"
)

// A program with the race detector sleeps a second before it exits, unless it is told not to: a
// minute and more in tests that run hundreds of commands.
const raceExit = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	os.Setenv("GORACE", strings.TrimSpace(raceExit+" "+os.Getenv("GORACE")))
	testscript.Main(m, map[string]func(){"scas": main, "scas-test-store": storeMain, screenPlayer: playOnScreen})
}

// TestScripts runs testdata/script: commands, what they print, how they exit.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			repo, err := filepath.Abs("../..")
			// A unix socket's path is short: not below the working directory.
			dir, err2 := os.MkdirTemp("", "scas-")
			if err != nil || err2 != nil {
				return fmt.Errorf("%w %w", err, err2)
			}
			env.Defer(func() { os.RemoveAll(dir) })
			env.Setenv("REPO", repo)
			env.Setenv("SOCK", filepath.Join(dir, "s"))
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"daemon": startFake, "exit": exitCode},
	})
}

// exitCode is `exit N COMMAND...`: the command must end with that code.
func exitCode(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exit N COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	if err != nil {
		var exit interface{ ExitCode() int }
		if !asExit(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = fmt.Sprint(exit.ExitCode())
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

func asExit(err error, dst *interface{ ExitCode() int }) bool {
	e, ok := err.(interface{ ExitCode() int })
	*dst = e
	return ok
}

// fakeMover answers orders as a splicer would, and plays a transfer through when it is asked
// for one to the tv.
type fakeMover struct{ table *session.Table }

func (m *fakeMover) Move(_ context.Context, o session.Order) (session.Transfer, error) {
	if o.RequirePosition {
		return session.Transfer{}, &session.OrderError{Reason: session.NotSeekable, Text: "the session cannot be continued where it is"}
	}
	if o.Session == "" {
		o.Session = "s1"
	}
	r, _ := m.table.Get(o.Session)
	if r.Terminal.IP == o.To.IP {
		return session.Transfer{}, &session.OrderError{Reason: session.SameTerminal, Text: "the film is there already"}
	}
	at := time.Date(2026, 7, 1, 20, 16, 0, 0, time.UTC)
	t := session.Transfer{ID: "t1", Session: o.Session, AoR: r.AoR, From: r.Terminal, To: o.To, Trigger: o.Trigger, State: session.Armed,
		URL: *r.URL, Times: session.Times{Armed: &at}}
	m.table.PutTransfer(t)
	end := []session.Event{session.StartRequest, session.TargetPlays, session.OriginGone}
	if o.To.Name == "desk" {
		end = []session.Event{session.TimedOut}
	}
	go func(t session.Transfer) {
		for i, ev := range end {
			t, _ = t.Next(ev, "", at.Add(time.Duration(i+1)*time.Second))
			t.Position, t.StartedAt, t.Repeated = session.Ptr(61.5), session.Ptr(61.0), session.Ptr(2.25)
			m.table.PutTransfer(t)
		}
	}(t)
	return t, nil
}

func (m *fakeMover) Cancel(id string) (session.Transfer, error) {
	t, _ := m.table.Transfer(id)
	next, ok := t.Next(session.Cancel, "", time.Now())
	if !ok {
		return t, &session.OrderError{Reason: session.Busy, Text: "too late: the film is moving"}
	}
	m.table.PutTransfer(next)
	return next, nil
}

// startFake is `daemon [empty|crowded]`: the real API on $SOCK, over sessions of its own. A crowded
// one has no event stream left.
func startFake(ts *testscript.TestScript, _ bool, args []string) {
	c := config{Gateway: gatewayConfig{IPv6Prefix: 64}}
	table := session.NewTable()
	cfg := admin.Config{Socket: ts.Getenv("SOCK")}
	if !slices.Contains(args, "empty") {
		c.Subscribers = []subscriber{{AoR: "sip:bob@ims.example", Terminals: []session.Terminal{
			{Name: "phone", IP: netip.MustParseAddr("10.10.1.2")}, {Name: "tv", IP: netip.MustParseAddr("10.10.1.3")},
			{Name: "desk", IP: netip.MustParseAddr("fd00:1::2")}}},
			{AoR: "sip:alice@ims.example", Terminals: []session.Terminal{{Name: "tablet", IP: netip.MustParseAddr("10.10.1.9")}}}}
		fill(table)
	}
	d := newDirectory(c)
	if slices.Contains(args, "crowded") {
		cfg.MaxStreams = 1
	}
	s, err := admin.New(cfg, admin.Sources{
		Sessions: table, Table: table, Terminals: terminals{directory: d, sessions: table}, Mover: &fakeMover{table},
		Counters: func() map[string]admin.Counters { return nil }, Ready: func() error { return nil },
	}, slog.New(slog.DiscardHandler))
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	ts.Defer(func() {
		cancel()
		ts.Check(<-done)
	})
	if cfg.MaxStreams > 0 {
		_, err := (&clientFlags{socket: cfg.Socket}).client(newEnv()).watchTransfers(ctx)
		ts.Check(err)
	}
}

func fill(table *session.Table) {
	at := time.Date(2026, 7, 1, 20, 15, 30, 0, time.UTC)
	r := session.Record{
		ID: "s1", Gateway: "gw1", AoR: session.Ptr("sip:bob@ims.example"),
		Terminal: session.Terminal{Name: "phone", IP: netip.MustParseAddr("10.10.1.2")}, Protocol: session.RTSP, Transport: session.UDP,
		URL: session.Ptr("rtsp://media.example/film"), Server: netip.MustParseAddrPort("192.0.2.80:554"),
		UserAgent: session.Ptr("Lavf60\x1b[31m"), State: session.Playing, Seekable: true, Duration: session.Ptr(5400.5),
		Position: &session.Position{NPT: session.Ptr(3661.27), Rendered: session.Ptr(3660.0), Error: 0.05, Source: session.SourceRTP, At: at},
		Tracks:   []session.Track{{ID: 0, Media: "video", Codec: "H264", ClockRate: 90000, SSRC: session.Ptr(uint32(0xbeef)), Packets: 12, Jitter: 0.002}},
		Started:  at, Updated: at,
	}
	table.Put(r)
	r.ID, r.State, r.Live, r.Position, r.Duration, r.Steered, r.Started = "s0", session.Paused, true, nil, nil, true, at.Add(-time.Hour)
	table.Put(r)
}
