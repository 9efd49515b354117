package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"scas/internal/lab/peers"
	"scas/sip"
)

// handset is a running `handset run`: the program itself, in a terminal's namespace.
type handset struct {
	name   string
	path   string // of the program
	sock   string
	screen *screen // of the player it starts
	proc   *peers.Process

	mu   sync.Mutex
	said []heard // not looked at yet
}

// heard is one line of its output.
type heard struct {
	at   time.Time
	kind string
	raw  []byte
}

// buildHandset builds the program.
func buildHandset(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "handset")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "scas/cmd/handset")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("handset: %v\n%s", err, said)
	}
	return path
}

// handset starts the handset of a terminal; it returns when that is registered. A film that it
// is told to play goes to player over transport.
func (r *imsLab) handset(t *testing.T, aor, password, ns, name, transport string) *handset {
	t.Helper()
	h := &handset{name: name, path: r.program, sock: filepath.Join(r.dir, name+"-"+aor[4:7]), screen: &screen{file: filepath.Join(r.dir, "screen-"+name)}}
	player, err := exec.LookPath(screenPlayer)
	if err != nil {
		t.Fatal(err)
	}
	cmd := r.Command(context.Background(), ns, h.path, "run", "-o", "json", "--stdin=false", "--aor", aor, "--user", strings.TrimPrefix(aor, "sip:"), "--proxy", r.plan.Proxy(),
		"--local", r.Addr(ns).String(), "--instance", "urn:uuid:00000000-0000-4000-8000-00000000000"+ns[len(ns)-1:], "--user-agent", "lab "+name,
		"--socket", h.sock, "--expires", handsetLife.String(), "--player", strings.Join([]string{player, string(peers.MPV), transport, h.screen.file, "{url}"}, " "))
	cmd.Env = append(cmd.Environ(), "HANDSET_PASSWORD="+password)
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if h.proc, err = peers.StartProcess(cmd); err != nil {
		t.Fatal(err)
	}
	var read sync.WaitGroup
	read.Go(func() { h.read(out) })
	t.Cleanup(func() {
		h.proc.Stop(10 * time.Second)
		in.Close()
		read.Wait()
	})
	h.hears(t, "registered", func([]byte) bool { return true })
	return h
}

// read keeps what the handset says until it ends.
func (h *handset) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var head struct{ Type string }
		_ = json.Unmarshal(lines.Bytes(), &head) // else it is an error in words, and has no type
		h.mu.Lock()
		h.said = append(h.said, heard{time.Now(), head.Type, append([]byte(nil), lines.Bytes()...)})
		h.mu.Unlock()
	}
}

// hears returns the next line of that kind that fits.
func (h *handset) hears(t *testing.T, kind string, fits func([]byte) bool) heard {
	t.Helper()
	var found heard
	defer func() {
		if found.kind == "" {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, l := range h.said {
				t.Logf("%s said: %s", h.name, l.raw)
			}
		}
	}()
	await(t, opening, h.name+" says "+kind, func() bool {
		over := false
		select {
		case <-h.proc.Done():
			over = true
		default:
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		for i, l := range h.said {
			if l.kind == kind && fits(l.raw) {
				found, h.said = l, slices.Delete(h.said, i, i+1)
				return true
			}
		}
		if over {
			t.Fatalf("%s ended with code %d", h.name, h.proc.ExitCode())
		}
		return false
	})
	return found
}

// offer returns the next offer.
func (h *handset) offer(t *testing.T) (o sip.Offer) {
	t.Helper()
	l := h.hears(t, "offer", func([]byte) bool { return true })
	if err := json.Unmarshal(l.raw, &o); err != nil || len(o.URL) != 1 {
		t.Fatalf("%s: %v", l.raw, err)
	}
	return o
}

// result waits for the next result and checks its state.
func (h *handset) result(t *testing.T, state string) {
	t.Helper()
	l := h.hears(t, "result", func([]byte) bool { return true })
	var r sip.Result
	if err := json.Unmarshal(l.raw, &r); err != nil || r.State != state {
		t.Errorf("%s hears %s, want %s: %v", h.name, l.raw, state, err)
	}
}

// does runs a command of the handset's, as its user would, and returns what it prints.
func (h *handset) does(t *testing.T, words ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), h.path, append(words, "--socket", h.sock, "-o", "json")...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("handset %s: exit code %d: %s%s", strings.Join(words, " "), exit.ExitCode(), out.String(), errs.String())
		}
		t.Fatal(err)
	}
	return out.String()
}

// quits ends the handset as its user would: it de-registers.
func (h *handset) quits(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(h.proc.Pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-h.proc.Done():
	case <-time.After(opening):
		t.Fatalf("%s does not end", h.name)
	}
	if code := h.proc.ExitCode(); code != 0 {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, l := range h.said {
			t.Logf("%s said: %s", h.name, l.raw)
		}
		t.Errorf("%s: exit code %d", h.name, code)
	}
}
