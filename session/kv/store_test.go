package kv

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"scas/session"
)

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s := embeddedStore(t, dir)
	ctx := t.Context()
	b := binding(1)
	b.Expires = session.Ptr(time.Now().Add(time.Hour).UTC())
	u := session.User{AoR: "sip:bob@ims.example", Auto: true, Names: map[string]string{"urn:uuid:1": "tv"}, Forms: map[string]string{}}
	k := session.Taken{Key: "sip:bob@ims.example r1", At: time.Now().UTC(), Expires: time.Now().Add(time.Minute).UTC(), Code: 202, Answer: "x", Transfer: "t1"}
	if err := errors.Join(s.PutBinding(ctx, b), s.PutBinding(ctx, binding(2)), s.PutUser(ctx, u), s.PutTaken(ctx, k), s.DeleteBinding(ctx, binding(2).Key)); err != nil {
		t.Fatal(err)
	}
	if got, ok, err := s.Taken(ctx, k.Key); err != nil || !ok || got.Answer != "x" {
		t.Errorf("request just taken: %+v, %v, %v", got, ok, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = embeddedStore(t, dir)
	if got, err := s.Bindings(ctx); err != nil || !reflect.DeepEqual(got, []session.Binding{b}) {
		t.Errorf("bindings: %+v, %v", got, err)
	}
	if got, err := s.Users(ctx); err != nil || !reflect.DeepEqual(got, []session.User{u}) {
		t.Errorf("users: %+v, %v", got, err)
	}
	if got, ok, err := s.Taken(ctx, k.Key); err != nil || !ok || !reflect.DeepEqual(got, k) {
		t.Errorf("taken: %+v, %v, %v", got, ok, err)
	}
	if _, ok, err := s.Taken(ctx, "never"); ok || err != nil {
		t.Errorf("taken, though never put: %v, %v", ok, err)
	}
}

func TestTakenRunsOut(t *testing.T) {
	s := embeddedStore(t, t.TempDir())
	k := session.Taken{Key: "r", Expires: time.Now().Add(-time.Second)}
	if err := s.PutTaken(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	flush(t, s)
	if _, ok, err := s.Taken(t.Context(), "r"); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
}

// TestKilled has a process write and be killed without warning: what was acknowledged is there.
func TestKilled(t *testing.T) {
	if dir := os.Getenv("SCAS_TEST_KILLED_DIR"); dir != "" {
		s := embeddedStore(t, dir)
		for i := range 200 {
			if err := s.PutBinding(t.Context(), binding(i)); err != nil {
				t.Fatal(err)
			}
		}
		flush(t, s)
		os.Stdout.WriteString("written\n")
		select {}
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$", "-test.v")
	cmd.Env = append(os.Environ(), "SCAS_TEST_KILLED_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	written := false
	for lines := bufio.NewScanner(out); !written && lines.Scan(); {
		written = lines.Text() == "written"
	}
	if err := cmd.Process.Kill(); err != nil || !written {
		t.Fatal(err, written)
	}
	cmd.Wait()
	s := embeddedStore(t, dir)
	got, err := s.Bindings(t.Context())
	if err != nil || len(got) != 200 {
		t.Errorf("%d bindings, %v", len(got), err)
	}
}

func TestOneProcessOnly(t *testing.T) {
	dir := t.TempDir()
	embeddedStore(t, dir)
	c := testConfig("gw2")
	c.Dir = dir
	if _, err := Open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second one on the same files: %v", err)
	}
}

func TestUnusableDir(t *testing.T) {
	c := testConfig("gw1")
	c.Dir = "/proc/nothing"
	if _, err := Open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("opened")
	}
}

func TestEmbeddedOpensNoPort(t *testing.T) {
	s := embeddedStore(t, t.TempDir())
	if a := s.srv.Addr(); a != nil {
		if _, ok := a.(*net.TCPAddr); ok {
			t.Errorf("listens on %v", a)
		}
	}
}

// TestStoreStoppedAndBack stops the store while bindings change: nobody waits, and what was
// written meanwhile is there when it is back.
func TestStoreStoppedAndBack(t *testing.T) {
	d := startServer(t)
	s := member(t, "as1", d.url())
	ctx := t.Context()
	put := func(b session.Binding) {
		t.Helper()
		if err := s.PutBinding(ctx, b); err != nil {
			t.Fatalf("put: %v", err)
		}
	}
	put(binding(1))
	flush(t, s)
	d.stop()
	await(t, "loss seen", func() bool { return s.Ready() != nil })
	began := time.Now()
	for i := range uint32(50) { // a newer value takes the place of the older one
		b := binding(2)
		b.CSeq = i
		put(b)
	}
	if took := time.Since(began); took > patience { // each would wait for seconds
		t.Errorf("50 writes waited %v for the store", took)
	}
	put(binding(3))
	if n := s.Stats()["queued"]; n != 2 {
		t.Errorf("%d writes wait, want 2", n)
	}
	if _, err := s.Bindings(ctx); !errors.Is(err, ErrDown) {
		t.Errorf("read of a dead store: %v", err)
	}
	if _, _, err := s.Taken(ctx, "x"); !errors.Is(err, ErrDown) {
		t.Errorf("read of a dead store: %v", err)
	}
	d.start()
	flush(t, s)
	got, err := s.Bindings(ctx)
	if err != nil || len(got) != 3 {
		t.Fatalf("%d bindings, %v", len(got), err)
	}
	for _, b := range got {
		if b.Key == binding(2).Key && b.CSeq != 49 {
			t.Errorf("cseq %d is not the newest", b.CSeq)
		}
	}
}

// TestStoreEmptied replaces the store by an empty one while the process runs.
func TestStoreEmptied(t *testing.T) {
	d := startServer(t)
	s := member(t, "as1", d.url())
	if err := s.PutBinding(t.Context(), binding(1)); err != nil {
		t.Fatal(err)
	}
	flush(t, s)
	d.stop()
	d.opts.StoreDir = t.TempDir()
	d.start()
	b := binding(1)
	b.CSeq++
	if err := s.PutBinding(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	flush(t, s)
	if got, err := s.Bindings(t.Context()); err != nil || len(got) != 1 || got[0].CSeq != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestStoreComesLater opens a store whose server is not there yet.
func TestStoreComesLater(t *testing.T) {
	d := startServer(t)
	d.stop()
	s := member(t, "as1", d.url())
	if err := s.PutBinding(t.Context(), binding(1)); err != nil {
		t.Fatal(err)
	}
	d.start()
	flush(t, s)
	if got, err := s.Bindings(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCloseOfADeadStore(t *testing.T) {
	d := startServer(t)
	s := member(t, "as1", d.url())
	d.stop()
	await(t, "loss seen", func() bool { return s.Ready() != nil })
	if err := s.PutBinding(t.Context(), binding(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 writes are lost") {
		t.Errorf("close: %v", err)
	}
}

func TestValidate(t *testing.T) {
	good := testConfig("gw1")
	good.Dir = "x"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Config){
		"node": func(c *Config) { c.Node = "" }, "place": func(c *Config) { c.Dir = "" }, "prefix": func(c *Config) { c.Prefix = "a.b" },
		"keep": func(c *Config) { c.Keep = time.Minute }, "log": func(c *Config) { c.MaxLog = 1 }, "replicas": func(c *Config) { c.Replicas = 6 },
		"queue": func(c *Config) { c.Queue = 0 }, "timeout": func(c *Config) { c.Timeout = 0 }, "clock": func(c *Config) { c.Now = nil },
	} {
		c := good
		spoil(&c)
		if c.Validate() == nil {
			t.Errorf("%s: taken", name)
		}
		if _, err := Open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

func TestToken(t *testing.T) {
	long := strings.Repeat("sip:bob@ims.example", 20)
	seen := map[string]string{}
	for _, in := range []string{"", "gw1", "a.b", "a=2Eb", "sip:bob@ims.example", "*", ">", " ", "ä", long, long + "x", "==", "="} {
		out := token(in)
		if strings.ContainsAny(out, ".*> \t") || out == "" || len(out) > 200 {
			t.Errorf("token(%q) = %q", in, out)
		}
		if was, ok := seen[out]; ok {
			t.Errorf("%q and %q are both %q", was, in, out)
		}
		seen[out] = in
	}
}
