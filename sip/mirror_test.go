package sip

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"scas/session"
)

// TestMirror: an address is open while a binding holds it, for the newest of them.
func TestMirror(t *testing.T) {
	g := &fakeGate{open: map[netip.Addr]session.Binding{}}
	m := NewMirror(g, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); m.Run(ctx) }()
	defer func() { cancel(); <-done }()
	binding := func(name, ip string, since int64) session.Binding {
		b := session.Binding{Key: name, AoR: "sip:a@x", Name: name}
		if ip != "" {
			b.IP = netip.MustParseAddr(ip)
		}
		b.Since = b.Since.AddDate(int(since), 0, 0)
		return b
	}
	is := func(what, want string) {
		t.Helper()
		got := func() string {
			g.mu.Lock()
			defer g.mu.Unlock()
			var out []string
			for a, b := range g.open {
				out = append(out, a.String()+" "+b.Name)
			}
			slices.Sort(out)
			return strings.Join(out, ", ")
		}
		until(t, what+": "+want, func() bool { return got() == want })
	}
	m.Put(binding("phone", "10.0.0.1", 1))
	m.Put(binding("tv", "10.0.0.2", 2))
	m.Put(binding("nowhere", "", 3))
	is("two", "10.0.0.1 phone, 10.0.0.2 tv")
	m.Put(binding("guest", "10.0.0.1", 4))
	is("the newest", "10.0.0.1 guest, 10.0.0.2 tv")
	m.Gone("guest")
	is("the one before", "10.0.0.1 phone, 10.0.0.2 tv")
	renamed := binding("tv", "10.0.0.2", 2)
	renamed.Name = "television"
	m.Put(renamed)
	is("another name", "10.0.0.1 phone, 10.0.0.2 television")
	g.setFail(true)
	m.Put(binding("tv", "10.0.0.3", 2))
	m.Gone("phone")
	m.Gone("phone")
	until(t, "an error", func() bool { return m.Stats()["gate_errors"] > 0 })
	g.setFail(false)
	is("another address", "10.0.0.3 tv")
	if all := m.Terminals(); len(all) != 2 || all[0].Name != "tv" || m.Stats()["open"] != 1 || m.Stats()["bindings"] != 2 {
		t.Errorf("%+v %v", all, m.Stats())
	}
}

// Users of a store that can be down.
func (s *flakyStore) Users(ctx context.Context) ([]session.User, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.Memory.Users(ctx)
}

// returningStore comes back when told.
type returningStore struct {
	*flakyStore
	back chan struct{}
}

func (s *returningStore) Returned(context.Context) <-chan struct{} { return s.back }

// names returns the stored names by address.
func names(t *testing.T, s Store) string {
	t.Helper()
	all, err := s.Bindings(t.Context())
	if err != nil {
		return err.Error()
	}
	var out []string
	for _, b := range all {
		out = append(out, b.IP.String()+" "+b.Name)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestStoredNames: the store has the names that gateways in other processes show: those the
// user gave, also when they are read late, and default ones, which stay over a restart.
func TestStoredNames(t *testing.T) {
	core, store := newWirePeer(t, loopback()), &flakyStore{Memory: NewMemory()}
	statics := func(cfg *Config) {
		cfg.Static = []StaticTerminal{{AoR: "sip:bob@ims.test", Name: "kitchen", IP: netip.MustParseAddr("10.0.0.9")}}
	}
	err := store.PutUser(t.Context(), session.User{AoR: "sip:bob@ims.test", Names: map[string]string{"urn:uuid:3": "den"}})
	if err != nil {
		t.Fatal(err)
	}
	register := func(b *regBed, user, n string, expires int) {
		d := &device{user: user, ip: "10.0.0." + n, instance: "urn:uuid:" + n, callID: n, expires: expires, seq: 600 - expires}
		b.tell(third(d.user, expires, "message/sip", d.inner()))
	}
	stored := func(what, want string) {
		t.Helper()
		until(t, what+": "+want+", not "+names(t, store.Memory), func() bool { return names(t, store.Memory) == want })
	}
	first := newRegBedAt(t, core, store, &fakeClock{}, statics)
	register(first, "sip:alice@ims.test", "1", 600)
	stored("one", "10.0.0.1 tv, 10.0.0.9 kitchen")
	register(first, "sip:alice@ims.test", "2", 600)
	register(first, "sip:bob@ims.test", "3", 600)
	stored("all", "10.0.0.1 tv, 10.0.0.2 tv2, 10.0.0.3 den, 10.0.0.9 kitchen")
	register(first, "sip:alice@ims.test", "1", 0)
	stored("one left", "10.0.0.2 tv2, 10.0.0.3 den, 10.0.0.9 kitchen")
	first.end()

	store.setDown(true)
	second := newRegBedAt(t, core, store, &fakeClock{}, nil)
	register(second, "sip:carol@ims.test", "4", 600)
	second.openIs("10.0.0.4")
	err = store.Memory.PutUser(t.Context(), session.User{AoR: "sip:carol@ims.test", Names: map[string]string{"urn:uuid:4": "desk"}})
	if err != nil {
		t.Fatal(err)
	}
	store.setDown(false)
	stored("after a restart, without what the configuration has no more", "10.0.0.2 tv2, 10.0.0.3 den, 10.0.0.4 desk")
	second.gate.mu.Lock()
	defer second.gate.mu.Unlock()
	if second.gate.open[netip.MustParseAddr("10.0.0.2")].Name != "tv2" {
		t.Errorf("%+v", second.gate.open)
	}
}

// TestStoreReturns: a store that comes back empty is filled again.
func TestStoreReturns(t *testing.T) {
	store := &returningStore{&flakyStore{Memory: NewMemory()}, make(chan struct{})}
	g := newRegistry(baseConfig(loopback()), service{}, store, nil, slog.New(slog.DiscardHandler), newCounters(), (&fakeClock{}).now)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); g.run(ctx) }()
	defer func() { cancel(); <-done }()
	g.put(session.Binding{Key: "k", AoR: "sip:alice@ims.test", Name: "tv", IP: netip.MustParseAddr("10.0.0.1"), Source: session.FromRegistrar})
	until(t, "stored", func() bool { return names(t, store) == "10.0.0.1 tv" })
	if err := store.DeleteBinding(ctx, "k"); err != nil {
		t.Fatal(err)
	}
	store.back <- struct{}{}
	until(t, "stored again", func() bool { return names(t, store) == "10.0.0.1 tv" })

	o := &orders{store: store, users: map[string]*user{"sip:a@x": newUser("sip:a@x"), "sip:b@x": newUser("sip:b@x"), "sip:c@x": newUser("sip:c@x")},
		kept: map[string]session.User{"sip:d@x": {AoR: "sip:d@x", Auto: true}}}
	o.users["sip:a@x"].settings.Names["k"] = "tv"
	o.users["sip:b@x"].settings.Auto = true
	if err := store.PutUser(ctx, session.User{AoR: "sip:b@x"}); err != nil { // not lost
		t.Fatal(err)
	}
	wait, back := make(chan struct{}), make(chan struct{})
	go func() { defer close(wait); o.refill(ctx, back) }()
	back <- struct{}{}
	until(t, "settings", func() bool { all, err := store.Users(ctx); return err == nil && len(all) == 3 })
	cancel()
	<-wait
	if all, err := store.Users(t.Context()); err != nil || slices.ContainsFunc(all, func(u session.User) bool { return u.AoR == "sip:b@x" && u.Auto }) {
		t.Errorf("%v %+v", err, all)
	}
}

// TestRestoredFirst: nothing is answered before it is known who is registered, unless the store
// is away.
func TestRestoredFirst(t *testing.T) {
	core, store := newWirePeer(t, loopback()), &flakyStore{Memory: NewMemory()}
	const kept = 500
	for i := range kept {
		if err := store.PutBinding(t.Context(), session.Binding{
			Key: fmt.Sprint(i), AoR: fmt.Sprintf("sip:u%d@ims.test", i), Contact: fmt.Sprintf("sip:%d@10.0.0.1", i), Source: session.FromRegister,
		}); err != nil {
			t.Fatal(err)
		}
	}
	last := newRegBedAt(t, core, store, &fakeClock{}, func(cfg *Config) { cfg.Subscribers = []string{"sip:*@ims.test"} })
	last.tell(third("sip:carol@ims.test", 600, "", ""))
	if n := last.s.Stats()["bindings_restored"]; n != kept {
		t.Errorf("answered when %d of %d were restored", n, kept)
	}
	last.end()
	store.setDown(true)
	newRegBedAt(t, core, store, &fakeClock{}, nil).tell(third("sip:carol@ims.test", 600, "", ""))
}
