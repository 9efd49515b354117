package sip

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"scas/session"
)

// Memory is a Store that forgets everything with the process. Safe for concurrent use.
type Memory struct {
	mu       sync.Mutex
	bindings map[string]session.Binding
	users    map[string]session.User
	taken    map[string]session.Taken
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{
		bindings: map[string]session.Binding{},
		users:    map[string]session.User{}, taken: map[string]session.Taken{},
	}
}

// PutBinding stores b under its key.
func (m *Memory) PutBinding(_ context.Context, b session.Binding) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bindings[b.Key] = b.Clone()
	return nil
}

// DeleteBinding removes a binding.
func (m *Memory) DeleteBinding(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.bindings, key)
	return nil
}

// Bindings returns all bindings.
func (m *Memory) Bindings(context.Context) ([]session.Binding, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.bindings)), nil
}

// PutUser stores u under its AoR.
func (m *Memory) PutUser(_ context.Context, u session.User) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.users[u.AoR] = u.Clone()
	return nil
}

// Users returns all users.
func (m *Memory) Users(context.Context) ([]session.User, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.users)), nil
}

// PutTaken stores t under its key; what has run out is forgotten.
func (m *Memory) PutTaken(_ context.Context, t session.Taken) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.taken) > 10_000 {
		maps.DeleteFunc(m.taken, func(_ string, x session.Taken) bool { return x.Expires.Before(time.Now()) })
	}
	m.taken[t.Key] = t
	return nil
}

// Taken returns what was stored under key.
func (m *Memory) Taken(_ context.Context, key string) (session.Taken, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, ok := m.taken[key]
	return t, ok, nil
}
