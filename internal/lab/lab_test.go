package lab

import (
	"context"
	"errors"
	"io/fs"
	"net"
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
)

// testTimeout bounds every wait in the tests; they take a fraction of it.
const testTimeout = 60 * time.Second

func newLab(t *testing.T, opts Options) *Lab {
	t.Helper()
	Root(t)
	l, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// echo connects from one namespace to another and checks who is seen there.
func echo(t *testing.T, l *Lab, from, to string, addr netip.Addr, seen netip.Addr) {
	t.Helper()
	ctx := testContext(t)
	ln, err := l.Host(to).ListenTCP(ctx, netip.AddrPortFrom(addr, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer := make(chan net.Addr, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		peer <- c.RemoteAddr()
		c.Close()
	}()
	c, err := l.Host(from).DialTCP(ctx, ln.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatalf("%s to %s: %v", from, to, err)
	}
	defer c.Close()
	select {
	case a := <-peer:
		if got := a.(*net.TCPAddr).AddrPort().Addr().Unmap(); got != seen {
			t.Errorf("%s seen as %s, want %s", from, got, seen)
		}
	case <-ctx.Done():
		t.Fatal("no connection")
	}
}

func TestLabRoutes(t *testing.T) {
	for _, tc := range []struct {
		name string
		opts Options
	}{
		{"ipv4", Options{}},
		{"ipv6", Options{IPv6: true}},
		{"wire size", Options{IPv6: true, WireSize: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, tc.opts)
			echo(t, l, UE1, MS, l.Addr(MS), l.Addr(UE1))
			echo(t, l, UE2, MS, l.Addr(MS), l.Addr(UE2))
			echo(t, l, MS, UE1, l.Addr(UE1), l.Addr(MS))
			if tc.opts.IPv6 {
				echo(t, l, UE1, MS, l.Addr6(MS), l.Addr6(UE1))
				echo(t, l, UE2, MS, l.Addr6(MS), l.Addr6(UE2))
			}
			for ns, name := range map[string]string{GW: WAN0, UE1: UEIface} {
				err := l.Do(ns, func() error {
					on, err := offloads(name)
					if err == nil && on == tc.opts.WireSize {
						t.Errorf("offloads of %s are on: %v, wire size asked: %v", name, on, tc.opts.WireSize)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestLabCommand(t *testing.T) {
	l := newLab(t, Options{})
	ctx := testContext(t)
	cmd := l.Command(ctx, UE2, "cat", "/proc/net/fib_trie")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "10.78.2.2") {
		t.Errorf("command in ue2: %v\n%s", err, out)
	}
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Do(UE1, func() error { runtime.Goexit(); return nil }); !errors.Is(err, errNoReturn) {
		t.Errorf("a function that does not return: %v", err)
	}
	for range 8 { // threads come back to where they were
		if err := l.Do(UE1, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if now, _ := os.Readlink("/proc/thread-self/ns/net"); now != home {
			t.Fatalf("thread is in %s, want %s", now, home)
		}
	}
}

func TestLabLeavesNothing(t *testing.T) {
	Root(t)
	outside := func() []string {
		names, err := filepath.Glob("/sys/class/net/*")
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	before := outside()
	l, err := New(Options{IPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	prefix := l.Prefix
	// A second lab of the same name cannot be built, and its failure harms nobody.
	if _, err := New(Options{Prefix: prefix}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second lab: %v, want %v", err, fs.ErrExist)
	}
	echo(t, l, UE1, MS, l.Addr(MS), l.Addr(UE1))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if left, _ := filepath.Glob("/run/netns/" + prefix + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if after := outside(); !slices.Equal(before, after) {
		t.Errorf("links before %v, after %v", before, after)
	}
}

// TestLabFailedNew breaks the building at its last namespace.
func TestLabFailedNew(t *testing.T) {
	Root(t)
	prefix := "scastest" + time.Now().Format("150405.000000") + "-"
	blocker := filepath.Join("/run/netns", prefix+MS)
	if err := os.MkdirAll(filepath.Dir(blocker), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blocker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(blocker)
	if _, err := New(Options{Prefix: prefix}); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("New: %v, want %v", err, fs.ErrExist)
	}
	left, err := filepath.Glob("/run/netns/" + prefix + "*")
	if err != nil || !slices.Equal(left, []string{blocker}) {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestSnapshot(t *testing.T) {
	l := newLab(t, Options{IPv6: true})
	first, err := l.Snapshot(GW)
	if err != nil {
		t.Fatal(err)
	}
	again, err := l.Snapshot(GW)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first, again) {
		t.Errorf("not stable:\n%v\n%v", first, again)
	}
	ctx := testContext(t)
	for _, change := range [][]string{
		{"ip", "rule", "add", "iif", "lan0", "fwmark", "0x20000000/0x20000000", "lookup", "8470", "pref", "8470"},
		{"ip", "-6", "rule", "add", "iif", "lan0", "fwmark", "0x20000000/0x20000000", "lookup", "8470", "pref", "8470"},
		{"ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "8470"},
		{"ip", "-6", "route", "add", "local", "::/0", "dev", "lo", "table", "8470"},
		{"tc", "qdisc", "add", "dev", "lan0", "clsact"},
		{"ip", "link", "set", "lan1", "mtu", "1400"},
	} {
		if out, err := l.Command(ctx, GW, change[0], change[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v %s", change, err, out)
		}
		now, err := l.Snapshot(GW)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(again, now) {
			t.Errorf("%v not seen", change)
		}
		again = now
	}
}

// A child told to end with its parent does not end with some other thread of it.
func TestStart(t *testing.T) {
	l := newLab(t, Options{})
	cmd := exec.Command("cat")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	ended, err := l.Start(UE2, cmd)
	if err != nil {
		t.Fatal(err)
	}
	var threads sync.WaitGroup
	for range 50 {
		threads.Go(func() { runtime.LockOSThread() }) // ends locked, and with it a thread
	}
	threads.Wait()
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
	if !cmd.ProcessState.Success() {
		t.Errorf("the child ended with %v", cmd.ProcessState)
	}
	if _, err := l.Start("nowhere", exec.Command("cat")); err == nil {
		t.Error("starts in a namespace that is none")
	}
}
