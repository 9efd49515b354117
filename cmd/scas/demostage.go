package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"scas/internal/lab"
)

// stage is who plays in a demo: a media server in ms and players on the terminals.
type stage interface {
	url() string
	// play starts a player in a namespace.
	play(ctx context.Context, ns, url string) (actor, error)
	// asked returns where the newest start that reached the server from a terminal wants the film
	// to begin, in the words of the protocol.
	asked(from netip.Addr) string
	// sessions counts the sessions the server holds.
	sessions() int
	close()
}

// scene is a picture on a screen: its place in the film, and when it was there.
type scene struct {
	npt float64
	at  time.Time
}

// actor is a player whose screen is watched.
type actor interface {
	// first returns the first picture on the screen, when it is there.
	first(ctx context.Context) (scene, error)
	// onScreen returns the picture on the screen at a moment that has passed.
	onScreen(at time.Time) (scene, bool)
	// delivered returns the newest picture the player had at a moment; ok is false also for
	// players that do not tell.
	delivered(at time.Time) (npt float64, ok bool)
	// ended waits for the player to end by itself and returns when it did, the last picture it
	// showed, and whether it ended as at the end of a film.
	ended(ctx context.Context) (at time.Time, last scene, clean bool, err error)
	// missing counts the pictures that were not there in their turn.
	missing() int
	// buffer is how long a picture waits for its turn on the screen.
	buffer() time.Duration
	quit()
}

// syntheticStage is the lab's own server and players: nothing beyond Go is needed.
type syntheticStage struct {
	lab    *lab.Lab
	server *lab.Server
}

func newSyntheticStage(l *lab.Lab) (*syntheticStage, error) {
	s, err := lab.Serve(lab.ServerConfig{Host: l.Host(lab.MS), Addr: netip.AddrPortFrom(l.Addr(lab.MS), 8554)})
	if err != nil {
		return nil, err
	}
	return &syntheticStage{l, s}, nil
}

func (s *syntheticStage) url() string   { return s.server.URL("film") }
func (s *syntheticStage) sessions() int { return len(s.server.Sessions()) }
func (s *syntheticStage) close()        { _ = s.server.Close() } // the namespace goes next

func (s *syntheticStage) asked(from netip.Addr) string {
	asked := ""
	for _, e := range s.server.Requests("PLAY") {
		if e.Remote.Addr() == from {
			asked = "Range: " + orDash(e.Header("Range"))
		}
	}
	return asked
}

func (s *syntheticStage) play(ctx context.Context, ns, url string) (actor, error) {
	cfg := lab.MPV() // who shows what it has at a BYE, and says TEARDOWN
	cfg.Host, cfg.URL, cfg.TCP = s.lab.Host(ns), url, false
	p, err := lab.Play(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return syntheticActor{p, cfg.Depth, []lab.EndReason{lab.EndedBYE}}, nil
}

// syntheticActor is a player of the lab.
type syntheticActor struct {
	*lab.Player
	waits time.Duration   // a picture, for its turn on the screen
	over  []lab.EndReason // what ends a film whose end has come
}

func (a syntheticActor) buffer() time.Duration { return a.waits }
func (a syntheticActor) quit()                 { a.Quit() }

func (a syntheticActor) first(ctx context.Context) (scene, error) {
	p, err := a.First(ctx)
	if err != nil {
		return scene{}, err
	}
	select {
	case <-time.After(time.Until(p.Shown)):
		return scene{p.NPT.Seconds(), p.Shown}, nil
	case <-ctx.Done():
		return scene{}, ctx.Err()
	}
}

func (a syntheticActor) onScreen(at time.Time) (scene, bool) {
	p, ok := a.Shown(at)
	return scene{p.NPT.Seconds(), p.Shown}, ok
}

func (a syntheticActor) delivered(at time.Time) (npt float64, ok bool) {
	for _, p := range a.Pictures() {
		if !p.At.After(at) {
			npt, ok = p.NPT.Seconds(), true
		}
	}
	return npt, ok
}

func (a syntheticActor) ended(ctx context.Context) (at time.Time, last scene, clean bool, err error) {
	r, err := a.Wait(ctx)
	if err != nil {
		return time.Now(), scene{}, false, err
	}
	if last.npt = r.LastShown.NPT.Seconds(); r.LastShown.Shown.IsZero() {
		return time.Now(), last, false, errors.New("the player showed nothing")
	}
	last.at = r.LastShown.Shown
	return last.at, last, r.Clean && slices.Contains(a.over, r.Reason), nil
}

func (a syntheticActor) missing() int { return a.Result().Missing() }
