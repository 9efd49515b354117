package kv

import (
	"context"
	"reflect"

	"scas/session"
)

// PutBinding has b written, soon: over what is stored unless that is of a newer REGISTER of
// the same Call-ID. ErrFull: it will not be.
func (s *Store) PutBinding(_ context.Context, b session.Binding) error {
	b = b.Clone()
	return put(s, at(bindingsBucket, b.Key), b, func(there *session.Binding) *session.Binding {
		if there != nil && (there.CallID == b.CallID && there.CSeq > b.CSeq || reflect.DeepEqual(*there, b)) {
			return there
		}
		return &b
	})
}

// DeleteBinding has the binding deleted, soon, unless another process has stored a newer
// registration of it. ErrFull: it will not be.
func (s *Store) DeleteBinding(_ context.Context, key string) error {
	p := at(bindingsBucket, key)
	base, have := newest[session.Binding](s, p)
	return put(s, p, nil, func(there *session.Binding) *session.Binding {
		if there != nil && have && base != nil && (there.CallID != base.CallID || there.CSeq > base.CSeq) {
			return there
		}
		return nil
	})
}

// Bindings returns what is stored, those that ran out as well. ErrDown when the store does
// not answer.
func (s *Store) Bindings(ctx context.Context) ([]session.Binding, error) {
	return list[session.Binding](ctx, s, bindingsBucket)
}

// PutUser has u written, soon. What another process wrote of the same user meanwhile stays,
// where u does not say otherwise. ErrFull: it will not be.
func (s *Store) PutUser(_ context.Context, u session.User) error {
	u = u.Clone()
	tries := 0
	return put(s, at(usersBucket, u.AoR), u, func(there *session.User) *session.User {
		if tries++; there == nil || tries == 1 { // as this process last knew it
			return &u
		}
		both := u.Clone()
		both.Names, both.Forms = union(u.Names, there.Names), union(u.Forms, there.Forms)
		return &both
	})
}

func union(ours, theirs map[string]string) map[string]string {
	both := map[string]string{}
	for k, v := range theirs {
		both[k] = v
	}
	for k, v := range ours {
		both[k] = v
	}
	return both
}

// Users returns what is stored. ErrDown when the store does not answer.
func (s *Store) Users(ctx context.Context) ([]session.User, error) {
	return list[session.User](ctx, s, usersBucket)
}

// PutTaken has t written, soon. ErrFull: it will not be.
func (s *Store) PutTaken(_ context.Context, t session.Taken) error {
	return put(s, at(ordersBucket, t.Key), t, func(*session.Taken) *session.Taken { return &t })
}

// Taken returns the request stored under key, one whose writing still waits as well; false
// when there is none or it has run out. ErrDown when the store does not answer.
func (s *Store) Taken(ctx context.Context, key string) (session.Taken, bool, error) {
	p := at(ordersBucket, key)
	if v, waits := s.queue.peek(p.String()); waits {
		t, ok := v.(session.Taken)
		return t, ok && s.cfg.Now().Before(t.Expires), nil
	}
	t, ok, err := read[session.Taken](ctx, s, p)
	return t, ok && s.cfg.Now().Before(t.Expires), err
}

// put queues a write of value, decided by d, under p.
func put[T any](s *Store, p place, value any, d decide[T]) error {
	return s.enqueue(&op{key: p.String(), value: value, run: func(ctx context.Context) error {
		return write(ctx, s, p, d)
	}}, 1)
}

// newest returns the value under p as this process last wanted it (nil: deleted), else as it
// last read it; false when it knows nothing.
func newest[T any](s *Store, p place) (*T, bool) {
	if v, ok := s.queue.peek(p.String()); ok {
		t, ok := v.(T)
		if !ok {
			return nil, true
		}
		return &t, true
	}
	if v, ok := s.known.get(p.String()); ok {
		t, _ := v.value.(*T)
		return t, t != nil
	}
	return nil, false
}
