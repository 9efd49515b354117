package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"scas/internal/command"
	"scas/internal/lab"
	"scas/session"
)

// steeredTV plays a film on the tv that the gateway relays, and returns its player.
func steeredTV(t *testing.T, s *site) *lab.Player {
	t.Helper()
	server := s.film(t, lab.ServerConfig{}, false)
	s.serve(t)
	p := s.play(t, tv, lab.MPV(), server.URL("film"))
	reach(t, p, time.Second)
	if r := s.shown(t, server.URL("film")); !r.Steered {
		t.Fatalf("not steered: %+v", r)
	}
	return p
}

// After a first signal with --drain the gateway takes no order, relays what it has, and ends
// when that has ended.
func TestDrain(t *testing.T) {
	t.Setenv("SCAS_DRAIN", "1m")
	s := newSite(t, siteConfig{steer: "always"})
	p := steeredTV(t, s)
	if err := syscall.Kill(s.daemon.cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await(t, 10*time.Second, "the gateway says that it ends", func() bool {
		var refused *apiError
		_, err := s.api.call(t.Context(), http.MethodGet, "/readyz", nil)
		return errors.As(err, &refused) && refused.status == http.StatusServiceUnavailable
	})
	_, said, code := s.command(t, "transfer", "--to", "phone")
	wantSaid(t, said, code, command.Failed, string(session.DaemonRestart))
	goesOn(t, p, time.Now().Add(time.Second))
	whole(t, "the tv", p.Result())
	p.Quit()
	select {
	case <-s.daemon.done:
	case <-time.After(15 * time.Second):
		t.Error("the gateway waits for nobody")
	}
}

// A second signal ends the gateway though films are relayed; their players are told at once.
func TestSecondSignal(t *testing.T) {
	t.Setenv("SCAS_DRAIN", "1m")
	s := newSite(t, siteConfig{steer: "always"})
	p := steeredTV(t, s)
	for range 2 {
		if err := syscall.Kill(s.daemon.cmd.Process.Pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		// Two signals at once are one.
		await(t, 10*time.Second, "the gateway has taken the signal", func() bool {
			said, err := os.ReadFile(filepath.Join(s.dir, "log"))
			return err == nil && strings.Contains(string(said), "asked to end")
		})
	}
	select {
	case <-s.daemon.done:
	case <-time.After(10 * time.Second):
		t.Fatal("the gateway goes on")
	}
	ended := time.Now()
	over(t, p)
	if late := time.Since(ended) - stalled(ended, time.Now()); late > time.Second+p.Result().LastShown.Shown.Sub(p.Result().LastPacket).Abs() {
		t.Errorf("the tv was told %v after the end", late)
	}
}

// What cannot start says why, and changes nothing; what runs is left alone.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteConfig{})
	before, err := s.Snapshot(lab.GW)
	if err != nil {
		t.Fatal(err)
	}
	s.serve(t)
	s.stop(t)
	file := filepath.Join(s.dir, "scas.yaml")
	try := func(words ...string) (string, int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := s.Command(ctx, lab.GW, program(t), append([]string{"serve", "-c", file}, words...)...)
		said, _ := cmd.CombinedOutput() // the exit code says it
		return string(said), cmd.ProcessState.ExitCode()
	}
	unchanged := func(when string, want []string) {
		t.Helper()
		if now, err := s.Snapshot(lab.GW); err != nil || !slices.Equal(now, want) {
			t.Errorf("%s: %v\n%s\nwant\n%s", when, err, strings.Join(now, "\n"), strings.Join(want, "\n"))
		}
	}
	unchanged("after a stop", before)
	for name, tt := range map[string]struct {
		words []string
		want  string
	}{
		"interface":  {[]string{"--set", "gateway.lan=nosuch0"}, "no interface nosuch0"},
		"port":       {[]string{"--set", "api.listen=127.0.0.2:1", "--set", "api.socket=/proc/nowhere/s"}, "/proc/nowhere/s"},
		"state dir":  {[]string{"--set", "state.dir=/proc/nowhere"}, "state.dir"},
		"bad config": {[]string{"--set", "gateway.mark=3"}, "not one bit"},
	} {
		said, code := try(tt.words...)
		wantSaid(t, said, code, command.Failed, tt.want)
		unchanged(name, before)
	}
	s.serve(t)
	running, err := s.Snapshot(lab.GW)
	if err != nil {
		t.Fatal(err)
	}
	said, code := try()
	wantSaid(t, said, code, command.Failed, "another scas")
	unchanged("a second gateway", running)
	if list := s.terminals(t); len(list) != 2 {
		t.Errorf("%+v", list)
	}
	s.stop(t)
	unchanged("after all", before)
}

// The capabilities that deploy/scas.service gives are enough, and a stop warns of nothing.
func TestServeAsUnit(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteConfig{})
	s.serve(t) // writes the configuration
	s.stop(t)
	const caps = "-all,+net_admin,+net_raw,+bpf,+perfmon,+net_bind_service"
	cmd := s.Command(t.Context(), lab.GW, "setpriv", "--bounding-set", caps, "--inh-caps", caps,
		program(t), "serve", "-c", filepath.Join(s.dir, "scas.yaml"))
	var said lastWords
	cmd.Stdout, cmd.Stderr = &said, &said
	d, err := startDaemon(cmd)
	if err != nil {
		t.Fatal(err)
	}
	await(t, 20*time.Second, "the gateway is ready, or has ended", func() bool {
		_, err := s.api.call(t.Context(), http.MethodGet, "/readyz", nil)
		select {
		case <-d.done:
			return true
		default:
			return err == nil
		}
	})
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	<-d.done
	if log := said.String(); cmd.ProcessState.ExitCode() != 0 || strings.Contains(log, "WARN") {
		t.Errorf("%v\n%s", cmd.ProcessState, log)
	}
}

// doctor, run where a gateway can run, finds nothing missing; while one runs, neither.
func TestDoctorInLab(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteConfig{})
	s.serve(t)
	for range 2 {
		cmd := s.Command(t.Context(), lab.GW, program(t), "doctor", "-c", filepath.Join(s.dir, "scas.yaml"))
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, said)
		}
		s.stop(t)
	}
	rule := s.Command(t.Context(), lab.GW, "ip", "rule", "add", "priority", "100", "fwmark", "0x20000001/0xffffffff", "lookup", "100")
	if said, err := rule.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	cmd := s.Command(t.Context(), lab.GW, program(t), "doctor", "-c", filepath.Join(s.dir, "scas.yaml"))
	if said, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(said), "conflict_mark") || !strings.Contains(string(said), "gateway.mark") {
		t.Errorf("with a rule of somebody else's for the mark: %v\n%s", err, said)
	}
}
