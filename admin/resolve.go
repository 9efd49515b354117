package admin

import (
	"net/http"
	"net/netip"
	"strings"

	"scas/session"
)

// resolve turns a body into an order: which session, and which terminal. Only enrolled
// terminals can be a target, and only those of the session's own user. An order without a session
// stays one: the Mover knows which is meant.
func (s *Server) resolve(body orderBody) (session.Order, *apiError) {
	order := session.Order{Session: body.Session, Trigger: session.API, RequirePosition: body.RequirePosition}
	found := s.targets(body.To)
	fit := found
	if body.Session != "" {
		rec, ok := s.src.Sessions.Get(body.Session)
		if !ok {
			return order, refused(session.NoSession, "no such session")
		}
		fit = ofUser(found, rec.AoR)
		if isAoR(body.To) {
			fit = elsewhere(fit, rec.Terminal.IP)
		}
	}
	switch {
	case len(fit) == 1:
		order.To = session.Terminal{Name: fit[0].Name, IP: fit[0].IP}
		return order, nil
	case len(fit) > 1:
		return order, bad("several terminals fit: name the session, and the terminal by its name or address")
	case len(found) > 0 && !isName(body.To):
		return order, refused(session.NotAllowed, "the target is a terminal of another user")
	}
	return order, &apiError{http.StatusNotFound, codeNotFound, "no enrolled terminal is called " + body.To}
}

func ofUser(ts []Terminal, aor *string) []Terminal {
	out := make([]Terminal, 0, 1)
	for _, t := range ts {
		if aor != nil && t.AoR != nil && *t.AoR == *aor {
			out = append(out, t)
		}
	}
	return out
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
		if !t.IP.IsValid() { // registered, but nobody said from where
			continue
		}
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
