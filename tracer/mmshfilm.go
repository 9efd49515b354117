package tracer

import (
	"net/url"
	"time"

	"scas/bpf"
	"scas/session"
	"scas/tracer/mms"
)

// key returns what makes the requests of a player one session.
func (x *mmshDialogue) key(req mms.Head) sessKey {
	p := req.Pragma()
	return sessKey{x.c.flow.Terminal.Addr(), x.c.flow.Server, "mmsh " + clip(p.ClientGUID, maxName) + " " + clip(req.Target(), maxURL)}
}

func (x *mmshDialogue) named(req mms.Head) *sess {
	if s, ok := x.d.sessions[x.key(req)]; ok && s.film != nil {
		return s
	}
	return nil
}

// opened opens the session of a first Describe or Play.
func (x *mmshDialogue) opened(req mms.Head, at time.Time) *sess {
	d, c := x.d, x.c
	if !d.roomForSession(c.flow.Terminal.Addr()) {
		return nil
	}
	c.userAgent = clip(req.Get("User-Agent"), maxName)
	s := d.fresh(c, at)
	s.film = &film{path: clip(req.Target(), maxURL), player: playerOfMMSH(req)}
	s.rec.Protocol, s.rec.Transport = session.MMSH, session.HTTP
	s.key = x.key(req)
	s.timeout, s.version = mmstTimeout, ""
	target := clip(req.Target(), maxURL)
	if u, err := url.Parse(target); err == nil && u.Host != "" { // as to a proxy
		target = u.RequestURI()
	}
	where := mms.URL("mmsh", hostURL(clip(req.Get("Host"), maxName), c.flow.Server, 80), target)
	s.rec.URL, s.base = session.Ptr(where), where
	s.profile = profileOf(d.cfg.Profiles, c.userAgent)
	d.enter(s)
	return s
}

// closed: the film is over, or the player seeks, or it left.
func (x *mmshDialogue) closed(_ bpf.Dir, _ bool, at time.Time) { x.leave(at) }

func (x *mmshDialogue) forgotten(at time.Time) { x.leave(at) }

func (x *mmshDialogue) leave(at time.Time) {
	s := x.s
	if s == nil {
		x.leaveRefused(at)
		return
	}
	switch {
	case s.control != x.c.flow || s.rec.State == session.Ended:
	case !s.film.over.IsZero():
		x.d.end(s, at)
	case s.film.left.IsZero():
		s.film.left = at
	}
}

// leaveRefused: the player came back for its film, and did not get it.
func (x *mmshDialogue) leaveRefused(at time.Time) {
	s := x.back
	if s == nil || !s.film.left.IsZero() {
		return
	}
	if _, there := x.d.conns[s.control]; !there {
		s.film.left = at
	}
}
