package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"scas/internal/command"
	"scas/session"
	"scas/sip"
)

const patience = 30 * time.Second

// TestMain lets the test binary be the player: it writes its arguments down and plays until
// the file "stop" is there.
func TestMain(m *testing.M) {
	dir := os.Getenv("HANDSET_TEST_PLAYER")
	if dir == "" {
		os.Exit(m.Run())
	}
	_ = os.WriteFile(filepath.Join(dir, "argv"), []byte(strings.Join(os.Args[1:], "\n")), 0o600)
	for range 3000 {
		if _, err := os.Stat(filepath.Join(dir, "stop")); err == nil {
			os.Exit(7)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// mover moves nothing: the test says how it goes.
type mover struct {
	*session.Table
	mu sync.Mutex
	n  int
}

func (m *mover) Move(_ context.Context, o session.Order) (session.Transfer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.Get(o.Session)
	if !ok {
		return session.Transfer{}, &session.OrderError{Reason: session.NoSession, Text: "none"}
	}
	m.n++
	x := session.Transfer{ID: fmt.Sprintf("t%d", m.n), Session: r.ID, AoR: r.AoR, From: r.Terminal, To: o.To,
		Trigger: o.Trigger, State: session.Armed, URL: *r.URL}
	if o.Confirm {
		x.State = session.Offered
	}
	m.PutTransfer(x)
	return x, nil
}

func (m *mover) step(id string, ev session.Event) (session.Transfer, error) {
	x, _ := m.Transfer(id)
	x, ok := x.Next(ev, "", time.Now())
	if !ok {
		return x, &session.OrderError{Reason: session.Busy, Text: "too late"}
	}
	m.PutTransfer(x)
	return x, nil
}

func (m *mover) Answer(id string, yes bool) error {
	ev := session.Refused
	if yes {
		ev = session.Confirmed
	}
	_, err := m.step(id, ev)
	return err
}

func (m *mover) Cancel(id string) (session.Transfer, error) { return m.step(id, session.Cancel) }

func (m *mover) play(t *testing.T, id string) {
	t.Helper()
	for _, ev := range []session.Event{session.StartRequest, session.TargetPlays, session.OriginGone} {
		if _, err := m.step(id, ev); err != nil {
			t.Fatal(err)
		}
	}
}

// hotel is an application server that is its own registrar.
func hotel(t *testing.T) (*mover, string) {
	t.Helper()
	m := &mover{Table: session.NewTable()}
	cfg := sip.DefaultConfig()
	cfg.Access, cfg.URI, cfg.Registrar = []string{"udp://127.0.0.1:0"}, "sip:scas@hotel.example", true
	cfg.Terminals = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	cfg.Limits.Messages = 1000 // this is not what is tested here
	cfg.Users = []sip.Credential{{AoR: "sip:bob@hotel.example", Password: "secret"}}
	s, err := sip.New(cfg, sip.Deps{Mover: m, Sessions: m, Transfers: m}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	_, addr, _ := strings.Cut(s.Addrs()[0], "://")
	return m, "sip:" + addr
}

// terminal is a handset that runs.
type terminal struct {
	t     *testing.T
	env   []string
	stdin *io.PipeWriter
	lines chan string
	code  chan int
	stop  context.CancelFunc
}

// world returns an env for one run of the program.
func world(environ []string, out io.Writer, args ...string) (*env, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	return &env{
		args: args, environ: environ, stdin: strings.NewReader(""), stdout: out, stderr: out, now: time.Now,
		readFile: os.ReadFile, signals: func() (context.Context, context.CancelFunc) { return ctx, cancel },
	}, cancel
}

func start(t *testing.T, proxy, agent, local string, args ...string) *terminal {
	t.Helper()
	x := &terminal{t: t, lines: make(chan string, 100), code: make(chan int, 1)}
	dir, err := os.MkdirTemp("", "hs-") // a unix socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	x.env = []string{"HANDSET_AOR=sip:bob@hotel.example", "HANDSET_PASSWORD=secret", "HANDSET_PROXY=" + proxy,
		"HANDSET_SOCKET=" + filepath.Join(dir, "s"), "HANDSET_INSTANCE=urn:uuid:" + agent}
	r, w := io.Pipe()
	in, stdin := io.Pipe()
	x.stdin = stdin
	e, cancel := world(x.env, w, append([]string{"run", "-o", "json", "--user-agent", agent, "--local", local}, args...)...)
	e.stdin, x.stop = in, cancel
	go func() {
		x.code <- run(e)
		_ = w.Close()
	}()
	go func() {
		defer close(x.lines)
		s := bufio.NewScanner(r)
		for s.Scan() {
			x.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		x.quit()
	})
	x.wait("registered", nil)
	x.wait("sessions", nil)
	return x
}

func (x *terminal) quit() int {
	x.stop()
	_ = x.stdin.Close()
	for {
		select {
		case _, ok := <-x.lines:
			if !ok {
				return 0
			}
		case <-time.After(patience):
			x.t.Error("the handset does not end")
			return 1
		}
	}
}

// wait returns the next line of a type, decoded into v.
func (x *terminal) wait(kind string, v any) {
	x.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line, ok := <-x.lines:
			if !ok {
				x.t.Fatalf("the handset ended before %s", kind)
			}
			if strings.HasPrefix(line, `{"type":"`+kind+`"`) {
				if v != nil && json.Unmarshal([]byte(line), v) != nil {
					x.t.Fatalf("line %s", line)
				}
				return
			}
			if strings.HasPrefix(line, `{"type":"error"`) {
				x.t.Fatalf("instead of %s: %s", kind, line)
			}
		case <-limit:
			x.t.Fatalf("no %s", kind)
		}
	}
}

// command runs one command through the handset and returns its output and exit code.
func (x *terminal) command(args ...string) (string, int) {
	var out bytes.Buffer
	e, cancel := world(x.env, &out, args...)
	defer cancel()
	code := run(e)
	return out.String(), code
}

const filmURL = "rtsp://media.example:8554/films/News.mp4?a=1&b=2"

func film(m *mover, ip string) {
	npt := 83.5
	m.Put(session.Record{
		ID: "f1", AoR: session.Ptr("sip:bob@hotel.example"), Terminal: session.Terminal{IP: netip.MustParseAddr(ip)},
		Protocol: session.RTSP, URL: session.Ptr(filmURL), State: session.Playing, Position: &session.Position{Rendered: &npt, NPT: &npt},
	})
}

// playerDir makes this binary the player and returns where it writes.
func playerDir(t *testing.T) (dir string, flag string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	t.Setenv("HANDSET_TEST_PLAYER", dir)
	return dir, "--player=rtsp=" + self + " --title 'my film' {url} end"
}

func TestPushIsAskedAndPlayed(t *testing.T) {
	m, proxy := hotel(t)
	dir, player := playerDir(t)
	phone := start(t, proxy, "phone", "127.0.0.1")
	tv := start(t, proxy, "tv", "127.0.0.2", player, "--url-user", "guest:a@b")
	film(m, "127.0.0.1")

	out, code := phone.command("list")
	if code != 0 || !strings.Contains(out, "News") || !strings.Contains(out, "* phone") || !strings.Contains(out, "0:01:23") {
		t.Fatalf("list: %d\n%s", code, out)
	}
	done := make(chan int, 1)
	go func() {
		_, code := phone.command("push", "tv", "-o", "json")
		done <- code
	}()
	var o sip.Offer
	tv.wait("offer", &o)
	if o.URL[0] != filmURL || o.From != "phone" || o.Ref != "" {
		t.Fatalf("offer %+v", o)
	}
	if _, err := io.WriteString(tv.stdin, "yes\n"); err != nil {
		t.Fatal(err)
	}
	var p playing
	tv.wait("player", &p)
	if p.Event != "started" || p.PID == nil || p.URL != filmURL {
		t.Fatalf("player %+v", p)
	}
	m.play(t, "t1")
	if code := <-done; code != 0 {
		t.Errorf("push ended with %d", code)
	}
	want := []string{"--title", "my film", "rtsp://guest:a%40b@media.example:8554/films/News.mp4?a=1&b=2", "end"}
	argv := ""
	for deadline := time.Now().Add(patience); argv == "" && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		raw, _ := os.ReadFile(filepath.Join(dir, "argv"))
		argv = string(raw)
	}
	if got := strings.Split(argv, "\n"); !slices.Equal(got, want) {
		t.Errorf("argv %q", got)
	}
	if err := os.WriteFile(filepath.Join(dir, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tv.wait("player", &p)
	if p.Event != "ended" || p.Code == nil || *p.Code != 7 {
		t.Errorf("player %+v", p)
	}
}

func TestPullDeclineAccept(t *testing.T) {
	m, proxy := hotel(t)
	_, player := playerDir(t)
	phone := start(t, proxy, "phone", "127.0.0.1", player, "--accept")
	tv := start(t, proxy, "tv", "127.0.0.2", player)
	film(m, "127.0.0.1")
	out, code := tv.command("pull", "-o", "json")
	if code != 0 || !strings.Contains(out, `{"type":"offer","v":1,`) || !strings.Contains(out, filmURL) {
		t.Fatalf("pull: %d %s", code, out)
	}
	tv.wait("player", nil) // nobody was asked
	if _, code := tv.command("cancel", "2"); code != 0 {
		t.Errorf("cancel: %d", code)
	}
	tv.wait("result", nil)

	film(m, "127.0.0.2") // now on the tv; the phone accepts everything
	go tv.command("push", "phone")
	phone.wait("player", nil)
	m.play(t, "t2")
	tv.wait("result", nil)

	film(m, "127.0.0.1")
	result := make(chan int, 1)
	go func() { _, code := phone.command("push", "tv"); result <- code }()
	tv.wait("offer", nil)
	if out, code := tv.command("no"); code != 0 {
		t.Errorf("no: %d %s", code, out)
	}
	if code := <-result; code != command.Failed {
		t.Errorf("a declined push ends with %d", code)
	}
	for _, c := range []struct {
		want int
		args []string
	}{
		{command.Failed, []string{"yes"}},
		{command.Failed, []string{"push", "fridge"}},
		{command.Done, []string{"auto", "on"}},
		{command.Done, []string{"name", "salon"}},
		{command.Usage, []string{"auto", "maybe"}},
		{command.Usage, []string{"dance"}},
		{command.Usage, []string{"list", "-o", "xml"}},
	} {
		if out, code := tv.command(c.args...); code != c.want {
			t.Errorf("%v: %d, want %d: %s", c.args, code, c.want, out)
		}
	}
}

func TestAlone(t *testing.T) {
	m, proxy := hotel(t)
	film(m, "127.0.0.1")
	var out bytes.Buffer
	environ := []string{"HANDSET_AOR=sip:bob@hotel.example", "HANDSET_PROXY=" + proxy, "HANDSET_SOCKET=" + filepath.Join(t.TempDir(), "s")}
	e, cancel := world(append(environ, "HANDSET_PASSWORD=secret"), &out, "list", "-o", "json")
	defer cancel()
	if code := run(e); code != command.Done || !strings.Contains(out.String(), `"title":"News"`) {
		t.Errorf("%d %s", code, out.String())
	}
	e, cancel = world(append(environ, "HANDSET_PASSWORD=wrong"), &out, "list")
	defer cancel()
	if code := run(e); code != command.Failed {
		t.Errorf("wrong password: %d", code)
	}
	e, cancel = world(environ[1:], &out, "list")
	defer cancel()
	if code := run(e); code != command.Unreachable {
		t.Errorf("nobody there: %d", code)
	}
}
