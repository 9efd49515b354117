package sip

import "scas/session"

// services hangs in what builds on registrations: orders and presence. A process that has no
// Mover, or no Sessions or Transfers, only keeps registrations.
func (s *Server) services() error {
	if s.deps.Mover == nil || s.deps.Sessions == nil || s.deps.Transfers == nil {
		return nil
	}
	o := newOrders(s.cfg, s.deps, s.stack, s.registry)
	o.renamed = s.registry.renamed
	o.watchPresence(s.notifies)
	s.naming = o.name
	s.registry.gate.naming = func(b session.Binding) session.Binding {
		for _, x := range o.name(b.AoR, s.registry.terminalsOf(b.AoR)) {
			if terminalKey(x) == terminalKey(b) { // of several flows one is named for all
				b.Name = x.Name
			}
		}
		return b
	}
	s.registry.onAdded = append(s.registry.onAdded, o.arrived)
	s.registry.onGone = append(s.registry.onGone, o.left)
	s.background = append(s.background, o.run)
	return nil
}
