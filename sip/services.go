package sip

import (
	"context"

	"scas/session"
)

// services hangs in what builds on registrations: orders and presence. A process that has no
// Mover, or no Sessions or Transfers, only keeps registrations.
func (s *Server) services() error {
	if s.deps.Mover == nil || s.deps.Sessions == nil || s.deps.Transfers == nil {
		return nil
	}
	deps := s.deps
	deps.Store = renaming{Store: s.deps.Store, renamed: s.registry.renamed}
	o := newOrders(s.cfg, deps, s.stack, s.registry)
	o.watchPresence(s.notifies)
	s.naming = o.name
	s.registry.gate.naming = func(b session.Binding) session.Binding {
		for _, x := range o.name(b.AoR, s.registry.terminalsOf(b.AoR)) {
			if x.Key == b.Key {
				return x
			}
		}
		return b
	}
	s.registry.onAdded = append(s.registry.onAdded, o.arrived)
	s.registry.onGone = append(s.registry.onGone, o.left)
	s.background = append(s.background, o.run)
	return nil
}

// renaming is a store that tells the gateways when a user gave a terminal another name.
type renaming struct {
	Store
	renamed func(aor string)
}

// PutUser stores u.
func (r renaming) PutUser(ctx context.Context, u session.User) error {
	r.renamed(u.AoR)
	return r.Store.PutUser(ctx, u)
}
