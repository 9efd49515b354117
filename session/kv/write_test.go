package kv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"scas/session"
)

// TestWritersDecideAgain has processes count in one value: no step is lost, though each
// remembers a revision that others have passed.
func TestWritersDecideAgain(t *testing.T) {
	d := startServer(t)
	var wg sync.WaitGroup
	var stores []*Store
	const steps = 30
	for i := range 3 {
		s := member(t, fmt.Sprint("as", i), d.url())
		stores = append(stores, s)
		wg.Go(func() {
			for done := 0; done < steps; {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				err := write(ctx, s, at(bindingsBucket, "counter"), func(there *session.Binding) *session.Binding {
					b := session.Binding{Key: "counter"}
					if there != nil {
						b = *there
					}
					b.CSeq++
					return &b
				})
				cancel()
				if err == nil {
					done++
				} else if !strings.Contains(err.Error(), "others keep writing") {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	got, err := stores[0].Bindings(t.Context())
	if err != nil || len(got) != 1 || got[0].CSeq != 3*steps {
		t.Errorf("%+v, %v", got, err)
	}
	conflicts := uint64(0)
	for _, s := range stores {
		conflicts += s.Stats()["write_conflicts"]
	}
	if conflicts == 0 {
		t.Error("no conflict: nothing was shown")
	}
}

func TestBindingsOfTwoProcesses(t *testing.T) {
	with := func(callID string, cseq uint32, name string) session.Binding {
		b := binding(1)
		b.CallID, b.CSeq, b.Name = callID, cseq, name
		return b
	}
	for _, c := range []struct {
		name  string
		first session.Binding  // of as1
		then  session.Binding  // of as2
		last  *session.Binding // of as1, which knows nothing of as2's; nil: deletes
		want  string
	}{
		{"an older REGISTER is late", with("c", 1, "first"), with("c", 3, "second"), session.Ptr(with("c", 2, "third")), "second"},
		{"a newer one", with("c", 1, "first"), with("c", 2, "second"), session.Ptr(with("c", 3, "third")), "third"},
		{"of another Call-ID", with("c", 1, "first"), with("c", 9, "second"), session.Ptr(with("d", 1, "third")), "third"},
		{"deleted as it was", with("c", 1, "first"), with("c", 1, "second"), nil, ""},
		{"deleted, but registered anew", with("c", 1, "first"), with("c", 2, "second"), nil, "second"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := startServer(t)
			as1, as2 := member(t, "as1", d.url()), member(t, "as2", d.url())
			for _, w := range []struct {
				s *Store
				b *session.Binding
			}{{as1, &c.first}, {as2, &c.then}, {as1, c.last}} {
				if w.b == nil {
					if err := w.s.DeleteBinding(t.Context(), c.first.Key); err != nil {
						t.Fatal(err)
					}
				} else if err := w.s.PutBinding(t.Context(), *w.b); err != nil {
					t.Fatal(err)
				}
				flush(t, w.s)
			}
			got, err := as2.Bindings(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			names := ""
			for _, b := range got {
				names += b.Name
			}
			if names != c.want {
				t.Errorf("%q is stored, want %q", names, c.want)
			}
		})
	}
}

func TestUsersOfTwoProcesses(t *testing.T) {
	d := startServer(t)
	as1, as2 := member(t, "as1", d.url()), member(t, "as2", d.url())
	put := func(s *Store, names map[string]string) {
		t.Helper()
		if err := s.PutUser(t.Context(), session.User{AoR: "sip:bob@x", Names: names}); err != nil {
			t.Fatal(err)
		}
		flush(t, s)
	}
	put(as1, map[string]string{"a": "tv", "b": "phone"})
	put(as1, map[string]string{"a": "tv"}) // alone, what is left out is gone
	put(as2, map[string]string{"a": "tv", "c": "pc"})
	put(as1, map[string]string{"a": "beamer"})
	got, err := as2.Users(t.Context())
	if err != nil || len(got) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if want := map[string]string{"a": "beamer", "c": "pc"}; !maps.Equal(got[0].Names, want) {
		t.Errorf("names %v, want %v", got[0].Names, want)
	}
}

func TestDeleteThenPut(t *testing.T) {
	s := embeddedStore(t, t.TempDir())
	for range 3 {
		if err := s.PutBinding(t.Context(), binding(1)); err != nil {
			t.Fatal(err)
		}
		flush(t, s)
		if err := s.DeleteBinding(t.Context(), binding(1).Key); err != nil {
			t.Fatal(err)
		}
		flush(t, s)
		if got, err := s.Bindings(t.Context()); err != nil || len(got) != 0 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if n := s.Stats()["known"]; n != 0 {
		t.Errorf("%d keys remembered of nothing", n)
	}
}

func TestUnwritableIsGivenUp(t *testing.T) {
	s := embeddedStore(t, t.TempDir())
	b := binding(1)
	b.Contact = strings.Repeat("x", 2*maxValue)
	if err := errors.Join(s.PutBinding(t.Context(), b), s.PutBinding(t.Context(), binding(2))); err != nil {
		t.Fatal(err)
	}
	flush(t, s)
	if st := s.Stats(); st["writes_refused"] != 1 || st["writes"] != 1 {
		t.Errorf("%v", st)
	}
}

func TestSameValueIsNotWritten(t *testing.T) {
	s := embeddedStore(t, t.TempDir())
	for range 3 {
		if err := s.PutBinding(t.Context(), binding(1)); err != nil {
			t.Fatal(err)
		}
		flush(t, s)
	}
	if n := s.Stats()["writes_outdated"]; n != 2 {
		t.Errorf("%d writes left out, want 2", n)
	}
}
