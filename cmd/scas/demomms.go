package main

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"scas/internal/lab"
)

// What the demo's MMS is like. The server sends a few seconds at once, as real ones do; the players
// wait for as much of the film as those do that are not known better (docs/players.md).
const (
	mmsPreroll = 2 * time.Second // as the film says
	mmsLead    = 3 * time.Second
	mmsWait    = 4360 * time.Millisecond // for the film, before a player runs
)

// mmsStage is the lab's own MMS server and players, over TCP or over HTTP.
type mmsStage struct {
	lab    *lab.Lab
	server *lab.MMSServer
	scheme string // mms or mmsh
}

func newMMSStage(l *lab.Lab, scheme string) (*mmsStage, error) {
	film, err := lab.Film{}.ASF(mmsPreroll)
	if err != nil {
		return nil, err
	}
	ms := l.Addr(lab.MS)
	s, err := lab.ServeMMS(lab.MMSConfig{
		ASF: film, Host: l.Host(lab.MS), Addr: netip.AddrPortFrom(ms, 1755), HTTP: netip.AddrPortFrom(ms, 80), Lead: mmsLead,
	})
	if err != nil {
		return nil, err
	}
	return &mmsStage{l, s, scheme}, nil
}

func (s *mmsStage) url() string   { return s.server.URL(s.scheme, "film") }
func (s *mmsStage) sessions() int { return len(s.server.Sessions()) }
func (s *mmsStage) close()        { _ = s.server.Close() } // the namespace goes next

func (s *mmsStage) asked(from netip.Addr) string {
	method := "StartPlaying"
	if s.scheme == protocolMMSH {
		method = "Play"
	}
	asked := ""
	for _, e := range s.server.Requests(method) {
		if e.Remote.Addr() == from {
			asked = mmsAsked(e)
		}
	}
	return asked
}

// mmsAsked returns the time a start asks for: a field of StartPlaying, or one of many words in
// the Pragma headers of a GET.
func mmsAsked(e lab.ServerEvent) string {
	if at := e.Header("Position"); at != "" {
		return "Position: " + at
	}
	for _, line := range e.Head {
		for word := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ',' || r == ' ' }) {
			if strings.HasPrefix(word, "stream-time=") {
				return word
			}
		}
	}
	return ""
}

// play starts a player that does as MS-MMSP says. What the server sends at once shortens its wait, and
// stays ahead of the screen. The film ends as the gateway ends it on a connection it only watched.
func (s *mmsStage) play(ctx context.Context, ns, url string) (actor, error) {
	cfg := lab.MMSWindows()
	cfg.Host, cfg.URL, cfg.Depth = s.lab.Host(ns), url, mmsWait-mmsLead
	p, err := lab.PlayMMS(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return syntheticActor{p.Player, mmsWait, []lab.EndReason{lab.EndedFIN, lab.EndedEOS}}, nil
}
