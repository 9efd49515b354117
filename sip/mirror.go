package sip

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"

	"scas/session"
)

// Mirror is what a gateway knows of the bindings of an application server in another process:
// it makes the Gate follow them as that server would. Safe for concurrent use.
type Mirror struct {
	gate *gatekeeper

	mu    sync.Mutex
	byKey map[string]session.Binding
}

// NewMirror returns a mirror without bindings.
func NewMirror(g Gate, log *slog.Logger) *Mirror {
	return &Mirror{gate: newGatekeeper(g, log, newCounters("gate_errors")), byKey: map[string]session.Binding{}}
}

// Run calls the Gate until ctx ends; what is open stays so.
func (m *Mirror) Run(ctx context.Context) { m.gate.run(ctx) }

// Put takes a binding that is new, or what has become of one.
func (m *Mirror) Put(b session.Binding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.byKey[b.Key]; ok && old.IP != b.IP {
		m.gate.release(b.Key, old.IP)
	}
	m.byKey[b.Key] = b
	m.gate.hold(b)
}

// Gone drops the binding with that key.
func (m *Mirror) Gone(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b, ok := m.byKey[key]; ok {
		delete(m.byKey, key)
		m.gate.release(key, b.IP)
	}
}

// Terminals returns the bindings, sorted by user and age.
func (m *Mirror) Terminals() []session.Binding {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]session.Binding, 0, len(m.byKey))
	for _, b := range m.byKey {
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b session.Binding) int {
		return cmp.Or(cmp.Compare(a.AoR, b.AoR), a.Since.Compare(b.Since), cmp.Compare(a.Key, b.Key))
	})
	return out
}

// Stats returns counters and, as "bindings" and "open", what there is now.
func (m *Mirror) Stats() map[string]uint64 {
	out := m.gate.count.snapshot()
	m.mu.Lock()
	out["bindings"] = uint64(len(m.byKey))
	m.mu.Unlock()
	out["open"] = uint64(m.gate.size())
	return out
}
