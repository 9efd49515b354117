package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"time"

	"scas/internal/lab"
	"scas/internal/lab/peers"
)

// realFilmSeconds is how long the film of a demo with real players is.
const realFilmSeconds = 120

// realStage is GStreamer's RTSP server and players.
type realStage struct {
	lab    *lab.Lab
	server *peers.GstServer
	film   peers.Film
}

// newRealStage makes the film (the first time), and starts the server.
func newRealStage(ctx context.Context, l *lab.Lab) (*realStage, error) {
	_, noGst := peers.Python(ctx)
	_, noFFmpeg := exec.LookPath("ffmpeg")
	if err := errors.Join(noGst, noFFmpeg); err != nil {
		return nil, fmt.Errorf("%w\nA demo with real players needs GStreamer's RTSP server and ffmpeg: make deps installs them", err)
	}
	film, err := peers.Media(ctx, peers.CacheDir(), realFilmSeconds)
	if err != nil {
		return nil, fmt.Errorf("make the film: %w", err)
	}
	s, err := peers.StartGstServer(ctx, peers.ServerConfig{Start: l.Command, NS: lab.MS, Media: film.Dir, Port: 8554})
	if err != nil {
		return nil, err
	}
	return &realStage{l, s, film}, nil
}

func (s *realStage) url() string   { return s.server.URL(s.lab.Addr(lab.MS).String(), s.film.MP4) }
func (s *realStage) sessions() int { return len(s.server.Sessions()) }
func (s *realStage) close()        { s.server.Close() }

func (s *realStage) asked(from netip.Addr) string {
	asked := ""
	for _, e := range s.server.Requests("PLAY", from) {
		asked = "Range: " + orDash(e.Range)
	}
	return asked
}

func (s *realStage) play(ctx context.Context, ns, url string) (actor, error) {
	p, err := peers.StartPlayer(ctx, peers.PlayerConfig{Kind: peers.Gst, URL: url, Transport: peers.UDP, Start: s.lab.Command, NS: ns})
	if err != nil {
		return nil, err
	}
	return realActor{p}, nil
}

// realActor is a GStreamer player whose pictures carry their number.
type realActor struct{ *peers.Player }

func (a realActor) buffer() time.Duration               { return peers.Gst.Buffer() }
func (a realActor) quit()                               { a.Close() }
func (a realActor) delivered(time.Time) (float64, bool) { return 0, false }
func (a realActor) onScreen(at time.Time) (scene, bool) {
	s, ok := a.Timeline().At(at)
	return scene{s.Pos, s.At}, ok
}

func (a realActor) first(ctx context.Context) (scene, error) {
	s, err := a.WaitPicture(ctx, 0)
	return scene{s.Pos, s.At}, err
}

func (a realActor) ended(ctx context.Context) (at time.Time, last scene, clean bool, err error) {
	at, exited, err := a.WaitEnd(ctx, 0)
	s, _ := a.Last()
	e, _ := a.Exit()
	return at, scene{s.Pos, s.At}, exited && e.Clean() && e.EOS, err
}

func (a realActor) missing() int {
	missed, _ := a.Timeline().Missed()
	return missed
}
