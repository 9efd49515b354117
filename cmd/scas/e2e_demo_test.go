package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"scas/internal/command"
	"scas/internal/lab"
	"scas/internal/lab/peers"
)

// runDemo runs scas demo and returns what it printed and its exit code.
func runDemo(t *testing.T, words ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t), append([]string{"demo"}, words...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func namespaces(t *testing.T, pid int) []string {
	t.Helper()
	all, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var own []string
	for _, x := range all {
		if strings.HasPrefix(x.Name(), fmt.Sprintf("scas%d-", pid)) {
			own = append(own, x.Name())
		}
	}
	return own
}

// The demo's figures are right, and it prints what a reader was promised.
func TestDemo(t *testing.T) {
	t.Parallel()
	lab.Root(t)
	for _, form := range []string{"table", "json"} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			stalls() // begin to be noted
			began := time.Now()
			out, errs, code := runDemo(t, "-o", form)
			if code != command.Done {
				t.Fatalf("exit code %d\n%s%s", code, out, errs)
			}
			if took := time.Since(began) - stalled(began, time.Now()); took > time.Minute {
				t.Errorf("took %v, want less than a minute", took)
			}
			if form == "json" {
				var f figures
				if err := json.Unmarshal([]byte(out), &f); err != nil || !f.OK || f.Samples < 3 || f.Transfer == nil {
					t.Errorf("%v %s", err, out)
				}
				return
			}
			for _, want := range []string{"traced", "position", "rewrite", "first picture on the screen", "committed", "ended by itself", "The film moved."} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

// The same over MMS, in both its forms. The TV asks for the time in the protocol's own words.
func TestDemoMMS(t *testing.T) {
	lab.Root(t)
	for protocol, words := range map[string]string{protocolMMS: "Position: ", protocolMMSH: "stream-time="} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			out, errs, code := runDemo(t, "--protocol", protocol, "-o", "json")
			var f figures
			if err := json.Unmarshal([]byte(out), &f); err != nil || code != command.Done || !f.OK {
				t.Fatalf("exit code %d, %v\n%s%s", code, err, out, errs)
			}
			if f.Protocol != protocol || f.Samples < 3 || f.TracedError == nil || f.Transfer == nil {
				t.Errorf("figures %s", out)
			}
			text, ok := strings.CutPrefix(f.Asked, words)
			at, err := strconv.ParseFloat(text, 64)
			if protocol == protocolMMSH {
				at /= 1000
			}
			if f.Transfer == nil || f.Transfer.Position == nil {
				t.Fatalf("no position was written: %s", out)
			}
			if !ok || err != nil || math.Abs(at-*f.Transfer.Position) > 0.01 {
				t.Errorf("the server got %q, want the %v s of the transfer", f.Asked, *f.Transfer.Position)
			}
		})
	}
}

// What cannot be played is refused before anything is built.
func TestDemoRefuses(t *testing.T) {
	for line, want := range map[string]string{
		"--real --protocol mms":  "--real plays RTSP only",
		"--real --protocol mmsh": "--real plays RTSP only",
		"--protocol mmst":        "not one of rtsp, mms, mmsh",
	} {
		e := testEnv(nil)
		var errs bytes.Buffer
		e.args, e.stdout, e.stderr = append([]string{"demo"}, strings.Fields(line)...), io.Discard, &errs
		if code := run(e); code != command.Usage || !strings.Contains(errs.String(), want) {
			t.Errorf("%s: exit code %d, %q, want %q", line, code, errs.String(), want)
		}
	}
}

// With GStreamer's server and players.
func TestDemoReal(t *testing.T) {
	t.Parallel()
	lab.Root(t)
	_, err := peers.Python(t.Context())
	_, noFFmpeg := exec.LookPath("ffmpeg")
	needs(t, errors.Join(err, noFFmpeg))
	if out, errs, code := runDemo(t, "--real"); code != command.Done {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

// A demo that is interrupted takes its network and its daemon down, and says that it failed.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	lab.Root(t)
	cmd := exec.CommandContext(t.Context(), program(t), "demo")
	var out, errs bytes.Buffer
	cmd.Stderr = &errs
	lines := &firstLine{want: []byte("phone      opens"), seen: make(chan struct{}), all: &out}
	cmd.Stdout = lines
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lines.seen:
	case <-time.After(30 * time.Second):
		t.Error("the phone never played")
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != command.Failed {
		t.Errorf("exit code %d\n%s%s", code, out.String(), errs.String())
	}
	if left := namespaces(t, cmd.Process.Pid); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// A demo whose reader goes, as in `scas demo | head`, takes its network and its daemon down as well.
func TestDemoUnheard(t *testing.T) {
	t.Parallel()
	lab.Root(t)
	from, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	cmd := exec.CommandContext(t.Context(), program(t), "demo")
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = to, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	to.Close()
	if _, err := bufio.NewReader(from).ReadString('\n'); err != nil {
		t.Errorf("%v\n%s", err, errs.String())
	}
	from.Close()
	_ = cmd.Wait() // the exit code says it
	if code := cmd.ProcessState.ExitCode(); code != command.Failed || !strings.Contains(errs.String(), errStopped.Error()) {
		t.Errorf("exit code %d\n%s", code, errs.String())
	}
	if left := namespaces(t, cmd.Process.Pid); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// firstLine is a writer that tells when a text was written.
type firstLine struct {
	want []byte
	seen chan struct{}
	all  *bytes.Buffer
	told bool
}

func (w *firstLine) Write(b []byte) (int, error) {
	w.all.Write(b)
	if !w.told && bytes.Contains(w.all.Bytes(), w.want) {
		w.told = true
		close(w.seen)
	}
	return len(b), nil
}

// Without root the demo says what it needs.
func TestDemoNeedsRoot(t *testing.T) {
	e := testEnv(nil)
	var errs bytes.Buffer
	e.args, e.stdout, e.stderr, e.euid = []string{"demo"}, io.Discard, &errs, func() int { return 1000 }
	if code := run(e); code != command.Failed || !strings.Contains(errs.String(), "run it as root") {
		t.Errorf("%d %s", code, errs.String())
	}
}
