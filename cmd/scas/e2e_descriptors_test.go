package main

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"scas/internal/lab"
)

// TestOutOfDescriptors: a gateway that can open nothing more refuses what is steered to it at once,
// and the films that play notice nothing.
func TestOutOfDescriptors(t *testing.T) {
	t.Parallel()
	gw := newSite(t, siteConfig{steer: "always"})
	film := gw.film(t, lab.GstServer(), false)
	gw.serve(t)
	p := gw.play(t, phone, tcp(), film.URL("film"))
	reach(t, p, time.Second)
	pid := gw.daemon.cmd.Process.Pid
	open, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	var before unix.Rlimit
	few := func(n *unix.Rlimit, was *unix.Rlimit) {
		t.Helper()
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, n, was); err != nil {
			t.Fatal(err)
		}
	}
	few(nil, &before)
	most := 0 // the one that is kept in reserve has to be below the limit
	for _, f := range open {
		to, _ := os.Readlink("/proc/" + strconv.Itoa(pid) + "/fd/" + f.Name())
		if n, _ := strconv.Atoi(f.Name()); to == os.DevNull {
			most = max(most, n+1)
		}
	}
	few(&unix.Rlimit{Cur: uint64(most), Max: before.Max}, nil)
	refused := 0
	ask := func() bool { // reports whether the connection was taken
		c, err := gw.Host(tv).DialTCP(t.Context(), film.Addr())
		if err == nil {
			t.Cleanup(func() { c.Close() }) // those that are taken use up what is left
			fmt.Fprint(c, "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			_, err = c.Read(make([]byte, 1))
		}
		if os.IsTimeout(err) {
			t.Fatal("a connection is neither taken nor refused")
		}
		return err == nil
	}
	for i := 0; i < 100 && refused < 3; i++ {
		if !ask() {
			refused++
		}
	}
	if refused < 3 {
		t.Errorf("%d connections refused", refused)
	}
	few(&before, nil)
	await(t, 10*time.Second, "connections are taken again", ask)
	q := gw.play(t, tv, tcp(), film.URL("film"))
	goesOn(t, q, time.Now().Add(time.Second))
	untouched(t, "the film of before", film, p)
}
