package sip

import (
	"slices"

	"scas/session"
)

// records returns the user's sessions that are not over, the newest first. Only what the
// user's own terminals play is the user's.
func (o *orders) records(u *user) []session.Record {
	var mine []session.Record
	for _, r := range o.sessions.List() {
		if r.State == session.Ended || r.AoR == nil || !o.same(u, *r.AoR) {
			continue
		}
		mine = append(mine, o.fresh(r))
	}
	slices.SortStableFunc(mine, func(a, b session.Record) int { return b.Started.Compare(a.Started) })
	return mine
}

// fresh returns r with its position of the moment.
func (o *orders) fresh(r session.Record) session.Record {
	if s, ok := o.sessions.(freshSessions); ok {
		if now, ok := s.Get(r.ID); ok {
			return now
		}
	}
	return r
}

// same reports whether a public identity is the user's.
func (o *orders) same(u *user, aor string) bool {
	id, err := parseIdentity(aor)
	if err != nil {
		return false
	}
	owner, ok := o.dir.userOf(id)
	return ok && owner == u.aor
}
