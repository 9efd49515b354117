package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/internal/lab/peers"
)

// The numbers of the configuration that the tests below rely on.
const (
	realOverlap   = 1.0 // seconds
	realSettle    = 2.0
	realSettleGst = 6.0 // GStreamer over UDP: it falls back to TCP late
	realGOP       = 1.0
	realSpare     = 3.0
	realFilm      = 120 // seconds
	phone, tv     = lab.UE1, lab.UE2
)

// realLab is a running gateway between real peers.
type realLab struct {
	*lab.Lab
	dir    string
	bin    string
	film   peers.Film
	server *peers.GstServer
	api    *client
}

// realSite says what cannot be run here and returns the program, built once, and the film.
func realSite(t *testing.T) (bin string, film peers.Film) {
	t.Helper()
	lab.Root(t)
	programs := []string{"ffmpeg"}
	for _, k := range peers.Kinds() {
		programs = append(programs, k.Programs()...)
	}
	_, err := peers.Python(t.Context())
	for _, p := range programs {
		_, missing := exec.LookPath(p)
		err = errors.Join(err, missing)
	}
	switch {
	case err != nil && os.Getenv("SCAS_PRIV") == "1":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
	film, err = peers.Media(t.Context(), peers.CacheDir(), realFilm)
	if err != nil {
		t.Fatal(err)
	}
	bin = filepath.Join(t.TempDir(), "scas")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return bin, film
}

// newRealLab starts the server in ms, serving the films of dir media, and the gateway in gw.
func newRealLab(t *testing.T, bin, media, steer string) *realLab {
	t.Helper()
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	dir, err := os.MkdirTemp("", "scas-real-") // short: it holds a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &realLab{Lab: l, dir: dir, bin: bin}
	r.server, err = peers.StartGstServer(t.Context(), peers.ServerConfig{Start: l.Command, NS: lab.MS, Media: media})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.server.Close)
	r.serve(t, steer)
	return r
}

// serve runs `scas serve` in gw until the test ends, and returns when it answers.
func (r *realLab) serve(t *testing.T, steer string) {
	t.Helper()
	text := fmt.Sprintf(`node: gw1
gateway: {lan: [%s, %s], wan: [%s], services: {rtsp: [554]}, steer: %s}
transfer: {overlap: %gs, settle: %gs}
subscribers: [{aor: "sip:bob@ims.example", terminals: [{name: phone, ip: %v}, {name: tv, ip: %v}]}]
api: {listen: "127.0.0.1:8470", socket: %s/scas.sock}
state: {dir: %s/state}
`, lab.LAN0, lab.LAN1, lab.WAN0, steer, realOverlap, realSettle, r.Addr(phone), r.Addr(tv), r.dir, r.dir)
	file := filepath.Join(r.dir, "scas.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(r.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := r.Command(context.Background(), lab.GW, r.bin, "serve", "-c", file, "--log-level", "debug")
	cmd.Stdout, cmd.Stderr = log, log
	daemon, err := peers.StartProcess(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		daemon.Stop(15 * time.Second)
		if code := daemon.ExitCode(); code != 0 {
			t.Errorf("scas serve: exit code %d", code)
		}
		if said, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("scas serve said:\n%s", said)
		}
	})
	r.api = (&clientFlags{socket: filepath.Join(r.dir, "scas.sock")}).client(newEnv())
	await(t, 30*time.Second, "the gateway is ready", func() bool {
		var terminals []json.RawMessage
		_, err := r.api.get(t.Context(), "/v1/terminals", &terminals)
		return err == nil && len(terminals) == 2
	})
}

// scas runs a client command and decodes what it prints.
func (r *realLab) scas(t *testing.T, dst any, words ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), r.bin, append(words, "-o", "json", "--socket", filepath.Join(r.dir, "scas.sock"))...)
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, dst)
	}
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = exit.Stderr
		}
		t.Fatalf("scas %s: %v\n%s", strings.Join(words, " "), err, out)
	}
}

// play starts a player in ns; it is closed when the test ends.
func (r *realLab) play(t *testing.T, kind peers.Kind, transport, ns, url string) *peers.Player {
	t.Helper()
	log := filepath.Join(r.dir, string(kind)+"-"+transport+"-"+ns+".log")
	p, err := peers.StartPlayer(t.Context(), peers.PlayerConfig{
		Kind: kind, URL: url, Transport: transport, Start: r.Command, NS: ns, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		if said, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("%s in %s said:\n%s", kind, ns, said)
		}
	})
	return p
}

// await polls until ok holds.
func await(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
