package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"scas/admin"
	"scas/internal/command"
	"scas/internal/lab"
	"scas/session"
)

// The namespaces of the terminals "phone" and "tv". With IPv6 each has a second name for its
// second address: "phone6" and "tv6".
const phone, tv = lab.UE1, lab.UE2

// siteOverlap is transfer.overlap of all gateways.
const siteOverlap = time.Second

// siteConfig says how a gateway is configured. The zero value steers for transfers only.
type siteConfig struct {
	ipv6     bool
	wire     bool          // no offloads: see lab.Options
	steer    string        // default transfer
	upstream string        // default auto
	settle   time.Duration // default 1 s
	attach   time.Duration // default 30 s
	only     []string      // names of the terminals that are enrolled; default all
	sip      string        // the section sip; default none
	alice    bool          // a second user, whose terminals "pad" and "screen" are where phone and tv are
	users    []string      // AoRs of further users of the service
}

func (c siteConfig) withDefaults() siteConfig {
	if c.steer == "" {
		c.steer = "transfer"
	}
	if c.upstream == "" {
		c.upstream = "auto"
	}
	if c.settle == 0 {
		c.settle = time.Second
	}
	if c.attach == 0 {
		c.attach = 30 * time.Second
	}
	if c.only == nil {
		c.only = []string{"phone", "tv"}
		if c.ipv6 {
			c.only = append(c.only, "phone6", "tv6")
		}
	}
	return c
}

// site is a lab with a gateway: `scas serve` runs in gw between serve and stop or kill.
type site struct {
	*lab.Lab
	cfg    siteConfig
	dir    string // of configuration, socket, state and log
	daemon *daemon
	api    *client
}

// daemon is a running `scas serve`.
type daemon struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it was reaped
}

// starting is held by the one gateway that starts: loading its programs takes a processor for
// half a second, and films play meanwhile that must not stall.
var starting sync.Mutex

// startDaemon starts cmd; it does not outlive the tests. (Pdeathsig is sent when the *thread*
// that started it ends: prctl(2).)
func startDaemon(cmd *exec.Cmd) (*daemon, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	d := &daemon{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // what it ended with is in ProcessState
			close(d.done)
		}
	}()
	return d, <-started
}

// newSite builds the network; the gateway is not started yet.
func newSite(t testing.TB, cfg siteConfig) *site {
	t.Helper()
	lab.Root(t)
	stalls()
	l, err := lab.New(lab.Options{IPv6: cfg.ipv6, WireSize: cfg.wire})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	dir, err := os.MkdirTemp("", "scas-") // short: it holds a unix socket
	if err != nil {
		t.Fatal(err)
	}
	s := &site{Lab: l, cfg: cfg.withDefaults(), dir: dir}
	s.api = (&clientFlags{socket: s.socket()}).client(newEnv())
	t.Cleanup(func() {
		s.stop(t)
		s.showLog(t)
		_ = os.RemoveAll(dir)
	})
	return s
}

func (s *site) socket() string { return filepath.Join(s.dir, "scas.sock") }

// address returns the address that belongs to the name of a terminal.
func (s *site) address(name string) netip.Addr {
	name, six := strings.CutSuffix(name, "6")
	ns := map[string]string{"phone": phone, "tv": tv, "pad": phone, "screen": tv}[name]
	if six {
		return s.Addr6(ns)
	}
	a := s.Addr(ns).As4()
	if name == "pad" || name == "screen" {
		a[3] += 50
	}
	return netip.AddrFrom4(a)
}

// user returns a subscriber with terminals, as the configuration has it.
func (s *site) user(name string, terminals ...string) string {
	var all []string
	for _, name := range terminals {
		all = append(all, fmt.Sprintf(`{name: %s, ip: "%v"}`, name, s.address(name)))
	}
	return fmt.Sprintf(`{aor: "sip:%s@ims.example", terminals: [%s]}`, name, strings.Join(all, ", "))
}

// program returns the program under test. It is the test binary itself, so that it has the
// race detector when the tests have it; TestMain puts it on the PATH under its own name.
func program(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("scas")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// serve runs the gateway and returns when it is ready.
func (s *site) serve(t testing.TB) {
	t.Helper()
	users := s.user("bob", s.cfg.only...)
	if s.cfg.alice {
		users += ", " + s.user("alice", "pad", "screen")
	}
	for _, aor := range s.cfg.users {
		users += fmt.Sprintf(", {aor: %q}", aor)
	}
	text := fmt.Sprintf(`node: gw1
gateway: {lan: [%s, %s], wan: [%s], services: {rtsp: [554], mms: [1755], mmsh: [80]}, steer: %s, upstream: %s}
transfer: {overlap: %v, settle: %v, attach_timeout: %v}
subscribers: [%s]
api: {listen: "127.0.0.1:8470", socket: %s}
state: {dir: %s}
%s`, lab.LAN0, lab.LAN1, lab.WAN0, s.cfg.steer, s.cfg.upstream, siteOverlap, s.cfg.settle, s.cfg.attach,
		users, s.socket(), filepath.Join(s.dir, "state"), s.cfg.sip)
	starting.Lock()
	defer starting.Unlock()
	s.daemon = s.start(t, "scas.yaml", "log", text)
	s.ready(t, s.daemon, s.api)
}

// start runs `scas serve` in gw, by way of other programs where they are named, with text as its
// configuration; the names are those of files in the site's directory.
func (s *site) start(t testing.TB, name, log, text string, by ...string) *daemon {
	t.Helper()
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := os.OpenFile(filepath.Join(s.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	words := append(slices.Clone(by), program(t), "serve", "-c", file, "--log-level", "debug")
	cmd := s.Command(context.Background(), lab.GW, words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = said, said
	d, err := startDaemon(cmd)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// ready returns when a process says that it is ready.
func (s *site) ready(t testing.TB, d *daemon, api *client) {
	t.Helper()
	await(t, 30*time.Second, "scas is ready", func() bool {
		select {
		case <-d.done:
			t.Fatal("scas serve ended at once")
		default:
		}
		var state struct{}
		_, err := api.get(t.Context(), "/readyz", &state)
		return err == nil
	})
}

// stop ends the gateway as systemd would, if it runs.
func (s *site) stop(t testing.TB) {
	t.Helper()
	if s.daemon == nil {
		return
	}
	d := s.daemon
	s.daemon = nil
	d.stop(t)
}

// stop ends a process as systemd would.
func (d *daemon) stop(t testing.TB) {
	t.Helper()
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended: then its exit code tells
	select {
	case <-d.done:
	case <-time.After(15 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.done
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("%s: exit code %d", d.cmd.Path, code)
	}
}

// kill ends the gateway as a crash would and returns when that was.
func (s *site) kill(t testing.TB) time.Time {
	t.Helper()
	d := s.daemon
	s.daemon = nil
	return d.kill(t)
}

// kill ends a process as a crash would and returns when that was.
func (d *daemon) kill(t testing.TB) time.Time {
	t.Helper()
	at := time.Now()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.done
	return at
}

// showLog fails the test for what the gateway must never say, and shows the end of its log
// when the test has failed.
func (s *site) showLog(t testing.TB) {
	said, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return
	}
	for _, bad := range []string{"DATA RACE", "panic:", "\ngoroutine "} {
		if bytes.Contains(said, []byte(bad)) {
			t.Errorf("scas serve said %q", bad)
			break
		}
	}
	if t.Failed() {
		t.Logf("scas serve said:\n%s", said[max(0, len(said)-32<<10):])
	}
}

// command runs a client command.
func (s *site) command(t testing.TB, words ...string) (stdout, stderr string, code int) {
	t.Helper()
	return clientCommand(t, s.socket(), words...)
}

func clientCommand(t testing.TB, socket string, words ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t), append(words, "--socket", socket)...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// scas runs a client command and decodes what it prints.
func (s *site) scas(t testing.TB, dst any, words ...string) {
	t.Helper()
	out, errs, code := s.command(t, append(words, "-o", "json")...)
	if code != command.Done {
		t.Fatalf("scas %s: exit code %d\n%s", strings.Join(words, " "), code, errs)
	}
	if err := json.Unmarshal([]byte(out), dst); err != nil {
		t.Fatalf("scas %s: %v\n%s", strings.Join(words, " "), err, out)
	}
}

// sessions returns those that have not ended and play url; all when it is empty.
func (s *site) sessions(t testing.TB, url string) []session.Record {
	t.Helper()
	var all []session.Record
	if _, err := s.api.get(t.Context(), "/v1/sessions", &all); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(r session.Record) bool {
		return r.State == session.Ended || url != "" && (r.URL == nil || *r.URL != url)
	})
}

// terminals returns the enrolled terminals.
func (s *site) terminals(t testing.TB) []admin.Terminal {
	t.Helper()
	var all []admin.Terminal
	s.scas(t, &all, "terminals")
	return all
}

// outcome returns a transfer once it has ended.
func (s *site) outcome(t testing.TB, id string) (x session.Transfer) {
	t.Helper()
	await(t, time.Minute, "the transfer has ended", func() bool {
		_, err := s.api.get(t.Context(), "/v1/transfers/"+id, &x)
		return err == nil && !x.State.Open()
	})
	return x
}

// await polls until ok holds.
func await(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// together runs tests that mostly wait at the same time, n of them: -parallel is 2 on a small
// machine, and right for tests that compute.
func together[T any](t *testing.T, n int, cases []T, name func(T) string, test func(*testing.T, T)) {
	free := make(chan struct{}, n)
	var all sync.WaitGroup
	for _, c := range cases {
		free <- struct{}{}
		all.Go(func() {
			defer func() { <-free }()
			t.Run(name(c), func(t *testing.T) { test(t, c) })
		})
	}
	all.Wait()
}

// wantSaid checks how a command that cannot be done ended, and that it said a word.
func wantSaid(t testing.TB, stderr string, code, want int, word string) {
	t.Helper()
	if code != want || !strings.Contains(stderr, word) {
		t.Errorf("exit code %d, want %d and %q: %s", code, want, word, stderr)
	}
}
