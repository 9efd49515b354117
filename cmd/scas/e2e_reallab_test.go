package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"scas/internal/lab"
	"scas/internal/lab/peers"
)

// The numbers of the configuration that the tests below rely on, in seconds.
const (
	realSettle    = 2.0
	realSettleGst = 6.0 // GStreamer over UDP: it falls back to TCP late
	realGOP       = 1.0
	realSpare     = 3.0
	realFilm      = 120
)

// realLab is a running gateway between real peers.
type realLab struct {
	*site
	server *peers.GstServer
}

// needs skips a test that lacks something, or fails it where SCAS_PRIV says that all is there.
func needs(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("SCAS_PRIV") == "1":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// realSite says what cannot be run here and returns the film.
func realSite(t *testing.T) peers.Film {
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
	needs(t, err)
	film, err := peers.Media(t.Context(), peers.CacheDir(), realFilm)
	if err != nil {
		t.Fatal(err)
	}
	return film
}

// newRealLab starts the server in ms, serving the films of dir media, and the gateway in gw.
func newRealLab(t *testing.T, media, steer string) *realLab {
	t.Helper()
	return newRealLabWith(t, siteConfig{steer: steer, settle: realSettle * time.Second}, peers.ServerConfig{Media: media})
}

// newRealLabWith is newRealLab with other configurations.
func newRealLabWith(t *testing.T, cfg siteConfig, server peers.ServerConfig) *realLab {
	t.Helper()
	r := &realLab{site: newSite(t, cfg)}
	server.Start, server.NS = r.Command, lab.MS
	var err error
	if r.server, err = peers.StartGstServer(t.Context(), server); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.server.Close)
	r.serve(t)
	return r
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

// received is how many packets a terminal was sent so far.
func (s *site) received(t *testing.T, ns string) (packets uint64) {
	t.Helper()
	err := s.Do(ns, func() error {
		traffic, err := peers.NetDev("/proc/thread-self/net/dev", lab.UEIface)
		packets = traffic.RxPackets
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return packets
}
