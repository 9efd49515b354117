package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scas/session"
)

func TestPlayTime(t *testing.T) {
	for _, tt := range []struct {
		in   *float64
		want string
	}{{nil, ""}, {session.Ptr(0.0), "0:00:00.0"}, {session.Ptr(59.96), "0:01:00.0"}, {session.Ptr(3661.27), "1:01:01.3"},
		{session.Ptr(-3.0), "0:00:00.0"}, {session.Ptr(360000.0), "100:00:00.0"}} {
		if got := playTime(tt.in); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.in, got, tt.want)
		}
	}
}

func TestAge(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		ago  time.Duration
		want string
	}{{0, "0s"}, {-time.Second, "0s"}, {59 * time.Second, "59s"}, {61 * time.Second, "1m01s"}, {90 * time.Minute, "1h30m"}, {49 * time.Hour, "2d01h"}} {
		if got := age(now, now.Add(-tt.ago)); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.ago, got, tt.want)
		}
	}
	if age(now, time.Time{}) != "" {
		t.Error("age of nothing")
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{"": "–", "film ü": "film ü", "a\x1b[2Jb\n\tc": "a?[2Jb??c", "\xff": "?", "a\u202eb": "a?b"} {
		if got := clean(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestDirectory(t *testing.T) {
	d := newDirectory(config{Gateway: gatewayConfig{IPv6Prefix: 64}, Subscribers: []subscriber{
		{AoR: "sip:bob@x", Terminals: []session.Terminal{{Name: "phone", IP: netip.MustParseAddr("10.0.0.1")}, {Name: "tv", IP: netip.MustParseAddr("fd00:1::2")}}},
	}})
	for addr, want := range map[string]string{"10.0.0.1": "phone", "::ffff:10.0.0.1": "phone", "10.0.0.2": "", "fd00:1::99": "tv", "fd00:2::2": ""} {
		name, aor := d.name(netip.MustParseAddr(addr))
		if name != want || (aor == "sip:bob@x") != (want != "") {
			t.Errorf("%s: %q %q", addr, name, aor)
		}
	}
	table := session.NewTable()
	for i, r := range []session.Record{
		{ID: "a", State: session.Playing, UserAgent: session.Ptr("one")},
		{ID: "b", State: session.Ended, UserAgent: session.Ptr("two")},
	} {
		r.Terminal.IP, r.Started = netip.MustParseAddr("10.0.0.1"), time.Unix(int64(i), 0)
		table.Put(r)
	}
	list := terminals{directory: d, sessions: table}.Terminals()
	if len(list) != 2 || !list[0].Active || *list[0].UserAgent != "one" || list[1].Active || list[1].UserAgent != nil || list[0].Source != "static" {
		t.Errorf("%+v", list)
	}
}

func TestReplaceFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	for _, text := range []string{"one", "two"} {
		if err := replaceFile(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		fi, _ := os.Stat(name)
		if err != nil || string(got) != text || fi.Mode().Perm() != 0o600 {
			t.Errorf("%q %v %v", got, err, fi.Mode())
		}
	}
	if left, _ := filepath.Glob(name + ".*"); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	if err := os.WriteFile(name+".new", bytes.Repeat([]byte("half "), 100), 0o600); err != nil { // of one that was killed
		t.Fatal(err)
	}
	if err := replaceFile(name, []byte("third")); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(name); err != nil || string(text) != "third" {
		t.Errorf("%q, %v", text, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(name)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if err := replaceFile(filepath.Join(name, "x"), nil); err == nil {
		t.Error("wrote below a file")
	}
}

func TestReadFileLimit(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, make([]byte, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := readFile(name, 10); err != nil || len(b) != 10 {
		t.Error(err)
	}
	if _, err := readFile(name, 9); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// A part that ends by itself takes the node down; undoing goes backwards and waits.
func TestNodeParts(t *testing.T) {
	n := &node{}
	var order []string
	running, broken := context.WithCancelCause(context.Background())
	defer broken(nil)
	for _, name := range []string{"first", "second"} {
		n.run(broken, func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name)
			return nil
		})
	}
	if err := n.close(); err != nil || strings.Join(order, " ") != "second first" {
		t.Errorf("%v %v", err, order)
	}
	if running.Err() != nil {
		t.Errorf("undoing counts as breaking: %v", context.Cause(running))
	}
	fault := errors.New("listener gone")
	n.run(broken, func(context.Context) error { return fault })
	<-running.Done()
	if cause := context.Cause(running); !errors.Is(cause, fault) || !errors.Is(cause, errPartEnded) {
		t.Errorf("%v", cause)
	}
	if err := n.close(); !errors.Is(err, fault) {
		t.Errorf("%v", err)
	}
}

func goodFigures() figures {
	return figures{
		Samples: 10, TracedError: session.Ptr(0.02), RenderedError: session.Ptr(0.1),
		Transfer:  &session.Transfer{State: session.Done, Position: session.Ptr(4.0), StartedAt: session.Ptr(4.0)},
		SeenTwice: session.Ptr(3.0), SeenTwiceMax: 7, WentOnAt: session.Ptr(4.0), LeftAt: session.Ptr(7.0), TVAfter: session.Ptr(1.3),
		PhoneEnded: session.Ptr(1.2), PhoneEndMax: 6.2, PhoneClean: true, Sessions: 1,
	}
}

// Every figure that is wrong makes the demo fail.
func TestJudge(t *testing.T) {
	if f := goodFigures(); !judged(&f) {
		t.Fatal(f.Wrong)
	}
	if f := goodFigures(); !func() bool { f.Real, f.TracedError = true, nil; return judged(&f) }() {
		t.Fatal(f.Wrong)
	}
	for name, spoil := range map[string]func(*figures){
		"nothing traced": func(f *figures) { f.Samples, f.TracedError, f.RenderedError = 0, nil, nil },
		"position off":   func(f *figures) { f.TracedError = session.Ptr(0.3) },
		"screen off":     func(f *figures) { f.RenderedError = session.Ptr(0.6) },
		"no transfer":    func(f *figures) { f.Transfer = nil },
		"not done":       func(f *figures) { f.Transfer.State = session.Expired },
		"no position":    func(f *figures) { f.Transfer.Position = nil },
		"tv dark":        func(f *figures) { f.SeenTwice = nil },
		"missed":         func(f *figures) { f.SeenTwice = session.Ptr(-0.04) },
		"seen twice":     func(f *figures) { f.SeenTwice = session.Ptr(7.1) },
		"phone goes on":  func(f *figures) { f.PhoneEnded = nil },
		"phone late":     func(f *figures) { f.PhoneEnded = session.Ptr(6.3) },
		"phone killed":   func(f *figures) { f.PhoneClean = false },
		"pictures gone":  func(f *figures) { f.Missing = 1 },
		"two sessions":   func(f *figures) { f.Sessions = 2 },
		"no session":     func(f *figures) { f.Sessions = 0 },
		"media go on":    func(f *figures) { f.Strays = 40 },
		"daemon crashed": func(f *figures) { f.DaemonExit = 2 },
		"filters remain": func(f *figures) { f.LeftBehind = []string{"rule"} },
	} {
		f := goodFigures()
		spoil(&f)
		if judged(&f) {
			t.Errorf("%s: taken for good", name)
		}
		var b bytes.Buffer
		f.write(&b) // whatever is missing
	}
}

func judged(f *figures) bool {
	f.judge()
	return f.OK
}

func TestSurplus(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	var all []session.Transfer
	for i := range keepTransfers + 3 {
		x := session.Transfer{ID: fmt.Sprint(i), State: session.Done, Times: session.Times{Ended: session.Ptr(now.Add(time.Duration(i-5000) * time.Minute))}}
		all = append(all, x)
	}
	all = append(all, session.Transfer{ID: "open", State: session.Armed})
	if got := surplus(all, now); strings.Join(got, " ") != "0 1 2" {
		t.Errorf("%v", got)
	}
	for i := range all {
		if all[i].Times.Ended != nil {
			all[i].Times.Ended = session.Ptr(now.Add(-time.Minute))
		}
	}
	if got := surplus(all, now); got != nil {
		t.Errorf("too soon: %v", got)
	}
}
