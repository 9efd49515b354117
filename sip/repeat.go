package sip

import (
	"context"
	"slices"
	"time"

	gosip "github.com/emiago/sipgo/sip"

	"scas/session"
)

// repeatTime is how long after its first sending a request may still be repeated: Timer F, 32 s
// (RFC 3261 §17.1.2.2), and some reserve. Within a process the transactions see to that.
const repeatTime = time.Minute

// repeatedEnd reports whether a third-party REGISTER ends registrations, and is the repetition
// of one that was carried out before this process began. What began after that has to stay:
// another Call-ID leaves nothing to compare (RFC 3261 §10.3).
func (s *Server) repeatedEnd(r *request, inner *gosip.Request, expires time.Duration) bool {
	if expires > 0 && !endsSome(inner) {
		return false
	}
	now := s.now()
	t := session.Taken{Key: "end " + transactionName(r.Request), At: now, Expires: now.Add(repeatTime), Code: 200}
	ctx, cancel := context.WithTimeout(context.Background(), goneWait)
	defer cancel()
	if now.Sub(s.began) < repeatTime {
		if _, before, err := s.deps.Store.Taken(ctx, t.Key); err == nil && before {
			s.count.add("register_repeated")
			return true
		}
	}
	if err := s.deps.Store.PutTaken(ctx, t); err != nil {
		s.count.add("store_failed")
	}
	return false
}

// endsSome reports whether a terminal's REGISTER gives up a contact.
func endsSome(inner *gosip.Request) bool {
	return inner != nil && slices.ContainsFunc(contactsOf(inner), func(c contact) bool { return c.star || c.life(inner) == 0 })
}

// transactionName is the same for a request and its repetitions.
func transactionName(r *gosip.Request) string {
	branch := ""
	if via := r.Via(); via != nil {
		branch, _ = via.Params.Get("branch")
	}
	return r.CallID().Value() + " " + r.CSeq().Value() + " " + branch
}
