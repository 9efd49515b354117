package admin

import (
	"net/http"
	"net/netip"
	"strings"

	"scas/session"
)

// resolve turns a body into an order: which session, and which terminal. Only enrolled
// terminals can be a target, and only those of the session's own user.
func (s *Server) resolve(body orderBody) (session.Order, *apiError) {
	order := session.Order{Session: body.Session, Trigger: session.API, RequirePosition: body.RequirePosition}
	found := s.targets(body.To)
	if body.Session == "" {
		if len(found) == 0 {
			return order, unknownTarget(body.To)
		}
		rec, to, problem := s.newest(found)
		order.Session, order.To = rec.ID, to
		return order, problem
	}
	rec, ok := s.src.Sessions.Get(body.Session)
	if !ok {
		return order, refused(session.NoSession, "no such session")
	}
	own := make([]Terminal, 0, 1)
	for _, t := range found {
		if rec.AoR != nil && t.AoR != nil && *t.AoR == *rec.AoR {
			own = append(own, t)
		}
	}
	if isAoR(body.To) {
		own = elsewhere(own, rec.Terminal.IP)
	}
	switch {
	case len(own) == 1:
		order.To = session.Terminal{Name: own[0].Name, IP: own[0].IP}
		return order, nil
	case len(own) > 1:
		return order, bad("the user has several terminals that fit: name one by name or address")
	case len(found) > 0 && !isName(body.To):
		return order, refused(session.NotAllowed, "the target is a terminal of another user")
	}
	return order, unknownTarget(body.To)
}

// newest returns the session that an order without one means: of the users who own the
// found terminals the only session that goes on elsewhere, else the newest playing one.
func (s *Server) newest(found []Terminal) (session.Record, session.Terminal, *apiError) {
	var best session.Record
	var to Terminal
	fits, playing, same := 0, 0, false
	users := map[string]bool{}
	for _, rec := range s.src.Sessions.List() {
		t, ok := targetFor(rec, found)
		if rec.State == session.Ended || rec.Opaque || !ok {
			continue
		}
		if t.IP == rec.Terminal.IP {
			same = true
			continue
		}
		fits++
		if fits == 1 && rec.State != session.Playing {
			best, to = rec, t
		}
		if rec.State == session.Playing {
			users[*rec.AoR] = true
			if playing++; playing == 1 || rec.Started.After(best.Started) {
				best, to = rec, t
			}
		}
	}
	switch {
	case len(users) > 1:
		return best, session.Terminal{}, bad("several users have a terminal of that name and a film that plays: name the session")
	case playing > 0 || fits == 1:
		return best, session.Terminal{Name: to.Name, IP: to.IP}, nil
	case fits > 1:
		return best, session.Terminal{}, refused(session.NoSession, "several sessions, none of them plays: name one")
	case same:
		return best, session.Terminal{}, refused(session.SameTerminal, "the user's only session is on that terminal already")
	}
	return best, session.Terminal{}, refused(session.NoSession, "the user of that terminal has no session elsewhere")
}

// targetFor returns the found terminal that belongs to rec's user; when there are several
// (the user was named), the only one where rec is not.
func targetFor(rec session.Record, found []Terminal) (Terminal, bool) {
	var own []Terminal
	for _, t := range found {
		if rec.AoR != nil && t.AoR != nil && *t.AoR == *rec.AoR {
			own = append(own, t)
		}
	}
	if len(own) > 1 {
		own = elsewhere(own, rec.Terminal.IP)
	}
	if len(own) != 1 {
		return Terminal{}, false
	}
	return own[0], true
}

func elsewhere(ts []Terminal, ip netip.Addr) []Terminal {
	out := make([]Terminal, 0, len(ts))
	for _, t := range ts {
		if t.IP != ip {
			out = append(out, t)
		}
	}
	return out
}

// targets returns the enrolled terminals that to can mean: by address, by SIP URI (of a
// contact with an address, or of a user: all of the user's terminals), else by name.
func (s *Server) targets(to string) []Terminal {
	if a, err := netip.ParseAddr(to); err == nil {
		return s.byAddr(a)
	}
	byURI := !isName(to)
	if byURI {
		if a, ok := uriAddr(to); ok {
			return s.byAddr(a)
		}
	}
	var out []Terminal
	for _, t := range s.src.Terminals.Terminals() {
		if byURI && t.AoR != nil && strings.EqualFold(*t.AoR, to) || !byURI && strings.EqualFold(t.Name, to) {
			out = append(out, t)
		}
	}
	return out
}

func (s *Server) byAddr(a netip.Addr) []Terminal {
	t, ok := s.src.Terminals.Lookup(a.Unmap())
	if !ok {
		return nil
	}
	t.IP = a.Unmap() // the address that was named, which may be another of an enrolled prefix
	return []Terminal{t}
}

// uriAddr returns the address a SIP URI of a contact holds (RFC 3261 §19.1.1).
func uriAddr(uri string) (netip.Addr, bool) {
	_, rest, _ := strings.Cut(uri, ":")
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		rest = rest[i+1:]
	}
	if i := strings.IndexAny(rest, ";?>"); i >= 0 {
		rest = rest[:i]
	}
	a, err := netip.ParseAddr(hostOnly(rest))
	return a, err == nil
}

func isName(to string) bool {
	if _, err := netip.ParseAddr(to); err == nil {
		return false
	}
	return !strings.HasPrefix(to, "sip:") && !strings.HasPrefix(to, "sips:")
}

func isAoR(to string) bool {
	if !strings.HasPrefix(to, "sip:") && !strings.HasPrefix(to, "sips:") {
		return false
	}
	_, isAddr := uriAddr(to)
	return !isAddr
}

func unknownTarget(to string) *apiError {
	return &apiError{http.StatusNotFound, codeNotFound, "no enrolled terminal is called " + to}
}
