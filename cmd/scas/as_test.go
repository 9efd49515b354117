package main

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"scas/session"
)

// fakeGate is what a gate works on.
type fakeGate struct {
	open   []string // prefixes, as the kernel knows them
	left   []string
	named  []string
	refuse error
	d      *directory
}

func (f *fakeGate) Subscribe(a netip.Addr) error {
	if place := f.d.place(a).String(); f.refuse == nil && !slices.Contains(f.open, place) {
		f.open = append(f.open, place)
	}
	return f.refuse
}

func (f *fakeGate) Unsubscribe(a netip.Addr) error {
	if f.refuse == nil {
		f.open = slices.DeleteFunc(f.open, func(p string) bool { return p == f.d.place(a).String() })
	}
	return f.refuse
}

func (f *fakeGate) Leave(place netip.Prefix, _ time.Time) { f.left = append(f.left, place.String()) }

func (f *fakeGate) Rename(aor string, _ time.Time) { f.named = append(f.named, aor) }

func TestGate(t *testing.T) {
	d := newDirectory(config{Gateway: gatewayConfig{IPv6Prefix: 64}, Subscribers: []subscriber{
		{AoR: "sip:bob@x", Terminals: []session.Terminal{{Name: "radio", IP: netip.MustParseAddr("10.0.0.9")}}},
	}})
	f := &fakeGate{d: d}
	g := &gate{kernel: f, live: f, directory: d, now: time.Now}
	binding := func(aor, name, ip string) session.Binding {
		return session.Binding{Key: aor + name, AoR: aor, Name: name, IP: netip.MustParseAddr(ip), Source: session.FromRegister}
	}
	check := func(step string, err error, open, left []string, names map[string]string) {
		t.Helper()
		if err != nil || !slices.Equal(f.open, open) || !slices.Equal(f.left, left) {
			t.Errorf("%s: %v, open %v, left %v", step, err, f.open, f.left)
		}
		for addr, want := range names {
			if got, _ := d.name(netip.MustParseAddr(addr)); got != want {
				t.Errorf("%s: %s is called %q, want %q", step, addr, got, want)
			}
		}
		f.left = nil
	}
	phone, six, other := binding("sip:ann@x", "phone", "10.0.0.1"), binding("sip:ann@x", "tv", "fd00::1"), binding("sip:ann@x", "pc", "fd00::2")
	check("open", g.Open(phone), []string{"10.0.0.1/32"}, nil, map[string]string{"10.0.0.1": "phone", "10.0.0.9": "radio", "10.0.0.2": ""})
	phone.Name = "mobile"
	check("another name", g.Open(phone), []string{"10.0.0.1/32"}, nil, map[string]string{"10.0.0.1": "mobile"})
	if !slices.Equal(f.named, []string{phone.AoR}) {
		t.Errorf("sessions renamed of %v", f.named)
	}
	guest := binding("sip:joe@x", "phone", "10.0.0.1")
	check("another user", g.Open(guest), []string{"10.0.0.1/32"}, []string{"10.0.0.1/32"}, map[string]string{"::ffff:10.0.0.1": "phone"})
	check("closed", g.Close(guest), []string{}, []string{"10.0.0.1/32"}, map[string]string{"10.0.0.1": ""})
	check("closed again", g.Close(guest), []string{}, []string{"10.0.0.1/32"}, nil)

	// two addresses of one prefix are one place for the kernel
	check("six", errors.Join(g.Open(six), g.Open(other)), []string{"fd00::/64"}, nil, map[string]string{"fd00::1": "tv", "fd00::2": "pc"})
	check("one left", g.Close(six), []string{"fd00::/64"}, []string{"fd00::1/128"}, map[string]string{"fd00::1": "pc"})
	check("both left", g.Close(other), []string{}, []string{"fd00::/64"}, map[string]string{"fd00::2": ""})

	// the configuration's own stay
	check("static", g.Open(binding("sip:bob@x", "guest", "10.0.0.9")), []string{"10.0.0.9/32"}, nil, map[string]string{"10.0.0.9": "guest"})
	check("static stays", g.Close(binding("sip:bob@x", "guest", "10.0.0.9")), []string{"10.0.0.9/32"}, []string{"10.0.0.9/32"}, map[string]string{"10.0.0.9": "radio"})

	f.refuse = errors.New("full")
	if g.Open(phone) == nil {
		t.Error("no error")
	}
	if _, ok := d.Lookup(phone.IP); ok {
		t.Error("enrolled, but not admitted")
	}
}

// What the API shows of registered terminals.
func TestTerminalsRegistered(t *testing.T) {
	until := time.Now().Add(time.Hour)
	d, table := newDirectory(config{Gateway: gatewayConfig{IPv6Prefix: 64}}), session.NewTable()
	table.Put(session.Record{ID: "s", State: session.Playing, UserAgent: session.Ptr("mpv"), Terminal: session.Terminal{IP: netip.MustParseAddr("10.0.0.1")}})
	list := terminals{directory: d, sessions: table, bindings: func() []session.Binding {
		return []session.Binding{
			{AoR: "sip:a@x", Name: "tv", IP: netip.MustParseAddr("10.0.0.1"), Source: session.FromRegistrar, Expires: &until, Instance: session.Ptr("urn:x"), UserAgent: session.Ptr("box")},
			{AoR: "sip:a@x", Name: "lost", Source: session.FromRegEvent},
		}
	}}.Terminals()
	if len(list) != 2 || !list[0].Active || *list[0].UserAgent != "box" || *list[0].Instance != "urn:x" || list[0].Expires != &until ||
		list[1].Active || list[1].IP.IsValid() || list[1].Source != "reg-event" {
		t.Errorf("%+v", list)
	}
}
