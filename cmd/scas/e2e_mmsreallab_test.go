package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/internal/lab/peers"
)

// mmsMedia says what cannot be run here and returns the film of MMS, as a server reads it, and its
// file.
func mmsMedia(t *testing.T) (*lab.ASF, peers.ASFFilm) {
	t.Helper()
	lab.Root(t)
	programs := []string{"ffmpeg", "python3"}
	for _, k := range peers.MMSKinds() {
		programs = append(programs, k.MMSPrograms()...)
	}
	var err error
	for _, p := range programs {
		_, missing := exec.LookPath(p)
		err = errors.Join(err, missing)
	}
	if err == nil {
		_, err = peers.LibmmsProgram(t.Context(), peers.CacheDir())
	}
	needs(t, err)
	film, err := peers.ASFMedia(t.Context(), peers.CacheDir(), realFilm)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(film.Dir, film.Name))
	if err != nil {
		t.Fatal(err)
	}
	asf, err := lab.ParseASF(file)
	if err != nil {
		t.Fatal(err)
	}
	return asf, film
}

// playReal starts a player of MMS in ns; it is closed when the test ends. What it says is kept,
// but for ffmpeg's, which has no end when a film is cut short (mms.md 6.5).
func (s *site) playReal(t *testing.T, kind peers.Kind, ns, url string) *peers.MMSPlayer {
	t.Helper()
	log := ""
	if kind != peers.FFmpeg {
		log = filepath.Join(s.dir, fmt.Sprintf("%s-%s-%d.log", kind, ns, time.Now().UnixNano()))
	}
	p, err := peers.StartMMSPlayer(t.Context(), peers.PlayerConfig{Kind: kind, URL: url, Start: s.Command, NS: ns, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		if said, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("%s in %s said:\n%s", kind, ns, said[max(0, len(said)-8<<10):])
		}
	})
	return p
}

// mmsHeld is a session a server of MMS holds.
type mmsHeld struct {
	client  netip.Addr
	playing bool
}

// mmsServe runs a server of MMS in ms on the usual ports, the lab's own or the one in Python, or
// that with nothing on the port of MMSH, and returns what lists its sessions.
func (s *site) mmsServe(t *testing.T, server string, asf *lab.ASF, film peers.ASFFilm) func() []mmsHeld {
	t.Helper()
	if server == "lab" {
		own := s.mmsFilm(t, lab.MMSConfig{ASF: asf, Lead: mmsAhead})
		return func() (all []mmsHeld) {
			for _, x := range own.Sessions() {
				all = append(all, mmsHeld{x.Remote.Addr(), x.Playing})
			}
			return all
		}
	}
	log := filepath.Join(s.dir, "mmsserver.log")
	cfg := peers.MMSServerConfig{
		Start: s.Command, NS: lab.MS, Media: film.Dir, MMST: 1755, MMSH: 80, Burst: mmsAhead, Piece: 300, Log: log,
	}
	if server == mmstOnly {
		cfg.MMSH = 0
	}
	python, err := peers.StartMMSServer(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		python.Close()
		if said, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("the server said:\n%s", said[max(0, len(said)-8<<10):])
		}
	})
	return func() (all []mmsHeld) {
		for _, x := range python.Sessions() {
			all = append(all, mmsHeld{x.Client, time.Since(x.LastSent) < time.Second})
		}
		return all
	}
}
